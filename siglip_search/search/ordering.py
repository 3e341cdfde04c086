"""The order of pictures that are an answer, other than by score."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.protocol import Store
    from siglip_search.search.ranking import Scored


def in_order(store: Store, found: Sequence[Scored], sort: Literal["date", "name"]) -> list[Scored]:
    """Return pictures in an order that is always the same.

    Args:
        store: Where the photos are.
        found: All that reach the cut.
        sort: "date" brings the newest first, by capture time or else by the file's own, and what
            has neither last. "name" goes by the file's name without regard to case, then by its
            whole path. The picture's number decides between equal ones.
    """
    photo_ids = [scored.photo_id for scored in found]
    if sort == "date":
        moments = store.moments(photo_ids)
        oldest_first = sorted(found, key=lambda scored: -scored.photo_id)
        oldest_first.sort(key=lambda scored: moments.get(scored.photo_id, ""))
        return oldest_first[::-1]
    paths = {photo.id: photo.paths[0] for photo in store.photos(photo_ids)}
    return sorted(
        (scored for scored in found if scored.photo_id in paths),
        key=lambda scored: (*_name(paths[scored.photo_id]), scored.photo_id),
    )


def _name(path: bytes) -> tuple[str, bytes]:
    return os.path.basename(os.fsdecode(path)).casefold(), path
