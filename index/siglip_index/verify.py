"""Proving that a library is whole: every vector, photo and file, and the snapshots."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siglip_index import catalogue_read, snapshot
from siglip_index.catalogue_check import Findings, check_catalogue
from siglip_index.database import DATABASE_NAME, explained
from siglip_index.errors import CorruptLibraryError
from siglip_index.local_disk import refuse_network_file_system
from siglip_index.lock import is_held
from siglip_index.reader_pool import ReaderPool
from siglip_index.records import Problem, VerifyReport

if TYPE_CHECKING:
    import sqlite3

    from siglip_index.catalogue_read import SpaceRow
    from siglip_index.faiss_index import FaissIndex

_ATTEMPTS = 5


class _SnapshotReplacedError(Exception):
    """A writer replaced a snapshot during the check."""


def verify(directory: Path, *, repair: bool = False) -> VerifyReport:
    """Check the whole library; a writer may be at work meanwhile.

    Args:
        directory: Folder of the library.
        repair: Put right what can be: broken vectors are dropped, so that the next indexing run
            reads their files again; snapshots are rebuilt. Takes the writer's lock.

    Returns:
        What was checked and found. A damaged database is a problem in the report, not an error.

    Raises:
        LibraryMissingError: There is no library.
        NewerLibraryError: A newer version wrote it.
        LibraryBusyError: With repair, another process is writing.
        NetworkFileSystemError: It lies on a network file system.
        LibraryAccessError: The operating system refuses.
        DiskFullError: There is no room for the repair.
    """
    directory = Path(directory)
    refuse_network_file_system(directory)
    found = _examine(directory)
    if repair and found.database_is_readable:
        # Imported here: checking alone needs nothing that writes.
        from siglip_index.local_store import LocalStore

        with LocalStore(directory, writable=True) as store:
            # Examined again behind the lock: what is dropped must be broken now.
            store.repair(_examine(directory).broken_vectors)
        remaining = _examine(directory)
    else:
        remaining = found
    problems = [Problem(what, what not in remaining.problems) for what in found.problems]
    problems += [Problem(what) for what in remaining.problems if what not in found.problems]
    return VerifyReport(remaining.checked, tuple(problems), tuple(remaining.notes))


def _examine(directory: Path) -> Findings:
    try:
        with explained(directory):
            pool = ReaderPool(directory / DATABASE_NAME)
            try:
                return _examine_with(directory, pool)
            finally:
                pool.close()
    except CorruptLibraryError as error:
        return Findings(problems=[f"{error} {error.hint}"], database_is_readable=False)


def _examine_with(directory: Path, pool: ReaderPool) -> Findings:
    for attempt in range(_ATTEMPTS):
        rows = pool.run(catalogue_read.space_rows)
        # Looked at before the database, which is therefore never the older of the two.
        snapshots = [(row, _load(directory, row)) for row in rows]
        findings = pool.run(check_catalogue)
        try:
            _check_snapshots(directory, pool, findings, snapshots)
        except _SnapshotReplacedError:
            if attempt + 1 < _ATTEMPTS:
                continue
            findings.notes.append("a writer kept replacing the snapshots: they were not compared")
        break
    findings.notes += _leftovers(directory, [row.id for row in rows])
    return findings


def _load(directory: Path, row: SpaceRow) -> tuple[FaissIndex, snapshot.Manifest] | str | None:
    try:
        return snapshot.load(directory, row.id, row.space, always_hash=True)
    except snapshot.SnapshotError as error:
        return str(error)


def _check_snapshots(
    directory: Path,
    pool: ReaderPool,
    findings: Findings,
    snapshots: list[tuple[SpaceRow, tuple[FaissIndex, snapshot.Manifest] | str | None]],
) -> None:
    findings.checked["snapshots"] = 0
    for row, loaded in snapshots:
        name = f"the vector snapshot of {row.space.model}"
        if loaded is None:
            if pool.run(partial(catalogue_read.count_visible_in_space, space_id=row.id)):
                findings.notes.append(f"{name} is not there; the next indexing run writes it")
            continue
        findings.checked["snapshots"] += 1
        if isinstance(loaded, str):
            findings.problems.append(f"{name} is damaged: {loaded}")
            continue
        index, manifest = loaded
        broken = {photo_id for space_id, photo_id in findings.broken_vectors if space_id == row.id}
        difference = pool.run(
            partial(_difference, row=row, index=index, manifest=manifest, broken=broken)
        )
        if difference is None:
            continue
        if _manifest_now(directory, row.id) != manifest:
            raise _SnapshotReplacedError
        findings.problems.append(f"{name} {difference}")


def _manifest_now(directory: Path, space_id: int) -> snapshot.Manifest | None:
    try:
        return snapshot.read_manifest(directory, space_id)
    except snapshot.SnapshotError:
        return None


def _difference(
    connection: sqlite3.Connection,
    row: SpaceRow,
    index: FaissIndex,
    manifest: snapshot.Manifest,
    broken: set[int],
) -> str | None:
    """Return how a snapshot contradicts the database, None when it does not.

    Photos that changed since it was made, and those whose vectors are broken, are left out.
    """
    row = catalogue_read.space_row(connection, row.space.key)
    if manifest.generation > catalogue_read.generation(connection):
        return "is newer than the database"
    if manifest.generation < row.log_start:
        return "is older than the log of changes"
    if not catalogue_read.knows_snapshot(connection, row.id, manifest.generation, manifest.sha256):
        return "was not made from this state of the database"
    changes = catalogue_read.changes_since(connection, row.id, manifest.generation)
    left_out = np.array(sorted(broken.union(changes)), dtype=np.int64)
    in_index = index.ids()
    in_index = in_index[~np.isin(in_index, left_out)]
    compared = 0
    for ids, vectors in catalogue_read.usable_vectors(connection, row):
        kept = ~np.isin(ids, left_out)
        try:
            same = np.array_equal(index.vectors(ids[kept]), vectors[kept])
        except LookupError:
            return "lacks photos that are in the database"
        if not same:
            return "has other vectors than the database"
        compared += int(kept.sum())
    if compared != len(in_index):
        return "has photos that are not in the database"
    return None


def _leftovers(directory: Path, space_ids: list[int]) -> list[str]:
    try:
        if not snapshot.leftovers(directory, space_ids) or is_held(directory):
            return []
    except OSError:
        return []  # a read-only medium: nobody can sweep there
    # Listed only now: what a writer had in hand a moment ago is gone or in place.
    return [
        f"{path.name} was left by an interrupted run; the next one deletes it"
        for path in snapshot.leftovers(directory, space_ids)
    ]
