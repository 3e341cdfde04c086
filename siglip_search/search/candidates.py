"""Exact sets of pictures out of the store: the best of a direction, and all that match a text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from siglip_index.records import Where

if TYPE_CHECKING:
    from collections.abc import Container
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_index.records import Neighbour, Space
    from siglip_search.search.cut import Threshold

# A search costs one pass over all vectors, however many it returns: few, larger steps.
_GROWTH: Final = 8


class Searched(NamedTuple):
    """What is searched.

    Attributes:
        store: The library.
        space: The embedding space.
        where: Which pictures may be returned; None for all.
    """

    store: Store
    space: Space
    where: Where | None = None

    def best(
        self,
        vector: NDArray[np.float32],
        wanted: int,
        *,
        but: Container[int] = (),
        threshold: Threshold | None = None,
    ) -> tuple[list[Neighbour], list[Neighbour]]:
        """Return the best pictures for a direction, exactly, whatever is left out.

        Args:
            vector: Unit vector, shape (dimension,).
            wanted: At most so many, > 0.
            but: Numbers of pictures that are left out.
            threshold: Which cosines are enough; None for every one.

        Returns:
            The pictures that reach the threshold, best first, equal ones by number; and the best
            of those that do not, or nothing.
        """
        asked = wanted + 1
        while True:
            (found,) = self.store.nearest(self.space.key, vector[np.newaxis], asked, self.where)
            usable = sorted((near for near in found if near.photo_id not in but), key=_best_first)
            reaching = [near for near in usable if _reaches(near, threshold)]
            refused = usable[len(reaching) : len(reaching) + 1]
            was_all = len(found) < asked or bool(
                (reaching or refused) and not _reaches(found[-1], threshold)
            )
            # Beyond the last one wanted the store may have left out its equals: which of them it
            # returned would depend on how many were asked for, and pages would not fit together.
            if was_all or (
                len(reaching) >= wanted and found[-1].cosine < reaching[wanted - 1].cosine
            ):
                return reaching[:wanted], refused
            asked *= _GROWTH

    def matching(
        self, vector: NDArray[np.float32], threshold: Threshold, *, but: Container[int] = ()
    ) -> list[Neighbour]:
        """Return every picture that reaches a threshold, in the store's order: best first.

        Args:
            vector: Unit vector, shape (dimension,).
            threshold: Which cosines are enough.
            but: Numbers of pictures that are left out.
        """
        found = self.store.matches(self.space.key, vector, threshold.least, self.where)
        # Only the last ones can be in doubt.
        while found and not threshold.reached(found[-1].cosine):
            found.pop()
        return [near for near in found if near.photo_id not in but] if but else found

    def everything(self, *, but: Container[int] = ()) -> list[int]:
        """Return the numbers of all pictures that may be returned, ascending."""
        # Nothing is below this, whatever the direction; none at all is as good as any.
        nowhere = np.zeros(self.space.dimension, dtype=np.float32)
        found = self.store.matches(self.space.key, nowhere, -2.0, self.where)
        return sorted(near.photo_id for near in found if near.photo_id not in but)

    def within(self, photo_ids: AbstractSet[int]) -> Searched:
        """Return the same, but only these pictures may be returned.

        Args:
            photo_ids: Their numbers.
        """
        where = self.where or Where()
        if where.photo_ids is not None:
            photo_ids = photo_ids & where.photo_ids
        return self._replace(where=replace(where, photo_ids=frozenset(photo_ids)))


def _reaches(near: Neighbour, threshold: Threshold | None) -> bool:
    return threshold is None or threshold.reached(near.cosine)


def _best_first(near: Neighbour) -> tuple[float, int]:
    return -near.cosine, near.photo_id
