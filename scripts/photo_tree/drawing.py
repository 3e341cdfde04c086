"""Contents of files: pictures of random colours, of which no two are the same, and films."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pillow_heif
from PIL import Image

# The writer of DNGs, and of metadata as cameras have it, is that of the tests.
_TESTS = str(Path(__file__).resolve().parents[2] / "tests")
if _TESTS not in sys.path:
    sys.path.append(_TESTS)

from photos import drawn_raws  # noqa: E402

if TYPE_CHECKING:
    from numpy.random import Generator

pillow_heif.register_heif_opener()

SIZE = (96, 72)
"""Width and height of an ordinary picture: large enough for a tower, small enough for 20,000."""


def colours(random: Generator, size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    """Return a picture of soft random colours."""
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BILINEAR).convert(mode)


def encoded(image: Image.Image, picture_format: str, **options: Any) -> bytes:
    """Return a picture as a file of a format that Pillow writes."""
    target = io.BytesIO()
    image.save(target, picture_format, **options)
    return target.getvalue()


def jpeg(random: Generator, size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    """Return a picture as JPEG."""
    return encoded(colours(random, size), "JPEG", **options)


def heic(random: Generator, size: tuple[int, int] = SIZE, **options: Any) -> bytes:
    """Return a picture as HEIC."""
    return encoded(colours(random, size), "HEIF", **options)


def dng(
    random: Generator,
    size: tuple[int, int] = SIZE,
    *,
    orientation: int = 1,
    preview_size: tuple[int, int] | None = None,
) -> bytes:
    """Return a picture as a camera's RAW, in the one such format that is public."""
    upright = colours(random, size)
    preview = None
    if preview_size is not None:
        preview = drawn_raws.jpeg_directory(upright.resize(preview_size))
    return drawn_raws.dng(upright, orientation=orientation, preview=preview).getvalue()


def nef(random: Generator) -> bytes:
    """Return a stand-in for Nikon's RAW that LibRaw reads."""
    return drawn_raws.nef_stand_in(colours(random, (640, 480))).getvalue()


def film(random: Generator, seconds: float = 2.5) -> bytes:
    """Return the frame of a QuickTime film: its header and random data, no real samples."""
    header = struct.pack(">IIIII", 0, 0, 0, 600, round(seconds * 600))
    header += struct.pack(">IHH8x9I24xI", 0x10000, 0x100, 0, *_UNTURNED, 1)
    return (
        _atom(b"ftyp", b"qt  " + bytes(4) + b"qt  ")
        + _atom(b"mdat", random.bytes(64))
        + _atom(b"moov", _atom(b"mvhd", header))
    )


_UNTURNED = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def _atom(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header states a size that its data does not have."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checked = name + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
