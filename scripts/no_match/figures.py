"""Judges answers: precision, recall, false positives and calibration error, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siglip_search.search.calibration_quality import bootstrap_interval, calibration_error, tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from no_match.asked import AskedQuery

LIKELY = 0.05
"""Pairs below it are nearly all of the pairs and nearly all plainly wrong: they hide the others."""


@dataclass(frozen=True)
class Figure:
    """A measured share or error.

    Attributes:
        value: The figure itself; nan where there was nothing to count.
        low: Lower end of its 95% bootstrap interval, whole groups drawn.
        high: Upper end.
        number: How many queries, pictures or pairs it is over.
    """

    value: float
    low: float
    high: float
    number: int


@dataclass(frozen=True, eq=False)
class Judged:
    """What one way of scoring made of all queries.

    Attributes:
        figures: By their names, in the order of the table.
        likely: Tally of the pairs of which it says at least `LIKELY`, for the diagram.
        best: Tally of the best picture of each query.
    """

    figures: dict[str, Figure]
    likely: NDArray[np.float64]
    best: NDArray[np.float64]


def judge(
    asked: Sequence[AskedQuery],
    scores: Sequence[NDArray[np.float64]],
    cut: float,
    *,
    rate: float,
    names: dict[str, str],
) -> Judged:
    """Judge one way of scoring.

    Args:
        asked: The queries.
        scores: For each of them a score of each picture, in [0, 1].
        cut: From which score on a picture is shown.
        rate: Share of absent things that may be answered, for the cut in hindsight.
        names: What each kind of absence is called; the first one counts for that cut.
    """
    group_of = np.unique([one.group for one in asked], return_inverse=True)[1]
    groups = int(group_of.max()) + 1
    everything = np.arange(groups)

    def figure(measure: Callable[[NDArray[np.int64]], float], number: float) -> Figure:
        low, high = bootstrap_interval(measure, everything)
        return Figure(measure(everything), low, high, int(number))

    def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up what belongs to the queries of a group, shape (groups, ...)."""
        total = np.zeros((groups, *values.shape[1:]))
        np.add.at(total, group_of, values)
        return total

    def share(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> Figure:
        over, under = summed(top), summed(bottom)

        def measure(rows: NDArray[np.int64]) -> float:
            count = float(under[rows].sum())
            return float(over[rows].sum()) / count if count else float("nan")

        return figure(measure, under.sum())

    def error(tallies: NDArray[np.float64]) -> Figure:
        each = summed(tallies)
        return figure(lambda rows: calibration_error(each[rows].sum(0)), each[..., 0].sum())

    kind = np.array([one.kind for one in asked])
    best = np.array([score.max() for score in scores])
    right = np.array(
        [score[one.matches].max(initial=-1.0) for one, score in zip(asked, scores, strict=True)]
    )
    there = kind == "present"
    figures = {
        f"answered, {name}": share((best >= cut) * (kind == key), kind == key)
        for key, name in names.items()
    }
    figures["found, present thing"] = share((right >= cut) * there, there)
    refused = np.sort(best[kind == next(iter(names))])[::-1]
    hindsight = float(refused[int(rate * len(refused))])
    figures[f"found, if the cut answered {rate:.0%}"] = share((right > hindsight) * there, there)
    shown_right, shown_wrong, all_right = np.array(
        [
            (
                ((score >= cut) & one.matches).sum(),
                ((score >= cut) & one.clear & ~one.matches).sum(),
                one.matches.sum(),
            )
            for one, score in zip(asked, scores, strict=True)
        ],
        dtype=np.float64,
    ).T
    figures["precision: shown pictures that match"] = share(shown_right, shown_right + shown_wrong)
    figures["recall: matching pictures that are shown"] = share(shown_right, all_right)

    def tallied(chosen: Callable[[AskedQuery, NDArray[np.float64]], NDArray[np.bool_]]) -> NDArray:
        return np.stack(
            [
                tally(score[chosen(one, score)], one.matches[chosen(one, score)])
                for one, score in zip(asked, scores, strict=True)
            ]
        )

    likely = tallied(lambda one, score: one.clear & (score >= LIKELY))
    first = tallied(lambda one, score: one.clear & (np.arange(len(score)) == score.argmax()))
    figures["ECE of all pairs"] = error(tallied(lambda one, _: one.clear))
    figures[f"ECE of pairs with p >= {LIKELY}"] = error(likely)
    figures["ECE of the best picture of each query"] = error(first)
    return Judged(figures, likely.sum(0), first.sum(0))
