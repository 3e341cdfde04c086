"""Small questions about photos: their moments, their number, and a lasting sample of them."""

# ruff: noqa: S608 - the statements are put together from constants and marks for values

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siglip_index.catalogue_read import chunks, marks, space_row
from siglip_index.moments import MOMENT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from numpy.typing import NDArray

# Numbers of SplitMix64 (Steele, Lea and Flood 2014), whose finaliser spreads consecutive numbers.
_FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = np.uint64(0x94D049BB133111EB)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
# So few that they stay in the processor's cache.
_HASHED_AT_ONCE = 2**15


def moments(connection: sqlite3.Connection, photo_ids: Collection[int]) -> dict[int, str]:
    """Return the moments of these photos as `Store.moments` does."""
    found: dict[int, str] = {}
    for chunk in chunks([int(photo_id) for photo_id in photo_ids]):
        rows = connection.execute(
            f"SELECT id, {MOMENT} AS moment FROM photo WHERE id IN ({marks(chunk)})"
            " AND vanished_at IS NULL",
            chunk,
        )
        found.update((photo_id, moment) for photo_id, moment in rows if moment is not None)
    return found


def photo_count(connection: sqlite3.Connection) -> int:
    """Return how many photos are visible as `Store.photo_count` does."""
    # Counted through the two smallest indexes: 5 ms for 500,000 photos, where a look at each row's
    # `vanished_at` takes 35.
    (number,) = connection.execute(
        "SELECT (SELECT count(*) FROM photo)"
        " - (SELECT count(*) FROM photo WHERE vanished_at IS NOT NULL)"
    ).fetchone()
    return int(number)


def sample_ids(connection: sqlite3.Connection, space_key: str, limit: int) -> NDArray[np.int64]:
    """Return a lasting pseudo-random sample of photos as `Store.sample_ids` does."""
    row = space_row(connection, space_key)
    (last_id,) = connection.execute("SELECT ifnull(max(id), 0) FROM photo").fetchone()
    sample: list[int] = []
    # Ids are given one after another, so nearly all up to the last are there: of the hashes of
    # all numbers the smallest few are asked for, and the next ones where some were not.
    lower, upper = 0, 2**64 * (limit + limit // 8 + 50) // max(1, last_id)
    while len(sample) < limit:
        candidates = _numbers_hashed_within(last_id, lower, min(upper, 2**64))
        for chunk in chunks(candidates.tolist()):
            rows = connection.execute(
                "SELECT photo.id FROM photo JOIN vector ON vector.photo_id = photo.id"
                f" WHERE photo.id IN ({marks(chunk)}) AND photo.vanished_at IS NULL"
                " AND vector.space_id = ?",
                [*chunk, row.id],
            )
            usable = {photo_id for (photo_id,) in rows}
            sample += [photo_id for photo_id in chunk if photo_id in usable]
            if len(sample) >= limit:
                break
        if upper >= 2**64:
            break
        lower, upper = upper, upper * 4
    return np.array(sample[:limit], dtype=np.int64)


def _numbers_hashed_within(last: int, lower: int, upper: int) -> NDArray[np.int64]:
    """Return the numbers of 1 to last whose hash is in [lower, upper), by hash."""
    numbers: list[NDArray[np.int64]] = []
    hashes: list[NDArray[np.uint64]] = []
    for start in range(1, last + 1, _HASHED_AT_ONCE):
        block = np.arange(start, min(start + _HASHED_AT_ONCE, last + 1), dtype=np.uint64)
        hashed = _hash(block)
        within = (hashed >= np.uint64(lower)) & (hashed <= np.uint64(upper - 1))
        numbers.append(block[within].astype(np.int64))
        hashes.append(hashed[within])
    if not numbers:
        return np.empty(0, dtype=np.int64)
    return np.concatenate(numbers)[np.argsort(np.concatenate(hashes), kind="stable")]


def _hash(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mixed = numbers * _GAMMA
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST_FACTOR
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND_FACTOR
    return mixed ^ (mixed >> np.uint64(31))
