"""The pipeline with a real store, real decoding processes and a tower made for the test."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ingest.killing_preparer import MarksItsPictures
from PIL import Image

from siglip_index import open_store
from siglip_index.records import Space
from siglip_search.errors import DeviceError, ModelError
from siglip_search.ingest import work
from siglip_search.ingest.bookkeeping import record_without_reading
from siglip_search.ingest.pipeline import Pipeline
from siglip_search.ingest.plan import RootPlan, plan_changes
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.scan import ScanRules, scan
from siglip_search.towers.failover import Embedded
from siglip_search.towers.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_index.local_store import LocalStore
    from siglip_search.ingest.report import Committed, IngestReport

SPACE = Space(key="means", dimension=3, model="means")


class MeanColourTower:
    """Embeds a picture as the direction of its mean colour."""

    def __init__(self, before_embedding: Callable[[int], None] = lambda _: None) -> None:
        self.embedded = 0
        self._before_embedding = before_embedding
        self._lock = threading.Lock()

    def embed_with_provenance(self, pixels: NDArray[np.uint8]) -> Embedded:
        with self._lock:
            self.embedded += 1
            number = self.embedded
        self._before_embedding(number)
        mean = pixels.mean(axis=(1, 2), dtype=np.float64) + 1.0
        vectors = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
        return Embedded(vectors, "fp32", "cpu")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with open_store(tmp_path / "library", writable=True) as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        Image.new("RGB", (20, 20), (number * 6, 255 - number * 6, 40)).save(
            folder / f"{number}.bmp"
        )
    return folder


def ingest(
    store: LocalStore,
    folder: Path,
    tower: MeanColourTower,
    *,
    stop: threading.Event | None = None,
    on_commit: Callable[[Committed], None] = lambda _: None,
) -> IngestReport:
    with store.write() as writer:
        writer.ensure_space(SPACE)
        root = writer.ensure_root(bytes(folder), None)
    plan = plan_changes(
        store.files(root.id),
        scan(bytes(folder), ScanRules()),
        embedded=store.photos_in_space(SPACE.key),
    )
    plans = [RootPlan(root, plan)]
    prepare = Preprocessor(image_size=(8, 8), resize="squash", resample="bicubic")
    pool = DecodePool(prepare, workers=2, limits=DecodeLimits(), min_side=16)
    return Pipeline(
        store,
        SPACE,
        tower,
        pool,
        record_without_reading(store, plans),
        decode_workers=2,
        embed_threads=2,
        stop=stop or threading.Event(),
        on_commit=on_commit,
    ).run(plans)


def test_vectors_are_those_of_the_pictures(store: LocalStore, folder: Path) -> None:
    ingest(store, folder, MeanColourTower())
    colour = np.array([[1.0, 1.0, 1.0]], np.float32)
    colour[0] = np.array([39 * 6, 255 - 39 * 6, 40]) + 1.0
    colour /= np.linalg.norm(colour)
    (nearest,) = store.nearest(SPACE.key, colour, 1)
    assert nearest[0].cosine == pytest.approx(1.0, abs=1e-3)
    assert store.photos([nearest[0].photo_id])[0].paths == (bytes(folder / "39.bmp"),)


def test_a_batch_is_told_only_after_it_can_be_read_by_others(
    store: LocalStore, folder: Path, tmp_path: Path
) -> None:
    told: set[bytes] = set()

    def check(committed: Committed) -> None:
        told.update(committed.paths)
        with open_store(tmp_path / "library", writable=False) as reader:
            (root,) = reader.roots()
            there = {bytes(folder / file.path.decode()) for file in reader.files(root.id)}
        assert told <= there

    assert ingest(store, folder, MeanColourTower(), on_commit=check).added == 40
    assert len(told) == 40


def test_commits_come_after_so_many_pictures(store: LocalStore, folder: Path) -> None:
    sizes: list[int] = []
    ingest(store, folder, MeanColourTower(), on_commit=lambda batch: sizes.append(len(batch.paths)))
    assert sum(sizes) == 40
    assert max(sizes) <= work.BATCH_PICTURES


def test_commits_come_after_so_many_seconds(
    store: LocalStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "BATCH_SECONDS", 0.1)
    sizes: list[int] = []
    tower = MeanColourTower(before_embedding=lambda _: time.sleep(0.05))
    ingest(store, folder, tower, on_commit=lambda batch: sizes.append(len(batch.paths)))
    assert sum(sizes) == 40
    assert len(sizes) >= 4


def test_stop_commits_what_is_computed_and_counts_the_rest(store: LocalStore, folder: Path) -> None:
    stop = threading.Event()
    tower = MeanColourTower(before_embedding=lambda number: stop.set() if number == 5 else None)
    report = ingest(store, folder, tower, stop=stop)
    assert report.stopped
    assert 5 <= report.added < 40
    assert report.added + report.pending == 40
    assert store.counts().pictures == report.added
    again = ingest(store, folder, MeanColourTower())
    assert again.unchanged == report.added
    assert again.added == 40 - report.added


def test_failing_tower_stops_the_run_but_loses_no_vector(store: LocalStore, folder: Path) -> None:
    def fail_at_ten(number: int) -> None:
        if number == 10:
            raise ModelError("the tower broke")

    with pytest.raises(ModelError, match="broke"):
        ingest(store, folder, MeanColourTower(before_embedding=fail_at_ten))
    assert store.counts().pictures >= 9
    assert ingest(store, folder, MeanColourTower()).seen == 40


def test_a_failing_device_stops_the_run_and_every_file_is_accounted_for(
    store: LocalStore, folder: Path
) -> None:
    def fail_from_ten_on(number: int) -> None:
        if number >= 10:
            raise DeviceError("the NPU broke", hint="Mend it.")

    told: list[int] = []
    with pytest.raises(DeviceError, match="the NPU broke; embedded in this run") as caught:
        ingest(
            store,
            folder,
            MeanColourTower(before_embedding=fail_from_ten_on),
            on_commit=lambda committed: told.append(committed.embedded),
        )
    kept = store.counts().pictures
    assert kept == sum(told) == 9
    assert str(caught.value).endswith("and kept: 9; left for the next: 31")
    assert caught.value.hint == "Mend it."
    assert ingest(store, folder, MeanColourTower()).added == 31


def test_file_that_goes_away_meanwhile_is_not_accounted_for(
    store: LocalStore, folder: Path
) -> None:
    def delete_the_oldest(number: int) -> None:
        if number == 1:
            oldest.unlink()

    oldest = min(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    report = ingest(store, folder, MeanColourTower(before_embedding=delete_the_oldest))
    assert report.failed == 0
    assert report.added == report.seen == 39


def test_copies_in_one_run_are_embedded_once_whatever_the_timing(
    store: LocalStore, folder: Path
) -> None:
    content = (folder / "0.bmp").read_bytes()
    for number in range(30):
        (folder / f"copy-{number}.bmp").write_bytes(content)
    tower = MeanColourTower(before_embedding=lambda _: time.sleep(0.002))
    report = ingest(store, folder, tower)
    assert tower.embedded == 40
    assert (report.added, report.copies, report.embedded) == (70, 30, 40)


def test_unreadable_file_is_tried_again_in_the_next_run(store: LocalStore, folder: Path) -> None:
    loop = folder / "loop.bmp"
    report = ingest(store, folder, MeanColourTower())
    assert report.failed == 0
    loop.write_bytes(b"BM not really")
    assert ingest(store, folder, MeanColourTower()).failed == 1
    # Known to be bad: skipped, and still told.
    again = ingest(store, folder, MeanColourTower())
    assert [failure.path for failure in again.failures] == [bytes(loop)]
    assert not again.failures[0].try_again


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_picture_that_kills_its_process_three_times_is_quarantined(
    store: LocalStore, tmp_path: Path
) -> None:
    folder, notes = tmp_path / "shots", tmp_path / "notes"
    folder.mkdir()
    notes.mkdir()
    for name, width in (("always.bmp", 11), ("twice.bmp", 13), ("never.bmp", 20)):
        Image.new("RGB", (width, 20), (width * 9, 1, 2)).save(folder / name)
    committed: list[bytes] = []
    for _ in range(2):  # the second run leaves it alone
        with store.write() as writer:
            writer.ensure_space(SPACE)
            root = writer.ensure_root(bytes(folder), None)
        scanned = scan(root.path, ScanRules())
        ids = store.photos_in_space(SPACE.key)
        plan = plan_changes(list(store.files(root.id)), scanned, embedded=ids)
        plans = [RootPlan(root, plan)]
        pipeline = Pipeline(
            store,
            SPACE,
            MeanColourTower(),
            DecodePool(MarksItsPictures(notes), workers=1, limits=DecodeLimits(), min_side=4),
            record_without_reading(store, plans),
            decode_workers=1,
            embed_threads=1,
            stop=threading.Event(),
            on_commit=lambda batch: committed.extend(batch.paths),
        )
        report = pipeline.run(plans)
        (failure,) = report.failures
        assert failure.path == bytes(folder / "always.bmp")
        assert failure.reason == "quarantined: the decoder crashed (SIGKILL), 3 times"
        assert not failure.try_again
    assert sorted(committed) == [bytes(folder / "never.bmp"), bytes(folder / "twice.bmp")]
    assert len(list(notes.iterdir())) == 3


def test_picture_that_takes_too_long_is_not_waited_for_again(
    store: LocalStore, tmp_path: Path
) -> None:
    folder, notes = tmp_path / "shots", tmp_path / "notes"
    folder.mkdir()
    notes.mkdir()
    for name, width in (("endless.bmp", 17), ("quick.bmp", 20)):
        Image.new("RGB", (width, 20), (width * 9, 1, 2)).save(folder / name)
    with store.write() as writer:
        writer.ensure_space(SPACE)
        root = writer.ensure_root(bytes(folder), None)
    plans = [RootPlan(root, plan_changes([], scan(root.path, ScanRules())))]
    limits = DecodeLimits(max_seconds=1.0)
    pipeline = Pipeline(
        store,
        SPACE,
        MeanColourTower(),
        DecodePool(MarksItsPictures(notes), workers=1, limits=limits, min_side=4),
        record_without_reading(store, plans),
        decode_workers=1,
        embed_threads=1,
        stop=threading.Event(),
    )
    report = pipeline.run(plans)
    (failure,) = report.failures
    assert failure.path == bytes(folder / "endless.bmp")
    assert not failure.reason.startswith("quarantined")
    assert report.added == 1
    assert len(list(notes.iterdir())) == 1
