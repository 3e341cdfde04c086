"""Connections for reading, shared between threads, on writable and read-only media."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from siglip_index.database import BUSY_TIMEOUT_S, check_format, refuse_folder
from siglip_index.errors import LibraryBusyError, LibraryMissingError
from siglip_index.older_formats import format_of, show_older_format

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")
_Stamp = tuple[tuple[int, int, int] | None, ...]
_ATTEMPTS = 5
# What SQLite says when it cannot make the files of WAL mode; on a full disk too one may still read.
_UNOPENABLE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
)


@dataclass(frozen=True)
class _Source:
    """Where to read.

    Attributes:
        uri: For sqlite3.connect.
        guard: Stamp of the files when SQLite itself cannot notice a change; None when it can.
        copy: Keeps the temporary copy alive, where one had to be made.
    """

    uri: str
    guard: _Stamp | None = None
    copy: tempfile.TemporaryDirectory[str] | None = None


class ReaderPool:
    """Runs queries, each in a read transaction of its own, on as many connections as needed.

    Readers in WAL mode need the files "-wal" and "-shm". Where they cannot be made (a read-only
    medium, a folder of another user) the database is opened as immutable when no WAL is left
    over; a WAL with content is never passed over: database and WAL are then copied to a temporary
    folder. In both cases a change of the files is noticed and the query run again.

    A library of an older format is read as it is: only a writer brings it up to date.

    Raises:
        LibraryMissingError: There is no database.
        NewerLibraryError: A newer version wrote it.
        CorruptLibraryError: It is another program's database.
        sqlite3.Error: To be explained by the caller.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._lock = threading.Lock()
        self._idle: list[_Reader] = []
        self._closed = False
        self._source = self._choose_source()

    def run(
        self,
        query: Callable[[sqlite3.Connection], Result],
        *,
        on_torn: Callable[[], None] = lambda: None,
    ) -> Result:
        """Run a query on the newest committed state.

        Args:
            query: Called with a connection inside a read transaction; may be called again.
            on_torn: Called when the files changed under an immutable reader, before the query is
                run again: whatever earlier queries left in memory may be wrong.
        """
        for _ in range(_ATTEMPTS):
            source = self._source
            try:
                result = self._run_once(query)
            except sqlite3.DatabaseError:
                if source.guard is None or self._stamp() == source.guard:
                    raise
            else:
                if source.guard is None or self._stamp() == source.guard:
                    return result
            on_torn()
            self._reopen(source)
        raise LibraryBusyError(
            f"the library {self._path.parent} changes faster than it can be read from here",
            hint="Try again when the other program is done.",
        )

    def close(self) -> None:
        """Close the idle connections, and those in use as soon as they are handed back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.connection.close()
        if self._source.copy is not None:
            self._source.copy.cleanup()

    def _run_once(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._lock:
            if self._closed:
                raise sqlite3.ProgrammingError("the library was closed")
            source = self._source
            idle = self._idle.pop() if self._idle else None
        reader = _begun(idle, source.uri)
        try:
            return query(reader.connection)
        finally:
            if reader.connection.in_transaction:
                reader.connection.rollback()
            with self._lock:
                keep = not self._closed and source is self._source
                if keep:
                    self._idle.append(reader)
            if not keep:
                reader.connection.close()

    def _reopen(self, stale: _Source) -> None:
        with self._lock:
            if self._source is not stale:
                return
            idle, self._idle = self._idle, []
            for reader in idle:
                reader.connection.close()
            if stale.copy is not None:
                stale.copy.cleanup()
            self._source = self._choose_source()

    def _choose_source(self) -> _Source:
        if not self._path.exists():
            raise LibraryMissingError(
                f"there is no library in {self._path.parent}",
                hint="Index a folder first: that creates it.",
            )
        refuse_folder(self._path)
        live = _Source(f"{self._path.as_uri()}?mode=ro")
        try:
            self._check(live)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _UNOPENABLE:
                raise
        else:
            return live
        guard = self._stamp()
        if guard[1] is None or guard[1][0] == 0:
            frozen = _Source(f"{self._path.as_uri()}?mode=ro&immutable=1", guard)
        else:
            frozen = self._copy(guard)
        try:
            self._check(frozen)
        except BaseException:
            if frozen.copy is not None:
                frozen.copy.cleanup()
            raise
        return frozen

    def _copy(self, guard: _Stamp) -> _Source:
        # SQLite cannot replay a WAL without writing beside it.
        folder = tempfile.TemporaryDirectory(prefix="library-", ignore_cleanup_errors=True)
        copy = Path(folder.name) / self._path.name
        try:
            shutil.copyfile(self._path, copy)
            shutil.copyfile(_wal(self._path), _wal(copy))
        except BaseException:
            folder.cleanup()
            raise
        return _Source(f"{copy.as_uri()}?mode=rw", guard, folder)

    def _check(self, source: _Source) -> None:
        connection = _connect(source.uri).connection
        try:
            check_format(connection, self._path, may_be_empty=False)
        finally:
            connection.close()

    def _stamp(self) -> _Stamp:
        return tuple(_file_stamp(path) for path in (self._path, _wal(self._path)))


@dataclass(frozen=True)
class _Reader:
    """Who reads.

    Attributes:
        connection: Nobody else's at the same time.
        older_format: The format that its views hide; None where it has none.
    """

    connection: sqlite3.Connection
    older_format: int | None


def _begun(reader: _Reader | None, uri: str) -> _Reader:
    """Return a reader in a transaction, a new or the given one, that shows what there is now.

    Raises:
        sqlite3.Error: The connection is closed then.
    """
    while True:
        if reader is None:
            reader = _connect(uri)
        try:
            reader.connection.execute("BEGIN")
            is_of_now = reader.older_format in (None, format_of(reader.connection))
        except BaseException:
            reader.connection.close()
            raise
        if is_of_now:
            return reader
        # A writer has brought the library up to date: what is new since would stay hidden.
        reader.connection.close()
        reader = None


def _connect(uri: str) -> _Reader:
    connection = sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        older_format = show_older_format(connection)
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return _Reader(connection, older_format)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
