"""Changing embedding spaces: known, active, coming, gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_index.catalogue_read import active_space, space_row
from siglip_index.errors import InvalidVectorError
from siglip_index.locations import storable_text
from siglip_index.repair import FORGET_PHOTOS_WITHOUT_VECTOR

if TYPE_CHECKING:
    import sqlite3

    from siglip_index.records import Space


def ensure_space(connection: sqlite3.Connection, space: Space, generation: int) -> None:
    """See `StoreWriter.ensure_space`; the generation is that of this transaction."""
    connection.execute(
        "INSERT OR IGNORE INTO space (key, dimension, model, log_start) VALUES (?, ?, ?, ?)",
        # Nothing older counts: a space of this key and number may have been dropped before.
        [space.key, space.dimension, storable_text(space.model), generation],
    )
    connection.execute(
        "UPDATE space SET model = ? WHERE key = ? AND model <> ?",
        [storable_text(space.model), space.key, storable_text(space.model)],
    )
    row = space_row(connection, space.key)
    if row.space.dimension != space.dimension:
        raise InvalidVectorError(
            f"the space {space.key!r} has dimension {row.space.dimension}, not {space.dimension}"
        )
    connection.execute(
        "INSERT OR IGNORE INTO meta (key, value) VALUES ('active_space', ?)", [row.id]
    )


def activate_space(connection: sqlite3.Connection, key: str) -> None:
    """See `StoreWriter.activate_space`."""
    row = space_row(connection, key)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'active_space'", [row.id])
    connection.execute("DELETE FROM meta WHERE key = 'coming_space' AND value = ?", [row.id])


def prepare_space(connection: sqlite3.Connection, key: str | None) -> None:
    """See `StoreWriter.prepare_space`."""
    connection.execute("DELETE FROM meta WHERE key = 'coming_space'")
    if key is not None:
        row = space_row(connection, key)
        connection.execute("INSERT INTO meta (key, value) VALUES ('coming_space', ?)", [row.id])


def drop_space(connection: sqlite3.Connection, key: str) -> int:
    """See `StoreWriter.drop_space`; the tags of its photos go with their vectors."""
    row = space_row(connection, key)
    active = active_space(connection)
    if active is not None and active.key == key and _has_vectors(connection, row.id):
        raise ValueError(f"the space {key!r} is the active one and has vectors")
    vectors = connection.execute("DELETE FROM vector WHERE space_id = ?", [row.id])
    for table in ("change", "snapshot"):
        connection.execute(f"DELETE FROM {table} WHERE space_id = ?", [row.id])  # noqa: S608
    connection.execute(
        "DELETE FROM meta WHERE key IN ('active_space', 'coming_space') AND value = ?",
        [row.id],
    )
    connection.execute("DELETE FROM space WHERE id = ?", [row.id])
    connection.execute(
        "INSERT OR IGNORE INTO meta (key, value)"
        " SELECT 'active_space', min(id) FROM space HAVING min(id) IS NOT NULL"
    )
    for statement in FORGET_PHOTOS_WITHOUT_VECTOR:
        connection.execute(statement)
    return vectors.rowcount


def _has_vectors(connection: sqlite3.Connection, space_id: int) -> bool:
    row = connection.execute(
        "SELECT 1 FROM vector WHERE space_id = ? LIMIT 1", [space_id]
    ).fetchone()
    return row is not None
