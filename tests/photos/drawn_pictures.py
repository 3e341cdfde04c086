"""Pictures that tests draw: four coloured quarters show at a glance what is up and what is left."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 30, 220), (255, 255, 255)

# EXIF orientation -> how an upright picture must be stored so that it is turned back.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def quarters(width: int = 96, height: int = 64) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = WHITE
    return Image.fromarray(pixels)


def encoded(image: Image.Image, picture_format: str, **options: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, picture_format, **options)
    buffer.seek(0)
    return buffer


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two RGB pictures, in [0, 255]."""
    assert one.size == other.size
    assert one.mode == other.mode == "RGB"
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())
