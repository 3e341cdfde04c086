"""Verify finds every contradiction, repair puts it right, and neither harms anything else."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stored_samples import SPACE, fill, unit_vectors

from siglip_index import open_store
from siglip_index.errors import CorruptLibraryError, LibraryBusyError, LibraryMissingError
from siglip_index.records import Space
from siglip_index.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 40


@pytest.fixture
def library(tmp_path: Path) -> Path:
    with open_store(tmp_path / "library", writable=True) as store:
        fill(store, COUNT)
    return tmp_path / "library"


def damage(library: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(library / "library.sqlite3")) as connection:
        assert connection.execute(statement, parameters).rowcount > 0
        connection.commit()


def test_whole_library(library: Path) -> None:
    report = verify(library)
    assert report.is_whole
    assert report.problems == report.notes == ()
    assert report.checked == {"photos": COUNT, "files": COUNT, "vectors": COUNT, "snapshots": 1}


def test_empty_library_is_whole(tmp_path: Path) -> None:
    open_store(tmp_path, writable=True).close()
    assert verify(tmp_path).is_whole
    assert verify(tmp_path, repair=True).is_whole


def test_missing_library_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LibraryMissingError):
        verify(tmp_path)


BROKEN = {
    "too short": b"\0" * 10,
    "not finite": np.full(16, np.nan, dtype="<f2").tobytes(),
    "zero": bytes(32),
    "too long": np.ones(16, dtype="<f2").tobytes(),
    "text": "t" * 32,
}


@pytest.mark.parametrize("blob", BROKEN.values(), ids=BROKEN.keys())
def test_broken_vector_is_dropped_and_its_file_read_again(library: Path, blob: object) -> None:
    damage(library, "UPDATE vector SET embedding = ? WHERE photo_id = 7", blob)
    report = verify(library)
    assert [problem.what for problem in report.problems] == ["1 vectors of sample are damaged"]
    with open_store(library, writable=False) as store:
        with pytest.raises(CorruptLibraryError):
            store.vectors(SPACE.key, [7])
        assert len(store.nearest(SPACE.key, unit_vectors(1), 100)[0]) >= COUNT - 1
    repaired = verify(library, repair=True)
    assert repaired.is_whole
    assert [problem.repaired for problem in repaired.problems] == [True]
    assert verify(library).problems == ()
    with open_store(library, writable=True) as store:
        assert store.counts().pictures == COUNT - 1
        assert store.counts().files == COUNT - 1
        (root,) = store.roots()
        (again,) = [file for file in store.files(root.id) if file.photo_id is None]
        assert (again.path, again.failure, again.present) == (b"6.jpg", None, True)
        fill(store, 1, first=6)
        assert store.counts().pictures == COUNT
    assert verify(library).is_whole


def test_broken_vector_of_one_space_leaves_the_photo_with_the_other(library: Path) -> None:
    other = Space("other", 8, "other")
    with open_store(library, writable=True) as store:
        fill(store, COUNT, space=other)
    damage(library, "UPDATE vector SET embedding = x'00' WHERE photo_id = 7 AND space_id = 2")
    assert verify(library, repair=True).is_whole
    with open_store(library, writable=False) as store:
        assert store.counts().pictures == COUNT
        assert 7 in store.photos_in_space(SPACE.key)
        assert 7 not in store.photos_in_space(other.key)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE photo SET vanished_at = 5 WHERE id = 3", "hidden although"),
        ("UPDATE file SET vanished_at = 5 WHERE photo_id = 3", "shown although"),
        ("DELETE FROM file WHERE photo_id = 3", "shown although"),
        ("DELETE FROM vector WHERE photo_id = 3", "no vector at all"),
        ("DELETE FROM photo WHERE id = 3", "belong to no photo"),
        ("DELETE FROM root", "belong to no root"),
        ("UPDATE vector SET space_id = 9 WHERE photo_id = 3", "belong to no space"),
        ("INSERT INTO change VALUES (NULL, 99, 1, 3, 'add')", "newer than the library"),
        ("INSERT INTO change VALUES (NULL, 1, 8, 3, 'add')", "belong to no model space"),
        ("INSERT INTO change VALUES (NULL, 1, 1, 3, 'remove')", "contradict"),
        ("INSERT INTO change VALUES (NULL, 1, 1, 333, 'add')", "contradict"),
        ("UPDATE meta SET value = 77 WHERE key = 'active_space'", "active model space"),
        ("DELETE FROM snapshot", "not made from this state"),
        ("UPDATE space SET log_start = 50", "older than the log"),
        ("UPDATE meta SET value = 0 WHERE key = 'generation'", "newer than the database"),
        ("UPDATE photo SET oldest_mtime_ns = 5 WHERE id = 3", "another time than"),
        ("UPDATE file SET mtime_ns = 5 WHERE photo_id = 3", "another time than"),
        ("INSERT INTO tagged VALUES (NULL, 999, 1, 'words')", "tagged rows belong to no vector"),
        ("INSERT INTO tag VALUES (NULL, 3, 1, 'dog', 0.5)", "tag rows belong to no tagged"),
        ("INSERT INTO record VALUES ('saved', 'a', '{')", "1 records are damaged"),
        ("INSERT INTO record VALUES ('saved', x'ff', '{}')", "1 records are damaged"),
        ("INSERT INTO record VALUES ('saved', 'a', CAST('{}' AS BLOB))", "1 records are damaged"),
    ],
)
def test_contradiction_is_found_and_repaired(library: Path, statement: str, message: str) -> None:
    damage(library, statement)
    report = verify(library)
    assert not report.is_whole
    assert any(message in problem.what for problem in report.problems), report
    repaired = verify(library, repair=True)
    assert repaired.is_whole, repaired
    assert verify(library).problems == ()
    with open_store(library, writable=True) as store:
        (found,) = store.nearest(SPACE.key, unit_vectors(1), 100)
        assert len(found) == store.counts().pictures
        fill(store, COUNT)
        assert store.counts().pictures == COUNT
    assert verify(library).is_whole


@pytest.mark.parametrize("change", ["probability = 3", "probability = 'x'", "label = x'ff'"])
def test_a_photo_with_a_damaged_tag_is_compared_again(library: Path, change: str) -> None:
    with open_store(library, writable=True) as store, store.write() as writer:
        writer.put_tags(SPACE.key, "words", [(3, [("dog", 0.5), ("sea", 0.25)]), (4, [])])
    with closing(sqlite3.connect(library / "library.sqlite3")) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"UPDATE tag SET {change} WHERE label = 'dog'")
    (problem,) = verify(library).problems
    assert problem.what == "1 tags are damaged"
    assert verify(library, repair=True).is_whole
    assert verify(library).problems == ()
    with open_store(library, writable=False) as store:
        assert store.tags(SPACE.key, [3, 4]) == {}
        untagged = store.photos_untagged(SPACE.key, "words")
        assert (3 in untagged, 4 in untagged) == (True, False)


def test_vector_changed_behind_the_stores_back_contradicts_the_snapshot(library: Path) -> None:
    other = unit_vectors(1, seed=9)[0].astype("<f2").tobytes()
    damage(library, "UPDATE vector SET embedding = ? WHERE photo_id = 7", other)
    (problem,) = verify(library).problems
    assert "other vectors than the database" in problem.what
    assert verify(library, repair=True).is_whole
    assert verify(library).problems == ()


def test_repair_does_not_interfere_with_a_writer(library: Path) -> None:
    with open_store(library, writable=True) as store:
        fill(store, 3, first=100)
        with pytest.raises(LibraryBusyError):
            verify(library, repair=True)
        assert verify(library).is_whole
        fill(store, 3, first=200)


def test_other_readers_follow_a_repair(library: Path) -> None:
    with open_store(library, writable=False) as reader:
        assert len(reader.nearest(SPACE.key, unit_vectors(1), 100)[0]) == COUNT
        damage(library, "UPDATE vector SET embedding = x'00' WHERE photo_id = 7")
        verify(library, repair=True)
        found = {n.photo_id for n in reader.nearest(SPACE.key, unit_vectors(1), 100)[0]}
        assert len(found) == COUNT - 1
        assert 7 not in found


def test_verify_beside_a_busy_writer_raises_no_false_alarm(library: Path) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with open_store(library, writable=True) as store:
                first = 1000
                while not stop.is_set():
                    fill(store, 20, first=first)
                    (root,) = store.roots()
                    files = [file.id for file in store.files(root.id)]
                    with store.write() as writer:
                        writer.mark_vanished(files[::7])
                    if first % 60 == 0:
                        store.write_snapshot(force=True)
                        with store.write() as writer:
                            writer.prune(float("inf"))
                    first += 20
        except BaseException as failure:
            failures.append(failure)
            raise

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(15):
            report = verify(library)
            assert report.is_whole, report
    finally:
        stop.set()
        thread.join()
    assert not failures
    assert verify(library).is_whole


def test_rows_without_an_owner_and_damaged_lists_are_found_and_repaired(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 3)
        (root,) = store.roots()
        with store.write() as writer:
            writer.set_online_only(root.id, [b"far.jpg"])
    with closing(sqlite3.connect(tmp_path / "library.sqlite3")) as connection:
        connection.execute(
            "INSERT INTO companion (file_id, path, display, kind, size, mtime_ns, inode)"
            " VALUES (99, x'61', 'a', 'raw', 1, 2, 3)"
        )
        connection.execute("INSERT INTO online_only (root_id, path) VALUES (99, x'61')")
        connection.execute("UPDATE photo SET keywords = '{' WHERE id = 1")
        connection.execute("UPDATE photo SET keywords = '{}', metadata_version = 7 WHERE id = 2")
        connection.execute("UPDATE root SET exclude = ''")
        connection.commit()
    report = verify(tmp_path)
    assert {problem.what for problem in report.problems} == {
        "1 companion rows belong to no file",
        "1 online_only rows belong to no root",
        "2 photos have damaged keywords",
        "1 roots have damaged patterns",
    }
    assert verify(tmp_path, repair=True).is_whole
    assert verify(tmp_path).problems == ()
    with open_store(tmp_path, writable=False) as store:
        assert len(store.photos([1, 2, 3])) == 3
        assert store.photos_with_older_metadata(1) == {1, 2, 3}
        assert store.online_only() == [b"/pictures/far.jpg"]
