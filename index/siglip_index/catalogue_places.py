"""Reading where the pictures lie: roots, files, what belongs to them, and what is elsewhere."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from siglip_index.locations import join, relative_to
from siglip_index.records import Companion, Fingerprint, KnownFile, Root

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

_FILE_COLUMNS = (
    "file.id, file.root_id, file.path, file.size, file.mtime_ns, file.inode, file.photo_id,"
    " file.failure, file.vanished_at IS NULL, file.device"
)
# Below SQLite's historical limit of 999 parameters.
_FILES_PER_STATEMENT = 900

_AT_ALL_DEPTHS = (
    f"SELECT {_FILE_COLUMNS} FROM file WHERE root_id = :root AND path >= :first"  # noqa: S608
    " AND (:below IS NULL OR path < :below) ORDER BY path LIMIT :limit"
)

# From one name of the folder to the next: behind a file comes the next path at all, behind a file
# of a subfolder the first path behind that subfolder ("0" follows "/"). A range over everything
# below would cost as much as the subfolders hold.
# Zero where the name has no "/"; of an empty path SQLite's instr says nothing at all.
_SLASH = "ifnull(instr(substr(here.path, :length + 1), x'2f'), 0)"
_DIRECTLY_IN = (
    "WITH RECURSIVE here (path) AS (SELECT min(path) FROM file WHERE root_id = :root"  # noqa: S608
    " AND path >= :first AND (:below IS NULL OR path < :below)"
    " UNION ALL SELECT (SELECT min(file.path) FROM file WHERE file.root_id = :root"
    f" AND file.path >= CAST(CASE {_SLASH} WHEN 0 THEN here.path || x'00'"
    f" ELSE substr(here.path, 1, :length + {_SLASH} - 1) || '0' END AS BLOB)"
    " AND (:below IS NULL OR file.path < :below)) FROM here WHERE here.path IS NOT NULL)"
    f" SELECT {_FILE_COLUMNS} FROM here"
    " JOIN file ON file.root_id = :root AND file.path = here.path"
    f" WHERE {_SLASH} = 0 LIMIT :limit"
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


def iter_files(
    read: Callable[[Callable[[sqlite3.Connection], list[KnownFile]]], list[KnownFile]],
    root_id: int,
    under: bytes,
    *,
    subfolders: bool,
    step: int,
) -> Iterator[KnownFile]:
    """Yield the files of a part of a root by path; see `Store.files`.

    Args:
        read: Runs one query and ends its read transaction.
        root_id: The root.
        under: File or folder of the root; empty for all of it.
        subfolders: Also those in the folders below.
        step: Most files of one query, > 0.
    """
    if under:
        yield from read(partial(_file_at, root_id=root_id, path=under))
    prefix = first = under + b"/" if under else b""
    while batch := read(
        partial(
            files, root_id=root_id, prefix=prefix, subfolders=subfolders, first=first, limit=step
        )
    ):
        yield from batch
        first = batch[-1].path + b"\0"


def _file_at(connection: sqlite3.Connection, root_id: int, path: bytes) -> list[KnownFile]:
    rows = connection.execute(
        f"SELECT {_FILE_COLUMNS} FROM file WHERE root_id = ? AND path = ?",  # noqa: S608
        [root_id, path],
    )
    return _known_files(connection, rows.fetchall())


def files(
    connection: sqlite3.Connection,
    root_id: int,
    *,
    prefix: bytes,
    subfolders: bool,
    first: bytes,
    limit: int,
) -> list[KnownFile]:
    """Return the next files in a folder of a root by path.

    Args:
        connection: For reading.
        root_id: The root.
        prefix: Of the folder, root-relative with its "/"; empty for the root.
        subfolders: Also those in the folders below.
        first: Least path, inclusive; it begins with the prefix.
        limit: How many at most, > 0.
    """
    names = {
        "root": root_id,
        "first": first,
        "below": prefix[:-1] + b"0" if prefix else None,  # "0" follows "/"
        "length": len(prefix),
        "limit": limit,
    }
    rows = connection.execute(_AT_ALL_DEPTHS if subfolders else _DIRECTLY_IN, names).fetchall()
    return _known_files(connection, rows)


def _known_files(
    connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]
) -> list[KnownFile]:
    companions = _companions(connection, [row[0] for row in rows])
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
    connection: sqlite3.Connection, file_ids: Sequence[int]
) -> dict[int, list[Companion]]:
    """Return what belongs to files, by their id."""
    found: dict[int, list[Companion]] = {}
    for start in range(0, len(file_ids), _FILES_PER_STATEMENT):
        ids = file_ids[start : start + _FILES_PER_STATEMENT]
        marks = ", ".join("?" * len(ids))
        rows = connection.execute(
            "SELECT file_id, path, kind, size, mtime_ns, inode FROM companion"  # noqa: S608
            f" WHERE file_id IN ({marks}) ORDER BY path",
            ids,
        )
        for file_id, path, kind, size, mtime_ns, inode in rows:
            fingerprint = Fingerprint(size, int(mtime_ns), int(inode))
            found.setdefault(file_id, []).append(Companion(path, kind, fingerprint))
    return found


def part_of_root(under: bytes, *, subfolders: bool) -> tuple[str, list[bytes | int]]:
    """Return a condition, with its parameters, that `path` lies in a part of its root.

    Args:
        under: File or folder of the root; empty for all of it.
        subfolders: As for `Store.files`.
    """
    is_below = "path >= ? AND path < ?" if under else "1"
    bounds: list[bytes | int] = [under + b"/", under + b"0"] if under else []
    if not subfolders:
        is_below += " AND instr(substr(path, ?), x'2f') = 0"
        bounds.append(len(under) + 2 if under else 1)
    return f"(path = ? OR ({is_below}))", [under, *bounds]


def is_part_of_root(path: bytes, under: bytes, *, subfolders: bool) -> bool:
    """Tell of a path what the condition of `part_of_root` does."""
    below = relative_to(path, under, windows=False) if under else path
    return below is not None and (subfolders or b"/" not in below)


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
