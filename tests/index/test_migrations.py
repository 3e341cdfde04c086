"""Databases of other versions, other programs, and none at all."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlite_utils import Database
from stored_samples import fill

from siglip_index import database as database_module
from siglip_index import open_store
from siglip_index.database import FORMAT_VERSION, PAGE_SIZE_BYTES
from siglip_index.errors import CorruptLibraryError, NewerLibraryError
from siglip_index.migrations import migrations
from siglip_index.verify import verify

if TYPE_CHECKING:
    from pathlib import Path


def test_new_library_has_the_settings_that_durability_needs(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        connection = store._database.conn
        settings = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "page_size", "user_version")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "page_size": PAGE_SIZE_BYTES,
        "user_version": FORMAT_VERSION,
    }


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        open_store(tmp_path, writable=True).close()
    with closing(sqlite3.connect(tmp_path / "library.sqlite3")) as connection:
        names = connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id").fetchall()
    assert [name for (name,) in names] == [
        "create_first_schema",
        "add_metadata_companions_and_volumes",
        "add_tags_records_and_filter_indexes",
    ]


def test_migration_that_fails_leaves_an_empty_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from siglip_index import migrations as migrations_module

    monkeypatch.setattr(
        migrations_module,
        "_FIRST_SCHEMA",
        (*migrations_module._FIRST_SCHEMA, "CREATE TABLE nonsense ("),
    )
    with pytest.raises(sqlite3.OperationalError):
        open_store(tmp_path, writable=True)
    with closing(sqlite3.connect(tmp_path / "library.sqlite3")) as connection:
        assert Database(connection).table_names() == []
        assert migrations.pending(Database(connection))
    monkeypatch.undo()
    with open_store(tmp_path, writable=True) as store:
        fill(store, 1)
    assert verify(tmp_path).is_whole


@pytest.mark.parametrize("writable", [True, False])
def test_newer_library_is_not_touched(tmp_path: Path, writable: bool) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 3)
    path = tmp_path / "library.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(NewerLibraryError, match=f"format {FORMAT_VERSION + 1}") as caught:
        open_store(tmp_path, writable=writable)
    assert "Update the program" in caught.value.hint
    with pytest.raises(NewerLibraryError):
        verify(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("writable", [True, False])
def test_database_of_another_program_is_refused(tmp_path: Path, writable: bool) -> None:
    path = tmp_path / "library.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE books (title)")
    before = path.read_bytes()
    with pytest.raises(CorruptLibraryError, match="another program") as caught:
        open_store(tmp_path, writable=writable)
    assert "another folder" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("writable", [True, False])
def test_what_is_no_database_is_refused(tmp_path: Path, writable: bool) -> None:
    (tmp_path / "library.sqlite3").write_bytes(random.Random(1).randbytes(50_000))
    with pytest.raises(CorruptLibraryError, match="damaged") as caught:
        open_store(tmp_path, writable=writable)
    assert "backup" in caught.value.hint
    report = verify(tmp_path)
    assert not report.is_whole
    assert "backup" in report.problems[0].what
    assert not verify(tmp_path, repair=True).is_whole


def test_lock_is_free_again_after_a_refused_opening(tmp_path: Path) -> None:
    path = tmp_path / "library.sqlite3"
    path.write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(CorruptLibraryError):
        open_store(tmp_path, writable=True)
    path.unlink()
    open_store(tmp_path, writable=True).close()


def test_pages_overwritten_in_the_middle_are_reported_not_raised(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 500)
    path = tmp_path / "library.sqlite3"
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // PAGE_SIZE_BYTES, 2):
        start = page * PAGE_SIZE_BYTES
        content[start : start + 64] = random.Random(page).randbytes(64)
    path.write_bytes(content)
    assert not verify(tmp_path).is_whole
    with open_store(tmp_path, writable=False) as store, pytest.raises(CorruptLibraryError):
        list(store.iter_vectors("space-a"))


def test_format_check_needs_no_writing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "empty.sqlite3")) as connection:
        database_module.check_format(connection, tmp_path / "empty.sqlite3", may_be_empty=True)
    assert (tmp_path / "empty.sqlite3").stat().st_size == 0
