"""A backup of a library: written, examined, and put in the place of a library."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_index import snapshot
from siglip_index.backup import copy_database, write_copy
from siglip_index.database import (
    APPLICATION_ID,
    BUSY_TIMEOUT_S,
    DATABASE_NAME,
    FORMAT_VERSION,
    connect_for_writing,
    explained,
)
from siglip_index.durable_files import TEMPORARY_SUFFIX, sync_directory
from siglip_index.errors import (
    CorruptLibraryError,
    LibraryAccessError,
    NewerLibraryError,
)
from siglip_index.file_names import is_staging
from siglip_index.local_disk import refuse_network_file_system
from siglip_index.lock import WriterLock
from siglip_index.reader_pool import ReaderPool

if TYPE_CHECKING:
    from siglip_index.records import Problem, StoreCounts


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A database that was written, or looked at, as a backup.

    Attributes:
        path: The file.
        format: Version of its schema.
        pictures: How many pictures it shows.
        disk_bytes: Its size.
    """

    path: Path
    format: int
    pictures: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class RestoredLibrary:
    """What a restore has led to.

    Attributes:
        counts: What is in the library now.
        repaired: What was wrong in the backup and has been put right.
        replaced: True when there was a library before, which is gone now.
    """

    counts: StoreCounts
    repaired: tuple[Problem, ...]
    replaced: bool


