"""Two scalars out of a checkpoint's safetensors file, without the rest of it."""

from __future__ import annotations

import json
import math
import struct
from typing import Any, Final, Protocol

from siglip_search.errors import ModelError

_MAX_SAFETENSORS_HEADER_BYTES: Final = 100_000_000  # the format's own limit
_SCALAR_FORMATS: Final = {"F64": "<d", "F32": "<f", "F16": "<e"}


class ReadRange(Protocol):
    """Reads bytes [start, start + count) of one file."""

    def __call__(self, start: int, count: int) -> bytes:
        """Return exactly `count` bytes."""
        ...


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
    (header_bytes,) = struct.unpack("<Q", read_range(0, 8))
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
    return math.exp(log_scale), bias


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
    except (KeyError, TypeError, ValueError) as error:
        raise _not_safetensors(where) from error
    raw = read_range(8 + header_bytes + begin, end - begin)
    if kind == "BF16":  # the upper half of a float32
        kind, raw = "F32", b"\0\0" + raw
    layout = _SCALAR_FORMATS.get(kind)
    if layout is None or len(raw) != struct.calcsize(layout):
        raise ModelError(
            f"{where} stores {name} as {kind} of {len(raw)} bytes, not as one number",
            hint="The checkpoint is not that of a SigLIP model.",
        )
    (value,) = struct.unpack(layout, raw)
    return float(value)


def _not_safetensors(where: str) -> ModelError:
    return ModelError(
        f"{where} is not a safetensors file", hint="The checkpoint's repository has changed."
    )
