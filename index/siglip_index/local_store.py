"""The store of one machine: SQLite for everything, FAISS for searching."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from siglip_index import catalogue_places, catalogue_read, half_vectors, selection, snapshot
from siglip_index.database import DATABASE_NAME, explained
from siglip_index.errors import LibraryAccessError, StoreError
from siglip_index.library_folder import disk_usage
from siglip_index.local_disk import refuse_network_file_system
from siglip_index.lock import WriterLock
from siglip_index.reader_pool import ReaderPool
from siglip_index.records import Neighbour, SpaceUsage
from siglip_index.resident_index import ResidentIndex
from siglip_index.store_reads import StoreReads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray
    from sqlite_utils import Database

    from siglip_index.catalogue_read import SpaceRow
    from siglip_index.faiss_index import FaissIndex
    from siglip_index.protocol import StoreWriter
    from siglip_index.records import KnownFile, Where

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

_FILES_PER_READ = 4096


class LocalStore(StoreReads):
    """Implements `Store` in one folder; every call reads the newest committed state.

    Safe to use from several threads; transactions of several threads follow one another.

    Args:
        directory: Folder of the library.
        writable: Create what is missing and hold the writer's lock until `close`.

    Raises:
        StoreError: See `siglip_index.open_store`.
    """

    def __init__(self, directory: Path, *, writable: bool) -> None:
        self._directory = Path(directory)
        self._path = self._directory / DATABASE_NAME
        self._resident: dict[tuple[int, str], ResidentIndex] = {}
        self._resident_lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._writing = False
        self._database: Database | None = None
        self._writer_lock: WriterLock | None = None
        refuse_network_file_system(self._directory)
        with explained(self._directory):
            try:
                if writable:
                    self._open_for_writing()
                self._pool = ReaderPool(self._path)
                if writable:
                    space_ids = [row.id for row in self._pool.run(catalogue_read.space_rows)]
                    snapshot.sweep(self._directory, space_ids)
            except BaseException:
                self._release()
                raise

    def _open_for_writing(self) -> None:
        # Imported here: readers start without it.
        from siglip_index.migrations import open_catalogue

        self._directory.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(self._directory)
        lock.acquire()
        self._writer_lock = lock
        self._database = open_catalogue(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """Folder of the library."""
        return self._directory

    @property
    def writable(self) -> bool:
        """True while this store holds the writer's lock."""
        return self._database is not None

    def space_usage(self) -> list[SpaceUsage]:
        """See `Store.space_usage`. The database's own bookkeeping for a vector is left out."""
        rows, vectors = self._read(
            lambda connection: (
                catalogue_read.space_rows(connection),
                catalogue_read.vectors_by_space(connection),
            )
        )
        return [
            SpaceUsage(
                row.space,
                vectors.get(row.id, 0),
                vectors.get(row.id, 0) * row.space.dimension * half_vectors.BYTES_PER_VALUE
                + snapshot.size_bytes(self._directory, row.id),
            )
            for row in rows
        ]

    def files(
        self, root_id: int, under: bytes = b"", *, subfolders: bool = True
    ) -> Iterator[KnownFile]:
        """See `Store.files`. Read in steps, so that no writer has to wait."""
        return catalogue_places.iter_files(
            self._read, root_id, under, subfolders=subfolders, step=_FILES_PER_READ
        )

    def iter_vectors(
        self, space_key: str, batch_size: int = 4096
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """See `Store.iter_vectors`. Ordered by id; each batch is of one committed state."""
        last_id = -1
        while True:
            ids, vectors = self._read(
                partial(
                    catalogue_read.visible_vectors_after,
                    space_key=space_key,
                    photo_id=last_id,
                    limit=batch_size,
                )
            )
            if len(ids) == 0:
                return
            yield ids, vectors
            last_id = int(ids[-1])

    def nearest(
        self,
        space_key: str,
        vectors: NDArray[np.float32],
        k: int,
        where: Where | None = None,
    ) -> list[list[Neighbour]]:
        """See `Store.nearest`."""
        index, only = self._index_and_selection(space_key, where)
        ids, products = index.search(vectors, k, only)
        return [
            _neighbours(row_ids, row_products)
            for row_ids, row_products in zip(ids, products, strict=True)
        ]

    def matches(
        self,
        space_key: str,
        vector: NDArray[np.float32],
        min_cosine: float,
        where: Where | None = None,
    ) -> list[Neighbour]:
        """See `Store.matches`. Best first."""
        index, only = self._index_and_selection(space_key, where)
        return _neighbours(*index.range_search(vector, min_cosine, only))

    def _index_and_selection(
        self, space_key: str, where: Where | None
    ) -> tuple[FaissIndex, NDArray[np.int64] | None]:
        row = self._read(partial(catalogue_read.space_row, key=space_key))
        with explained(self._directory):
            index, _ = self._resident_index(row).current(self._pool)
        if where is None or where.is_empty:
            return index, None
        return index, self._read(partial(selection.selected_ids, where=where))

    def _resident_index(self, row: SpaceRow) -> ResidentIndex:
        # Both, for the number of a space that was dropped can come to mean another.
        key = row.id, row.space.key
        with self._resident_lock:
            if key not in self._resident:
                self._resident[key] = ResidentIndex(self._directory, row)
            return self._resident[key]

    @contextmanager
    def write(self) -> Iterator[StoreWriter]:
        """See `Store.write`. What is read meanwhile is the state before the transaction.

        Raises:
            LibraryAccessError: The store was opened for reading only.
        """
        from siglip_index.catalogue_write import transaction

        with self._write_lock:
            if self._writing:
                raise RuntimeError("a transaction is open already; they do not nest")
            database = self._writable_database()
            self._writing = True
            try:
                # What the caller's own code raises is none of the store's business.
                with explained(self._directory, files=False), transaction(database) as writer:
                    yield writer
            finally:
                self._writing = False

    def _writable_database(self) -> Database:
        if self._database is None:
            raise LibraryAccessError(
                f"the library {self._directory} was opened for reading only",
                hint="Open it for writing.",
            )
        return self._database

    def write_snapshot(self, *, force: bool = False) -> int:
        """Write the snapshot of each space that has changed enough since its last one.

        Enough are 512 changes or 5% of the vectors, whichever is more; and anything at all where
        there is no usable snapshot.

        Args:
            force: Write wherever anything changed.

        Returns:
            How many snapshots were written.

        Raises:
            DiskFullError: There is no room; nothing is lost and the former one stays in force.
        """
        with self._write_lock, explained(self._directory):
            database = self._writable_database()
            rows = self._pool.run(catalogue_read.space_rows)
            due = [
                resident
                for resident in map(self._resident_index, rows)
                if resident.snapshot_is_due(self._pool, force=force)
            ]
            for resident in due:
                resident.write_snapshot(self._pool, database)
            if due:
                snapshot.sweep(self._directory, [row.id for row in rows])
            return len(due)

    def repair(self, broken_vectors: Iterable[tuple[int, int]]) -> None:
        """Delete what contradicts the rest and rebuild every snapshot; for `verify`.

        Args:
            broken_vectors: Space id and photo id of each vector to delete.
        """
        from siglip_index.catalogue_write import repair

        with self._write_lock, explained(self._directory):
            repair(self._writable_database(), broken_vectors)
        with self._resident_lock:
            self._resident.clear()
        self.write_snapshot()

    def compact(self) -> None:
        """Give the room of what was deleted back to the file system.

        The database is written anew, so that for a while its size is needed once more.

        Raises:
            DiskFullError: There is no room for that; nothing is lost, and the space that was freed
                will be used by what comes.
        """
        with self._write_lock, explained(self._directory):
            connection = self._writable_database().conn
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            rows = self._pool.run(catalogue_read.space_rows)
            snapshot.sweep(self._directory, [row.id for row in rows])

    def disk_usage(self) -> dict[str, int]:
        """See `library_folder.disk_usage`."""
        return disk_usage(self._directory)

    def close(self, *, write_snapshot: bool = True) -> None:
        """Write a snapshot if one is due and release files and locks; twice does no harm.

        Args:
            write_snapshot: False to be done at once, as on an interrupt: the next start then
                replays the changes.
        """
        if self._database is not None and write_snapshot:
            try:
                self.write_snapshot()
            except StoreError as error:
                _log.warning("No snapshot was written; the next search takes longer: %s", error)
        self._release()

    def _release(self) -> None:
        pool: ReaderPool | None = getattr(self, "_pool", None)
        if pool is not None:
            pool.close()
        with self._write_lock:
            if self._database is not None:
                self._database.conn.close()
                self._database = None
            if self._writer_lock is not None:
                self._writer_lock.release()
                self._writer_lock = None
        with self._resident_lock:
            self._resident.clear()


def _neighbours(ids: NDArray[np.int64], products: NDArray[np.float32]) -> list[Neighbour]:
    # Half precision can lift the product of a vector with itself a little above 1.
    cosines = np.clip(products, -1.0, 1.0)
    return [
        Neighbour(photo_id, cosine)
        for photo_id, cosine in zip(ids.tolist(), cosines.tolist(), strict=True)
    ]
