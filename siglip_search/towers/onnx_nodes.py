"""The nodes of an ONNX file and what each value depends on, without the weights or `onnx`.

Field numbers are those of onnx/onnx.proto; see `models.onnx_fields`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from siglip_search.models import onnx_fields as onnx

if TYPE_CHECKING:
    from collections.abc import Iterable

    from siglip_search.models.onnx_fields import Field, FieldReader

_GRAPH_INPUT: Final = 11
_ATTRIBUTE_BRANCHES: Final = frozenset({6, 11})  # AttributeProto.g and .graphs

_SIZES_ONLY: Final = frozenset({"Shape", "Size"})
"""Operators that tell how large their input is, and nothing of what is in it."""


class Depends(IntEnum):
    """What a value changes with; what depends on several takes the greatest."""

    NOTHING = 0
    SIZES = 1
    """On how many pictures are fed, and their size."""
    CONTENT = 2
    """On what is in them."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Attributes:
        operator: What it computes, such as "MatMul".
        inputs: Names of the values that it reads; "" for one that is left out.
        outputs: Names of the values that it makes.
        begin: Where its message begins in the file.
        stop: Where it ends.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    begin: int
    stop: int


@dataclass(slots=True)
class Graph:
    """A graph as far as its structure goes.

    Attributes:
        nodes: In the file's order, in which each stands behind those that it reads from.
        weights: Places of the stored tensors in the file, by name.
        inputs: Names of what must be fed: inputs that no stored tensor fills.
        outputs: Places of the descriptions of the outputs in the file, by name.
        makers: By a value's name, the node that makes it.
        readers: By a value's name, the nodes that read it.
        depends: By a value's name, what it changes with.
    """

    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Field] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: dict[str, Field] = field(default_factory=dict)
    makers: dict[str, Node] = field(default_factory=dict)
    readers: dict[str, list[Node]] = field(default_factory=dict)
    depends: dict[str, Depends] = field(default_factory=dict)

    def greatest(self, names: Iterable[str]) -> Depends:
        """Return what the values together change with."""
        return max((self.depends[name] for name in names if name), default=Depends.NOTHING)


def read_graph(reader: FieldReader) -> Graph | None:
    """Read the structure of a graph.

    Args:
        reader: Of the ONNX file.

    Returns:
        The graph; None where a node holds a graph of its own (If, Loop), whose values may come
        from anywhere around it, or where a value is read that nothing makes.

    Raises:
        ValueError: If this is no ONNX file.
    """
    graph = Graph()
    declared: list[str] = []
    for whole in reader.messages(0, reader.size_bytes, onnx.MODEL_GRAPH):
        for part in reader.fields(whole.begin, whole.stop):
            if part.kind != onnx.BYTES:
                continue
            if part.number == onnx.GRAPH_NODE:
                node = _read_node(reader, part)
                if node is None:
                    return None
                graph.nodes.append(node)
            elif part.number == onnx.GRAPH_INITIALIZER:
                graph.weights[_name(reader, part, onnx.TENSOR_NAME)] = part
            elif part.number == _GRAPH_INPUT:
                declared.append(_name(reader, part, onnx.VALUE_INFO_NAME))
            elif part.number == onnx.GRAPH_OUTPUT:
                graph.outputs[_name(reader, part, onnx.VALUE_INFO_NAME)] = part
    graph.inputs = [name for name in declared if name not in graph.weights]
    return graph if _link(graph) else None


def _link(graph: Graph) -> bool:
    """Fill in makers, readers and dependences; False where a value comes from nowhere."""
    graph.depends.update(dict.fromkeys(graph.weights, Depends.NOTHING))
    graph.depends.update(dict.fromkeys(graph.inputs, Depends.CONTENT))
    for node in graph.nodes:
        for name in filter(None, node.inputs):
            if name not in graph.depends:
                return False
            graph.readers.setdefault(name, []).append(node)
        found = graph.greatest(node.inputs)
        if node.operator in _SIZES_ONLY:
            found = min(found, Depends.SIZES)
        for name in filter(None, node.outputs):
            graph.makers[name] = node
            graph.depends[name] = found
    return True


def _read_node(reader: FieldReader, node: Field) -> Node | None:
    operator = ""
    inputs: list[str] = []
    outputs: list[str] = []
    for part in reader.fields(node.begin, node.stop):
        if part.kind != onnx.BYTES:
            continue
        if part.number == onnx.NODE_INPUT:
            inputs.append(reader.text(part))
        elif part.number == onnx.NODE_OUTPUT:
            outputs.append(reader.text(part))
        elif part.number == onnx.NODE_OP_TYPE:
            operator = reader.text(part)
        elif part.number == onnx.NODE_ATTRIBUTE and any(
            inner.number in _ATTRIBUTE_BRANCHES and inner.kind == onnx.BYTES
            for inner in reader.fields(part.begin, part.stop)
        ):
            return None
    return Node(operator, tuple(inputs), tuple(outputs), node.begin, node.stop)


def _name(reader: FieldReader, message: Field, number: int) -> str:
    for part in reader.messages(message.begin, message.stop, number):
        return reader.text(part)
    return ""
