"""The index of one space in memory, brought up to date with the catalogue whenever it is asked."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from siglip_index import catalogue_read, snapshot

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from sqlite_utils import Database

    from siglip_index.catalogue_read import SpaceRow
    from siglip_index.faiss_index import FaissIndex
    from siglip_index.reader_pool import ReaderPool

_log = logging.getLogger(__name__)

MIN_CHANGES = 512
MIN_CHANGED_SHARE = 0.05
_ATTEMPTS = 3


class ResidentIndex:
    """Loads the snapshot, replays what is newer, and rebuilds from the catalogue when it must.

    It holds exactly the visible photos of its space. Safe to use from several threads.

    Args:
        directory: Folder of the library.
        row: The space.
    """

    def __init__(self, directory: Path, row: SpaceRow) -> None:
        self._directory = directory
        self._row = row
        self._lock = threading.Lock()
        self._index: FaissIndex | None = None
        self._generation = -1
        self._snapshot_is_bad = False

    def current(self, pool: ReaderPool) -> tuple[FaissIndex, int]:
        """Return the index, and the generation of the catalogue that it shows at least."""
        with self._lock:
            for attempt in range(_ATTEMPTS):
                # Looked at before the database, which is therefore never the older of the two.
                candidate = self._load_snapshot() if self._index is None else None
                may_rebuild = candidate is None or attempt + 1 == _ATTEMPTS
                bring_up_to_date = partial(
                    self._bring_up_to_date, candidate=candidate, may_rebuild=may_rebuild
                )
                if pool.run(bring_up_to_date, on_torn=self._forget):
                    break
            assert self._index is not None
            return self._index, self._generation

    def snapshot_is_due(self, pool: ReaderPool, *, force: bool) -> bool:
        """Tell whether a new snapshot is worth its time.

        Args:
            pool: For reading the catalogue.
            force: Any change at all is enough.
        """
        try:
            manifest = snapshot.read_manifest(self._directory, self._row.id)
        except snapshot.SnapshotError:
            return True
        count = pool.run(partial(catalogue_read.count_visible_in_space, space_id=self._row.id))
        if manifest is None:
            return count > 0
        if self._snapshot_is_bad or not snapshot.is_untouched(self._directory, manifest):
            return True  # damaged, or restored from a backup and then hashed at every start
        if not pool.run(
            partial(
                catalogue_read.knows_snapshot,
                space_id=self._row.id,
                snapshot_generation=manifest.generation,
                sha256=manifest.sha256,
            )
        ):
            return True
        changes = pool.run(
            partial(
                catalogue_read.count_changes_since,
                space_id=self._row.id,
                since_generation=manifest.generation,
            )
        )
        return changes >= (1 if force else max(MIN_CHANGES, MIN_CHANGED_SHARE * count))

    def write_snapshot(self, pool: ReaderPool, database: Database) -> None:
        """Write the index as it is now; the caller sees to it that nobody commits meanwhile.

        Raises:
            OSError: The former snapshot stays in force then, and nothing of the new one is left.
            sqlite3.Error: As above, but an index file may be left that the next sweep deletes.
        """
        from siglip_index.snapshot_log import record_snapshot, trim_to_snapshot

        index, generation = self.current(pool)
        manifest = snapshot.write_index_file(
            self._directory, self._row.id, self._row.space, index, generation
        )
        # In this order: a manifest is believed only when the database knows its checksum, and
        # the log may be cut only when the manifest is in force.
        record_snapshot(database, self._row.id, generation, manifest.sha256)
        snapshot.write_manifest(self._directory, self._row.id, manifest)
        trim_to_snapshot(database, self._row.id, generation, manifest.sha256)
        self._snapshot_is_bad = False

    def _forget(self) -> None:
        self._index = None
        self._generation = -1

    def _load_snapshot(self) -> tuple[FaissIndex, snapshot.Manifest] | None:
        try:
            return snapshot.load(self._directory, self._row.id, self._row.space)
        except snapshot.SnapshotError as error:
            self._distrust(str(error))
            return None

    def _distrust(self, reason: str) -> None:
        self._snapshot_is_bad = True
        _log.warning("The vector snapshot is rebuilt from the database: %s", reason)

    def _bring_up_to_date(
        self,
        connection: sqlite3.Connection,
        candidate: tuple[FaissIndex, snapshot.Manifest] | None,
        *,
        may_rebuild: bool,
    ) -> bool:
        """Take the candidate or keep what there is, and replay; False to try again."""
        row = catalogue_read.space_row(connection, self._row.space.key)
        generation = catalogue_read.generation(connection)
        if self._index is None and candidate is not None:
            index, manifest = candidate
            if manifest.generation < row.log_start and not may_rebuild:
                return False  # replaced by a newer snapshot in this moment
            if self._fits(connection, manifest, generation, row.log_start):
                self._index, self._generation = index, manifest.generation
        elif self._index is not None and self._generation < row.log_start:
            self._forget()  # another process trimmed the log; its snapshot has the rest
            return False
        if self._index is None:
            self._index = self._rebuild(connection)
        elif self._generation < generation:
            self._replay(connection, self._index)
        self._generation = max(self._generation, generation)
        return True

    def _fits(
        self,
        connection: sqlite3.Connection,
        manifest: snapshot.Manifest,
        generation: int,
        log_start: int,
    ) -> bool:
        if manifest.generation > generation:
            self._distrust("it is newer than the database, which was restored perhaps")
        elif manifest.generation < log_start:
            self._distrust("the changes since it was made are no longer in the log")
        elif not catalogue_read.knows_snapshot(
            connection, self._row.id, manifest.generation, manifest.sha256
        ):
            self._distrust("it was not made from this state of the database")
        else:
            return True
        return False

    def _rebuild(self, connection: sqlite3.Connection) -> FaissIndex:
        from siglip_index.faiss_index import FaissIndex

        index = FaissIndex(self._row.space.dimension)
        for ids, vectors in catalogue_read.usable_vectors(connection, self._row):
            index.add(ids, vectors)
        return index

    def _replay(self, connection: sqlite3.Connection, index: FaissIndex) -> None:
        changes = catalogue_read.changes_since(connection, self._row.id, self._generation)
        if not changes:
            return
        added = [photo_id for photo_id, kind in changes.items() if kind == "add"]
        batches = list(catalogue_read.usable_vectors(connection, self._row, added))
        nothing = np.empty((0, self._row.space.dimension), dtype=np.float32)
        index.apply(
            np.fromiter(changes, dtype=np.int64, count=len(changes)),
            np.concatenate([np.empty(0, dtype=np.int64), *(ids for ids, _ in batches)]),
            np.concatenate([nothing, *(vectors for _, vectors in batches)]),
        )
