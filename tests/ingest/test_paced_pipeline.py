"""The pipeline asks its pace: never more in work than it says, nothing begun in a pause."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from siglip_index import open_store
from siglip_index.records import Space
from siglip_search.ingest.bookkeeping import record_without_reading
from siglip_search.ingest.pipeline import Pipeline
from siglip_search.ingest.plan import RootPlan, plan_changes
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.scan import ScanRules, scan
from siglip_search.towers.failover import Embedded
from siglip_search.towers.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.ingest.report import IngestReport

SPACE = Space(key="k", dimension=3, model="m")
PICTURES = 12


class CountingTower:
    """Knows how many pictures were embedded at the same time, and when each began."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self.begun: list[float] = []
        self._at_once = 0
        self._lock = threading.Lock()

    def embed_with_provenance(self, pixels: NDArray[np.uint8]) -> Embedded:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.begun.append(time.monotonic())
        time.sleep(0.05)
        with self._lock:
            self._at_once -= 1
        return Embedded(np.array([[1.0, 0.0, 0.0]], np.float32), "fp32", "cpu")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., IngestReport]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(folder / f"{number}.png")

    def run(
        tower: CountingTower, pace: Callable[[], int], stop: threading.Event | None = None
    ) -> IngestReport:
        with open_store(tmp_path / "library", writable=True) as store:
            with store.write() as writer:
                writer.ensure_space(SPACE)
                root = writer.ensure_root(bytes(folder), None)
            scanned = scan(bytes(folder), ScanRules())
            plans = [RootPlan(root, plan_changes([], scanned, embedded=set()))]
            prepare = Preprocessor(image_size=(8, 8), resize="squash", resample="bicubic")
            return Pipeline(
                store,
                SPACE,
                tower,
                DecodePool(prepare, workers=2, limits=DecodeLimits(), min_side=16),
                record_without_reading(store, plans),
                decode_workers=2,
                embed_threads=4,
                stop=stop or threading.Event(),
                pace=pace,
            ).run(plans)

    return run


def test_no_more_in_work_than_the_pace_allows(run: Callable[..., IngestReport]) -> None:
    tower = CountingTower()
    assert run(tower, lambda: 1).embedded == PICTURES
    assert tower.most_at_once == 1


def test_a_pause_begins_nothing_and_its_end_loses_nothing(
    run: Callable[..., IngestReport],
) -> None:
    tower = CountingTower()
    paused_from = [0.0]

    def pace() -> int:
        if len(tower.begun) < 4:
            return 2
        paused_from[0] = paused_from[0] or time.monotonic()
        return 0 if time.monotonic() - paused_from[0] < 1.5 else 2

    assert run(tower, pace).embedded == PICTURES
    # Two at most were in work when the pause began; a moment for them to get to the tower.
    quiet = [t for t in tower.begun if paused_from[0] + 1.0 < t < paused_from[0] + 1.5]
    assert quiet == []
    assert sum(t > paused_from[0] + 1.5 for t in tower.begun) >= PICTURES - 4 - 2


def test_a_stop_in_a_pause_is_obeyed_at_once(run: Callable[..., IngestReport]) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.5, stop.set)
    timer.start()
    started = time.monotonic()
    report = run(CountingTower(), lambda: 0, stop)
    timer.join()
    assert time.monotonic() - started < 3
    assert (report.pending, report.embedded, report.stopped) == (PICTURES, 0, True)