def write_backup(directory: Path, target: Path) -> BackupFile:
    """Copy a library's database to a file; it counts only once SQLite has found it whole.

    The library may be read and written meanwhile.

    Args:
        directory: Folder of the library.
        target: The file; one of this name is replaced, at the very end.

    Raises:
        LibraryMissingError: There is no library.
        CorruptLibraryError: The copy, and so the library, is not whole.
        LibraryAccessError, DiskFullError: Nothing of the backup is left then.
    """
    with explained(directory):
        # Reads a library on a read-only medium as well.
        pool = ReaderPool(directory / DATABASE_NAME)
    unchecked = target.with_name(f"{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with explained(target.parent, what=f"the backup {target}"):
            pool.run(lambda original: write_copy(original, unchecked))
            found = examine_backup(unchecked)
            unchecked.replace(target)
            sync_directory(target.parent)
    except CorruptLibraryError as error:
        raise CorruptLibraryError(
            f"the library {directory} is damaged: no backup was made",
            hint="`siglip-search verify` says what is wrong; restore an earlier backup, or index"
            " again into a new folder.",
        ) from error
    finally:
        pool.close()
        with suppress(OSError):
            unchecked.unlink(missing_ok=True)
    return replace(found, path=target)


def examine_backup(path: Path) -> BackupFile:
    """Read the whole of a file and make sure that it can be restored here; nothing is changed.

    Raises:
        LibraryAccessError: It does not exist or cannot be read.
        CorruptLibraryError: It is no backup of a library, or damaged.
        NewerLibraryError: A newer version of the program wrote it.
    """
    if not path.is_file():
        raise LibraryAccessError(
            f"there is no file {path}", hint="Name a file that `siglip-search backup` wrote."
        )
    try:
        with closing(_open_read_only(path)) as connection:
            return _examined(connection, path)
    except sqlite3.DatabaseError as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if primary == sqlite3.SQLITE_NOTADB:
            raise _no_backup(path) from error
        if primary == sqlite3.SQLITE_CORRUPT:
            raise _damaged(path, str(error)) from error
        raise LibraryAccessError(
            f"the backup {path} cannot be read: {error}",
            hint="Check its permissions; copy it to another folder and restore from there.",
        ) from error


def _examined(connection: sqlite3.Connection, path: Path) -> BackupFile:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise _no_backup(path)
    if version > FORMAT_VERSION:
        raise NewerLibraryError(
            f"the backup {path} has format {version}, this program knows {FORMAT_VERSION}",
            hint="Update the program, then restore it.",
        )
    (finding,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if finding != "ok":
        raise _damaged(path, finding.splitlines()[-1])
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise _damaged(path, "rows refer to others that are not there")
    (pictures,) = connection.execute(
        "SELECT count(*) FROM photo WHERE vanished_at IS NULL"
    ).fetchone()
    return BackupFile(path, version, pictures, path.stat().st_size)


def restore_backup(path: Path, directory: Path) -> RestoredLibrary:
    """Put a backup in the place of the library in a folder, whole or not at all.

    The backup is copied, brought up to date and examined beside the library before anything of
    that one is touched. An intact library is then replaced in one transaction, which programs
    that read it need not be closed for; of a damaged one the files are kept until the new ones
    are in place. Snapshots are rebuilt.

    Args:
        path: What `write_backup` wrote.
        directory: Folder of the library, made if need be.

    Raises:
        LibraryAccessError, CorruptLibraryError, NewerLibraryError: As `examine_backup`, or the
            operating system refuses; the library is as it was.
        LibraryBusyError: Another process is writing the library.
        NetworkFileSystemError: The folder lies on a network file system.
        DiskFullError: There is no room; the library is as it was.
    """
    # Imported here: that module knows how to delete what this one leaves after a crash.
    from siglip_index.local_store import LocalStore

    examine_backup(path)
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        refuse_network_file_system(directory)
        lock = WriterLock(directory)
        lock.acquire()
        try:
            for left in staging_folders(directory):
                shutil.rmtree(left, ignore_errors=True)
            staging = directory / f"restore-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
            staging.mkdir()
            try:
                copy_database(path, staging / DATABASE_NAME)
                repaired = _bring_up_to_date(staging, beyond=_generation(directory))
                replaced = _put_in_place(staging / DATABASE_NAME, directory / DATABASE_NAME)
                snapshot.sweep(directory, [])  # every one of them is of the former state
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        finally:
            lock.release()
    with LocalStore(directory, writable=True) as store:
        return RestoredLibrary(store.counts(), repaired, replaced)


def staging_folders(directory: Path) -> list[Path]:
    """Return what killed restores have left; only the holder of the lock may delete it."""
    return sorted(path for path in directory.glob("restore-*.tmp") if is_staging(path.name))


def _bring_up_to_date(staging: Path, *, beyond: int) -> tuple[Problem, ...]:
    """Migrate, examine and mend the copy, and make every index in memory out of date.

    Args:
        staging: Its folder, a library of its own.
        beyond: The generation that the library has come to: a program that has it open knows its
            index by that number, and must not take the restored state for an older one.

    Returns:
        What was mended.
    """
    from siglip_index.migrations import open_catalogue
    from siglip_index.verify import verify

    # The backup itself is the copy of its former state.
    open_catalogue(staging / DATABASE_NAME, copy_first=False).conn.close()
    report = verify(staging, repair=True)
    if not report.is_whole:
        wrong = next(problem.what for problem in report.problems if not problem.repaired)
        raise CorruptLibraryError(f"the backup is damaged: {wrong}", hint="Restore another one.")
    with closing(connect_for_writing(staging / DATABASE_NAME)) as connection:
        generation = 1 + max(beyond, _generation(staging))
        with connection:
            connection.execute("DELETE FROM change")
            connection.execute("DELETE FROM snapshot")
            connection.execute("UPDATE space SET log_start = ?", [generation])
            connection.execute("UPDATE meta SET value = ? WHERE key = 'generation'", [generation])
        connection.execute("PRAGMA journal_mode = DELETE")  # one file again
    return report.problems


def _put_in_place(restored: Path, database: Path) -> bool:
    """Make a database the library's; return whether there was one before."""
    if not database.exists():
        restored.replace(database)
        sync_directory(database.parent)
        return False
    if _can_be_overwritten(database, restored):
        with (
            closing(sqlite3.connect(restored)) as source,
            closing(connect_for_writing(database)) as target,
        ):
            # One transaction: until it is committed, and after a crash, the former one is there.
            source.backup(target)
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return True
    _replace_files(restored, database)
    return True


def _can_be_overwritten(database: Path, restored: Path) -> bool:
    """Tell whether SQLite can replace the content itself: it is intact, with pages as large."""
    try:
        with (
            closing(connect_for_writing(database)) as connection,
            closing(_open_read_only(restored)) as source,
        ):
            (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            same = [one.execute("PRAGMA page_size").fetchone() for one in (connection, source)]
            return bool(finding == "ok" and same[0] == same[1])
    except NewerLibraryError:
        raise  # what this program does not understand is not therefore damaged
    except (sqlite3.DatabaseError, CorruptLibraryError):
        return False


def _replace_files(restored: Path, database: Path) -> None:
    """Replace a damaged database with its log, which must never be read with another one."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    moved: list[tuple[Path, Path]] = []
    try:
        for ending in ("", "-wal", "-shm", "-journal"):
            part = database.with_name(database.name + ending)
            aside = database.with_name(f"damaged-{stamp}-{part.name}{TEMPORARY_SUFFIX}")
            if not part.exists():
                continue
            moved.append((part, aside))
            if ending == "":
                _give_second_name(part, aside)
            else:
                part.rename(aside)
        restored.replace(database)
        sync_directory(database.parent)
    except BaseException:
        for part, aside in reversed(moved):
            with suppress(OSError):
                aside.replace(part)
        raise
    for _, aside in moved:
        with suppress(OSError):
            aside.unlink()


def _give_second_name(path: Path, second: Path) -> None:
    """Let a kill never find a file without its name; where links cannot be made, it is renamed."""
    try:
        os.link(path, second)
    except OSError:  # exFAT, for one
        path.rename(second)


def _generation(directory: Path) -> int:
    """Return the generation of a library, 0 where none can be read."""
    try:
        with closing(_open_read_only(directory / DATABASE_NAME)) as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
            return int(row[0])
    except (sqlite3.DatabaseError, TypeError, ValueError):
        return 0


def _open_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S
    )


def _no_backup(path: Path) -> CorruptLibraryError:
    return CorruptLibraryError(
        f"{path} is no backup of a picture library",
        hint="Name a file that `siglip-search backup` wrote.",
    )


def _damaged(path: Path, finding: str) -> CorruptLibraryError:
    return CorruptLibraryError(
        f"{path} is damaged: {finding}",
        hint="Run `siglip-search verify` where it comes from, or take another backup.",
    )
