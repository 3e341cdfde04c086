"""Reading where the pictures lie: roots, files, what belongs to them, and what is elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from siglip_index.locations import join
from siglip_index.records import Companion, Fingerprint, KnownFile, Root

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_FILE_COLUMNS = (
    "id, root_id, path, size, mtime_ns, inode, photo_id, failure, vanished_at IS NULL, device"
)
_COMPANION_COLUMNS = (
    "companion.path, companion.kind, companion.size, companion.mtime_ns, companion.inode"
)


def roots(connection: sqlite3.Connection) -> list[Root]:
    """Return the indexed roots, by path."""
    rows = connection.execute(
        "SELECT id, path, device, volume, volume_path, exclude FROM root ORDER BY path"
    )
    return [
        Root(
            root_id,
            path,
            _integer_or_none(device),
            volume,
            volume_path,
            tuple(json.loads(exclude)),
        )
        for root_id, path, device, volume, volume_path, exclude in rows
    ]


def former_directory(connection: sqlite3.Connection) -> bytes | None:
    """Return the folder in which the library lay when its roots' places were recorded last."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'directory'").fetchone()
    return None if row is None else bytes(row[0])


def files(
    connection: sqlite3.Connection, root_id: int, *, after: bytes | None, limit: int
) -> list[KnownFile]:
    """Return the next files below a root by path, those after a given one if it is not None."""
    condition, start = ("path > ?", [after]) if after is not None else ("1", [])
    rows = connection.execute(
        f"SELECT {_FILE_COLUMNS} FROM file"  # noqa: S608 - constants only
        f" WHERE root_id = ? AND {condition} ORDER BY path LIMIT ?",
        [root_id, *start, limit],
    ).fetchall()
    companions = _companions(connection, root_id, rows[0][2], rows[-1][2]) if rows else {}
    return [
        KnownFile(
            id=file_id,
            root_id=root,
            path=path,
            fingerprint=Fingerprint(size, int(mtime_ns), int(inode)),
            photo_id=photo_id,
            failure=failure,
            present=bool(present),
            device=_integer_or_none(device),
            companions=tuple(companions.get(file_id, ())),
        )
        for (
            file_id,
            root,
            path,
            size,
            mtime_ns,
            inode,
            photo_id,
            failure,
            present,
            device,
        ) in rows
    ]


def _companions(
    connection: sqlite3.Connection, root_id: int, first: bytes, last: bytes
) -> dict[int, list[Companion]]:
    """Return what belongs to the files of a root between two paths, both included."""
    found: dict[int, list[Companion]] = {}
    rows = connection.execute(
        f"SELECT companion.file_id, {_COMPANION_COLUMNS} FROM file"  # noqa: S608 - constants only
        " JOIN companion ON companion.file_id = file.id"
        " WHERE file.root_id = ? AND file.path BETWEEN ? AND ? ORDER BY companion.path",
        [root_id, first, last],
    )
    for file_id, path, kind, size, mtime_ns, inode in rows:
        fingerprint = Fingerprint(size, int(mtime_ns), int(inode))
        found.setdefault(file_id, []).append(Companion(path, kind, fingerprint))
    return found


def present_paths(
    connection: sqlite3.Connection, photo_ids: Sequence[int]
) -> dict[int, tuple[tuple[bytes, ...], tuple[bytes, ...]]]:
    """Return the present files of photos, and what belongs to them, as absolute paths.

    Args:
        connection: For reading.
        photo_ids: As many as fit into one statement; those without a present file are left out.
    """
    marks = ", ".join("?" * len(photo_ids))
    rows = connection.execute(
        "SELECT file.photo_id, root.path, file.path, companion.path FROM file"  # noqa: S608
        " JOIN root ON root.id = file.root_id LEFT JOIN companion ON companion.file_id = file.id"
        f" WHERE file.photo_id IN ({marks}) AND file.vanished_at IS NULL"
        " ORDER BY file.id, companion.path",
        photo_ids,
    )
    # Dictionaries for sets that keep their order.
    found: dict[int, tuple[dict[bytes, None], dict[bytes, None]]] = {}
    for photo_id, root, path, companion in rows:
        paths, companions = found.setdefault(photo_id, ({}, {}))
        paths[join(root, path)] = None
        if companion is not None:
            companions[join(root, companion)] = None
    return {
        photo_id: (tuple(paths), tuple(companions))
        for photo_id, (paths, companions) in found.items()
    }


def failures(connection: sqlite3.Connection) -> list[tuple[bytes, str]]:
    """Return absolute path and reason of every present file that is no readable picture."""
    rows = connection.execute(
        "SELECT root.path, file.path, file.failure FROM file JOIN root ON root.id = file.root_id"
        " WHERE file.failure IS NOT NULL AND file.vanished_at IS NULL"
        " ORDER BY root.path, file.path"
    )
    return [(join(root, path), failure) for root, path, failure in rows]


# A placeholder of which the content is known, from before it went to the cloud, is a picture.
_ONLINE_ONLY = (
    "FROM online_only JOIN root ON root.id = online_only.root_id WHERE NOT EXISTS"
    " (SELECT 1 FROM file WHERE file.root_id = online_only.root_id"
    " AND file.path = online_only.path AND file.vanished_at IS NULL"
    " AND (file.photo_id IS NOT NULL OR file.failure IS NOT NULL))"
)


def online_only(connection: sqlite3.Connection) -> list[bytes]:
    """Return the absolute paths of cloud placeholders of which nothing else is known."""
    rows = connection.execute(
        f"SELECT root.path, online_only.path {_ONLINE_ONLY} ORDER BY root.path, online_only.path"
    )
    return [join(root, path) for root, path in rows]


def count_online_only(connection: sqlite3.Connection) -> int:
    """Return how many cloud placeholders there are of which nothing else is known."""
    (number,) = connection.execute(f"SELECT count(*) {_ONLINE_ONLY}").fetchone()
    return int(number)


def _integer_or_none(value: int | str | None) -> int | None:
    return None if value is None else int(value)
