"""Fits a calibration to labelled pairs of query and picture, and chooses its cut.

The fit starts from the model's own sigmoid and leaves it only as far as the pairs say so (a normal
prior on each weight, maximum a posteriori, by Newton's method): forty pairs move its offset and
little else, thousands decide everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.search.calibration import Calibration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from siglip_search.search.calibration import Origin

FALSE_POSITIVE_RATE: Final = 0.05
"""Of a hundred queries for what is not there, the default cut shall answer five."""

USUAL_CUT_SLOPE: Final = 1.0
"""Of the cut over the logarithm of the number of pictures, where it cannot be measured.

With it a cut asks for the same odds that anything matches whatever the number: a query whose
matches are a given number of pictures, not a share of the library, finds odds that sink as 1/n. A
user's own few answers cannot tell it, nor can the tail of a library full of bursts, whose best
pictures are all the same one. The demonstration model's was measured and is close to it.
"""

# Standard deviations of the priors: how far each weight may well be from the model's own, in
# log-odds for one logit of the cosine, of the location and of the spread, and for the offset. A
# model may be wrong by many logits about how often anything matches, but not about which cosine is
# the better one.
_PRIOR_SPREADS: Final = np.array([0.5, 0.5, 0.5, 10.0])
_OWN_SIGMOID: Final = np.array([1.0, 0.0, 0.0, 0.0])
_MOST_STEPS: Final = 100
_SETTLED: Final = 1e-9
_BOUNDS: Final = (0.005, 0.995)
_MOST_SLOPE: Final = 20.0
_SLOPE_SETTLED: Final = 1e-4


class UnfittableError(ValueError):
    """The pairs contradict the order of the scores, or are all of one kind; str() says which."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPairs:
    """Pairs of query and picture of which it is known whether they match.

    Attributes:
        cosines: Of the pairs, shape (n,).
        locations: Of each pair's query's background, shape (n,).
        spreads: Likewise.
        matches: Whether the picture matches the query, shape (n,).
    """

    cosines: NDArray[np.float64]
    locations: NDArray[np.float64]
    spreads: NDArray[np.float64]
    matches: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.matches)

    def part(self, chosen: NDArray[np.bool_]) -> LabelledPairs:
        """Return the pairs chosen by a mask of shape (n,)."""
        return LabelledPairs(
            self.cosines[chosen], self.locations[chosen], self.spreads[chosen], self.matches[chosen]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """What pairs say about the weights.

    Attributes:
        weights: Of the logit less its centre, of location and spread in logits, and the offset;
            shape (4,).
        covariance: How uncertain they are, shape (4, 4).
        centre: The logit that counts as 0.
    """

    weights: NDArray[np.float64]
    covariance: NDArray[np.float64]
    centre: float


def posterior_of(
    pairs: LabelledPairs, *, logit_scale: float, logit_bias: float | None, centre: float
) -> Posterior:
    """Return what the pairs say about the weights; with no pair, what is thought beforehand.

    Args:
        pairs: Any number, of one kind or both.
        logit_scale: The model's temperature after exp(), > 0.
        logit_bias: The model's bias; None where it has none.
        centre: The logit at which an uncertain model is asked about: for one without a bias the
            log-odds of a match there are thought to be about 0.
    """
    features = _features(pairs, logit_scale, logit_bias, centre)
    weights, curvature = _newton(
        features, pairs.matches, _PRIOR_SPREADS, _start(logit_bias, centre)
    )
    return Posterior(weights, np.linalg.inv(curvature).astype(np.float64), centre)


def information(
    posterior: Posterior,
    pairs: LabelledPairs,
    *,
    logit_scale: float,
    logit_bias: float | None,
) -> NDArray[np.float64]:
    """Return how much an answer about each pair would tell about the weights, shape (n,), >= 0.

    It is the gain of D-optimal design: 0.5 * log(1 + p (1 - p) x' C x).

    Args:
        posterior: What is known so far.
        pairs: Candidates; their `matches` are not looked at.
        logit_scale: As for `posterior_of`.
        logit_bias: Likewise.
    """
    features = _features(pairs, logit_scale, logit_bias, posterior.centre)
    chances = _sigmoid(features @ posterior.weights)
    doubt = np.einsum("ni,ij,nj->n", features, posterior.covariance, features)
    gains: NDArray[np.float64] = 0.5 * np.log1p(chances * (1 - chances) * doubt)
    return gains


def fit(
    pairs: LabelledPairs,
    *,
    logit_scale: float,
    logit_bias: float | None,
    origin: Origin,
    cut: float = 0.5,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    pictures: int = 0,
) -> Calibration:
    """Return the calibration that these pairs support.

    Args:
        pairs: Some that match and some that do not.
        logit_scale: The model's temperature after exp(), > 0.
        logit_bias: The model's bias; None where it has none.
        origin: Whose fit it is.
        cut: Its cut; `choose_cut` finds one.
        false_positive_rate: What the cut was chosen for.
        pictures: In collections of so many pictures; 0 if that is not known.

    Raises:
        UnfittableError: All pairs match, or none, or nearer pictures match more rarely.
    """
    if pairs.matches.all() or not pairs.matches.any():
        raise UnfittableError(
            "all of them match" if pairs.matches.any() else "none of them matches"
        )
    logits = logit_scale * pairs.cosines + (logit_bias or 0.0)
    centre = float(logits.mean())
    posterior = posterior_of(pairs, logit_scale=logit_scale, logit_bias=logit_bias, centre=centre)
    slope, by_location, by_spread, offset = map(float, posterior.weights)
    # Without a background: the same fit of slope and offset alone.
    features = _features(pairs, logit_scale, logit_bias, centre)
    features[:, 1:3] = 0.0
    start = _start(logit_bias, centre)
    plain, _ = _newton(features, pairs.matches, _PRIOR_SPREADS, start)
    if min(slope, float(plain[0])) <= 0:
        raise UnfittableError("nearer pictures match more rarely than farther ones")
    shift = (logit_bias or 0.0) - centre
    return Calibration(
        cosine_weight=logit_scale * (slope + by_location),
        standing_weight=-logit_scale * by_location,
        spread_weight=logit_scale * by_spread,
        offset=offset + slope * shift,
        plain_weight=logit_scale * float(plain[0]),
        plain_offset=float(plain[3]) + float(plain[0]) * shift,
        locations=_bounds(pairs.locations),
        spreads=_bounds(pairs.spreads),
        cut=cut,
        false_positive_rate=false_positive_rate,
        pairs=len(pairs),
        origin=origin,
        pictures=pictures,
    )


def choose_cut(
    best: NDArray[np.floating], wanted: float = FALSE_POSITIVE_RATE
) -> tuple[float, float]:
    """Return a cut, and the share of queries for what is not there that it answers at most.

    Of n such queries with exchangeable ones to come, the k-th greatest of their best probabilities
    is reached by the next one with a chance of k / (n + 1) (split conformal prediction). Where
    there are too few for the wanted share, the cut lies above all of them and above 1/2.

    Args:
        best: Calibrated probability of the best picture of each query that nothing matches,
            shape (n,).
        wanted: Share that may be answered, in (0, 1).

    Returns:
        The cut in [0, 1], and the share in (0, 1].
    """
    allowed = math.floor(wanted * (len(best) + 1)) - 1
    if allowed >= 0:
        reached = float(np.sort(best)[::-1][allowed])
        return _rounded_up(reached), wanted
    most = float(best.max()) if len(best) else 0.0
    return max(0.5, _rounded_up(most)), 1 / (len(best) + 1)


def cut_slope(
    best: Mapping[int, NDArray[np.floating]], wanted: float = FALSE_POSITIVE_RATE
) -> float:
    """Return by how many log-odds the cut has to rise where there are e times as many pictures.

    It is the line through the (1 - wanted) quantiles of collections of several sizes, over the
    logarithm of their size: quantile regression (Koenker and Bassett, Econometrica 46, 1978), each
    size counting alike.

    Args:
        best: By number of pictures, >= 1 and at least two of them, the log-odds of the best
            picture of each query that nothing matches, shape (n,), n > 0.
        wanted: Share that may be answered, in (0, 1).

    Returns:
        >= 0: a cut that falls as pictures are added would let in what was refused.
    """
    above = np.array([np.log(size) for size in best])
    lots = [np.sort(np.asarray(values, np.float64)) for values in best.values()]

    def loss(slope: float) -> float:
        rest = np.concatenate([lot - slope * at for lot, at in zip(lots, above, strict=True)])
        weights = np.concatenate([np.full(len(lot), 1 / len(lot)) for lot in lots])
        order = np.argsort(rest, kind="stable")
        reached = np.searchsorted(np.cumsum(weights[order]), (1 - wanted) * len(lots))
        over = rest - rest[order[min(int(reached), len(rest) - 1)]]
        return float((weights * np.where(over > 0, (1 - wanted) * over, -wanted * over)).sum())

    # The loss is convex in the slope, with the best height for each: thirds close in on its least.
    low, high = 0.0, _MOST_SLOPE
    while high - low > _SLOPE_SETTLED:
        first, second = low + (high - low) / 3, high - (high - low) / 3
        if loss(first) <= loss(second):
            high = second
        else:
            low = first
    return round((low + high) / 2, 3)


def _rounded_up(probability: float) -> float:
    # Three digits are what people see; never down, which would answer more.
    return min(1.0, math.floor(probability * 1000 + 1) / 1000)


def _start(logit_bias: float | None, centre: float) -> NDArray[np.float64]:
    """Return the prior's middle: the model's own sigmoid, of logits less their centre."""
    start = _OWN_SIGMOID.copy()
    start[3] = 0.0 if logit_bias is None else centre
    return start


def _features(
    pairs: LabelledPairs, logit_scale: float, logit_bias: float | None, centre: float
) -> NDArray[np.float64]:
    logits = logit_scale * pairs.cosines + (logit_bias or 0.0) - centre
    return np.stack(
        [
            logits,
            logit_scale * pairs.locations,
            logit_scale * pairs.spreads,
            np.ones(len(pairs)),
        ],
        axis=1,
    )


def _newton(
    features: NDArray[np.float64],
    matches: NDArray[np.bool_],
    prior_spreads: NDArray[np.float64],
    start: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of greatest posterior density, and the curvature there."""
    precision = 1 / prior_spreads**2
    weights = start.copy()

    def loss(at: NDArray[np.float64]) -> float:
        scores = features @ at
        # log(1 + exp(s)) - y s, without overflow.
        miss = np.logaddexp(0.0, scores) - matches * scores
        return float(miss.sum() + 0.5 * (precision * (at - start) ** 2).sum())

    for _ in range(_MOST_STEPS):
        chances = _sigmoid(features @ weights)
        gradient = features.T @ (chances - matches) + precision * (weights - start)
        curvature = (features.T * (chances * (1 - chances))) @ features + np.diag(precision)
        step = np.linalg.solve(curvature, gradient)
        size, here = 1.0, loss(weights)
        # The loss is convex, so that a short enough step always lowers it.
        while loss(weights - size * step) > here and size > _SETTLED:
            size /= 2
        weights = weights - size * step
        if float(np.abs(size * step).max()) < _SETTLED:
            break
    chances = _sigmoid(features @ weights)
    return weights, (features.T * (chances * (1 - chances))) @ features + np.diag(precision)


def _sigmoid(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    chances: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-np.clip(scores, -700.0, 700.0)))
    return chances


def _bounds(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, _BOUNDS)
    return float(low), float(high)
