"""Queries, each with its cosines with every picture of one collection and what is true of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siglip_search.search.calibration_fit import LabelledPairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siglip_search.search.background import Background
    from siglip_search.search.calibration import Calibration


@dataclass(frozen=True, eq=False)
class AskedQuery:
    """One query of one collection.

    Attributes:
        kind: "present" where some picture matches; any other word is a way of not being there.
        group: What it shares its luck with: the queries of one collection are drawn together.
        cosines: With each picture, shape (pictures,).
        matches: Whether each picture matches, shape (pictures,).
        clear: Whether that is beyond doubt, shape (pictures,); doubtful pairs count for nothing.
        background: Of the query, among all pictures of the collection.
    """

    kind: str
    group: int
    cosines: NDArray[np.float64]
    matches: NDArray[np.bool_]
    clear: NDArray[np.bool_]
    background: Background


def pairs_of(asked: Sequence[AskedQuery]) -> LabelledPairs:
    """Return every clear pair of these queries."""
    backgrounds = [one.background for one in asked]
    counts = [int(one.clear.sum()) for one in asked]
    return LabelledPairs(
        cosines=np.concatenate([one.cosines[one.clear] for one in asked]),
        locations=np.repeat([one.location for one in backgrounds], counts),
        spreads=np.repeat([one.spread for one in backgrounds], counts),
        matches=np.concatenate([one.matches[one.clear] for one in asked]),
    )


def calibrated(asked: AskedQuery, calibration: Calibration) -> NDArray[np.float64]:
    """Return the calibrated probability of each picture, shape (pictures,)."""
    return calibration.probabilities(asked.cosines, asked.background)
