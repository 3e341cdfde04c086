"""Which files are a camera's RAW, by their content.

Most RAW formats are TIFFs with a thumbnail in front, which every TIFF reader opens without a word:
what tells them apart is in the directories. Nothing here decodes, or believes, a pixel.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from siglip_search.photos.formats import SIGNATURE_BYTES, is_raw_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"FUJIFILMCCD-RAW", "RAF"),
    (0, b"IIRO", "ORF"),
    (0, b"IIRS", "ORF"),
    (0, b"MMOR", "ORF"),
    (0, b"IIU\0", "RW2"),
    (0, b"FOVb", "X3F"),
    (0, b"\0MRM", "MRW"),
    (0, b"IIII", "IIQ"),
    (0, b"MMMM", "IIQ"),
    (4, b"ftypcrx ", "CR3"),
    (6, b"HEAPCCDR", "CRW"),
    (8, b"IIIITaR", "IIQ"),
    (8, b"CR\2", "CR2"),
)

_TYPE_BY_MAKER = {
    b"CANON": "CR2",
    b"EPSON": "ERF",
    b"HASSELBLAD": "3FR",
    b"KODAK": "DCR",
    b"EASTMAN": "DCR",
    b"LEAF": "MOS",
    b"MAMIYA": "MEF",
    b"NIKON": "NEF",
    b"PENTAX": "PEF",
    b"PHASE": "IIQ",
    b"RICOH": "PEF",
    b"SAMSUNG": "SRW",
    b"SONY": "ARW",
}

_TIFF_HEADERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}

_PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 262, 271, 330, 50706

# CFA (TIFF/EP) and LinearRaw (DNG): values of a sensor, not of a picture.
_SENSOR_PHOTOMETRICS = frozenset({32803, 34892})

_VALUE_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 7: "s", 13: "I", 16: "Q", 18: "Q"}

# Cameras write half a dozen directories of a hundred tags; a hostile file may link for ever.
_MAX_DIRECTORIES = 32
_MAX_TAGS = 1_000
_MAX_VALUES = 64

# Of anything shorter LibRaw says that it cannot read it, which is no news of an empty file.
_LEAST_RAW_BYTES = 512


def raw_type(file: BinaryIO) -> str | None:
    """Name the type of a RAW file.

    Args:
        file: Open for reading; its position changes.

    Returns:
        Such as "DNG" or "NEF"; "RAW" for a maker that is not known; None for anything else.

    Raises:
        OSError: If the file cannot be read.
    """
    file.seek(0)
    head = file.read(SIGNATURE_BYTES)
    for offset, signature, name in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return name
    order = _TIFF_HEADERS.get(head[:4])
    if order is None:
        return None
    is_sensor_data, maker = False, b""
    for tags in _directories(file, order, is_big=head[2:4] in (b"+\0", b"\0+")):
        if _DNG_VERSION in tags:
            return "DNG"
        maker = maker or _first_word(tags.get(_MAKE))
        is_sensor_data |= not _SENSOR_PHOTOMETRICS.isdisjoint(tags.get(_PHOTOMETRIC, ()))
    return _TYPE_BY_MAKER.get(maker, "RAW") if is_sensor_data else None


def may_be_raw(file: BinaryIO, name: bytes) -> bool:
    """Tell whether LibRaw should look at a file whose content does not tell what it is.

    Args:
        file: Open for reading; its position changes.
        name: The file's name, with or without its folder.

    Raises:
        OSError: If the file cannot be read.
    """
    if not is_raw_name(name):
        return False
    file.seek(0)
    return len(file.read(_LEAST_RAW_BYTES)) == _LEAST_RAW_BYTES


def _first_word(value: tuple[int | bytes, ...] | None) -> bytes:
    text = value[0] if value else b""
    words = text.replace(b"\0", b" ").split() if isinstance(text, bytes) else []
    return words[0].upper() if words else b""


def _directories(
    file: BinaryIO, order: str, *, is_big: bool
) -> Iterator[Mapping[int, tuple[int | bytes, ...]]]:
    """Yield the tags of interest of each directory: the chain's, and those below them."""
    word = order + ("Q" if is_big else "I")
    file.seek(8 if is_big else 4)
    waiting = list(_unpacked(file, word))
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_DIRECTORIES:
        place = waiting.pop(0)
        if place == 0 or place in seen:
            continue
        seen.add(place)
        tags, following = _read_directory(file, place, order, is_big=is_big)
        yield tags
        waiting += [offset for offset in tags.get(_SUB_IFDS, ()) if isinstance(offset, int)]
        waiting.append(following)


def _read_directory(
    file: BinaryIO, place: int, order: str, *, is_big: bool
) -> tuple[dict[int, tuple[int | bytes, ...]], int]:
    """Return the tags of interest, and where the next directory of the chain is (0: nowhere)."""
    inline_bytes = 8 if is_big else 4
    record = order + ("HHQ8s" if is_big else "HHI4s")
    tags: dict[int, tuple[int | bytes, ...]] = {}
    if place >= 2**63:
        return tags, 0
    file.seek(place)
    for count in _unpacked(file, order + ("Q" if is_big else "H")):
        if count > _MAX_TAGS:
            return tags, 0
        size = struct.calcsize(record)
        content = file.read(count * size)
        following = next(iter(_unpacked(file, order + ("Q" if is_big else "I"))), 0)
        for start in range(0, len(content) - size + 1, size):
            number, kind, length, inline = struct.unpack_from(record, content, start)
            letter = _VALUE_FORMATS.get(kind)
            if number not in (_PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION) or letter is None:
                continue
            value_format = f"{order}{min(length, _MAX_VALUES)}{letter}"
            if struct.calcsize(order + letter) * length > inline_bytes:
                offset = struct.unpack(order + ("Q" if is_big else "I"), inline)[0]
                if offset >= 2**63:
                    continue
                file.seek(offset)
                inline = file.read(struct.calcsize(value_format))
            if len(inline) >= struct.calcsize(value_format):
                tags[number] = struct.unpack_from(value_format, inline)
        return tags, following
    return tags, 0


def _unpacked(file: BinaryIO, word: str) -> tuple[int, ...]:
    """Read one number; none where the file ends before it."""
    content = file.read(struct.calcsize(word))
    return struct.unpack(word, content) if len(content) == struct.calcsize(word) else ()
