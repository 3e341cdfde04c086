"""A picture's perceptual hash: 64 bits that resizing, recompression and filters hardly change.

The DCT hash ("pHash") exactly as ImageHash 4.3.2 computes it, to which a test holds it. That
library itself needs SciPy and PyWavelets (some 150 MB installed; no PyWavelets wheel for Python
3.11 on `win_arm64`), PDQ's has no wheels for arm64 on Linux and Windows; the transform is one
product of matrices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASH_BITS: Final = 64

TURNS: Final[tuple[Image.Transpose | None, ...]] = (
    None,
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_180,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
)
"""The eight ways to turn and mirror a picture."""

_SIDE: Final = 32
_LOW: Final = 8
_ROUNDING: Final = 1e-6


def _dct_matrix(size: int) -> NDArray[np.float64]:
    """Return the matrix of the DCT-II, not normalised, as SciPy's `dct` has it by default."""
    frequency, place = np.arange(size)[:, None], np.arange(size)[None, :]
    matrix: NDArray[np.float64] = 2.0 * np.cos(np.pi * frequency * (2 * place + 1) / (2 * size))
    return matrix


_DCT: Final = _dct_matrix(_SIDE)[:_LOW]


def low_frequencies(image: Image.Image) -> NDArray[np.float64]:
    """Return the lowest coefficients of a picture's brightness.

    Args:
        image: Any size and mode.

    Returns:
        Shape (8, 8): rows are vertical frequencies.
    """
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(small, dtype=np.float64)
    coefficients: NDArray[np.float64] = _DCT @ pixels @ _DCT.T
    return coefficients


def hash_bits(coefficients: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which coefficients are above their median, shape (64,)."""
    bits: NDArray[np.bool_] = (coefficients > np.median(coefficients)).reshape(-1)
    return bits


def turned_hashes(coefficients: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the hashes of a picture turned and mirrored in all ways, shape (8, 64).

    Mirroring changes the sign of every other coefficient, and transposing transposes them, so that
    no pixel is looked at again.

    Args:
        coefficients: Of the upright picture, as `low_frequencies` gives them.

    Returns:
        One row for each of `TURNS`.
    """
    odd = np.where(np.arange(_LOW) % 2 == 1, -1.0, 1.0)
    columns, rows = odd[None, :], odd[:, None]
    ways = (
        coefficients,
        coefficients * columns,
        coefficients * rows,
        coefficients * rows * columns,
        coefficients.T,
        coefficients.T * rows,
        coefficients.T * columns,
        coefficients.T * rows * columns,
    )
    return np.stack([hash_bits(way) for way in ways])


def unturned_description(coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return a unit vector that does not change when the picture is turned or mirrored.

    Turning by a quarter, a half and mirroring change signs of coefficients or transpose them: their
    sizes, the larger of each mirrored pair first, stay. Pictures that are alike in any position lie
    near one another; that is all it is for.

    Returns:
        Shape (64,); zeros for a picture of one brightness.
    """
    sizes = np.abs(coefficients)
    sizes[sizes < _ROUNDING] = 0.0
    sizes[0, 0] = 0.0  # the mean brightness, which says nothing of what is in the picture
    # The many small ones count too, or a picture would be its two or three broadest shades.
    sizes = np.sqrt(sizes)
    upper = np.triu(np.maximum(sizes, sizes.T))
    lower = np.tril(np.minimum(sizes, sizes.T), -1)
    vector = (upper + lower).astype(np.float32).reshape(-1)
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
