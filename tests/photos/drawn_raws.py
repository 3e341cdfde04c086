"""RAW files that tests write themselves: DNGs as the DNG specification 1.7 has them, no more.

What a camera's own format holds beyond TIFF is not published, so NEF and the like are stand-ins: a
DNG's mosaic under the maker's name and in the maker's arrangement of directories.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from photos.drawn_pictures import STORED_AS, encoded

if TYPE_CHECKING:
    from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10
_SIZES = {BYTE: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, SRATIONAL: 8}
_LETTERS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "II", SRATIONAL: "ii"}

CFA, LINEAR_RAW = 32803, 34892

WHITE_LEVEL = 4095


@dataclass
class Directory:
    """A TIFF directory under construction.

    Attributes:
        tags: Number -> (type, values); rationals are (numerator, denominator).
        data: What StripOffsets will point at; None for a directory without an image.
        children: What SubIFDs will point at.
    """

    tags: dict[int, tuple[int, Any]] = field(default_factory=dict)
    data: bytes | None = None
    children: list[Directory] = field(default_factory=list)


def tiff(
    *directories: Directory, order: str = "<", magic: int = 42, behind_header: bytes = b""
) -> bytes:
    """Lay directories out one after the other, each with its data and children behind it."""
    file = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", magic, 0))
    file += behind_header
    link = 4
    for directory in directories:
        place, next_link = _append(file, directory, order)
        file[link : link + 4] = struct.pack(order + "I", place)
        link = next_link
    return bytes(file)


def _append(file: bytearray, directory: Directory, order: str) -> tuple[int, int]:
    tags = dict(directory.tags)
    if directory.data is not None:
        tags[273] = (LONG, [_append_bytes(file, directory.data)])
        tags[279] = (LONG, [len(directory.data)])
    if directory.children:
        tags[330] = (LONG, [_append(file, child, order)[0] for child in directory.children])
    records = b""
    for number, (kind, values) in sorted(tags.items()):
        if isinstance(values, int):
            values = [values]
        flat = [n for value in values for n in (value if isinstance(value, tuple) else (value,))]
        packed = struct.pack(order + _LETTERS[kind][0] * len(flat), *flat)
        count = len(packed) // _SIZES[kind]
        if len(packed) > 4:
            packed = struct.pack(order + "I", _append_bytes(file, packed))
        records += struct.pack(order + "HHI", number, kind, count) + packed.ljust(4, b"\0")
    place = _append_bytes(file, struct.pack(order + "H", len(tags)) + records + bytes(4))
    return place, place + 2 + len(records)


def _append_bytes(file: bytearray, data: bytes) -> int:
    file += bytes(len(file) % 2)
    place = len(file)
    file += data
    return place


def image_tags(
    image: Image.Image, *, photometric: int, compression: int, subfile: int
) -> dict[int, tuple[int, Any]]:
    """What a baseline TIFF image of 8-bit RGB in one strip needs, but for where the strip is."""
    return {
        254: (LONG, subfile),
        256: (LONG, image.width),
        257: (LONG, image.height),
        258: (SHORT, [8, 8, 8]),
        259: (SHORT, compression),
        262: (SHORT, photometric),
        277: (SHORT, 3),
        278: (LONG, image.height),
    }


def rgb_directory(image: Image.Image, *, subfile: int = 0) -> Directory:
    """An uncompressed RGB image."""
    tags = image_tags(image, photometric=2, compression=1, subfile=subfile)
    return Directory(tags, image.tobytes())


def jpeg_directory(image: Image.Image, **options: Any) -> Directory:
    """A preview as DNG has it: a whole JPEG file in one strip."""
    tags = image_tags(image, photometric=6, compression=7, subfile=1)
    return Directory(tags, encoded(image, "JPEG", quality=95, **options).getvalue())


def scene_light(image: Image.Image) -> np.ndarray[Any, Any]:
    """An sRGB picture as a sensor of sRGB primaries counts it, in [0, WHITE_LEVEL]."""
    display = np.asarray(image, np.float64) / 255
    linear = np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)
    return np.rint(linear * WHITE_LEVEL).astype(np.uint16)


def mosaic_directory(image: Image.Image, *, subfile: int = 0) -> Directory:
    """The sensor's own image behind red, green and blue filters (RGGB), 16 bits, uncompressed."""
    light = scene_light(image)
    mosaic = light[..., 1].copy()
    mosaic[::2, ::2] = light[::2, ::2, 0]
    mosaic[1::2, 1::2] = light[1::2, 1::2, 2]
    return Directory(
        {
            254: (LONG, subfile),
            256: (LONG, image.width),
            257: (LONG, image.height),
            258: (SHORT, 16),
            259: (SHORT, 1),
            262: (SHORT, CFA),
            277: (SHORT, 1),
            278: (LONG, image.height),
            33421: (SHORT, [2, 2]),
            33422: (BYTE, [0, 1, 1, 2]),
            50714: (LONG, 0),
            50717: (LONG, WHITE_LEVEL),
        },
        mosaic.astype("<u2").tobytes(),
    )


