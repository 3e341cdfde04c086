"""Which photos meet conditions: the ids of each condition are brought together as masks.

A mask tells for each number up to the greatest id whether it is meant. SQLite would look each
photo of one condition up in what the others select; with many photos that takes ten times as long.
"""

# ruff: noqa: S608 - the statements are put together from constants and marks for values

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from siglip_index.distance import bounds_of, great_circle_m
from siglip_index.where import HAS_POSITION, id_statements, keyword_statement, row_condition

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from siglip_index.records import Where

    Mask = NDArray[np.bool_]

# Up to so many rows are looked up one by one; more than that and all are passed over.
_FEW = 20_000


def photo_ids_where(connection: sqlite3.Connection, where: Where) -> NDArray[np.int64]:
    """Return the ids of all visible photos that meet the conditions, ascending.

    Raises:
        ValueError: A time is not ISO 8601.
    """
    ids = selected_ids(connection, where)
    if where.photo_ids is None:
        return ids
    known = _ids(connection, *_photos(["photo.id AS id"], "1", [], ids))
    return np.intersect1d(ids, known)


def selected_ids(connection: sqlite3.Connection, where: Where) -> NDArray[np.int64]:
    """Return the same and perhaps, of `where.photo_ids`, numbers of photos that are no more.

    For an index, which knows none of these: looking them up would take longer than all the rest.

    Raises:
        ValueError: A time is not ISO 8601.
    """
    return np.flatnonzero(_mask(connection, where)).astype(np.int64, copy=False)


def positions(
    connection: sqlite3.Connection, where: Where
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return ids and degrees (latitude, longitude) of the photos that meet the conditions.

    Only visible photos that state a position; by id.

    Raises:
        ValueError: A time is not ISO 8601.
    """
    mask = _mask(connection, where)
    ids, degrees = _places(connection, HAS_POSITION, [], np.flatnonzero(mask))
    ids, degrees = ids[mask[ids]], degrees[mask[ids]]
    order = np.argsort(ids)
    return ids[order], degrees[order]


def _mask(connection: sqlite3.Connection, where: Where) -> Mask:
    (greatest,) = connection.execute("SELECT ifnull(max(id), 0) FROM photo").fetchone()
    length = greatest + 1
    mask: Mask | None = None
    for ids in _selections(connection, where):
        mask = _joined(mask, _mask_of(ids, length))
        if not mask.any():
            return mask
    # What is left is cheaper for a few than for all.
    if where.near is not None:
        ids = _near(connection, *where.near, _meant(mask))
        mask = _joined(mask, _mask_of(ids, length))
    rows = row_condition(where)
    if mask is None or rows is not None:
        condition, parameters = rows or ("1", [])
        statement = _photos(["photo.id AS id"], condition, parameters, _meant(mask))
        mask = _joined(mask, _mask_of(_ids(connection, *statement), length))
    for unwanted in _unwanted(where):
        mask[_ids(connection, unwanted, [])] = False
    if where.not_photo_ids:
        mask &= ~_mask_of(_array(where.not_photo_ids), length)
    return mask


def _joined(mask: Mask | None, other: Mask) -> Mask:
    return other if mask is None else np.logical_and(mask, other, out=mask)


def _meant(mask: Mask | None) -> NDArray[np.int64] | None:
    return None if mask is None else np.flatnonzero(mask)


def _selections(connection: sqlite3.Connection, where: Where) -> Iterator[NDArray[np.int64]]:
    if where.photo_ids is not None:
        yield _array(where.photo_ids)
    for word in where.keywords:
        yield _with_keyword(connection, word)
    for statement, parameters in id_statements(where, connection):
        yield _ids(connection, statement, parameters)


def _unwanted(where: Where) -> Iterator[str]:
    yield "SELECT photo.id AS id FROM photo WHERE photo.vanished_at IS NOT NULL"
    if where.has_gps is False:
        yield f"SELECT photo.id AS id FROM photo WHERE {HAS_POSITION}"


def _near(
    connection: sqlite3.Connection,
    latitude: float,
    longitude: float,
    radius_m: float,
    some: NDArray[np.int64] | None,
) -> NDArray[np.int64]:
    south, north, ranges = bounds_of(latitude, longitude, radius_m)
    within = " OR ".join("photo.longitude BETWEEN ? AND ?" for _ in ranges)
    ids, degrees = _places(
        connection,
        f"{HAS_POSITION} AND photo.latitude BETWEEN ? AND ? AND ({within})",
        [south, north, *(limit for pair in ranges for limit in pair)],
        some,
    )
    return ids[great_circle_m(latitude, longitude, degrees[:, 0], degrees[:, 1]) <= radius_m]


def _places(
    connection: sqlite3.Connection,
    condition: str,
    parameters: Sequence[Any],
    some: NDArray[np.int64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    columns = ["photo.id", "photo.latitude", "photo.longitude"]
    rows = connection.execute(*_photos(columns, condition, parameters, some)).fetchall()
    # Ids are exact as floating-point numbers up to 2**53.
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return table[:, 0].astype(np.int64), table[:, 1:]


def _with_keyword(connection: sqlite3.Connection, word: str) -> NDArray[np.int64]:
    folded = word.casefold()
    found = [
        _numbers(ids)
        for keywords, ids in connection.execute(*keyword_statement(word))
        if any(known.casefold() == folded for known in json.loads(keywords))
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *found])


def _photos(
    columns: Sequence[str],
    condition: str,
    parameters: Sequence[Any],
    some: NDArray[np.int64] | None,
) -> tuple[str, list[Any]]:
    """Return what selects columns of photos, looked up one by one where only a few are meant."""
    listed = ", ".join(columns)
    if some is None or len(some) > _FEW:
        return f"SELECT {listed} FROM photo WHERE {condition}", [*parameters]
    return (
        f"SELECT {listed} FROM json_each(?) AS meant CROSS JOIN photo ON photo.id = meant.value"
        f" WHERE {condition}",
        [json.dumps(some.tolist()), *parameters],
    )


def _ids(
    connection: sqlite3.Connection, statement: str, parameters: Sequence[Any]
) -> NDArray[np.int64]:
    # As one text: half as long as row by row.
    (ids,) = connection.execute(
        f"SELECT group_concat(id) FROM ({statement})", parameters
    ).fetchone()
    return _numbers(ids)


def _numbers(text: str | None) -> NDArray[np.int64]:
    return np.fromstring(text or "", dtype=np.int64, sep=",")


def _array(ids: Collection[int]) -> NDArray[np.int64]:
    return np.fromiter(ids, dtype=np.int64, count=len(ids))


def _mask_of(ids: NDArray[np.int64], length: int) -> Mask:
    mask = np.zeros(length, dtype=np.bool_)
    mask[ids[(ids >= 0) & (ids < length)]] = True
    return mask
