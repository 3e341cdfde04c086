"""JPEG XL through `pillow-jxl-plugin` (the extra "jxl"), which decodes as soon as it opens."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.optional_formats import install_line, is_extra_installed

_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

# Width as a fraction of the height, by the number in the header; 0 is followed by the width.
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}

_SIZE_BITS = (9, 13, 18, 30)

_MAX_BOXES = 64


def register_jxl() -> None:
    """Have Pillow open JPEG XL.

    Raises:
        UnreadablePictureError: If the extra is not installed; the reason has the line to do so.
    """
    if not is_extra_installed("jxl"):
        raise UnreadablePictureError(f"a JPEG XL picture: to read such, {install_line('jxl')}")
    if "JXL" not in Image.OPEN:
        import pillow_jxl  # noqa: F401  registers itself
        from pillow_jxl import JpegXLImagePlugin

        # One picture at a time and process; each thread would take address space from its limit.
        JpegXLImagePlugin.DECODE_THREADS = 0


def stated_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return the width and height in a JPEG XL file's header, as they are stored.

    The plugin decodes the whole picture before it tells its size, which is too late to refuse it.

    Args:
        file: Open for reading; its position changes.

    Returns:
        None when the header is damaged.
    """
    head = _codestream_head(file)
    if head is None or len(head) < 16:
        return None
    bits = _Bits(head[2:])
    is_small = bits.take(1)
    height = 8 * (bits.take(5) + 1) if is_small else bits.take(_SIZE_BITS[bits.take(2)]) + 1
    ratio = bits.take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio]
        return height * numerator // denominator, height
    width = 8 * (bits.take(5) + 1) if is_small else bits.take(_SIZE_BITS[bits.take(2)]) + 1
    return width, height


class _Bits:
    """Numbers out of bytes, the lowest bit first (ISO/IEC 18181-1)."""

    def __init__(self, content: bytes) -> None:
        self._rest = int.from_bytes(content[:16], "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value


def _codestream_head(file: BinaryIO) -> bytes | None:
    """Return the beginning of the codestream, bare or in its box."""
    file.seek(0)
    head = file.read(len(_CONTAINER))
    if head[:2] == b"\xff\x0a":
        file.seek(0)
        return file.read(32)
    if head != _CONTAINER:
        return None
    place = len(_CONTAINER)
    for _ in range(_MAX_BOXES):
        file.seek(place)
        header = file.read(16)
        if len(header) < 16:
            return None
        size, kind = struct.unpack_from(">I4s", header)
        header_bytes = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", header, 8)
            header_bytes = 16
        # "jxlp" is a part of the codestream, behind its number.
        if kind in (b"jxlc", b"jxlp"):
            file.seek(place + header_bytes + (4 if kind == b"jxlp" else 0))
            return file.read(32)
        if size < header_bytes or place + size >= 2**63:
            return None
        place += size
    return None
