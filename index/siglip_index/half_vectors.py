"""Unit vectors in half precision, as they lie in the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siglip_index.errors import InvalidVectorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BYTES_PER_VALUE = 2
NORM_TOLERANCE = 0.01
"""How far a stored vector's norm may be from 1; half precision itself costs less than 0.001."""

_HALF = np.dtype("<f2")


def encode(vector: NDArray[np.float32], dimension: int) -> bytes:
    """Return a unit vector of shape (dimension,) as little-endian IEEE half precision.

    Raises:
        InvalidVectorError: Wrong shape, not finite, or not of unit length.
    """
    if vector.shape != (dimension,):
        raise InvalidVectorError(
            f"the vector has shape {vector.shape}, the space has dimension {dimension}"
        )
    half = vector.astype(_HALF)
    if not are_valid(half[np.newaxis])[0]:
        raise InvalidVectorError("the vector is not finite or not of unit length")
    return half.tobytes()


def decode(blobs: Sequence[bytes], dimension: int) -> NDArray[np.float32]:
    """Return vectors of shape (len(blobs), dimension).

    Raises:
        ValueError: A blob is none, or has the wrong length.
    """
    size_bytes = dimension * BYTES_PER_VALUE
    if any(not isinstance(blob, bytes) or len(blob) != size_bytes for blob in blobs):
        raise ValueError(f"it does not have {size_bytes} bytes")
    halves = np.frombuffer(b"".join(blobs), dtype=_HALF).reshape(len(blobs), dimension)
    return halves.astype(np.float32)


def are_valid(vectors: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell for each vector of shape (n, dimension) whether it is finite and of unit length."""
    wide = vectors.astype(np.float32)
    # A value that is not finite makes the norm so too, and the comparison false.
    squared_norms = np.einsum("nd,nd->n", wide, wide)
    valid: NDArray[np.bool_] = np.abs(np.sqrt(squared_norms) - 1.0) <= NORM_TOLERANCE
    return valid
