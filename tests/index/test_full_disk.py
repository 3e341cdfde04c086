"""A full disk costs the transaction at hand and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stored_samples import SPACE, fill, unit_vectors

from siglip_index import open_store
from siglip_index.errors import DiskFullError, StoreError
from siglip_index.records import Space
from siglip_index.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from small_disks import SmallDisk

WIDE = Space("wide", 768, "wide")


def fill_until_full(store: object, first: int = 0) -> int:
    """Write batches until one fails; return how many photos were committed."""
    number = first
    try:
        while True:
            fill(store, 32, first=number, space=WIDE)  # type: ignore[arg-type]
            number += 32
    except DiskFullError as error:
        full = error
    assert "no space is left" in str(full)
    assert "everything committed so far is safe" in full.hint
    return number


def test_store_goes_on_when_there_is_room_again(small_disk: SmallDisk) -> None:
    library = small_disk.path / "library"
    store = open_store(library, writable=True)
    fill(store, 32, space=WIDE)
    small_disk.fill_up()
    committed = fill_until_full(store, 32)
    assert store.counts().pictures == committed
    assert len(store.nearest(WIDE.key, unit_vectors(1, 768), 10_000)[0]) == committed
    assert verify(library).is_whole
    small_disk.make_room()
    fill(store, 32, first=committed, space=WIDE)
    assert store.counts().pictures == committed + 32
    store.close()
    report = verify(library)
    assert report.is_whole
    assert report.checked["photos"] == committed + 32
    assert report.notes == ()


def test_filling_up_batch_by_batch(small_disk: SmallDisk) -> None:
    library = small_disk.path / "library"
    store = open_store(library, writable=True)
    committed = fill_until_full(store)
    assert committed > 200
    assert store.counts().pictures == committed
    store.close()
    assert verify(library).is_whole
    with open_store(library, writable=False) as reader:
        assert len(reader.nearest(WIDE.key, unit_vectors(1, 768), 10_000)[0]) == committed


def test_snapshot_without_room_leaves_the_former_one_and_no_rest(
    small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    library = small_disk.path / "library"
    store = open_store(library, writable=True)
    fill(store, 32, space=WIDE)
    assert store.write_snapshot() == 1
    before = sorted(path.name for path in library.glob("vectors-*"))
    fill(store, 600, first=100, space=WIDE)
    small_disk.fill_up()
    with pytest.raises(DiskFullError):
        store.write_snapshot()
    assert sorted(path.name for path in library.glob("vectors-*")) == before
    assert len(store.nearest(WIDE.key, unit_vectors(1, 768), 10_000)[0]) == 632
    store.close()
    assert "No snapshot was written" in caplog.text
    assert verify(library).is_whole
    small_disk.make_room()
    with open_store(library, writable=True) as store:
        assert len(store.nearest(WIDE.key, unit_vectors(1, 768), 10_000)[0]) == 632
    assert verify(library).is_whole


def test_reading_works_on_a_full_disk(small_disk: SmallDisk) -> None:
    library = small_disk.path / "library"
    with open_store(library, writable=True) as store:
        fill(store, 32)
    small_disk.fill_up()
    with open_store(library, writable=False) as reader:
        assert len(reader.nearest(SPACE.key, unit_vectors(1), 100)[0]) == 32


def test_creating_a_library_on_a_full_disk_is_one_clear_error(small_disk: SmallDisk) -> None:
    small_disk.fill_up()
    with pytest.raises(DiskFullError):
        open_store(small_disk.path / "library", writable=True)
    small_disk.make_room()
    with open_store(small_disk.path / "library", writable=True) as store:
        fill(store, 1)


def test_database_that_may_not_grow_is_a_full_disk_too(tmp_path: Path) -> None:
    """The portable way: SQLite's own limit gives SQLITE_FULL on every platform."""
    with open_store(tmp_path, writable=True) as store:
        fill(store, 32, space=WIDE)
        connection = store._database.conn
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
        with pytest.raises(DiskFullError):
            fill(store, 320, first=32, space=WIDE)
        assert store.counts().pictures == 32
        connection.execute("PRAGMA max_page_count = 1000000")
        fill(store, 320, first=32, space=WIDE)
        assert store.counts().pictures == 352
    assert verify(tmp_path).is_whole


def test_disk_full_is_a_store_error_with_a_hint() -> None:
    error = DiskFullError("full", hint="free some")
    assert isinstance(error, StoreError)
    assert (str(error), error.hint) == ("full", "free some")
