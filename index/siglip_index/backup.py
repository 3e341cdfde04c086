"""Copies of the database, made while it may be in use, and there whole or not at all."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from siglip_index.durable_files import TEMPORARY_SUFFIX, sync_directory
from siglip_index.file_names import is_copy_before_upgrade

if TYPE_CHECKING:
    from pathlib import Path

KEPT_BEFORE_UPGRADE = 2

_PAGES_PER_STEP = 4096
_BUSY_TIMEOUT_S = 10.0


def copy_database(source: Path, target: Path) -> None:
    """Copy a database with SQLite's online backup: one committed state, its log included.

    Readers and a writer may be at work meanwhile. The copy is a single file that needs no other.

    Args:
        source: The database; only read.
        target: The copy; a file of this name is replaced, at the very end.

    Raises:
        sqlite3.Error: The source cannot be read, or there is no room; nothing of the copy is left.
        OSError: The copy cannot be made; nothing of it is left.
    """
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)) as original:
        original.execute("BEGIN")
        write_copy(original, target)


def write_copy(original: sqlite3.Connection, target: Path) -> None:
    """Copy what a connection sees to a file, as `copy_database` does.

    Args:
        original: In a transaction: one state, even where a writer commits between two steps.
        target: The copy; a file of this name is replaced, at the very end.

    Raises:
        sqlite3.Error, OSError: As for `copy_database`.
    """
    temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
    try:
        temporary.unlink(missing_ok=True)
        with closing(sqlite3.connect(temporary)) as copy:
            # Nothing has to be undone in a file that is thrown away after a failure.
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            # A transaction begins with its first question.
            original.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            original.backup(copy, pages=_PAGES_PER_STEP, sleep=0)
            # Otherwise a reader of the copy would make the files of WAL mode beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        for leftover in (temporary, temporary.with_name(temporary.name + "-journal")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def copy_before_upgrade(database: Path, old_format: int) -> Path:
    """Copy a library's database beside it, before it is brought to a newer format.

    Of the copies that earlier upgrades left the newest are kept, two with this one.

    Args:
        database: The library's database; the caller holds the writer's lock.
        old_format: Number of the format that it has now.

    Returns:
        The copy.

    Raises:
        sqlite3.Error, OSError: As for `copy_database`; the older copies are untouched then.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    copy = database.with_name(f"before-upgrade-format-{old_format:02}-{stamp}.sqlite3")
    copy_database(database, copy)
    for older in copies_before_upgrade(database.parent)[:-KEPT_BEFORE_UPGRADE]:
        with suppress(OSError):
            older.unlink()
    return copy


def copies_before_upgrade(directory: Path) -> list[Path]:
    """Return the copies that upgrades left in a library's folder, oldest first."""
    return sorted(
        path
        for path in directory.glob("before-upgrade-*.sqlite3")
        if is_copy_before_upgrade(path.name)
    )
