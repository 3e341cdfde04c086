"""Opening the SQLite database, and its failures in words that a user can act on."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from siglip_index.errors import (
    CorruptLibraryError,
    DiskFullError,
    LibraryAccessError,
    LibraryBusyError,
    LibraryMissingError,
    NewerLibraryError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATABASE_NAME = "library.sqlite3"
APPLICATION_ID = 0x53_69_67_4C  # "SigL"
FORMAT_VERSION = 3
OLDEST_READABLE_FORMAT = 1
PAGE_SIZE_BYTES = 8192
BUSY_TIMEOUT_S = 10.0
WAL_LIMIT_BYTES = 64 * 2**20
_NEARLY_FULL_BYTES = 2**20

_PRIMARY_CODE = 0xFF
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC)


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """Open or create the database; the caller holds the writer's lock.

    Raises:
        NewerLibraryError: A newer version wrote it; nothing was changed.
        CorruptLibraryError: It is no database, or not one of ours.
        LibraryAccessError: It is a folder.
        sqlite3.Error: To be explained by `explained`.
    """
    refuse_folder(path)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        check_format(connection, path, may_be_empty=True)
        # Without effect once there are pages; a vector of 768 halves wastes least on 8 KiB.
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL survives a power cut; NORMAL could lose the last commits that were acknowledged.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_folder(path: Path) -> None:
    """Raise where a folder bears the database's name, of which SQLite only says "I/O error".

    Raises:
        LibraryAccessError: It does.
    """
    if path.is_dir():
        raise LibraryAccessError(
            f"{path} is a folder; the library keeps its database in a file of that name",
            hint="Move it away, or choose another folder for the library.",
        )


def check_format(connection: sqlite3.Connection, path: Path, *, may_be_empty: bool) -> None:
    """Make sure that this is a library of a version that can be read here.

    Args:
        connection: The database.
        path: For the messages.
        may_be_empty: Accept a database without any table, to be filled.

    Raises:
        NewerLibraryError: A newer version wrote it.
        CorruptLibraryError: It is another program's database.
        LibraryMissingError: It was never finished.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application_id != APPLICATION_ID and not _only_migrations(connection):
        raise CorruptLibraryError(
            f"{path} is not a picture library but another program's database",
            hint="Choose another folder for the library.",
        )
    if version > FORMAT_VERSION:
        raise NewerLibraryError(
            f"the library {path.parent} has format {version}, this program knows {FORMAT_VERSION}",
            hint="Update the program; an older one would damage the library.",
        )
    if version < OLDEST_READABLE_FORMAT and not may_be_empty:
        raise LibraryMissingError(
            f"there is no finished library in {path.parent}",
            hint="Index a folder first: that creates it.",
        )


def _only_migrations(connection: sqlite3.Connection) -> bool:
    """Tell whether the very first opening was cut off before the schema was committed."""
    names = {name for (name,) in connection.execute("SELECT tbl_name FROM sqlite_master")}
    return names <= {"_sqlite_migrations", "sqlite_sequence"}


@contextmanager
def explained(directory: Path, *, files: bool = True, what: str | None = None) -> Iterator[None]:
    """Turn failures of SQLite and of the file system that a user can meet into StoreErrors.

    Mistakes of the program (a closed connection, a violated constraint) pass through.

    Args:
        directory: Folder of the library.
        files: Explain OSError as well.
        what: What lies in the folder, as the messages call it; None for the library.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) and not files:
            raise
        expected = as_store_error(error, directory, what)
        if expected is None:
            raise
        raise expected from error


def as_store_error(
    error: sqlite3.Error | OSError, directory: Path, what: str | None = None
) -> StoreError | None:
    """Return what a failure means for the user, None when it is a mistake of the program."""
    what = what or f"the library {directory}"
    if isinstance(error, OSError):
        return _explain_os_error(error, what)
    match getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE:
        case sqlite3.SQLITE_FULL:
            return _disk_full(what)
        case sqlite3.SQLITE_IOERR:
            # A write on a full disk comes back as an I/O error.
            if _is_full(directory):
                return _disk_full(what)
            return LibraryAccessError(
                f"the disk of {what} reported an input/output error",
                hint="Check the disk and its connection, then run verify.",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return CorruptLibraryError(
                f"the database of {what} is damaged ({error})",
                hint="`siglip-search restore` puts a backup in its place; without one, move the "
                "folder away and index again.",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LibraryBusyError(
                f"{what} is in use by another program",
                hint="Wait until it is done, then try again.",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return LibraryAccessError(
                f"{what} cannot be opened or written ({error})",
                hint="Check the permissions of the folder and of the files in it.",
            )
        case _:
            return None


def _explain_os_error(error: OSError, what: str) -> StoreError:
    if error.errno in _OUT_OF_SPACE:
        return _disk_full(what)
    return LibraryAccessError(
        f"{what} cannot be used: {error.strerror or error}",
        hint="Check that the folder exists and that you may write there.",
    )


def _disk_full(what: str) -> DiskFullError:
    return DiskFullError(
        f"no space is left on the disk of {what}",
        hint="Free some space and run it again; everything committed so far is safe.",
    )


def _is_full(directory: Path) -> bool:
    try:
        if shutil.disk_usage(directory).free < _NEARLY_FULL_BYTES:
            return True
        # Quotas do not show in the free space, so try.
        probe = directory / f"space-probe-{os.getpid()}.tmp"
        try:
            with probe.open("wb") as file:
                file.write(bytes(_NEARLY_FULL_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        return error.errno in _OUT_OF_SPACE
    return False
