"""Libraries that may be read but not written: other media, other users."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stored_samples import SPACE, fill, unit_vectors

from siglip_index import open_store
from siglip_index.errors import LibraryAccessError, LibraryMissingError
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from small_disks import SmallDisk


def found(store: object) -> int:
    return len(store.nearest(SPACE.key, unit_vectors(1), 10_000)[0])  # type: ignore[attr-defined]


def leave_a_wal(library: Path, photos: int) -> None:
    """Write a library as a killed writer would leave it: the last commits in the WAL only."""
    source = library.parent / "still-open"
    with open_store(source, writable=True) as store:
        fill(store, photos)
        library.mkdir()
        for path in source.iterdir():
            if path.name != "library.sqlite3-shm":
                shutil.copy(path, library)
    shutil.rmtree(source)
    assert (library / "library.sqlite3-wal").stat().st_size > 0


def test_library_on_a_read_only_medium(small_disk: SmallDisk) -> None:
    library = small_disk.path / "library"
    with open_store(library, writable=True) as store:
        fill(store, 20)
    for path in library.glob("*-wal"), library.glob("*-shm"):
        assert not list(path)
    small_disk.make_read_only()
    with open_store(library, writable=False) as reader:
        assert found(reader) == 20
        assert reader.counts().pictures == 20
        with pytest.raises(LibraryAccessError, match="reading only"), reader.write():
            pass
    assert verify(library).is_whole
    with pytest.raises(LibraryAccessError):
        open_store(library, writable=True)


def test_commits_left_in_the_wal_are_not_passed_over(small_disk: SmallDisk) -> None:
    library = small_disk.path / "library"
    leave_a_wal(library, 20)
    small_disk.make_read_only()
    before = set(Path(tempfile.gettempdir()).glob("library-*"))
    with open_store(library, writable=False) as reader:
        assert found(reader) == 20
        assert reader.counts().pictures == 20
    assert verify(library).is_whole
    assert set(Path(tempfile.gettempdir()).glob("library-*")) == before
    small_disk.make_writable()
    with open_store(library, writable=True) as store:
        assert found(store) == 20


def test_wal_that_is_empty_is_no_hindrance(small_disk: SmallDisk) -> None:
    library = small_disk.path / "library"
    with open_store(library, writable=True) as store:
        fill(store, 20)
    (library / "library.sqlite3-wal").touch()
    small_disk.make_read_only()
    with open_store(library, writable=False) as reader:
        assert found(reader) == 20


def test_reader_of_another_user_notices_what_the_owner_writes(
    public_folder: Path, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    """Without the right to make WAL files the database is opened as immutable, but watched."""
    library = public_folder / "library"
    with open_store(library, writable=True) as store:
        fill(store, 20)
    with as_nobody():
        reader = open_store(library, writable=False)
        assert "immutable" in reader._pool._source.uri
        assert found(reader) == 20
    with open_store(library, writable=True) as store:
        fill(store, 30, first=100)
        with as_nobody():
            assert found(reader) == 50
            assert reader.counts().pictures == 50
        fill(store, 600, first=1000)
    with as_nobody():
        assert found(reader) == 650
        reader.close()


def test_folder_that_may_not_be_entered_is_one_clear_error(
    public_folder: Path, as_nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    library = public_folder / "library"
    with open_store(library, writable=True) as store:
        fill(store, 1)
    (library / "library.sqlite3").chmod(0o600)
    with as_nobody():
        with pytest.raises(LibraryAccessError, match="library") as caught:
            open_store(library, writable=False)
        assert "permissions" in caught.value.hint
        with pytest.raises(LibraryAccessError):
            open_store(public_folder / "new", writable=True)


def test_nothing_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LibraryMissingError, match="no library") as caught:
        open_store(tmp_path / "nothing", writable=False)
    assert "Index a folder" in caught.value.hint
    assert not (tmp_path / "nothing").exists()


def test_library_that_was_never_finished_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "library.sqlite3").touch()
    with pytest.raises(LibraryMissingError):
        open_store(tmp_path, writable=False)
    connection = sqlite3.connect(tmp_path / "library.sqlite3")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    with pytest.raises(LibraryMissingError):
        open_store(tmp_path, writable=False)
    with open_store(tmp_path, writable=True) as store:
        fill(store, 1)


def test_library_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "library").write_text("a file")
    with pytest.raises(LibraryAccessError):
        open_store(tmp_path / "library", writable=True)
    with pytest.raises((LibraryAccessError, LibraryMissingError)):
        open_store(tmp_path / "library", writable=False)


@pytest.mark.parametrize("name", ["with space?#%20", "gr\u00fcn \u30ab", "a\udcff\udcfe"])
def test_folder_of_any_name(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).mkdir()
    except (OSError, UnicodeError):
        pytest.skip("this file system does not take the name")
    with open_store(tmp_path / name / "library", writable=True) as store:
        fill(store, 5)
    with open_store(tmp_path / name / "library", writable=False) as reader:
        assert found(reader) == 5
    assert verify(tmp_path / name / "library").is_whole
