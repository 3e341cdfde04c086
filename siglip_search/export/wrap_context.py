"""A ready-made QNN context as a tower: which one it is, and the ONNX file that wraps it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from siglip_search.errors import ModelError
from siglip_search.models import onnx_fields as onnx
from siglip_search.towers.qnn_graph import COMPATIBILITY_KEY
from siglip_search.towers.wrapped_context import METADATA_KEY, ContextIO

if TYPE_CHECKING:
    from siglip_search.export.context_binary import ContextBinary
    from siglip_search.models.compiled_contexts import Tower
    from siglip_search.models.spec import ModelFacts
    from siglip_search.towers.qnn_target import Target
    from siglip_search.towers.wrapped_context import ContextTensor, Layout

_PIXEL_DTYPES: Final = frozenset({"float32", "float16"})
_ID_DTYPES: Final = frozenset({"int32", "int64"})
_RANGE_TOLERANCE: Final = 0.1
"""Share of the pixels' range that a quantised input may cut off: ranges come from samples."""
_WIDEST_RANGE: Final = 8
"""How many times the pixels' range it may be; one that takes 0 to 255 is not meant for ours."""

# Field numbers of onnx/onnx.proto beside those of `onnx_fields`, and values of its enumerations.
_MODEL_IR_VERSION, _MODEL_PRODUCER, _MODEL_OPSET, _MODEL_METADATA = 1, 2, 8, 14
_GRAPH_NAME, _GRAPH_INPUT = 2, 11
_NODE_NAME, _NODE_DOMAIN = 3, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TEXT, _ATTRIBUTE_TYPE = 1, 3, 4, 20
_TYPE_INT, _TYPE_TEXT = 2, 3
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = 2, 1, 1, 2, 1, 1
_ELEMENTS: Final = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "uint32": 12,
    "uint64": 13,
}
_IR_VERSION: Final = 9
_OPSET: Final = 20
_CONTEXT_DOMAIN: Final = "com.microsoft"
_HTP_BACKEND: Final = 6


def fit_tower(binary: ContextBinary, facts: ModelFacts) -> tuple[Tower, ContextIO]:
    """Return which tower of a model a binary is, and what it takes and gives.

    Args:
        binary: What the file says of itself.
        facts: The model's.

    Raises:
        ModelError: If it is neither, or could be read in two ways; the message says what was
            expected and what was found.
    """
    if binary.graphs != 1:
        raise ModelError(
            f"{binary.path} holds {binary.graphs} graphs, and a tower is one",
            hint="Take the binary of the single tower.",
        )
    graph = binary.graph
    found = f"takes {_listed(graph.inputs)} and gives {_listed(graph.outputs)}"
    if len(graph.inputs) != 1:
        raise _misfit(binary, found, facts)
    fed = graph.inputs[0]
    layouts: dict[tuple[int, ...], tuple[Tower, Layout]] = {}
    height, width = facts.vision.image_size
    layouts[1, facts.text.length] = ("text", "ids")
    layouts[1, height, width, 3] = ("vision", "NHWC")
    layouts[1, 3, height, width] = ("vision", "NCHW")
    if fed.shape not in layouts:
        raise _misfit(binary, found, facts)
    tower, layout = layouts[fed.shape]
    known = _ID_DTYPES if tower == "text" else _PIXEL_DTYPES
    if fed.dtype not in known and (tower == "text" or fed.scale is None):
        expected = " or ".join(sorted(known)) + ("" if tower == "text" else ", or quantised")
        raise ModelError(
            f"{binary.path} takes {_described(fed)}, which has to be {expected}",
            hint=f"Take another build of it, or another model's name with --as: this is "
            f"{facts.name}.",
        )
    given = [one for one in graph.outputs if math.prod(one.shape) == facts.dimension]
    if len(given) != 1 or (given[0].scale is None and given[0].dtype not in _PIXEL_DTYPES):
        raise _misfit(binary, found, facts)
    if tower == "vision":
        _check_range(binary, fed, facts)
    return tower, ContextIO(fed, layout, given[0])


def compatibility(binary: ContextBinary, target: Target, qairt: str) -> str:
    """Return the metadata by which a session knows the chip and the runtime of a context.

    Args:
        binary: The context.
        target: The chip that it is for.
        qairt: Version of the runtime that was seen to open it, which need not have made it.
    """
    fields = ("v2", _HTP_BACKEND, qairt, binary.backend_api, target.htp_arch, target.soc_model, 0)
    return ":".join(map(str, (*fields, 0)))


