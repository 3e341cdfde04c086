"""Thumbnails that were made once to compare pictures, by the content of the picture.

A convenience: whatever goes wrong with the file, thumbnails are made anew. It is kept in the
system's folder for such files and may be deleted at any time.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import platformdirs

from siglip_search.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

_log = logging.getLogger(__name__)

_VERSION: Final = 1
"""Of how thumbnails are made; those of another version are made anew."""
_WAIT_SECONDS: Final = 5.0
_CHUNK: Final = 500
_NOT_KEPT: Final = "Thumbnails are not kept for the next time: %s"


def thumbnail_cache_file() -> Path:
    """Return where the thumbnails are kept; it need not exist.

    Raises:
        SettingsError: The home directory is not known.
    """
    try:
        folder = platformdirs.user_cache_path("siglip-search", appauthor=False)
    except RuntimeError as error:
        raise SettingsError(
            "the home directory is not known", hint="Set HOME, or XDG_CACHE_HOME."
        ) from error
    return folder / "thumbnails.sqlite3"


def thumbnail_cache_files() -> tuple[Path, ...]:
    """Return the file, and those that SQLite keeps beside it while it is open."""
    file = thumbnail_cache_file()
    return file, *_beside(file)


class ThumbnailCache:
    """Thumbnails by the SHA-256 of the picture's file.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._is_writable = True
        self._in_memory: dict[bytes, bytes] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._opened()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self) -> sqlite3.Connection:
        try:
            return _open(self._path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _log.info("The thumbnails are made anew: %s", error)
            self._delete()
            return _open(self._path)

    def _delete(self) -> None:
        for name in (self._path, *_beside(self._path)):
            name.unlink(missing_ok=True)

    def known(self, content_hashes: Iterable[bytes]) -> set[bytes]:
        """Return those of which there is a thumbnail."""
        found: set[bytes] = set()
        wanted = list(content_hashes)
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            marks = ", ".join("?" * len(chunk))
            rows = self._rows(f"SELECT hash FROM thumbnail WHERE hash IN ({marks})", chunk)  # noqa: S608
            found.update(row[0] for row in rows)
        if self._connection is None:
            found.clear()  # none of them could be read again
        return found | (self._in_memory.keys() & set(wanted))

    def get(self, content_hash: bytes) -> bytes | None:
        """Return a thumbnail, None where there is none."""
        if content_hash in self._in_memory:
            return self._in_memory[content_hash]
        rows = self._rows("SELECT jpeg FROM thumbnail WHERE hash = ?", [content_hash])
        return bytes(rows[0][0]) if rows else None

    def put(self, thumbnails: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep thumbnails, given as pairs of content hash and JPEG; in memory if need be."""
        if not self._write(
            "INSERT OR REPLACE INTO thumbnail (hash, jpeg) VALUES (?, ?)", thumbnails
        ):
            self._in_memory.update(thumbnails)

    def forget(self, content_hash: bytes) -> None:
        """Drop a thumbnail that is none, so that it is made anew the next time."""
        self._in_memory.pop(content_hash, None)
        self._write("DELETE FROM thumbnail WHERE hash = ?", [(content_hash,)])

    def close(self) -> None:
        """Release the file; twice does no harm."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, statement: str, rows: Sequence[tuple[bytes, ...]]) -> bool:
        """Write at once; return whether it was done."""
        if self._connection is None or not self._is_writable:
            return False
        try:
            with self._connection:
                self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            if _is_damage(error):
                self._give_up(error)
            else:
                # A full disk, say: what is there can still be read.
                self._is_writable = False
                _log.warning(_NOT_KEPT, error)
            return False
        return True

    def _rows(self, query: str, parameters: Sequence[bytes]) -> list[tuple[bytes]]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return []

    def _give_up(self, error: Exception) -> None:
        _log.warning(_NOT_KEPT, error)
        with suppress(sqlite3.Error):
            self.close()
        self._connection = None
        if _is_damage(error):
            # Or it would be in the way each time.
            with suppress(OSError):
                self._delete()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    try:
        # What is in the pictures is nobody else's business.
        os.chmod(path, 0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        # Losing the last ones in a crash costs a moment.
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        with connection:
            if version != _VERSION:
                connection.execute("DROP TABLE IF EXISTS thumbnail")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS thumbnail (hash BLOB PRIMARY KEY, jpeg BLOB NOT NULL)"
            )
            connection.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_damage(error: Exception) -> bool:
    # Otherwise it is busy, read-only, or the disk is full: nothing is wrong with the file.
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError
    )


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]
