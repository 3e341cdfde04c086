"""What an ONNX file says of itself that decides whether an NPU can take it.

The runtime would only say that "nodes are assigned to the CPU"; these are the reasons that a
person can do something about, and they cost no loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_search.models import onnx_fields as onnx
from siglip_search.models.onnx_fields import Field, FieldReader, open_fields

if TYPE_CHECKING:
    from pathlib import Path

# Field numbers of onnx/onnx.proto beside those of `onnx_fields`.
_MODEL_METADATA: Final = 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_GRAPH_INPUT: Final = 11
_VALUE_INFO_TYPE: Final = 2
_TYPE_TENSOR: Final = 1
_TENSOR_TYPE_SHAPE: Final = 2
_SHAPE_DIM: Final = 1
_DIM_VALUE: Final = 1

_CONTEXT_OPERATOR: Final = b"EPContext"
COMPATIBILITY_KEY: Final = "ep_compatibility_info.QNNExecutionProvider"
"""Metadata in which a compiled context says what it was compiled for and by what."""


@dataclass(frozen=True, slots=True)
class GraphInput:
    """An input that must be fed.

    Attributes:
        name: Its name.
        shape: One entry per axis; None where any size is taken.
    """

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What a file says without being loaded.

    Attributes:
        inputs: What must be fed.
        compiled: Whether it holds a context that was compiled for an NPU, not operators.
        compatibility: What the context was compiled for, unparsed; None if it does not say.
    """

    inputs: tuple[GraphInput, ...]
    compiled: bool
    compatibility: str | None

    @property
    def dynamic_input(self) -> GraphInput | None:
        """The first input that takes any size on some axis."""
        return next((tensor for tensor in self.inputs if None in tensor.shape), None)

    @property
    def batched_input(self) -> GraphInput | None:
        """The first input that takes more than one row at a time, always."""
        return next((one for one in self.inputs if (one.shape or (1,))[0] not in {1, None}), None)


def graph_facts(path: Path) -> GraphFacts | None:
    """Return what the file says, or None if it is no ONNX file: what is wrong is the runtime's."""
    try:
        with open_fields(path) as reader:
            return _facts(reader)
    except (OSError, ValueError):
        return None


def _facts(reader: FieldReader) -> GraphFacts:
    inputs: list[GraphInput] = []
    weights: set[str] = set()
    compiled = False
    compatibility = None
    for field in reader.fields(0, reader.size_bytes):
        if field.kind != onnx.BYTES:
            continue
        if field.number == onnx.MODEL_GRAPH:
            for part in reader.fields(field.begin, field.stop):
                if part.kind != onnx.BYTES:
                    continue
                if part.number == _GRAPH_INPUT:
                    inputs.append(_input(reader, part))
                elif part.number == onnx.GRAPH_INITIALIZER:
                    weights.add(_text(reader, part, onnx.TENSOR_NAME))
                elif part.number == onnx.GRAPH_NODE and not compiled:
                    compiled = _is_context(reader, part)
        elif (
            field.number == _MODEL_METADATA
            and _text(reader, field, _ENTRY_KEY) == COMPATIBILITY_KEY
        ):
            compatibility = _text(reader, field, _ENTRY_VALUE)
    # Old files list their weights among the inputs as well.
    fed = tuple(tensor for tensor in inputs if tensor.name not in weights)
    return GraphFacts(fed, compiled, compatibility)


def _is_context(reader: FieldReader, node: Field) -> bool:
    return any(
        reader.content(part.begin, part.stop) == _CONTEXT_OPERATOR
        for part in reader.messages(node.begin, node.stop, onnx.NODE_OP_TYPE)
    )


def _input(reader: FieldReader, value: Field) -> GraphInput:
    shape: list[int | None] = []
    for kind in reader.messages(value.begin, value.stop, _VALUE_INFO_TYPE):
        for tensor in reader.messages(kind.begin, kind.stop, _TYPE_TENSOR):
            for sizes in reader.messages(tensor.begin, tensor.stop, _TENSOR_TYPE_SHAPE):
                shape += [
                    _size(reader, axis)
                    for axis in reader.messages(sizes.begin, sizes.stop, _SHAPE_DIM)
                ]
    return GraphInput(_text(reader, value, onnx.VALUE_INFO_NAME), tuple(shape))


def _size(reader: FieldReader, axis: Field) -> int | None:
    for part in reader.fields(axis.begin, axis.stop):
        if part.number == _DIM_VALUE and part.kind == onnx.VARINT:
            return reader.varint(part.begin)[0]
    return None


def _text(reader: FieldReader, message: Field, number: int) -> str:
    for part in reader.messages(message.begin, message.stop, number):
        return reader.content(part.begin, part.stop).decode(errors="replace")
    return ""
