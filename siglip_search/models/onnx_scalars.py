"""Scale and bias out of an ONNX file that holds both towers and what comes after them.

Such a graph ends in scale · cosine + bias. The two numbers are found by walking back from its
output; where an exporter has arranged that in another way, by the names that the checkpoint gave
them. Exports of a single tower do not contain them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from siglip_search.errors import ModelError
from siglip_search.models import onnx_fields as onnx
from siglip_search.models.checkpoint_scalars import scale_of
from siglip_search.models.onnx_fields import FieldReader, open_fields

if TYPE_CHECKING:
    from pathlib import Path

_PASSING: Final = frozenset(
    {"Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Sigmoid"}
)
_MOST_STEPS: Final = 64
# TensorProto.DataType: the formats in which exporters keep a single number.
_RAW_FORMATS: Final = {1: "<f", 10: "<e", 11: "<d"}


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    value: float | None  # of a Constant


@dataclass(slots=True)
class _Graph:
    producers: dict[str, _Node] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


def read_onnx_file_scalars(path: Path) -> tuple[float, float | None]:
    """Read scale and bias out of a file on disk; see `read_onnx_scale_and_bias`.

    Raises:
        ModelError: As there, and if the file cannot be read.
    """
    try:
        with open_fields(path) as reader:
            return read_onnx_scale_and_bias(reader, where=str(path))
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    except ValueError as error:
        raise _not_onnx(str(path)) from error


def read_onnx_scale_and_bias(reader: FieldReader, *, where: str) -> tuple[float, float | None]:
    """Read scale and bias out of the graph of a whole model.

    Args:
        reader: Of the ONNX file.
        where: What to call the file in messages.

    Returns:
        The scale after exp(), and the bias or None if the graph adds none.

    Raises:
        ModelError: If this is no ONNX file, or its graph does not show a scale.
    """
    try:
        graph = _read_graph(reader)
    except (ValueError, UnicodeDecodeError) as error:
        raise _not_onnx(where) from error
    logits = [name for name in graph.outputs if name.startswith("logits")]
    for output in logits or graph.outputs:
        found = _walk_back(graph, output)
        if found is not None:
            return found
    named = _by_name(graph, "logit_scale")
    if named is None:
        raise ModelError(
            f"{where} has no logit_scale",
            hint="Take the export of the whole model (model.onnx): one tower alone does not "
            "contain it.",
        )
    return scale_of(named, where), _by_name(graph, "logit_bias")


def _walk_back(graph: _Graph, output: str) -> tuple[float, float | None] | None:
    bias: float | None = None
    for _ in range(_MOST_STEPS):
        node = graph.producers.get(output)
        if node is None:
            return None
        if node.kind in _PASSING:
            output = node.inputs[0]
            continue
        if node.kind not in ("Add", "Sub", "Mul") or len(node.inputs) != 2:
            return None
        first, second = node.inputs
        number, rest = _number(graph, second), first
        if number is None and node.kind != "Sub":
            number, rest = _number(graph, first), second
        if number is None:
            return None
        if node.kind == "Mul":
            return (number, bias) if number > 0 else None
        bias = (bias or 0.0) + (number if node.kind == "Add" else -number)
        output = rest
    return None


def _number(graph: _Graph, name: str) -> float | None:
    """Return the value of a constant, or of what is computed from one constant."""
    for _ in range(_MOST_STEPS):
        if name in graph.numbers:
            return graph.numbers[name]
        node = graph.producers.get(name)
        if node is None:
            return None
        if node.kind == "Constant":
            return node.value
        if node.kind == "Exp":
            inner = _number(graph, node.inputs[0])
            return None if inner is None or inner > 20 else math.exp(inner)
        if node.kind not in _PASSING:
            return None
        name = node.inputs[0]
    return None


def _by_name(graph: _Graph, name: str) -> float | None:
    for known, number in graph.numbers.items():
        if known == name or known.endswith(f".{name}"):
            return number
    return None


def _read_graph(reader: FieldReader) -> _Graph:
    graph = _Graph()
    for whole in reader.messages(0, reader.size_bytes, onnx.MODEL_GRAPH):
        for part in reader.fields(whole.begin, whole.stop):
            if part.kind != onnx.BYTES:
                continue
            if part.number == onnx.GRAPH_NODE:
                node = _read_node(reader, part)
                graph.producers.update(dict.fromkeys(node.outputs, node))
            elif part.number == onnx.GRAPH_INITIALIZER:
                name, number = _read_tensor(reader, part)
                if number is not None:
                    graph.numbers[name] = number
            elif part.number == onnx.GRAPH_OUTPUT:
                for text in reader.messages(part.begin, part.stop, onnx.VALUE_INFO_NAME):
                    graph.outputs.append(reader.text(text))
    return graph


def _read_node(reader: FieldReader, node: onnx.Field) -> _Node:
    kind, value = "", None
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
            kind = reader.text(part)
        elif part.number == onnx.NODE_ATTRIBUTE:
            value = _read_attribute(reader, part, value)
    return _Node(kind, tuple(inputs), tuple(outputs), value)


def _read_attribute(
    reader: FieldReader, attribute: onnx.Field, value: float | None
) -> float | None:
    for part in reader.fields(attribute.begin, attribute.stop):
        if part.number == onnx.ATTRIBUTE_TENSOR and part.kind == onnx.BYTES:
            return _read_tensor(reader, part)[1]
        if part.number == onnx.ATTRIBUTE_FLOAT and part.kind == onnx.FIXED32:
            value = float(struct.unpack("<f", reader.content(part.begin, part.stop))[0])
    return value


def _read_tensor(reader: FieldReader, tensor: onnx.Field) -> tuple[str, float | None]:
    """Return a tensor's name, and its value if it is one floating-point number in the file."""
    name, data_type = "", 0
    raw = b""
    for part in reader.fields(tensor.begin, tensor.stop):
        small = part.stop - part.begin <= 8
        if part.number == onnx.TENSOR_NAME and part.kind == onnx.BYTES:
            name = reader.text(part)
        elif part.number == onnx.TENSOR_DATA_TYPE:
            data_type = reader.varint(part.begin)[0]
        elif (
            part.number in (onnx.TENSOR_RAW_DATA, onnx.TENSOR_FLOAT_DATA, onnx.TENSOR_DOUBLE_DATA)
            and small
        ):
            # Packed or not, one number is the same bytes.
            raw = reader.content(part.begin, part.stop)
    layout = _RAW_FORMATS.get(data_type)
    if layout is None or len(raw) != struct.calcsize(layout):
        return name, None
    return name, float(struct.unpack(layout, raw)[0])


def _not_onnx(where: str) -> ModelError:
    return ModelError(
        f"{where} is not an ONNX file", hint="It is damaged, or another kind of file."
    )
