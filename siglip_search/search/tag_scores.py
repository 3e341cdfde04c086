"""Which labels fit which pictures, for many pictures at a time. Pure arithmetic on vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from siglip_search.search.background import Background, background_of
from siglip_search.search.scoring import cosine_for_probability, match_probability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siglip_search.search.calibration import Calibration

MAX_TAGS: Final = 30
"""Most tags of one picture, the best: more are a sign of a cut that is too low."""

# Products in single precision differ by less from those in double.
_SLACK: Final = 1e-5


class LabelScale(Protocol):
    """How one label's cosines become probabilities, which never fall as the cosine grows."""

    def probabilities(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return probabilities of shape (n,) for cosines of shape (n,)."""
        ...

    def cosine_for(self, probability: float) -> float:
        """Return the cosine at which the probability takes this value; it may be infinite."""
        ...


@dataclass(frozen=True, slots=True)
class ModelScale:
    """The model's own match probability: one scale for all labels.

    Attributes:
        logit_scale: Temperature after exp(), > 0.
        logit_bias: Added to the scaled cosine.
    """

    logit_scale: float
    logit_bias: float

    def probabilities(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """See `LabelScale.probabilities`."""
        return np.array(
            [
                match_probability(
                    float(cosine), logit_scale=self.logit_scale, logit_bias=self.logit_bias
                )
                for cosine in cosines
            ],
            np.float64,
        )

    def cosine_for(self, probability: float) -> float:
        """See `LabelScale.cosine_for`."""
        return cosine_for_probability(
            probability, logit_scale=self.logit_scale, logit_bias=self.logit_bias
        )


@dataclass(frozen=True, slots=True)
class CalibratedScale:
    """The calibrated probability of one label against its background.

    Attributes:
        calibration: How cosines of the space are calibrated.
        background: The label's cosines with pictures that have nothing to do with it.
    """

    calibration: Calibration
    background: Background

    def probabilities(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """See `LabelScale.probabilities`."""
        return self.calibration.probabilities(cosines, self.background)

    def cosine_for(self, probability: float) -> float:
        """See `LabelScale.cosine_for`."""
        return self.calibration.cosine_for(probability, self.background)


def calibrated_scales(
    prototypes: NDArray[np.float32], calibration: Calibration, sample: NDArray[np.float32]
) -> list[LabelScale]:
    """Return the scale of each label.

    Args:
        prototypes: The labels' unit vectors, shape (labels, dimension).
        calibration: How cosines of the space are calibrated.
        sample: Unit vectors of pictures chosen without regard to any label, shape (n, dimension).
    """
    return [
        CalibratedScale(calibration, background_of(prototype, sample)) for prototype in prototypes
    ]


def fitting_labels(
    pictures: NDArray[np.float32],
    prototypes: NDArray[np.float32],
    labels: Sequence[str],
    scales: Sequence[LabelScale],
    min_probability: float,
) -> list[tuple[tuple[str, float], ...]]:
    """Return for each picture the labels whose probability reaches the cut.

    Args:
        pictures: Unit vectors, shape (pictures, dimension).
        prototypes: The labels' unit vectors, shape (labels, dimension).
        labels: Their names.
        scales: How the cosines of each become probabilities.
        min_probability: The cut, in (0, 1].

    Returns:
        Labels with their probabilities, best first, equal ones in the order of `labels`; at most
        `MAX_TAGS`.
    """
    cosines = pictures @ prototypes.T
    rows, columns, chances = [], [], []
    for column, scale in enumerate(scales):
        least = scale.cosine_for(min_probability)
        if math.isinf(least) and least > 0:
            continue
        reached = np.flatnonzero(cosines[:, column] >= least - _SLACK)
        probabilities = scale.probabilities(cosines[reached, column])
        kept = probabilities >= min_probability
        rows.append(reached[kept])
        chances.append(probabilities[kept])
        columns.append(np.full(int(kept.sum()), column, np.int64))
    found: list[list[tuple[str, float]]] = [[] for _ in range(len(pictures))]
    if rows:
        row, column_of = np.concatenate(rows), np.concatenate(columns)
        chance = np.concatenate(chances)
        for place in np.lexsort((column_of, -chance, row)):
            tags = found[int(row[place])]
            if len(tags) < MAX_TAGS:
                tags.append((labels[int(column_of[place])], float(chance[place])))
    return list(map(tuple, found))
