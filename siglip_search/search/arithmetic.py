"""Sums of unit vectors: "this picture, plus a beach, minus people" as one direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LEAST_SHARE: Final = 1e-3
"""Of a sum's greatest possible length: what is shorter points where rounding errors do."""


def direction_of(
    vectors: Sequence[NDArray[np.float32]], weights: Sequence[float]
) -> NDArray[np.float32]:
    """Return the weighted sum of unit vectors, brought back to unit length.

    The order of the terms does not matter, to the last bit. A single term of weight above 0 is
    its own vector, unchanged.

    Args:
        vectors: Unit vectors, each of shape (dimension,); at least one.
        weights: One for each, not 0; below 0 to point away from it.

    Returns:
        Shape (dimension,).

    Raises:
        QueryError: The terms cancel one another out, so that there is no direction.
    """
    if len(vectors) == 1 and weights[0] > 0:
        return vectors[0]
    terms = np.asarray(weights, dtype=np.float64)[:, np.newaxis] * np.stack(vectors)
    # Addition of floats depends on the order, so each coordinate is added up from its least term.
    total = np.sort(terms, axis=0).sum(axis=0)
    length = float(np.linalg.norm(total))
    if length < _LEAST_SHARE * float(np.abs(weights).sum()):
        raise QueryError(
            "the terms of the query cancel one another out",
            hint="Leave out one of them, or give them different weights: --plus dog=2",
        )
    direction: NDArray[np.float32] = (total / length).astype(np.float32)
    return direction
