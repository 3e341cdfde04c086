"""Writing the rows of files, and of what belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_index.locations import display_text
from siglip_index.stat_numbers import storable_integer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable

    from siglip_index.records import Companion, FileEntry, Fingerprint


def put_files(
    connection: sqlite3.Connection,
    files: Collection[FileEntry],
    photo_id: int | None,
    failure: str | None,
) -> None:
    """Let files, new or known, name a photo or have failed; they are present from now on."""
    connection.executemany(
        "INSERT INTO file (root_id, path, display, size, mtime_ns, inode, device, photo_id,"
        " failure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (root_id, path) DO UPDATE SET size = excluded.size,"
        " mtime_ns = excluded.mtime_ns, inode = excluded.inode, device = excluded.device,"
        " photo_id = excluded.photo_id, failure = excluded.failure, vanished_at = NULL",
        [
            (
                file.root_id,
                file.path,
                display_text(file.path),
                file.fingerprint.size,
                storable_integer(file.fingerprint.mtime_ns),
                storable_integer(file.fingerprint.inode),
                storable_integer(file.device),
                photo_id,
                failure,
            )
            for file in files
        ],
    )
    for file in files:
        (file_id,) = connection.execute(
            "SELECT id FROM file WHERE root_id = ? AND path = ?", [file.root_id, file.path]
        ).fetchone()
        set_companions(connection, file_id, file.companions)


def set_companions(
    connection: sqlite3.Connection, file_id: int, companions: Iterable[Companion]
) -> None:
    """Let these files, and no others, belong to a file."""
    companions = list(companions)
    connection.executemany(
        "INSERT INTO companion (file_id, path, display, kind, size, mtime_ns, inode)"
        " SELECT id, ?, ?, ?, ?, ?, ? FROM file WHERE id = ?"
        " ON CONFLICT (file_id, path) DO UPDATE SET kind = excluded.kind, size = excluded.size,"
        " mtime_ns = excluded.mtime_ns, inode = excluded.inode",
        [
            (
                companion.path,
                display_text(companion.path),
                companion.kind,
                companion.fingerprint.size,
                storable_integer(companion.fingerprint.mtime_ns),
                storable_integer(companion.fingerprint.inode),
                file_id,
            )
            for companion in companions
        ],
    )
    kept = {companion.path for companion in companions}
    rows = connection.execute("SELECT id, path FROM companion WHERE file_id = ?", [file_id])
    connection.executemany(
        "DELETE FROM companion WHERE id = ?",
        [(companion_id,) for companion_id, path in rows.fetchall() if path not in kept],
    )


def refresh_files(
    connection: sqlite3.Connection, seen: Iterable[tuple[int, Fingerprint, int | None]]
) -> None:
    """Record new stat results of files (id, fingerprint, device); they are present again."""
    connection.executemany(
        "UPDATE file SET size = ?, mtime_ns = ?, inode = ?, device = ?, vanished_at = NULL"
        " WHERE id = ?",
        [
            (
                fingerprint.size,
                storable_integer(fingerprint.mtime_ns),
                storable_integer(fingerprint.inode),
                storable_integer(device),
                file_id,
            )
            for file_id, fingerprint, device in seen
        ],
    )
