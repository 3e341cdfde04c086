"""Changing roots: where they lie, on which volume, what is left out of them, what is elsewhere."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from siglip_index.catalogue_places import is_part_of_root, part_of_root, roots
from siglip_index.locations import display_text, join, relative_to
from siglip_index.stat_numbers import storable_integer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from siglip_index.records import Root

# What stands for something else in a pattern.
_SPECIAL = re.compile(r"([*?\[\]\\])")


def ensure_root(
    connection: sqlite3.Connection, path: bytes, device: int | None, touched: set[int]
) -> Root:
    """See `StoreWriter.ensure_root`; adds the photos that may have lost a file to `touched`."""
    known = roots(connection)
    for root in known:
        below = relative_to(path, root.path)
        if below == b"":
            if device is not None and device != root.device:
                connection.execute(
                    "UPDATE root SET device = ? WHERE id = ?", [storable_integer(device), root.id]
                )
            return _root(connection, root.id)
        if below is not None:
            raise ValueError(f"{path!r} lies below the root {root.path!r}: index it there")
    cursor = connection.execute(
        "INSERT INTO root (path, display, device) VALUES (?, ?, ?)",
        [path, display_text(path), storable_integer(device)],
    )
    assert cursor.lastrowid is not None
    for root in known:
        prefix = relative_to(root.path, path)
        if prefix is not None:
            _absorb(connection, root.id, cursor.lastrowid, prefix, touched)
    return _root(connection, cursor.lastrowid)


def relocate_root(
    connection: sqlite3.Connection, root_id: int, new_path: bytes, touched: set[int]
) -> int:
    """See `StoreWriter.relocate_root`; adds the photos that may have lost a file to `touched`."""
    others = [root for root in roots(connection) if root.id != root_id]
    if len(others) == len(roots(connection)):
        raise LookupError(f"there is no root {root_id}")
    for other in others:
        below = relative_to(new_path, other.path)
        if below is not None:
            _absorb(connection, root_id, other.id, below, touched)
            return other.id
    connection.execute(
        "UPDATE root SET path = ?, display = ? WHERE id = ?",
        [new_path, display_text(new_path), root_id],
    )
    for other in others:
        prefix = relative_to(other.path, new_path)
        if prefix is not None:
            _absorb(connection, other.id, root_id, prefix, touched)
    return root_id


def _absorb(
    connection: sqlite3.Connection, inner_id: int, outer_id: int, prefix: bytes, touched: set[int]
) -> None:
    """Make the files of one root files of another, below whose path it lies.

    Where both know the same path, the row that names a present picture stays; the outer one's
    when both do or neither does. Patterns of the inner root go on applying to its files alone;
    where the two are one folder, those of both apply to all of it.
    """
    for file_id, path, photo_id, is_present in connection.execute(
        "SELECT id, path, photo_id, photo_id IS NOT NULL AND vanished_at IS NULL FROM file"
        " WHERE root_id = ?",
        [inner_id],
    ).fetchall():
        longer = _below(prefix, path)
        rival = connection.execute(
            "SELECT id, photo_id, photo_id IS NOT NULL AND vanished_at IS NULL FROM file"
            " WHERE root_id = ? AND path = ?",
            [outer_id, longer],
        ).fetchone()
        if rival is not None:
            touched.update(photo for photo in (photo_id, rival[1]) if photo is not None)
            loser = file_id if rival[2] or not is_present else rival[0]
            connection.execute("DELETE FROM file WHERE id = ?", [loser])
            if loser == file_id:
                continue
        connection.execute(
            "UPDATE file SET root_id = ?, path = ?, display = ? WHERE id = ?",
            [outer_id, longer, display_text(longer), file_id],
        )
        if prefix:
            _lengthen_companions(connection, file_id, prefix)
    rows = connection.execute("SELECT path FROM online_only WHERE root_id = ?", [inner_id])
    connection.executemany(
        "INSERT OR IGNORE INTO online_only (root_id, path) VALUES (?, ?)",
        [(outer_id, _below(prefix, path)) for (path,) in rows.fetchall()],
    )
    inner, outer = _root(connection, inner_id), _root(connection, outer_id)
    moved = [_anchored(pattern, prefix) for pattern in inner.exclude]
    set_root_exclude(connection, outer_id, tuple(dict.fromkeys((*outer.exclude, *moved))))
    connection.execute("DELETE FROM online_only WHERE root_id = ?", [inner_id])
    connection.execute("DELETE FROM root WHERE id = ?", [inner_id])


def _lengthen_companions(connection: sqlite3.Connection, file_id: int, prefix: bytes) -> None:
    rows = connection.execute("SELECT id, path FROM companion WHERE file_id = ?", [file_id])
    for companion_id, path in rows.fetchall():
        longer = _below(prefix, path)
        connection.execute(
            "UPDATE companion SET path = ?, display = ? WHERE id = ?",
            [longer, display_text(longer), companion_id],
        )


def _below(prefix: bytes, path: bytes) -> bytes:
    return join(prefix, path) if prefix else path


def _anchored(pattern: str, prefix: bytes) -> str:
    """Return a pattern of `.gitignore`'s kind that says of a folder what it said of a root."""
    if not prefix or pattern.startswith("#") or not pattern.strip(" "):
        return pattern
    sign = "!" if pattern.startswith("!") else ""
    glob = pattern.removeprefix("!")
    folder = _SPECIAL.sub(r"\\\1", os.fsdecode(prefix))
    # Without a slash, but for one at the end, it is for names at any depth.
    depth = "/" if "/" in glob.removesuffix("/") else "/**/"
    return f"{sign}/{folder}{depth}{glob.removeprefix('/')}"


