"""What is particular to the local store: threads, readers beside a writer, closing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stored_samples import SPACE, as_stored, fill, unit_vectors

from siglip_index import open_store
from siglip_index.errors import LibraryAccessError, LibraryBusyError
from siglip_index.library_folder import delete_library, library_files
from siglip_index.records import Space
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WRITER = """
import sys, pathlib
sys.path[:0] = sys.argv[2:]
from siglip_index import open_store
from stored_samples import fill
with open_store(pathlib.Path(sys.argv[1]), writable=True) as store:
    for first in range(0, 3200, 64):
        fill(store, 64, first=first)
        print(first + 64, flush=True)
        if first % 640 == 0:
            store.write_snapshot(force=True)
"""


def in_threads(count: int, work: Callable[[int], None]) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_reader_beside_a_writing_process_sees_every_commit_at_once(tmp_path: Path) -> None:
    open_store(tmp_path, writable=True).close()
    vectors = as_stored(unit_vectors(64))
    with (
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), *sys.path],
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        open_store(tmp_path, writable=False) as reader,
    ):
        assert process.stdout is not None
        slowest_s = 0.0
        for line in process.stdout:
            committed = int(line)
            start = time.perf_counter()
            (found,) = reader.nearest(SPACE.key, vectors[:1], 100_000)
            slowest_s = max(slowest_s, time.perf_counter() - start)
            assert len(found) >= committed
            ids = [neighbour.photo_id for neighbour in found[:100]]
            assert len(reader.photos(ids)) == len(ids)
            assert reader.counts().pictures >= len(ids)
        assert process.wait() == 0
        assert len(reader.nearest(SPACE.key, vectors[:1], 100_000)[0]) == 3200
    assert slowest_s < 5, "a reader had to wait for the writer"
    assert verify(tmp_path).is_whole


def test_one_store_in_many_threads(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 10)

        def work(number: int) -> None:
            for step in range(10):
                if number < 2:
                    fill(store, 8, first=1000 * (number + 1) + 8 * step)
                else:
                    (found,) = store.nearest(SPACE.key, unit_vectors(1), 1000)
                    assert len(found) >= 10
                    assert len(list(store.iter_vectors(SPACE.key, batch_size=7))) > 1
                    assert store.counts().pictures >= 10

        in_threads(6, work)
        assert store.counts().pictures == 170
        assert len(store.nearest(SPACE.key, unit_vectors(1), 1000)[0]) == 170
    assert verify(tmp_path).is_whole


def test_transactions_do_not_nest(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 1)

        def nested() -> None:
            with store.write(), store.write():
                pass

        with pytest.raises(RuntimeError, match="do not nest"):
            nested()
        fill(store, 1, first=5)
        assert store.counts().pictures == 2


def test_reading_within_a_transaction_sees_the_state_before_it(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 2)
        (root,) = store.roots()
        with store.write() as writer:
            writer.mark_vanished([file.id for file in store.files(root.id)])
            assert store.counts().pictures == 2
        assert store.counts().pictures == 0


def test_interrupt_rolls_back(tmp_path: Path) -> None:
    def interrupted() -> None:
        with store.write() as writer:
            writer.drop_root(1)
            raise KeyboardInterrupt

    with open_store(tmp_path, writable=True) as store:
        fill(store, 2)
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert store.counts().pictures == 2
        fill(store, 1, first=7)


def test_closed_store_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    store = open_store(tmp_path, writable=True)
    store.close()
    store.close()
    with pytest.raises(sqlite3.ProgrammingError):
        store.counts()
    with pytest.raises(LibraryAccessError), store.write():
        pass


def test_generation_grows_with_changes_only(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 2)
        before = store.generation()
        with store.write():
            pass
        assert store.generation() == before
        fill(store, 1, first=9)
        assert store.generation() == before + 1
        store.write_snapshot(force=True)
        assert store.generation() == before + 1


def test_disk_usage_counts_database_and_snapshots(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        assert store.disk_usage()["snapshots"] == 0
        fill(store, 100)
        store.write_snapshot()
        usage = store.disk_usage()
        assert store.writable
        assert store.directory == tmp_path
    assert usage["snapshots"] > 100 * SPACE.dimension * 2
    assert usage["database"] > 8192


def test_write_ahead_log_is_gone_after_closing(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 500)
        assert (tmp_path / "library.sqlite3-wal").stat().st_size > 0
    assert not (tmp_path / "library.sqlite3-wal").exists()


def test_photos_come_in_the_order_asked_for_with_repeats(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        ids = fill(store, 2000)
        wanted = [ids[1500], ids[3], 10**9, ids[1500], np.int64(ids[0])]
        assert [photo.id for photo in store.photos(wanted)] == [
            ids[1500],
            ids[3],
            ids[1500],
            ids[0],
        ]
        np.testing.assert_array_equal(
            store.vectors(SPACE.key, ids[::-1]), as_stored(unit_vectors(2000))[::-1]
        )
        assert len(list(store.files(store.roots()[0].id))) == 2000


def test_deleting_a_library_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 3)
    with open_store(tmp_path, writable=False) as reader:
        assert reader.counts().pictures == 3  # leaves "-wal" and "-shm" behind
    for name in ("vectors-1-3-abc.faiss.tmp", "vectors-of-mine.json", "picture.jpg"):
        (tmp_path / name).touch()
    names = {path.name for path in library_files(tmp_path)}
    assert {"library.sqlite3", "vectors-1.json", "vectors-1-3-abc.faiss.tmp"} <= names
    delete_library(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"vectors-of-mine.json", "picture.jpg"}
    delete_library(tmp_path)
    delete_library(tmp_path / "nowhere")
    assert library_files(tmp_path) == []


def test_library_that_is_being_written_is_not_deleted(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 3)
        with pytest.raises(LibraryBusyError):
            delete_library(tmp_path)
        assert store.counts().pictures == 3
    assert verify(tmp_path).is_whole


def test_room_of_a_dropped_space_goes_back_to_the_disk(tmp_path: Path) -> None:
    wide = Space("wide", 1024, "wide")
    with open_store(tmp_path, writable=True) as store:
        fill(store, 300)
        fill(store, 300, space=wide)
        store.write_snapshot(force=True)
        before = sum(store.disk_usage().values())
        with store.write() as writer:
            assert writer.drop_space(wide.key) == 300
        store.compact()
        after = sum(store.disk_usage().values())
        # Half precision, in the database and in the snapshot.
        assert before - after > 0.9 * 2 * 300 * 1024 * 2
        assert [path.name for path in tmp_path.glob("vectors-2*")] == []
    assert verify(tmp_path).is_whole
