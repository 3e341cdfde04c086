"""Where a query's cosines with the pictures of a library lie.

Every query lies somewhere else: "a photo" is a little near everything, "a cello" far from nearly
all. Where a score stands against this background says more than the score alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_PICTURES: Final = 30
"""Fewer pictures are no background: one of them more or less would change it too much."""


@dataclass(frozen=True, slots=True)
class Background:
    """Where a query's cosines with pictures lie that were chosen without regard to it.

    Nothing is left out for being an outlier: cosines are bounded, and how many pictures lie far
    above the rest is what tells a query with answers from one without.

    Attributes:
        location: Their mean, in [-1, 1].
        spread: Their standard deviation, >= 0.
        pictures: How many pictures were looked at.
    """

    location: float
    spread: float
    pictures: int

    @property
    def is_known(self) -> bool:
        """Whether there were enough pictures to say anything."""
        return self.pictures >= MIN_PICTURES


UNKNOWN: Final = Background(location=0.0, spread=0.0, pictures=0)
"""Where no picture could be looked at."""


def background_of(vector: NDArray[np.float32], sample: NDArray[np.float32]) -> Background:
    """Return the background of one query.

    Args:
        vector: The query's unit vector, shape (dimension,).
        sample: Unit vectors of pictures of the library, chosen without regard to the query, shape
            (pictures, dimension).
    """
    return background_from(sample @ vector)


def background_from(cosines: NDArray[np.floating]) -> Background:
    """Return the background that these cosines of one query make, shape (pictures,)."""
    if len(cosines) == 0:
        return UNKNOWN
    exact = cosines.astype(np.float64)
    return Background(float(exact.mean()), float(exact.std()), len(exact))