def set_root_volume(
    connection: sqlite3.Connection,
    root_id: int,
    volume: str | None,
    volume_path: bytes | None,
    device: int | None,
) -> None:
    """See `StoreWriter.set_root_volume`."""
    connection.execute(
        "UPDATE root SET volume = ?1, volume_path = ?2, device = ?3 WHERE id = ?4"
        " AND (volume, volume_path, device) IS NOT (?1, ?2, ?3)",
        [volume, volume_path, storable_integer(device), root_id],
    )


def remember_directory(connection: sqlite3.Connection, directory: bytes) -> None:
    """See `StoreWriter.remember_directory`."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('directory', ?1)"
        " ON CONFLICT (key) DO UPDATE SET value = ?1 WHERE value <> ?1",
        [directory],
    )


def set_root_exclude(connection: sqlite3.Connection, root_id: int, patterns: Sequence[str]) -> None:
    """See `StoreWriter.set_root_exclude`."""
    connection.execute(
        "UPDATE root SET exclude = ?1 WHERE id = ?2 AND exclude <> ?1",
        # ASCII only: patterns for odd names have surrogates in them, which SQLite refuses.
        [json.dumps(list(patterns)), root_id],
    )


def set_online_only(
    connection: sqlite3.Connection,
    root_id: int,
    paths: Iterable[bytes],
    under: bytes,
    *,
    subfolders: bool,
) -> None:
    """See `StoreWriter.set_online_only`."""
    condition, parameters = part_of_root(under, subfolders=subfolders)
    rows = connection.execute(
        f"SELECT path FROM online_only WHERE root_id = ? AND {condition}",  # noqa: S608
        [root_id, *parameters],
    )
    known = {path for (path,) in rows}
    now = {path for path in paths if is_part_of_root(path, under, subfolders=subfolders)}
    connection.executemany(
        "DELETE FROM online_only WHERE root_id = ? AND path = ?",
        [(root_id, path) for path in known - now],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO online_only (root_id, path) VALUES (?, ?)",
        [(root_id, path) for path in sorted(now - known)],
    )


def _root(connection: sqlite3.Connection, root_id: int) -> Root:
    return next(root for root in roots(connection) if root.id == root_id)
