"""Snapshots save time and are never believed against the database."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stored_samples import SPACE, as_stored, fill, unit_vectors

from siglip_index import open_store, snapshot
from siglip_index.errors import UnknownSpaceError
from siglip_index.faiss_index import FaissIndex
from siglip_index.library_folder import library_files
from siglip_index.records import Space
from siglip_index.resident_index import MIN_CHANGES
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COUNT = 300


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library of 300 photos with a snapshot."""
    with open_store(tmp_path / "library", writable=True) as store:
        fill(store, COUNT)
    return tmp_path / "library"


def index_file(library: Path) -> Path:
    (path,) = library.glob("vectors-*.faiss")
    return path


def manifest_file(library: Path) -> Path:
    return snapshot.manifest_path(library, 1)


def answers_are_right(library: Path, count: int = COUNT) -> bool:
    """Tell whether a fresh reader finds each of three photos by its own vector."""
    with open_store(library, writable=False) as store:
        (found,) = store.nearest(SPACE.key, unit_vectors(1), count + 10)
        vectors = unit_vectors(COUNT)[[0, 17, COUNT - 1]]
        nearest = store.nearest(SPACE.key, vectors, 1)
        exact = [min(as_stored(vector) @ vector, 1.0) for vector in vectors]
        return len(found) == count and [row[0].cosine for row in nearest] == pytest.approx(
            exact, abs=1e-5
        )


def rebuilds(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "rebuilt" in record.getMessage()]


