"""Putting the database right again: what contradicts the rest goes."""

# ruff: noqa: S608 - the statements are put together from constants only

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_index.catalogue_check import BROKEN_RECORD, BROKEN_TAG, NO_LIST, OLDEST_MTIME
from siglip_index.catalogue_read import generation

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_HAS_VECTOR = "EXISTS (SELECT 1 FROM vector WHERE vector.photo_id = photo.id)"
_IS_NAMED = (
    "EXISTS (SELECT 1 FROM file WHERE file.photo_id = photo.id AND file.vanished_at IS NULL)"
)

FORGET_PHOTOS_WITHOUT_VECTOR = (
    # A file that names no content and has no failure is read again by the next indexing run.
    "UPDATE file SET photo_id = NULL WHERE photo_id IS NOT NULL AND photo_id NOT IN"
    f" (SELECT id FROM photo WHERE {_HAS_VECTOR})",
    f"DELETE FROM photo WHERE NOT {_HAS_VECTOR}",
)

_STEPS = (
    "DELETE FROM vector WHERE photo_id NOT IN (SELECT id FROM photo)"
    " OR space_id NOT IN (SELECT id FROM space)",
    "DELETE FROM file WHERE root_id NOT IN (SELECT id FROM root)",
    "DELETE FROM companion WHERE file_id NOT IN (SELECT id FROM file)",
    "DELETE FROM online_only WHERE root_id NOT IN (SELECT id FROM root)",
    # An older version than any: the next run reads the metadata again.
    f"UPDATE photo SET keywords = '[]', metadata_version = 0 WHERE {NO_LIST.format('keywords')}",
    f"UPDATE root SET exclude = '[]' WHERE {NO_LIST.format('exclude')}",
    *FORGET_PHOTOS_WITHOUT_VECTOR,
    "DELETE FROM tagged WHERE NOT EXISTS (SELECT 1 FROM vector"
    " WHERE vector.photo_id = tagged.photo_id AND vector.space_id = tagged.space_id)",
    "DELETE FROM tag WHERE NOT EXISTS (SELECT 1 FROM tagged"
    " WHERE tagged.photo_id = tag.photo_id AND tagged.space_id = tag.space_id)",
    # The photo is compared with the labels again.
    "DELETE FROM tagged WHERE EXISTS (SELECT 1 FROM tag WHERE tag.photo_id = tagged.photo_id"
    f" AND tag.space_id = tagged.space_id AND ({BROKEN_TAG}))",
    f"DELETE FROM record WHERE {BROKEN_RECORD}",
    f"UPDATE photo SET vanished_at = NULL WHERE vanished_at IS NOT NULL AND {_IS_NAMED}",
    f"UPDATE photo SET vanished_at = :now WHERE vanished_at IS NULL AND NOT {_IS_NAMED}",
    f"UPDATE photo SET oldest_mtime_ns = {OLDEST_MTIME}"
    f" WHERE oldest_mtime_ns IS NOT {OLDEST_MTIME}",
    "DELETE FROM meta WHERE key IN ('active_space', 'coming_space')"
    " AND value NOT IN (SELECT id FROM space)",
    "INSERT OR IGNORE INTO meta (key, value)"
    " SELECT 'active_space', min(id) FROM space HAVING min(id) IS NOT NULL",
    # Without log and snapshots every index in memory, in any process, is built anew.
    "DELETE FROM change",
    "DELETE FROM snapshot",
    "UPDATE space SET log_start = :generation",
    "UPDATE meta SET value = :generation WHERE key = 'generation'",
)


def repair_catalogue(
    connection: sqlite3.Connection, broken_vectors: Iterable[tuple[int, int]], *, now: float
) -> None:
    """Delete broken vectors and rows without a counterpart, and set visibility anew.

    Args:
        connection: Inside a transaction that nobody else can interfere with.
        broken_vectors: Space id and photo id of each vector to delete.
        now: The time at which photos count as vanished, epoch seconds.
    """
    # Rows that are read below may be the broken ones: the constraints hold again at the end.
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.executemany(
        "DELETE FROM vector WHERE space_id = ? AND photo_id = ?", list(broken_vectors)
    )
    values = {"now": now, "generation": generation(connection) + 1}
    for step in _STEPS:
        connection.execute(step, values)
