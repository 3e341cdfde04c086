"""Which pictures lie near one another: every pair above a cosine, without a picture's crowd.

Exact: blocks of vectors are multiplied with one another, each pair of blocks once. A product of
matrices uses every core and half the additions of asking an index for each vector in turn; memory
is that of the vectors in half precision, two blocks and the lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NEIGHBOURS: Final = 32
"""So many are kept of each vector; more than that are look-alikes of one subject."""

_BLOCK: Final = 4096
_SAMPLE: Final = 1024
_NEAR_SHARE: Final = 0.25
_MOST_DEMANDED: Final = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourPairs:
    """Pairs of places in the list of vectors, each once.

    Attributes:
        first: int64, shape (n,).
        second: int64, shape (n,); `first < second`.
        cosines: float32, shape (n,).
        crowded: How many vectors may have more neighbours than were kept.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cosines: NDArray[np.float32]
    crowded: int


def typical_cosine(vectors: NDArray[np.float16], *, seed: int = 0) -> float | None:
    """Return the median cosine of two pictures of this library; None where there are no two.

    Args:
        vectors: Unit vectors, shape (n, dimension).
        seed: Which ones are looked at.
    """
    if len(vectors) < 2:
        return None
    some = np.random.default_rng(seed).permutation(len(vectors))[:_SAMPLE]
    sample = vectors[np.sort(some)].astype(np.float32)
    products = sample @ sample.T
    return float(np.median(products[np.triu_indices(len(sample), 1)]))


def near_cosine(typical: float | None) -> float:
    """Return from which cosine on two pictures may be one and the same.

    Cosines of unlike pictures differ from model to model and from library to library. So the
    distance 1 - cosine is compared with that of two pictures taken at random: a quarter of it, and
    0.95 at most, for a library of one subject has pairs that are hardly apart.
    """
    if typical is None:
        return _MOST_DEMANDED
    return min(_MOST_DEMANDED, 1.0 - _NEAR_SHARE * (1.0 - typical))


def nearest_pairs(
    vectors: NDArray[np.float16],
    min_cosine: float,
    *,
    neighbours: int = NEIGHBOURS,
    block: int = _BLOCK,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> NeighbourPairs:
    """Return all pairs with a cosine of at least so much that are among either one's nearest.

    Args:
        vectors: Unit vectors, shape (n, dimension).
        min_cosine: Inclusive.
        neighbours: How many of each vector's pairs are kept, > 0.
        block: Vectors in a block, > 0.
        on_progress: Called with how many of how many products of blocks are done.
    """
    count = len(vectors)
    lists = _NearestLists(count, neighbours, min_cosine)
    starts = range(0, count, block)
    total, done = len(starts) * (len(starts) + 1) // 2, 0
    for row in starts:
        rows = vectors[row : row + block].astype(np.float32)
        for column in range(row, count, block):
            columns = rows if column == row else vectors[column : column + block].astype(np.float32)
            products = rows @ columns.T
            if column == row:
                np.fill_diagonal(products, -np.inf)
            else:
                lists.offer(column, row, products.T)
            lists.offer(row, column, products)
            done += 1
            on_progress(done, total)
    return lists.pairs()


class _NearestLists:
    """The best neighbours of each vector so far.

    Args:
        count: Number of vectors.
        length: Most neighbours of each.
        least: Least cosine.
    """

    def __init__(self, count: int, length: int, least: float) -> None:
        self._length = min(length, max(count - 1, 1))
        self._least = np.float32(least)
        self._cosines = np.full((count, self._length), -np.inf, dtype=np.float32)
        self._others = np.full((count, self._length), -1, dtype=np.int32)

    def offer(self, first: int, second: int, products: NDArray[np.float32]) -> None:
        """Take in the products of the vectors from `first` on with those from `second` on."""
        worst = self._cosines[first : first + len(products), -1]
        needed = np.maximum(self._least, np.nextafter(worst, np.float32(np.inf)))
        hits = np.flatnonzero((products >= needed[:, None]).any(axis=1))
        if len(hits) == 0:
            return
        found = products[hits]
        width = min(self._length, found.shape[1])
        best = np.argpartition(-found, width - 1, axis=1)[:, :width]
        cosines = np.take_along_axis(found, best, axis=1)
        cosines[cosines < self._least] = -np.inf
        rows = first + hits
        all_cosines = np.concatenate([self._cosines[rows], cosines], axis=1)
        all_others = np.concatenate([self._others[rows], (second + best).astype(np.int32)], axis=1)
        order = np.argsort(-all_cosines, axis=1, kind="stable")[:, : self._length]
        self._cosines[rows] = np.take_along_axis(all_cosines, order, axis=1)
        self._others[rows] = np.take_along_axis(all_others, order, axis=1)

    def pairs(self) -> NeighbourPairs:
        """Return what was kept, each pair once, by the two places."""
        rows, columns = np.nonzero(np.isfinite(self._cosines))
        others = self._others[rows, columns].astype(np.int64)
        first, second = np.minimum(rows, others), np.maximum(rows, others)
        _, once = np.unique(first * len(self._cosines) + second, return_index=True)
        is_full = np.isfinite(self._cosines[:, -1]) if len(self._cosines) else np.empty(0, bool)
        crowded = int(is_full.sum()) if self._length < len(self._cosines) - 1 else 0
        return NeighbourPairs(
            first[once], second[once], self._cosines[rows, columns][once], crowded
        )
