"""Looking for contradictions within the database."""

# ruff: noqa: S608 - the statements are put together from constants only

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siglip_index import catalogue_read, half_vectors

if TYPE_CHECKING:
    import sqlite3

_MAX_INTEGRITY_LINES = 20
_BATCH = 4096

_IS_NAMED = (
    "EXISTS (SELECT 1 FROM file WHERE file.photo_id = photo.id AND file.vanished_at IS NULL)"
)

OLDEST_MTIME = (
    "(SELECT min(file.mtime_ns) FROM file"
    " WHERE file.photo_id = photo.id AND file.vanished_at IS NULL)"
)

NO_LIST = "CASE WHEN json_valid({0}) THEN json_type({0}) ELSE '' END <> 'array'"

BROKEN_RECORD = (
    "typeof(kind) <> 'text' OR typeof(key) <> 'text' OR typeof(value) <> 'text'"
    " OR NOT json_valid(value)"
)
# SQLite's own check passes over both.
BROKEN_TAG = "typeof(label) <> 'text' OR ifnull(probability NOT BETWEEN 0 AND 1, 1)"

# Each counts the rows that contradict the rest.
_CONTRADICTIONS = (
    (
        "{} photos are shown although no present file names them",
        f"SELECT count(*) FROM photo WHERE vanished_at IS NULL AND NOT {_IS_NAMED}",
    ),
    (
        "{} photos are hidden although a present file names them",
        f"SELECT count(*) FROM photo WHERE vanished_at IS NOT NULL AND {_IS_NAMED}",
    ),
    (
        "{} photos have no vector at all",
        "SELECT count(*) FROM photo WHERE NOT EXISTS"
        " (SELECT 1 FROM vector WHERE vector.photo_id = photo.id)",
    ),
    (
        "{} rows of the change log are newer than the library",
        "SELECT count(*) FROM change"
        " WHERE generation > (SELECT value FROM meta WHERE key = 'generation')",
    ),
    (
        "{} rows of the change log belong to no model space",
        "SELECT count(*) FROM change WHERE space_id NOT IN (SELECT id FROM space)",
    ),
    (
        "{} rows of the change log contradict the photos",
        "SELECT count(*) FROM change"
        " WHERE id IN (SELECT max(id) FROM change GROUP BY space_id, photo_id)"
        " AND (kind = 'add') <> EXISTS (SELECT 1 FROM vector"
        " JOIN photo ON photo.id = vector.photo_id AND photo.vanished_at IS NULL"
        " WHERE vector.photo_id = change.photo_id AND vector.space_id = change.space_id)",
    ),
    (
        "the active model space is not there",
        "SELECT EXISTS (SELECT 1 FROM space) AND NOT EXISTS (SELECT 1 FROM space"
        " JOIN meta ON meta.key = 'active_space' AND meta.value = space.id)",
    ),
    (
        "the model space that is being filled is not there",
        "SELECT count(*) FROM meta WHERE key = 'coming_space'"
        " AND value NOT IN (SELECT id FROM space)",
    ),
    (
        "{} photos have another time than their oldest file",
        f"SELECT count(*) FROM photo WHERE oldest_mtime_ns IS NOT {OLDEST_MTIME}",
    ),
    (
        "{} photos have damaged keywords",
        f"SELECT count(*) FROM photo WHERE {NO_LIST.format('keywords')}",
    ),
    (
        "{} roots have damaged patterns",
        f"SELECT count(*) FROM root WHERE {NO_LIST.format('exclude')}",
    ),
    ("{} records are damaged", f"SELECT count(*) FROM record WHERE {BROKEN_RECORD}"),
    ("{} tags are damaged", f"SELECT count(*) FROM tag WHERE {BROKEN_TAG}"),
)


@dataclass
class Findings:
    """What a check came upon.

    Attributes:
        problems: What is wrong, a line each.
        notes: What is worth knowing but nothing wrong.
        checked: How many of each kind were looked at.
        broken_vectors: Space id and photo id of each vector that cannot be used.
        database_is_readable: False when nothing but restoring or indexing anew helps.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    broken_vectors: list[tuple[int, int]] = field(default_factory=list)
    database_is_readable: bool = True


def check_catalogue(connection: sqlite3.Connection) -> Findings:
    """Check the database inside the caller's read transaction."""
    findings = Findings()
    lines = [
        line
        for (line,) in connection.execute(f"PRAGMA integrity_check({_MAX_INTEGRITY_LINES})")
        if line != "ok"
    ]
    findings.problems += [f"the database is damaged: {line}" for line in lines]
    for table in ("photo", "file", "vector"):
        (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        findings.checked[f"{table}s"] = number
    orphans: dict[tuple[str, str], int] = {}
    for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        orphans[table, parent] = orphans.get((table, parent), 0) + 1
    findings.problems += [
        f"{number} {table} rows belong to no {parent}"
        for (table, parent), number in sorted(orphans.items())
    ]
    for message, query in _CONTRADICTIONS:
        (number,) = connection.execute(query).fetchone()
        if number:
            findings.problems.append(message.format(number))
    for row in catalogue_read.space_rows(connection):
        broken = _broken_vectors(connection, row)
        findings.broken_vectors += [(row.id, photo_id) for photo_id in broken]
        if broken:
            findings.problems.append(f"{len(broken)} vectors of {row.space.model} are damaged")
    return findings


def _broken_vectors(connection: sqlite3.Connection, row: catalogue_read.SpaceRow) -> list[int]:
    size_bytes = row.space.dimension * half_vectors.BYTES_PER_VALUE
    broken: list[int] = []
    cursor = connection.execute(
        "SELECT photo_id, embedding FROM vector WHERE space_id = ?", [row.id]
    )
    while rows := cursor.fetchmany(_BATCH):
        whole = []
        for photo_id, blob in rows:
            if isinstance(blob, bytes) and len(blob) == size_bytes:
                whole.append((photo_id, blob))
            else:
                broken.append(photo_id)
        vectors = half_vectors.decode([blob for _, blob in whole], row.space.dimension)
        valid = half_vectors.are_valid(vectors)
        broken += [
            photo_id for (photo_id, _), is_valid in zip(whole, valid, strict=True) if not is_valid
        ]
    return broken