def linear_directory(image: Image.Image, *, subfile: int = 0) -> Directory:
    """An image with all three colours at each pixel, as smart previews and panoramas have it."""
    tags = image_tags(image, photometric=LINEAR_RAW, compression=1, subfile=subfile)
    tags[258] = (SHORT, [16, 16, 16])
    tags[50714] = (LONG, [0, 0, 0])
    tags[50717] = (LONG, [WHITE_LEVEL] * 3)
    return Directory(tags, scene_light(image).astype("<u2").tobytes())


def monochrome_directory(image: Image.Image) -> Directory:
    """The image of a sensor without filters."""
    light = scene_light(image.convert("L"))
    tags = mosaic_directory(image).tags | {262: (SHORT, LINEAR_RAW)}
    return Directory(
        {number: tag for number, tag in tags.items() if number not in (33421, 33422)},
        light.astype("<u2").tobytes(),
    )


def camera_tags(
    orientation: int, *, make: str = "Drawn", model: str = "Drawn Camera"
) -> dict[int, tuple[int, Any]]:
    """What the first directory says about the camera and about how it was held."""
    return {
        271: (ASCII, list(make.encode() + b"\0")),
        272: (ASCII, list(model.encode() + b"\0")),
        274: (SHORT, orientation),
    }


def dng_tags(model: str = "Drawn Camera") -> dict[int, tuple[int, Any]]:
    """What makes a TIFF a DNG. Its camera sees with the primaries of sRGB under D65."""
    xyz_to_camera = [
        *(3.2404542, -1.5371385, -0.4985314),
        *(-0.9692660, 1.8760108, 0.0415560),
        *(0.0556434, -0.2040259, 1.0572252),
    ]
    return {
        50706: (BYTE, [1, 4, 0, 0]),
        50707: (BYTE, [1, 1, 0, 0]),
        50708: (ASCII, list(model.encode() + b"\0")),
        50721: (SRATIONAL, [(round(value * 10_000), 10_000) for value in xyz_to_camera]),
        50728: (RATIONAL, [(1, 1), (1, 1), (1, 1)]),
        50778: (SHORT, 21),
    }


def stored(upright: Image.Image, orientation: int) -> Image.Image:
    """The picture as a sensor stores it that is then turned by this orientation."""
    turn = STORED_AS[orientation]
    return upright if turn is None else upright.transpose(turn)


def dng(
    upright: Image.Image,
    *,
    orientation: int = 1,
    preview: Directory | None = None,
    linear: bool = False,
) -> io.BytesIO:
    """A DNG of an upright picture.

    Args:
        preview: Put first among the SubIFDs; None for a DNG without one.
        linear: All three colours at each pixel instead of a mosaic.
    """
    small = stored(upright, orientation).resize((32, 24))
    first = rgb_directory(small, subfile=1)
    first.tags |= camera_tags(orientation) | dng_tags()
    main = (linear_directory if linear else mosaic_directory)(stored(upright, orientation))
    first.children = [main] if preview is None else [main, preview]
    return io.BytesIO(tiff(first))


def nef_stand_in(upright: Image.Image, *, orientation: int = 1) -> io.BytesIO:
    """A thumbnail in front, the sensor's image in a SubIFD, and Nikon's name: no DNG tags."""
    first = rgb_directory(stored(upright, orientation).resize((160, 120)), subfile=1)
    first.tags |= camera_tags(orientation, make="NIKON CORPORATION", model="NIKON D90")
    first.children = [mosaic_directory(stored(upright, orientation))]
    return io.BytesIO(tiff(first))


def cr2_stand_in(upright: Image.Image, *, orientation: int = 1) -> io.BytesIO:
    """Canon's mark behind the TIFF header and a small preview in front, without sensor data."""
    first = rgb_directory(stored(upright, orientation).resize((160, 120)))
    first.tags |= camera_tags(orientation, make="Canon", model="Canon EOS 5D")
    return io.BytesIO(tiff(first, behind_header=b"CR\2\0\0\0\0\0"))
