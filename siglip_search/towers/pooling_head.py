"""The attention-pooling head of a picture tower, found in its graph by structure.

SigLIP ends with one learned query, the probe, that attends to the tokens of all patches; what it
gathers goes through a small network to become the embedding. In an ONNX graph that is a Softmax
over the products of something that no picture changes with something that pictures do, and a MatMul
of its result with the values: no name is needed to find it. The same graph can then be asked for
those values too, and what follows them can be run by itself.

ONNX files are protocol buffers, in which a message that is given twice is merged and a repeated
field that is given twice is continued. So an output more is some bytes behind the file's own, and a
part of a graph is a choice of its fields: neither a second model file nor `onnx` is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.models import onnx_fields as onnx
from siglip_search.towers.onnx_nodes import Depends, read_graph

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from siglip_search.models.onnx_fields import FieldReader
    from siglip_search.towers.onnx_nodes import Graph, Node

_SCALING: Final = frozenset({"Add", "Cast", "Div", "Identity", "Mul", "Reshape", "Sub"})
"""What may stand between the products of query and keys, and their Softmax."""

_GRAPH_NAME, _GRAPH_INPUT = 2, 11
_VALUE_INFO_TYPE, _TYPE_TENSOR, _TENSOR_ELEMENT = 2, 1, 1
# TensorProto.DataType
_ELEMENTS: Final = {
    "float32": 1,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}


@dataclass(frozen=True, slots=True)
class PoolingHead:
    """Names of the values in a head, and of those that what follows needs.

    Attributes:
        scores: Of each patch, shape (..., 1, patches): the leading axes hold pictures, then heads.
            Their Softmax over the patches are the patches' shares.
        values: What each patch brings, shape (..., patches, values a head).
        gathered: The sum of the values by their shares, shape (..., 1, values a head).
        embedding: The output that follows from it.
        sizes: Values that what follows reads and that depend on nothing but how many pictures
            there are.
    """

    scores: str
    values: str
    gathered: str
    embedding: str
    sizes: tuple[str, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """What must be asked of the whole tower, each once."""
        names = (self.embedding, self.scores, self.values, self.gathered, *self.sizes)
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True)
class _Found:
    head: PoolingHead
    following: list[Node]  # from the gathered values to the embedding, and their constants


def find_pooling_head(reader: FieldReader, embedding: str) -> PoolingHead | None:
    """Find the head that makes an output, or None where the graph shows none plainly.

    None is also the answer for graphs whose attention is one fused operator, or quantised, and
    where something beside the attention takes the patches to the embedding: then leaving out a
    patch here would not leave it out of the picture.

    Args:
        reader: Of the picture tower's ONNX file.
        embedding: Name of the output.

    Raises:
        ValueError: If this is no ONNX file.
    """
    graph = read_graph(reader)
    found = None if graph is None else _find(graph, embedding)
    return None if found is None else found.head


def further_outputs(names: Iterable[str]) -> bytes:
    """Return what, behind an ONNX file's own bytes, makes values of its graph outputs too.

    Args:
        names: Values that are no outputs yet; the runtime infers their types.
    """
    outputs = b"".join(_message(onnx.GRAPH_OUTPUT, _named(name)) for name in names)
    return _message(onnx.MODEL_GRAPH, outputs)


def following_graph(reader: FieldReader, head: PoolingHead, fed: Mapping[str, Any]) -> bytes:
    """Return what follows a head as an ONNX file of its own.

    It takes the gathered values and the sizes, and gives the embedding.

    Args:
        reader: Of the ONNX file in which the head was found.
        head: The head.
        fed: An array for each input, whose element type it shall have.

    Raises:
        ValueError: If an input is of a type that no tower is known to have there.
    """
    graph = read_graph(reader)
    found = None if graph is None else _find(graph, head.embedding)
    if graph is None or found is None:
        raise ValueError("the file has changed")
    read = {name for node in found.following for name in node.inputs}
    parts = [_message(onnx.GRAPH_NODE, reader.content(n.begin, n.stop)) for n in found.following]
    parts.append(_message(_GRAPH_NAME, b"following"))
    parts += [
        _message(onnx.GRAPH_INITIALIZER, reader.content(place.begin, place.stop))
        for name, place in graph.weights.items()
        if name in read
    ]
    parts += [_message(_GRAPH_INPUT, _named(name, array)) for name, array in fed.items()]
    output = graph.outputs[head.embedding]
    parts.append(_message(onnx.GRAPH_OUTPUT, reader.content(output.begin, output.stop)))
    around = [
        _field(part.number, part.kind, reader.content(part.begin, part.stop))
        for part in reader.fields(0, reader.size_bytes)
        if part.number != onnx.MODEL_GRAPH
    ]
    return b"".join((*around, _message(onnx.MODEL_GRAPH, b"".join(parts))))


def _find(graph: Graph, embedding: str) -> _Found | None:
    if embedding not in graph.outputs:
        return None
    # The last one: a tower may also let a learned query attend somewhere before its end.
    for softmax in reversed(graph.nodes):
        if softmax.operator == "Softmax" and _has_constant_query(graph, softmax):
            return _follow(graph, softmax, embedding)
    return None


def _has_constant_query(graph: Graph, softmax: Node) -> bool:
    """Whether a Softmax is over products of what pictures change with what they do not."""
    name = softmax.inputs[0]
    while (node := graph.makers.get(name)) is not None and node.operator in _SCALING:
        changing = [one for one in node.inputs if one and graph.depends[one] == Depends.CONTENT]
        if len(changing) != 1:
            return False
        name = changing[0]
    if node is None or node.operator != "MatMul":
        return False
    # The query is often spread over as many pictures as there are, and then changes with that.
    kinds = sorted(graph.depends[one] for one in node.inputs)
    return kinds[-1] == Depends.CONTENT and kinds[0] != Depends.CONTENT


def _follow(graph: Graph, softmax: Node, embedding: str) -> _Found | None:
    weights = softmax.outputs[0]
    readers = graph.readers.get(weights, [])
    if len(readers) != 1 or readers[0].operator != "MatMul" or readers[0].inputs[0] != weights:
        return None
    values, gathered = readers[0].inputs[1], readers[0].outputs[0]
    if graph.depends[values] != Depends.CONTENT:
        return None
    after = _descendants(graph, gathered)
    wanted, nodes, sizes = [embedding], set[int](), dict[str, None]()
    while wanted:
        name = wanted.pop()
        node = graph.makers.get(name)
        if name == gathered or node is None or node.begin in nodes:
            continue
        if name not in after:
            if graph.depends[name] == Depends.CONTENT:
                return None  # another way from the patches to the embedding
            if graph.depends[name] == Depends.SIZES:
                sizes[name] = None
                continue
        nodes.add(node.begin)
        wanted += filter(None, node.inputs)
    if embedding not in after:
        return None
    head = PoolingHead(softmax.inputs[0], values, gathered, embedding, tuple(sizes))
    return _Found(head, [node for node in graph.nodes if node.begin in nodes])


def _descendants(graph: Graph, name: str) -> set[str]:
    found, waiting = set[str](), [name]
    while waiting:
        for node in graph.readers.get(waiting.pop(), []):
            new = [output for output in node.outputs if output and output not in found]
            found.update(new)
            waiting += new
    return found


def _named(name: str, like: Any = None) -> bytes:
    """Return a ValueInfoProto, with the element type of an array."""
    described = _message(onnx.VALUE_INFO_NAME, name.encode())
    if like is None:
        return described
    element = _ELEMENTS.get(np.dtype(like.dtype).name)
    if element is None:
        raise ValueError(f"{name} is of type {like.dtype}")
    tensor = _varint(_TENSOR_ELEMENT << 3 | onnx.VARINT) + _varint(element)
    return described + _message(_VALUE_INFO_TYPE, _message(_TYPE_TENSOR, tensor))


def _message(number: int, content: bytes) -> bytes:
    return _field(number, onnx.BYTES, content)


def _field(number: int, kind: int, content: bytes) -> bytes:
    length = _varint(len(content)) if kind == onnx.BYTES else b""
    return _varint(number << 3 | kind) + length + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
