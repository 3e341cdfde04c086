"""The colour space that a PNG, HEIF or AVIF names by number (ITU-T H.273), where it does."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# The boxes that describe a picture come first and are small; the pixels are no business of ours.
_MAX_META_BYTES = 4 * 1024**2

# No file is longer; a box that says so was made up.
_MAX_PLACE = 2**40

_MAX_CHUNKS = 100


class Cicp(NamedTuple):
    """Coding-independent code points: numbers of ITU-T H.273."""

    primaries: int
    transfer: int


def stated_cicp(file: BinaryIO, picture_format: str) -> Cicp | None:
    """Return what a file says of its colours.

    Args:
        file: Open for reading; its position changes.
        picture_format: Pillow's name of the format.

    Returns:
        None where nothing is stated, or nothing that can be understood.

    Raises:
        OSError: If the file cannot be read.
    """
    try:
        if picture_format == "PNG":
            return _of_png(file)
        if picture_format in ("AVIF", "HEIF"):
            return _of_primary_item(_meta(file))
    except (struct.error, IndexError, ValueError):
        pass  # damaged or of a version to come: the decoder will say so, or nobody need know
    return None


def _of_png(file: BinaryIO) -> Cicp | None:
    file.seek(8)
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind == b"cICP":
            return Cicp(*file.read(2))
        if kind in (b"IDAT", b"IEND"):
            break
        file.seek(length + 4, 1)
    return None


def _meta(file: BinaryIO) -> bytes:
    """Return the content of the top-level box "meta", without its version and flags."""
    place = 0
    while True:
        file.seek(place)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            header = 16
        if kind == b"meta":
            return file.read(min(size - header, _MAX_META_BYTES))[4:]
        if size < header or place + size > _MAX_PLACE:
            raise ValueError("a box without a size before the description")
        place += size


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        if size < 8:
            return
        yield kind, content[place + 8 : place + size]
        place += size


def _of_primary_item(meta: bytes) -> Cicp | None:
    """Follow pitm -> ipma -> ipco -> colr (ISO/IEC 23008-12)."""
    boxes = dict(_boxes(meta))
    properties = list(_boxes(boxes.get(b"iprp", b"")))
    shared = [box for kind, content in properties if kind == b"ipco" for box in _boxes(content)]
    primary = boxes.get(b"pitm", b"")
    (item,) = struct.unpack_from(">H" if primary[0] == 0 else ">I", primary, 4)
    for kind, content in properties:
        if kind != b"ipma":
            continue
        for index in _associations(content, item):
            if 0 < index <= len(shared):
                name, colour = shared[index - 1]
                if name == b"colr" and colour[:4] == b"nclx":
                    return Cicp(*struct.unpack_from(">HH", colour, 4))
    return None


def _associations(content: bytes, wanted: int) -> Iterator[int]:
    """Yield the numbers, from 1, of the properties that belong to an item."""
    version, is_wide = content[0], content[3] & 1
    (items,) = struct.unpack_from(">I", content, 4)
    place = 8
    for _ in range(items):
        item_format = ">HB" if version == 0 else ">IB"
        item, count = struct.unpack_from(item_format, content, place)
        place += struct.calcsize(item_format)
        for _ in range(count):
            # The highest bit says whether a reader must understand the property.
            if is_wide:
                index = struct.unpack_from(">H", content, place)[0] & 0x7FFF
            else:
                index = content[place] & 0x7F
            place += 2 if is_wide else 1
            if item == wanted:
                yield index