def wrapping_model(binary: ContextBinary, io: ContextIO, *, file: str, compatible: str) -> bytes:
    """Return an ONNX file of one node, the context.

    It is written field by field: it has a few hundred bytes, and the package onnx need not be on
    the machine that has the NPU.

    Args:
        binary: The context.
        io: What it takes and gives.
        file: Its name, in the folder of the ONNX file.
        compatible: What `compatibility` returned.
    """
    graph = binary.graph
    node = b"".join(
        [
            *(_text(onnx.NODE_INPUT, tensor.name) for tensor in graph.inputs),
            *(_text(onnx.NODE_OUTPUT, tensor.name) for tensor in graph.outputs),
            _text(_NODE_NAME, graph.name),
            _text(onnx.NODE_OP_TYPE, "EPContext"),
            _text(_NODE_DOMAIN, _CONTEXT_DOMAIN),
            *(
                _attribute(name, value)
                for name, value in (
                    ("main_context", 1),
                    ("embed_mode", 0),
                    ("ep_cache_context", file),
                    ("source", "QNNExecutionProvider"),
                    ("partition_name", graph.name),
                    ("ep_sdk_version", binary.build),
                )
            ),
        ]
    )
    body = b"".join(
        [
            _bytes(onnx.GRAPH_NODE, node),
            _text(_GRAPH_NAME, graph.name),
            *(_value(_GRAPH_INPUT, tensor) for tensor in graph.inputs),
            *(_value(onnx.GRAPH_OUTPUT, tensor) for tensor in graph.outputs),
        ]
    )
    return b"".join(
        [
            _number(_MODEL_IR_VERSION, _IR_VERSION),
            _text(_MODEL_PRODUCER, "siglip-search"),
            _bytes(onnx.MODEL_GRAPH, body),
            _bytes(_MODEL_OPSET, _text(_OPSET_DOMAIN, "") + _number(_OPSET_VERSION, _OPSET)),
            _bytes(
                _MODEL_OPSET, _text(_OPSET_DOMAIN, _CONTEXT_DOMAIN) + _number(_OPSET_VERSION, 1)
            ),
            _metadata(COMPATIBILITY_KEY, compatible),
            _metadata(METADATA_KEY, io.to_json()),
        ]
    )


def _misfit(binary: ContextBinary, found: str, facts: ModelFacts) -> ModelError:
    height, width = facts.vision.image_size
    return ModelError(
        f"{binary.path} {found}; of {facts.name} are expected pixels (1, 3, {height}, {width}) or "
        f"(1, {height}, {width}, 3), or ids (1, {facts.text.length}), and one output of "
        f"{facts.dimension} numbers",
        hint="It is another model's or another size's: name the right one with --as.",
    )


def _check_range(binary: ContextBinary, fed: ContextTensor, facts: ModelFacts) -> None:
    """Refuse a quantised input that cannot hold the pixels as the model wants them."""
    if fed.scale is None:  # nothing tells
        return
    channels = list(zip(facts.vision.mean, facts.vision.std, strict=True))
    low = min(-mean / std for mean, std in channels)
    high = max((1.0 - mean) / std for mean, std in channels)
    slack = _RANGE_TOLERANCE * (high - low)
    least, most = fed.range
    too_wide = most - least > _WIDEST_RANGE * (high - low)
    if least > low + slack or most < high - slack or too_wide:
        raise ModelError(
            f"{binary.path} takes {_described(fed)} from {least:.2f} to {most:.2f}, and the pixels "
            f"of {facts.name} go from {low:.2f} to {high:.2f}",
            hint="If it normalises pixels itself, --unit-pixels gives it those from 0 to 1.",
        )


def _listed(tensors: tuple[ContextTensor, ...]) -> str:
    return ", ".join(map(_described, tensors)) or "nothing"


def _described(tensor: ContextTensor) -> str:
    quantised = "" if tensor.scale is None else "quantised "
    return f"{tensor.name} {quantised}{tensor.dtype} {tensor.shape}"


def _value(number: int, tensor: ContextTensor) -> bytes:
    dims = b"".join(_bytes(_SHAPE_DIM, _number(_DIM_VALUE, size)) for size in tensor.shape)
    kind = _number(_TENSOR_ELEMENT, _ELEMENTS[tensor.dtype]) + _bytes(_TENSOR_SHAPE, dims)
    typed = _bytes(_VALUE_TYPE, _bytes(_TYPE_TENSOR, kind))
    return _bytes(number, _text(onnx.VALUE_INFO_NAME, tensor.name) + typed)


def _attribute(name: str, value: int | str) -> bytes:
    if isinstance(value, int):
        content = _number(_ATTRIBUTE_INT, value) + _number(_ATTRIBUTE_TYPE, _TYPE_INT)
    else:
        content = _text(_ATTRIBUTE_TEXT, value) + _number(_ATTRIBUTE_TYPE, _TYPE_TEXT)
    return _bytes(onnx.NODE_ATTRIBUTE, _text(_ATTRIBUTE_NAME, name) + content)


def _metadata(key: str, value: str) -> bytes:
    return _bytes(_MODEL_METADATA, _text(onnx.ENTRY_KEY, key) + _text(onnx.ENTRY_VALUE, value))


def _text(number: int, value: str) -> bytes:
    return _bytes(number, value.encode())


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | onnx.BYTES) + _varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | onnx.VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
