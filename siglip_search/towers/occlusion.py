"""Hiding parts of a picture from a tower, to see what they were worth to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

BLUR_SHARE: Final = 1 / 8
"""Radius of the blur (the standard deviation of its Gaussian) as a share of the shorter side."""


def occluded(
    pixels: NDArray[np.uint8],
    grid: tuple[int, int],
    places: Sequence[tuple[slice, slice]],
    *,
    pictures_at_once: int,
) -> Iterator[NDArray[np.uint8]]:
    """Yield a picture with one place after the other replaced by what a strong blur leaves of it.

    A blur keeps the colour and the light of the place and adds no edge of its own make, to which a
    grey rectangle would draw the tower's attention.

    Args:
        pixels: As the tower takes them, shape (height, width, 3).
        grid: Rows and columns of cells.
        places: Rows and columns of cells to hide.
        pictures_at_once: Most pictures that are in memory together, >= 1.

    Yields:
        Shape (at most pictures_at_once, height, width, 3).
    """
    height, width = pixels.shape[:2]
    radius = BLUR_SHARE * min(height, width)
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
    # Cells differ by a pixel where the grid does not divide the picture.
    rows = np.linspace(0, height, grid[0] + 1).round().astype(int)
    columns = np.linspace(0, width, grid[1] + 1).round().astype(int)
    for start in range(0, len(places), pictures_at_once):
        some = places[start : start + pictures_at_once]
        hidden = np.repeat(pixels[None], len(some), axis=0)
        for picture, (down, across) in zip(hidden, some, strict=True):
            place = (
                slice(rows[down.start], rows[down.stop]),
                slice(columns[across.start], columns[across.stop]),
            )
            picture[place] = blurred[place]
        yield hidden
