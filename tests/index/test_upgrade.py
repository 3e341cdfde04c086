"""A library of an older format becomes one of today's format, or stays as it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stored_samples import (
    SPACE,
    as_stored,
    file_entry,
    fill,
    new_photo,
    unit_vectors,
    write_older_library,
)

from siglip_index import migrations as migrations_module
from siglip_index import open_store
from siglip_index.backup import copies_before_upgrade, copy_before_upgrade, copy_database
from siglip_index.database import FORMAT_VERSION
from siglip_index.errors import DiskFullError
from siglip_index.library_folder import library_files
from siglip_index.records import Fingerprint, StoreCounts, Where
from siglip_index.verify import verify

if TYPE_CHECKING:
    from small_disks import SmallDisk

    from siglip_index.local_store import LocalStore

every_older_format = pytest.mark.parametrize("version", range(1, FORMAT_VERSION))

UPGRADE = Path(__file__).parents[1] / "crash" / "library_upgrade.py"


def format_of(database: Path) -> int:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def check_content(store: LocalStore, version: int) -> None:
    """Compare with what the maker of the sample of this format wrote."""
    is_first = version == 1
    online = 0 if is_first else 1
    assert store.counts() == StoreCounts(
        pictures=7, files=8, failed=1, vanished=1, online_only=online
    )
    assert store.active_space() == SPACE
    other, pictures = store.roots()
    assert (other.path, other.device, other.volume) == (b"/other \xff", 2**64 - 1, None)
    assert (pictures.path, pictures.device) == (b"/pictures", 42)
    assert (pictures.volume, pictures.exclude) == (
        (None, ()) if is_first else ("ext4:1234", ("*.png",))
    )
    (known,) = store.files(other.id)
    assert (known.path, known.fingerprint) == (
        b"a/\xfe.heic",
        Fingerprint(77, 2**63 + 5, 2**64 - 2),
    )
    assert known.photo_id is not None
    (photo,) = store.photos([known.photo_id])
    assert photo.paths == (b"/other \xff/a/\xfe.heic", b"/pictures/copy.heic")
    assert photo.companions == (() if is_first else (b"/other \xff/a/\xfe.xmp",))
    facts = photo.facts
    assert (facts.format, facts.camera, facts.latitude) == ("HEIF", "Maker Model", -12.5)
    assert (facts.taken_at, facts.taken_source) == ("2021-05-04T13:14:15+02:00", "exif")
    assert (facts.keywords, facts.metadata_version) == (
        ((), 0) if is_first else (("\u00c9t\u00e9", "sea side"), 3)
    )
    assert store.online_only() == [b"/pictures/cloud.jpg"] * online
    assert store.failures() == [(b"/pictures/bad.jpg", "cut off")]
    np.testing.assert_array_equal(
        store.vectors(SPACE.key, [1, 2, 3, 4, 5, 6]), as_stored(unit_vectors(6))
    )
    (found,) = store.nearest(SPACE.key, unit_vectors(1), 100, Where(formats=("JPEG", "HEIF")))
    assert len(found) == 7
    assert len(store.photos_with_older_metadata(1)) == (7 if is_first else 6)
    check_filters(store, photo.id, is_first=is_first)


def check_filters(store: LocalStore, photo_id: int, *, is_first: bool) -> None:
    """Ask what format 3 has indexes and tables for."""
    ids, degrees = store.positions()
    assert (ids.tolist(), degrees.tolist()) == ([photo_id], [[-12.5, 179.0]])
    for where in (
        Where(near=(-12.5, -179.0, 250_000)),
        Where(cameras=("MODEL",), taken_from="2021"),
        Where(changed_from=2e9),
        *([] if is_first else [Where(keywords=("\u00e9T\u00c9", "SEA side"), lenses=("35",))]),
    ):
        assert {n.photo_id for n in store.nearest(SPACE.key, unit_vectors(1), 9, where)[0]} == {
            photo_id
        }
    assert store.moments([photo_id, 8]) == {photo_id: "2021-05-04T13:14:15"}
    assert store.photos_untagged(SPACE.key, "words") == set(range(1, 8))
    assert (store.tags(SPACE.key, [1, 7]), store.tag_counts(SPACE.key)) == ({}, {})
    assert store.records("calibration") == {}
    assert store.nearest(SPACE.key, unit_vectors(1), 9, Where(tags=("dog",))) == [[]]
    assert sorted(store.sample_ids(SPACE.key, 100)) == list(range(1, 8))


@every_older_format
def test_older_library_is_read_as_it_is(tmp_path: Path, version: int) -> None:
    database = write_older_library(tmp_path, version)
    before = database.read_bytes()
    with open_store(tmp_path, writable=False) as store:
        check_content(store, version)
    report = verify(tmp_path)
    assert report.is_whole, report
    assert database.read_bytes() == before
    assert format_of(database) == version


@every_older_format
def test_older_library_on_a_read_only_medium(small_disk: SmallDisk, version: int) -> None:
    library = small_disk.path / "library"
    write_older_library(library, version)
    small_disk.make_read_only()
    with open_store(library, writable=False) as store:
        check_content(store, version)


@every_older_format
def test_writer_brings_it_up_to_date_and_keeps_the_former_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: int
) -> None:
    database = write_older_library(tmp_path, version)
    former = dump(database)
    with open_store(tmp_path, writable=True) as store:
        check_content(store, version)
        fill(store, 3, first=100)
    assert format_of(database) == FORMAT_VERSION
    (copy,) = copies_before_upgrade(tmp_path)
    assert copy.name in caplog.text
    assert dump(copy) == former
    assert verify(tmp_path).is_whole
    # No second copy, and the copy is a library that can be put back.
    open_store(tmp_path, writable=True).close()
    assert copies_before_upgrade(tmp_path) == [copy]
    with open_store(tmp_path, writable=True) as store:
        assert store.disk_usage()["copies"] == copy.stat().st_size
    assert copy in library_files(tmp_path)
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(copy, restored / "library.sqlite3")
    with open_store(restored, writable=False) as store:
        check_content(store, version)


@every_older_format
def test_upgraded_schema_is_that_of_a_new_library(tmp_path: Path, version: int) -> None:
    upgraded = write_older_library(tmp_path / "old", version)
    for name in ("old", "new"):
        open_store(tmp_path / name, writable=True).close()

    def columns(database: Path) -> dict[str, list[object]]:
        with closing(sqlite3.connect(database)) as connection:
            names = [
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type IN ('table', 'index')"
                )
            ]
            return {
                name: connection.execute(f"PRAGMA table_xinfo('{name}')").fetchall()
                for name in names
            }

    assert columns(upgraded) == columns(tmp_path / "new" / "library.sqlite3")


@every_older_format
def test_reader_that_was_there_before_goes_on_reading(tmp_path: Path, version: int) -> None:
    write_older_library(tmp_path, version)
    with open_store(tmp_path, writable=False) as reader:
        check_content(reader, version)
        with open_store(tmp_path, writable=True) as store:
            with store.write() as writer:
                writer.update_facts(1, new_photo(1, unit_vectors(1)[0], title="a new one").facts)
                root = writer.ensure_root(b"/pictures", 42)
                writer.link_files(2, [file_entry(root.id, b"another.jpg")])
            assert store.photos([1])[0].facts.title == "a new one"
            counts = reader.counts()
            assert (counts.pictures, counts.files, counts.vanished) == (7, 9, 1)
            assert reader.photos([1])[0].facts.width == 640
            # It sees what only the newer format can hold.
            assert reader.photos([1])[0].facts.title == "a new one"
            with store.write() as writer:
                writer.put_record("kind", "key", "1")
            assert reader.records("kind") == {"key": "1"}


@every_older_format
def test_upgrade_that_fails_leaves_the_library_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    database = write_older_library(tmp_path, version)
    former = dump(database)
    monkeypatch.setattr(
        migrations_module,
        "_TAGS_RECORDS_AND_FILTERS",
        (*migrations_module._TAGS_RECORDS_AND_FILTERS, "CREATE TABLE nonsense ("),
    )
    with pytest.raises(sqlite3.OperationalError):
        open_store(tmp_path, writable=True)
    assert dump(database) == former
    with open_store(tmp_path, writable=False) as store:
        check_content(store, version)
    monkeypatch.undo()
    with open_store(tmp_path, writable=True) as store:
        check_content(store, version)


@every_older_format
def test_no_room_for_the_copy_leaves_the_library_as_it_was(
    small_disk: SmallDisk, version: int
) -> None:
    library = small_disk.path / "library"
    database = write_older_library(library, version)
    small_disk.fill_up()
    # Room for what WAL mode needs, but not for a copy.
    os.truncate(small_disk.path / "ballast", (small_disk.path / "ballast").stat().st_size - 2**16)
    before = database.read_bytes()
    with pytest.raises(DiskFullError, match="no room to copy") as caught:
        open_store(library, writable=True)
    assert "MiB" in caught.value.hint
    assert database.read_bytes() == before
    assert not list(library.glob("before-upgrade*"))
    with open_store(library, writable=False) as store:
        check_content(store, version)
    small_disk.make_room()
    with open_store(library, writable=True) as store:
        check_content(store, version)


def test_two_copies_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = write_older_library(tmp_path)
    names = []
    for second in range(4):
        monkeypatch.setattr(
            "time.gmtime", lambda second=second: (2026, 1, 2, 3, 4, second, 0, 2, 0)
        )
        names.append(copy_before_upgrade(database, 1).name)
    assert [path.name for path in copies_before_upgrade(tmp_path)] == names[-2:]


def test_copy_is_one_state_while_a_writer_commits(tmp_path: Path) -> None:
    with open_store(tmp_path / "library", writable=True) as store:
        fill(store, 2000)
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(lambda: [fill(store, 20, first=n) for n in range(2000, 2400, 20)])
            for number in range(5):
                folder = tmp_path / str(number)
                folder.mkdir()
                copy_database(tmp_path / "library" / "library.sqlite3", folder / "library.sqlite3")
                assert [path.name for path in folder.iterdir()] == ["library.sqlite3"]
                assert verify(folder).is_whole
            done.result()


def run_upgrade(library: Path, die_at: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(UPGRADE), str(library), str(die_at)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


@every_older_format
@pytest.mark.timeout(240)
def test_killed_at_steps_all_along_an_upgrade(tmp_path: Path, version: int) -> None:
    write_older_library(tmp_path / "counted", version)
    done = run_upgrade(tmp_path / "counted", 0)
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout.split("end ")[1])
    assert steps > 30

    def kill_at(step: int) -> int:
        library = tmp_path / f"library-{step}"
        database = write_older_library(library, version)
        assert run_upgrade(library, step).returncode != 0, f"was not killed at step {step}"
        with open_store(library, writable=False) as store:
            check_content(store, version)
        reached = format_of(database)
        with open_store(library, writable=True) as store:
            check_content(store, version)
        report = verify(library)
        assert report.is_whole, report
        assert not [note for note in report.notes if "interrupted" in note]
        assert 1 <= len(copies_before_upgrade(library)) <= 2
        return reached

    with ThreadPoolExecutor(2) as pool:
        reached = list(pool.map(kill_at, range(1, steps + 1, 7)))
    assert set(reached) == {version, FORMAT_VERSION}
    assert reached == sorted(reached), "there is one moment at which the library is upgraded"
