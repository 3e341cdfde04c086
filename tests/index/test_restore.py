"""Backups are whole, and a restore leaves either library whole."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from stored_samples import SPACE, fill, unit_vectors, write_older_library

from siglip_index import open_store, restore
from siglip_index.database import DATABASE_NAME, FORMAT_VERSION
from siglip_index.errors import (
    CorruptLibraryError,
    DiskFullError,
    LibraryAccessError,
    LibraryBusyError,
    LibraryMissingError,
    NewerLibraryError,
)
from siglip_index.restore import examine_backup, restore_backup, write_backup
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from small_disks import SmallDisk


@pytest.fixture
def library(tmp_path: Path) -> Path:
    with open_store(tmp_path / "library", writable=True) as store:
        fill(store, 60)
    return tmp_path / "library"


@pytest.fixture
def backup(library: Path, tmp_path: Path) -> Path:
    return write_backup(library, tmp_path / "backup.sqlite3").path


def pictures(library: Path) -> int:
    assert verify(library).is_whole
    with open_store(library, writable=False) as store:
        found = len(store.nearest(SPACE.key, unit_vectors(1), 1000)[0])
        assert found == store.counts().pictures
        return found


def test_backup_is_one_file_and_says_what_is_in_it(library: Path, backup: Path) -> None:
    found = examine_backup(backup)
    assert (found.format, found.pictures) == (FORMAT_VERSION, 60)
    assert found.disk_bytes == backup.stat().st_size
    assert sorted(path.name for path in library.parent.iterdir()) == ["backup.sqlite3", "library"]


def test_backup_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LibraryMissingError):
        write_backup(tmp_path / "none", tmp_path / "backup")
    assert not list(tmp_path.iterdir())


def test_damaged_library_gives_no_backup(library: Path, tmp_path: Path) -> None:
    damage(library / DATABASE_NAME)
    target = tmp_path / "backup"
    target.write_text("former")
    with pytest.raises(CorruptLibraryError, match=f"{library} is damaged: no backup was made"):
        write_backup(library, target)
    assert target.read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "library"]


def damage(database: Path) -> None:
    content = bytearray(database.read_bytes())
    middle = len(content) // 8192 // 2 * 8192
    content[middle : middle + 8192] = b"\xa5" * 8192
    database.write_bytes(content)


def test_open_reader_sees_the_restored_library(library: Path, backup: Path) -> None:
    with open_store(library, writable=True) as store:
        fill(store, 40, first=60)
    with open_store(library, writable=False) as reader:
        assert len(reader.nearest(SPACE.key, unit_vectors(1), 1000)[0]) == 100
        done = restore_backup(backup, library)
        assert (done.counts.pictures, done.replaced, done.repaired) == (60, True, ())
        assert len(reader.nearest(SPACE.key, unit_vectors(1), 1000)[0]) == 60
        assert reader.counts().pictures == 60
    assert pictures(library) == 60
    assert not list(library.glob("*.tmp"))


def test_restore_without_a_library_makes_one(backup: Path, tmp_path: Path) -> None:
    done = restore_backup(backup, tmp_path / "elsewhere" / "library")
    assert not done.replaced
    assert pictures(tmp_path / "elsewhere" / "library") == 60
    with open_store(tmp_path / "elsewhere" / "library", writable=True) as store:
        fill(store, 5, first=60)
    assert pictures(tmp_path / "elsewhere" / "library") == 65


@pytest.mark.parametrize("broken", ["a page", "everything", "nothing is left"])
def test_damaged_library_is_replaced(library: Path, backup: Path, broken: str) -> None:
    database = library / DATABASE_NAME
    if broken == "a page":
        damage(database)
    else:
        database.write_bytes(b"garbage" * 4096 if broken == "everything" else b"")
    (library / f"{DATABASE_NAME}-wal").write_bytes(b"another's log" * 99)
    assert restore_backup(backup, library).replaced
    assert pictures(library) == 60
    assert not list(library.glob("*.tmp"))


def no_database(path: Path) -> None:
    path.write_text("no database at all, but long enough to be taken for one" * 100)


def other_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photo (vanished_at)")
        connection.commit()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")


def dangling(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM photo WHERE id = 1")
        connection.commit()


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8192)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (no_database, CorruptLibraryError),
        (other_program, CorruptLibraryError),
        (newer, NewerLibraryError),
        (damage, CorruptLibraryError),
        (dangling, CorruptLibraryError),
        (cut_off, CorruptLibraryError),
        (lambda path: path.unlink(), LibraryAccessError),
    ],
)
def test_what_is_no_sound_backup_changes_nothing(
    library: Path, backup: Path, spoil: Callable[[Path], None], error: type[Exception]
) -> None:
    spoil(backup)
    before = sorted(path.name for path in library.iterdir())
    with pytest.raises(error, match="backup") as caught:
        restore_backup(backup, library)
    assert caught.value.hint  # type: ignore[attr-defined]
    assert sorted(path.name for path in library.iterdir()) == before
    assert pictures(library) == 60


def test_broken_vectors_of_a_backup_are_mended(library: Path, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("UPDATE vector SET embedding = zeroblob(32) WHERE id = 7")
        connection.commit()
    done = restore_backup(backup, library)
    assert done.repaired
    assert all(problem.repaired for problem in done.repaired)
    assert pictures(library) == 59


def test_library_of_a_newer_program_is_left_alone(library: Path, backup: Path) -> None:
    newer(library / DATABASE_NAME)
    with pytest.raises(NewerLibraryError):
        restore_backup(backup, library)
    with closing(sqlite3.connect(library / DATABASE_NAME)) as connection:
        assert connection.execute("SELECT count(*) FROM photo").fetchone() == (60,)


def test_writer_keeps_a_restore_away(library: Path, backup: Path) -> None:
    with open_store(library, writable=True), pytest.raises(LibraryBusyError):
        restore_backup(backup, library)
    assert pictures(library) == 60


@pytest.mark.parametrize("intact", [True, False])
def test_failure_at_the_last_step_leaves_the_former_library(
    library: Path, backup: Path, intact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = library / DATABASE_NAME
    if not intact:
        damage(database)
    before = database.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    name = "sync_directory" if not intact else "_put_in_place"
    monkeypatch.setattr(restore, name, refuse)
    with pytest.raises(LibraryAccessError):
        restore_backup(backup, library)
    monkeypatch.undo()
    assert not list(library.glob("restore-*"))
    if intact:
        assert pictures(library) == 60
    else:
        assert database.read_bytes() == before


def test_leftovers_of_a_killed_restore_go_with_the_next(library: Path, backup: Path) -> None:
    (library / "restore-12345678.tmp").mkdir()
    (library / "restore-12345678.tmp" / DATABASE_NAME).write_bytes(b"half")
    restore_backup(backup, library)
    assert not list(library.glob("restore-*"))
    assert pictures(library) == 60


def test_older_backup_is_restored_without_a_copy_that_would_not_stay(
    library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = write_older_library(tmp_path / "older")
    assert restore_backup(older, library).counts.pictures > 0
    assert "is kept in" not in caplog.text
    assert examine_backup(library / DATABASE_NAME).format == FORMAT_VERSION
    assert verify(library).is_whole


def test_library_on_a_read_only_medium_can_be_backed_up(
    small_disk: SmallDisk, tmp_path: Path
) -> None:
    library = small_disk.path / "library"
    with open_store(library, writable=True) as store:
        fill(store, 20)
    small_disk.make_read_only()
    assert write_backup(library, tmp_path / "safe").pictures == 20
    assert restore_backup(tmp_path / "safe", tmp_path / "elsewhere").counts.pictures == 20


def test_full_disk_of_the_backup_is_not_called_the_librarys(
    library: Path, small_disk: SmallDisk
) -> None:
    small_disk.fill_up()
    with pytest.raises(DiskFullError, match=r"left on the disk of the backup .*/disk/safe$"):
        write_backup(library, small_disk.path / "safe")
    assert [path.name for path in small_disk.path.iterdir()] == ["ballast"]


def test_folder_in_the_databases_place_is_called_one(library: Path, backup: Path) -> None:
    (library / DATABASE_NAME).unlink()
    (library / DATABASE_NAME).mkdir()
    (library / DATABASE_NAME / "mine").touch()
    for attempt in (
        lambda: open_store(library, writable=False),
        lambda: open_store(library, writable=True),
        lambda: restore_backup(backup, library),
        lambda: write_backup(library, library.parent / "other"),
    ):
        with pytest.raises(LibraryAccessError, match="is a folder"):
            attempt()
    assert (library / DATABASE_NAME / "mine").exists()
