"""When a run stops for a snapshot: seldom, and never for a large part of its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from siglip_index import open_store
from siglip_index.errors import DiskFullError
from siglip_index.records import NewPhoto, PhotoFacts, Space
from siglip_search.engine.snapshots_amid_run import (
    MIN_SECONDS_BETWEEN,
    PAUSE_SHARE,
    SnapshotsAmidRun,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from siglip_index.protocol import Store


class SlowStore:
    """Takes so many seconds of a made-up clock for each snapshot."""

    def __init__(self, cost: float, *, fails: bool = False) -> None:
        self.now = 0.0
        self.written: list[float] = []
        self._cost = cost
        self._fails = fails

    def clock(self) -> float:
        return self.now

    def write_snapshot(self) -> int:
        self.written.append(self.now)
        self.now += self._cost
        if self._fails:
            raise DiskFullError("the disk is full", hint="Make room.")
        return 1


def run(store: SlowStore, seconds: float) -> None:
    snapshots = SnapshotsAmidRun(cast("Store", store), store.clock)
    while store.now < seconds:
        store.now += 5.0
        snapshots.after_commit()


def test_a_short_run_writes_none() -> None:
    store = SlowStore(0.1)
    run(store, MIN_SECONDS_BETWEEN - 10.0)
    assert store.written == []


def test_a_quick_one_once_a_minute() -> None:
    store = SlowStore(0.1)
    run(store, 3600.0)
    gaps = np.diff(store.written)
    assert gaps.min() >= MIN_SECONDS_BETWEEN
    assert len(store.written) > 50


def test_a_slow_one_takes_a_hundredth_of_the_time() -> None:
    store = SlowStore(10.0)
    run(store, 10 * 3600.0)
    assert np.diff(store.written).min() >= PAUSE_SHARE * 10.0
    assert len(store.written) * 10.0 <= 1.01 * 10 * 3600.0 / PAUSE_SHARE + 10.0


def test_a_full_disk_does_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    store = SlowStore(0.1, fails=True)
    run(store, 200.0)
    assert len(store.written) >= 2
    assert "No snapshot was written" in caplog.text


def test_a_reader_that_starts_amid_the_run_finds_the_snapshot(tmp_path: Path) -> None:
    space = Space(key="k", dimension=4, model="m")
    now = [0.0]
    with open_store(tmp_path, writable=True) as store:
        snapshots = SnapshotsAmidRun(store, lambda: now[0])
        with store.write() as writer:
            writer.ensure_space(space)
            root = writer.ensure_root(b"/pictures", None)
            photo = writer.add_photo(space.key, new_photo())
            writer.link_files(photo, [entry(root.id)])
        before = set(tmp_path.rglob("*"))
        now[0] = MIN_SECONDS_BETWEEN
        snapshots.after_commit()
        assert any(path.suffix == ".faiss" for path in set(tmp_path.rglob("*")) - before)
        with open_store(tmp_path, writable=False) as reader:
            assert len(reader.nearest(space.key, np.eye(1, 4, dtype=np.float32), 1)[0]) == 1


def new_photo() -> NewPhoto:
    return NewPhoto(
        content_hash=bytes(32),
        facts=PhotoFacts(width=1, height=1, format="PNG"),
        vector=np.eye(1, 4, dtype=np.float32)[0],
        precision="fp32",
        device="cpu",
    )


def entry(root_id: int) -> Any:
    from siglip_index.records import FileEntry, Fingerprint

    return FileEntry(root_id=root_id, path=b"a.png", fingerprint=Fingerprint(1, 1), device=None)
