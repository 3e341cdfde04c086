"""How well stated probabilities hold: calibration error, reliability, bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

BINS: Final = 15
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs whose stated probability lies in one bin of equal width.

    Attributes:
        pairs: How many there are, > 0.
        stated: Their mean stated probability.
        observed: The share that matches.
    """

    pairs: int
    stated: float
    observed: float


def tally(
    stated: NDArray[np.floating], matches: NDArray[np.bool_], bins: int = BINS
) -> NDArray[np.float64]:
    """Count pairs by their stated probability; tallies of several lots of pairs may be added.

    Args:
        stated: Probabilities, shape (n,), in [0, 1].
        matches: What is true, shape (n,).
        bins: How many bins of equal width there are.

    Returns:
        For each bin the number of pairs, the sum of their probabilities, and how many match;
        shape (bins, 3).
    """
    where = np.minimum((stated * bins).astype(np.int64), bins - 1)
    columns = [
        np.bincount(where, minlength=bins),
        np.bincount(where, stated, bins),
        np.bincount(where, matches, bins),
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def reliability(counted: NDArray[np.float64]) -> tuple[ReliabilityBin, ...]:
    """Return the bins of a tally that are not empty, least probability first."""
    return tuple(
        ReliabilityBin(int(pairs), float(stated / pairs), float(right / pairs))
        for pairs, stated, right in counted
        if pairs
    )


def calibration_error(counted: NDArray[np.float64]) -> float:
    """Return the expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015).

    The mean over all pairs of |share that matches - mean stated probability| of the pair's bin.

    Args:
        counted: What `tally` returned, or a sum of such.

    Returns:
        In [0, 1]; nan where there is no pair.
    """
    pairs = float(counted[:, 0].sum())
    if not pairs:
        return float("nan")
    return float(np.abs(counted[:, 1] - counted[:, 2]).sum()) / pairs


def bootstrap_interval(
    figure: Callable[[NDArray[np.int64]], float],
    groups: NDArray[np.int64],
    *,
    rounds: int = 1000,
    share: float = 0.95,
) -> tuple[float, float]:
    """Return a percentile bootstrap interval of a figure, by drawing whole groups.

    What belongs together (the pairs of one query, the queries of one gallery) is right or wrong
    together, and is drawn together.

    Args:
        figure: Takes row numbers, with repetitions, and returns the figure for those rows.
        groups: The group of each row, shape (n,), n > 0.
        rounds: How often to draw.
        share: Of the interval, in (0, 1).

    Returns:
        Its lower and upper end; the same at every call.
    """
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    rows = np.split(order, starts[1:])
    rng = np.random.default_rng(_SEED)
    drawn = [
        figure(np.concatenate([rows[at] for at in rng.integers(len(rows), size=len(rows))]))
        for _ in range(rounds)
    ]
    low, high = np.nanquantile(drawn, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
