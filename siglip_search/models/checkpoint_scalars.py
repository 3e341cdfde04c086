"""Two scalars out of a checkpoint's safetensors file, without the rest of it."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from siglip_search.models.onnx_fields import ReadRange

_MAX_SAFETENSORS_HEADER_BYTES: Final = 100_000_000  # the format's own limit
_MOST_LOG_SCALE: Final = 20.0  # exp(20) is half a billion; the published ones are near 4.7
_SCALAR_FORMATS: Final = {"F64": "<d", "F32": "<f", "F16": "<e"}


def read_scale_and_bias(read_range: ReadRange, *, where: str) -> tuple[float, float | None]:
    """Read `logit_scale` and `logit_bias` out of a safetensors file without the rest of it.

    Args:
        read_range: Reads a part of the file.
        where: What to call the file in messages.

    Returns:
        The scale after exp(), and the bias or None if the checkpoint has none.

    Raises:
        ModelError: If the file is no safetensors file or has no scale.
    """
    start = read_range(0, 8)
    if len(start) != 8:
        raise _not_safetensors(where)
    (header_bytes,) = struct.unpack("<Q", start)
    if not 2 <= header_bytes <= _MAX_SAFETENSORS_HEADER_BYTES:
        raise _not_safetensors(where)
    try:
        header = json.loads(read_range(8, header_bytes))
    except ValueError as error:
        raise _not_safetensors(where) from error
    log_scale = _read_scalar(read_range, header, header_bytes, "logit_scale", where)
    if log_scale is None:
        raise ModelError(
            f"{where} has no logit_scale",
            hint="The checkpoint is not that of a SigLIP model.",
        )
    bias = _read_scalar(read_range, header, header_bytes, "logit_bias", where)
    # Every published SigLIP checkpoint stores the logarithm; training starts at ln 10.
    return scale_of(log_scale, where), bias


def scale_of(log_scale: float, where: str) -> float:
    """Return the scale of its logarithm.

    Raises:
        ModelError: If no model could have it: a scale was stored in place of its logarithm, say.
    """
    if not -_MOST_LOG_SCALE <= log_scale <= _MOST_LOG_SCALE:
        raise ModelError(
            f"{where} has the logit_scale {log_scale}, which is no logarithm of a scale",
            hint="The checkpoint is damaged, or not that of a SigLIP model.",
        )
    return math.exp(log_scale)


def _read_scalar(
    read_range: ReadRange, header: Any, header_bytes: int, name: str, where: str
) -> float | None:
    if not isinstance(header, dict):
        raise _not_safetensors(where)
    if name not in header:
        return None
    try:
        kind = header[name]["dtype"]
        begin, end = header[name]["data_offsets"]
        size = end - begin
        if not 0 <= begin <= end:
            raise _not_safetensors(where)
    except (KeyError, TypeError, ValueError) as error:
        raise _not_safetensors(where) from error
    # Whatever is larger is no number: it need not be read to be refused.
    raw = read_range(8 + header_bytes + begin, size) if size <= 8 else bytes(9)
    if kind == "BF16":  # the upper half of a float32
        kind, raw = "F32", b"\0\0" + raw
    layout = _SCALAR_FORMATS.get(kind)
    if layout is None or len(raw) != struct.calcsize(layout):
        raise ModelError(
            f"{where} stores {name} as {kind} of {size} bytes, not as one number",
            hint="The checkpoint is not that of a SigLIP model.",
        )
    (value,) = struct.unpack(layout, raw)
    return float(value)


def _not_safetensors(where: str) -> ModelError:
    return ModelError(
        f"{where} is not a safetensors file", hint="The checkpoint's repository has changed."
    )