def test_untouched_snapshot_is_used_as_it_is(
    library: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("hashed or added")

    monkeypatch.setattr(snapshot.hashlib, "sha256", refuse)
    monkeypatch.setattr(FaissIndex, "add", refuse)
    assert answers_are_right(library)
    assert not rebuilds(caplog)


def test_copied_library_is_hashed_and_then_used(
    library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(library, tmp_path / "copy")
    os.utime(index_file(tmp_path / "copy"), ns=(1, 1))
    assert answers_are_right(tmp_path / "copy")
    assert not rebuilds(caplog)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5] ^= 4  # in the manifest within the first key
    path.write_bytes(content)


def append_garbage(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"garbage")


def all_garbage(path: Path) -> None:
    path.write_bytes(random.Random(4).randbytes(len(path.read_bytes())))


@pytest.mark.parametrize(
    "damage", [cut_off, empty, flip_a_bit, append_garbage, all_garbage, os.unlink]
)
@pytest.mark.parametrize("which", [index_file, manifest_file])
def test_damaged_snapshot_is_rebuilt_with_a_warning_and_replaced_by_the_next_writer(
    library: Path,
    damage: Callable[[Path], None],
    which: Callable[[Path], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = which(library)
    damage(path)
    assert answers_are_right(library)
    gone = damage is os.unlink and which is manifest_file
    assert len(rebuilds(caplog)) == (0 if gone else 1)
    assert verify(library).is_whole == gone
    open_store(library, writable=True).close()
    assert verify(library).is_whole
    caplog.clear()
    assert answers_are_right(library)
    assert not rebuilds(caplog)


def test_bit_flips_anywhere_never_change_an_answer(library: Path) -> None:
    path = index_file(library)
    whole = path.read_bytes()
    for place in random.Random(1).sample(range(len(whole)), 20):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        assert answers_are_right(library)


def rewrite_manifest(library: Path, **changes: object) -> None:
    path = manifest_file(library)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"dimension": 17},
        {"space_key": "another"},
        {"count": COUNT - 1},
        {"generation": 10**6},
        {"generation": 0},
        {"sha256": "0" * 64},
        {"file": "../secret"},
        {"file": None},
        {"format": 2},
        {"size": "many"},
        {"surplus": 1},
    ],
)
def test_manifest_that_does_not_fit_is_not_believed(
    library: Path, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    rewrite_manifest(library, **changes)
    assert answers_are_right(library)
    assert len(rebuilds(caplog)) == 1
    assert not verify(library).is_whole
    assert verify(library, repair=True).is_whole
    assert verify(library).problems == ()


def test_index_of_another_dimension_under_a_right_checksum_is_refused(library: Path) -> None:
    other = FaissIndex(8)
    other.add(np.arange(COUNT, dtype=np.int64), unit_vectors(COUNT, 8))
    manifest = snapshot.write_index_file(library, 1, SPACE, other, 1)
    snapshot.write_manifest(library, 1, manifest)
    assert answers_are_right(library)


def test_snapshot_of_another_history_is_refused(library: Path, tmp_path: Path) -> None:
    """A database restored from a backup meets the files of what happened since."""
    shutil.copy(library / "library.sqlite3", tmp_path / "backup")
    with open_store(library, writable=True) as store:
        fill(store, 5, first=1000)
        store.write_snapshot(force=True)
    shutil.copy(tmp_path / "backup", library / "library.sqlite3")
    with open_store(library, writable=True) as store:
        for first in (2000, 2001, 2002):  # the generation passes that of the snapshot
            fill(store, 1, first=first)
        store.close(write_snapshot=False)
    assert answers_are_right(library, COUNT + 3)
    open_store(library, writable=True).close()
    assert verify(library).is_whole


def test_newer_rows_are_replayed(library: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = index_file(library)
    with open_store(library, writable=True) as store:
        fill(store, 10, first=1000)
        (root,) = store.roots()
        with store.write() as writer:
            writer.mark_vanished([file.id for file in store.files(root.id)][50:60])
    assert index_file(library) == before, "20 changes are not enough for a new one"
    assert answers_are_right(library, COUNT)
    assert not rebuilds(caplog)
    assert verify(library).is_whole


def test_last_change_of_a_photo_counts(library: Path) -> None:
    with open_store(library, writable=True) as store:
        (root,) = store.roots()
        files = list(store.files(root.id))
        with store.write() as writer:
            writer.mark_vanished([file.id for file in files])
        with store.write() as writer:
            writer.refresh_files([(file.id, file.fingerprint, None) for file in files[:-2]])
        store.close(write_snapshot=False)
    with open_store(library, writable=False) as reader:
        assert len(reader.nearest(SPACE.key, unit_vectors(1), 1000)[0]) == COUNT - 2


def test_snapshot_is_written_when_enough_has_changed_and_the_log_is_cut(library: Path) -> None:
    before = index_file(library)
    with open_store(library, writable=True) as store:
        fill(store, MIN_CHANGES - 1, first=1000)
        assert store.write_snapshot() == 0
        fill(store, 1, first=5000)
        assert store.write_snapshot() == 1
        assert store.write_snapshot(force=True) == 0, "nothing has changed since"
        log = store._database.conn.execute("SELECT count(*) FROM change").fetchone()
    assert log == (0,)
    assert index_file(library) != before
    assert not before.exists()
    assert json.loads(manifest_file(library).read_text())["count"] == COUNT + MIN_CHANGES


def test_reader_whose_changes_were_cut_from_the_log_loads_the_new_snapshot(library: Path) -> None:
    with (
        open_store(library, writable=False) as reader,
        open_store(library, writable=True) as writer,
    ):
        assert len(reader.nearest(SPACE.key, unit_vectors(1), 1000)[0]) == COUNT
        fill(writer, 20, first=1000)
        writer.write_snapshot(force=True)
        fill(writer, 20, first=2000)
        assert len(reader.nearest(SPACE.key, unit_vectors(1), 1000)[0]) == COUNT + 40


def test_snapshots_of_two_spaces_do_not_mix(library: Path) -> None:
    other = Space("other", 16, "other")
    with open_store(library, writable=True) as store:
        fill(store, 50, space=other)
    assert len(list(library.glob("vectors-*.faiss"))) == 2
    first, second = (snapshot.manifest_path(library, number) for number in (1, 2))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with open_store(library, writable=False) as store:
        assert len(store.nearest(SPACE.key, unit_vectors(1), 1000)[0]) == COUNT
        assert len(store.nearest(other.key, unit_vectors(1), 1000)[0]) == 50
        with pytest.raises(UnknownSpaceError):
            store.nearest("third", unit_vectors(1), 1)


def test_leftovers_of_a_crash_are_noted_and_swept(library: Path) -> None:
    (library / "vectors-1-9-abc.faiss.tmp").write_bytes(b"half")
    (library / "vectors-1-9-abcdef.faiss").write_bytes(b"unnamed")
    report = verify(library)
    assert report.is_whole
    assert len(report.notes) == 2
    with open_store(library, writable=True):
        assert verify(library).notes == ()
    assert len(list(library.glob("vectors-*"))) == 2


def test_interrupted_run_may_skip_the_snapshot(tmp_path: Path) -> None:
    store = open_store(tmp_path, writable=True)
    fill(store, 5)
    store.close(write_snapshot=False)
    store.close()
    assert not list(tmp_path.glob("vectors-*"))
    report = verify(tmp_path)
    assert report.is_whole
    assert "next indexing run" in report.notes[0]


def test_warning_goes_to_the_log_of_the_package(
    library: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off(index_file(library))
    with caplog.at_level(logging.WARNING, logger="siglip_index"):
        assert answers_are_right(library)
    assert caplog.records[0].name.startswith("siglip_index")


def test_files_of_a_person_are_never_swept(library: Path) -> None:
    theirs = [
        "draft.tmp",
        "vectors-of-mine.json",
        "vectors-1.tmp",
        "restore-mine.tmp",
        "scan.faiss",
    ]
    for name in theirs:
        (library / name).write_text("mine")
    assert verify(library).notes == ()
    open_store(library, writable=True).close()
    assert [name for name in theirs if not (library / name).exists()] == []


def test_whatever_a_kill_can_leave_is_swept(library: Path) -> None:
    names = [
        "vectors-1.json.tmp",
        "space-probe-7.tmp",
        "before-upgrade-format-01-20260101T000000Z.sqlite3.tmp",
        "damaged-20260101-000000-library.sqlite3-wal.tmp",
    ]
    for name in names:
        (library / name).write_bytes(b"half")
    (library / "restore-0123abcd.tmp").mkdir()
    (library / "restore-0123abcd.tmp" / "library.sqlite3").write_bytes(b"half")
    assert len(verify(library).notes) == 5
    assert set(names) < {path.name for path in library_files(library)}
    with open_store(library, writable=True):
        assert verify(library).notes == ()
    assert not list(library.glob("*.tmp"))
