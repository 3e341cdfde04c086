"""The pictures of a place that has a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siglip_index.records import Where
from siglip_search.search.gazetteer import gazetteer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.protocol import Store


def resolve_places(
    store: Store, names: Sequence[str], where: Where | None = None
) -> frozenset[int]:
    """Return the ids of the pictures that were taken in any of these places.

    Args:
        store: The library.
        names: What people call the places; see `Gazetteer.place_called`.
        where: Only these pictures are looked at.

    Raises:
        QueryError: Nothing is called so, or the extra `places` is not installed.
    """
    towns = gazetteer()
    places = [towns.place_called(name) for name in names]
    ids, degrees = store.positions(where or Where())
    inside = np.zeros(len(ids), dtype=np.bool_)
    for place in places:
        inside |= towns.contains(place, degrees)
    return frozenset(ids[inside].tolist())
