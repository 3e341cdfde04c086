"""Ranks, recalls and their intervals: pure arithmetic.

A rank is pessimistic: whatever is equally near counts as nearer, so that no tie is won by luck.
Cosines that differ by less than TIE are equal: the last bits of a product depend on where in a
matrix it stood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TIE: Final = 1e-6
"""Greatest difference of two cosines that counts as none."""

_ROWS_AT_ONCE: Final = 512
_Z_95: Final = 1.959963984540054


@dataclass(frozen=True)
class Ranks:
    """Of the right answers to a number of questions.

    Attributes:
        pessimistic: 1 for the best, ties lost; shape (questions,).
        optimistic: The same with ties won.
        group: What each question belongs to; questions of one group are not independent.
    """

    pessimistic: NDArray[np.int64]
    optimistic: NDArray[np.int64]
    group: NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """A share of hits.

    Attributes:
        value: In [0, 1].
        low: Lower end of the 95% interval.
        high: Upper end of it.
        questions: How many there were.
        tied: How many more hits there would be if every tie were won.
    """

    value: float
    low: float
    high: float
    questions: int
    tied: int


def text_to_picture_ranks(
    texts: NDArray[np.float32], pictures: NDArray[np.float32], picture_of: NDArray[np.int64]
) -> Ranks:
    """Return the rank of each text's own picture among all pictures.

    Args:
        texts: Unit vectors, shape (texts, dimension).
        pictures: Unit vectors, shape (pictures, dimension).
        picture_of: For each text the row of its picture, shape (texts,).
    """
    nearer, equal = _competitors(texts, pictures, [np.array([row]) for row in picture_of])
    return Ranks(1 + nearer + equal, 1 + nearer, picture_of)


def picture_to_text_ranks(
    pictures: NDArray[np.float32], texts: NDArray[np.float32], picture_of: NDArray[np.int64]
) -> Ranks:
    """Return the rank of the best of each picture's own texts among all texts.

    Args:
        pictures: Unit vectors, shape (pictures, dimension).
        texts: Unit vectors, shape (texts, dimension).
        picture_of: For each text the row of its picture, shape (texts,); each picture has one.
    """
    order = np.argsort(picture_of, kind="stable")
    starts = np.searchsorted(picture_of[order], np.arange(len(pictures) + 1))
    own = [order[starts[row] : starts[row + 1]] for row in range(len(pictures))]
    nearer, equal = _competitors(pictures, texts, own)
    return Ranks(1 + nearer + equal, 1 + nearer, np.arange(len(pictures)))


def class_ranks(
    pictures: NDArray[np.float32], classes: NDArray[np.float32], class_of: NDArray[np.int64]
) -> Ranks:
    """Return the rank of each picture's own class among all classes.

    Args:
        pictures: Unit vectors, shape (pictures, dimension).
        classes: Unit vectors, shape (classes, dimension).
        class_of: For each picture the row of its class, shape (pictures,).
    """
    nearer, equal = _competitors(pictures, classes, [np.array([row]) for row in class_of])
    return Ranks(1 + nearer + equal, 1 + nearer, np.arange(len(pictures)))


def _competitors(
    questions: NDArray[np.float32], answers: NDArray[np.float32], own: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count for each question the wrong answers that are nearer than, and as near as, a right one.

    What is compared with is the nearest of the question's own answers.
    """
    nearer = np.empty(len(questions), np.int64)
    equal = np.empty(len(questions), np.int64)
    for start in range(0, len(questions), _ROWS_AT_ONCE):
        cosines = questions[start : start + _ROWS_AT_ONCE] @ answers.T
        for row, cosine in enumerate(cosines, start=start):
            best = cosine[own[row]].max()
            cosine[own[row]] = -np.inf
            nearer[row] = np.count_nonzero(cosine > best + TIE)
            equal[row] = np.count_nonzero(cosine >= best - TIE) - nearer[row]
    return nearer, equal


def share_within(ranks: Ranks, k: int) -> Share:
    """Return the share of questions whose right answer is among the first k."""
    hits = ranks.pessimistic <= k
    low, high = interval(hits, ranks.group)
    return Share(
        value=float(hits.mean()),
        low=low,
        high=high,
        questions=len(hits),
        tied=int((ranks.optimistic <= k).sum() - hits.sum()),
    )


def interval(hits: NDArray[np.bool_], group: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927) with the effective number of questions.

    Five captions of one picture are hit or missed together more often than five of any pictures.
    The design effect, how much more the share varies when whole groups are drawn (Kish 1965),
    divides the number of questions; where all are hit, or none, it cannot be measured, and every
    group counts as one question.

    Args:
        hits: Shape (questions,), not empty.
        group: Shape (questions,).
    """
    questions = len(hits)
    share = float(hits.mean())
    _, index = np.unique(group, return_inverse=True)
    groups = int(index.max()) + 1
    if groups == questions:
        effective = float(questions)
    elif share in {0.0, 1.0} or groups == 1:
        effective = float(groups)
    else:
        residuals = np.bincount(index, weights=hits - share)
        variance = groups / (groups - 1) * float((residuals**2).sum()) / questions**2
        independent = share * (1 - share) / questions
        # Fewer than the groups, or more than the questions, would be an accident of the sample.
        effective = min(max(questions * independent / max(variance, 1e-300), groups), questions)
    return wilson(share, effective)


def wilson(share: float, questions: float) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share.

    Args:
        share: In [0, 1].
        questions: How many, effectively; > 0.
    """
    z2 = _Z_95**2
    centre = (share + z2 / (2 * questions)) / (1 + z2 / questions)
    half = (
        _Z_95
        / (1 + z2 / questions)
        * math.sqrt(share * (1 - share) / questions + z2 / (4 * questions**2))
    )
    return max(0.0, centre - half), min(1.0, centre + half)
