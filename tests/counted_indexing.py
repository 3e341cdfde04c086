"""Indexing with a tower that counts: scan, plan, decoding processes and store are the real ones.

The processes are started once, because a hundred starts would take minutes.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from siglip_index import open_store
from siglip_search import demo
from siglip_search.engine import kept_decoders, kept_towers
from siglip_search.engine.indexing import IndexListener, IndexOptions, index_paths
from siglip_search.engine.kept_towers import NewTowers
from siglip_search.engine.looks import look_at
from siglip_search.engine.relocation import RootPlaces
from siglip_search.ingest import metadata_pass
from siglip_search.models.model_folder import load_model_folder
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.towers.failover import Embedded
from siglip_search.towers.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.ingest.report import IngestReport
    from siglip_search.photos.settling import Look

SPEC = load_model_folder(demo.model_directory())


class CountingTower:
    """Embeds a picture as its few pixels, and counts how often it saw each."""

    precision = "fp32"
    device = "cpu"
    preprocessor = Preprocessor(image_size=(4, 4), resize="squash", resample="bicubic")
    seen: dict[bytes, int]

    def __init__(self, *_: Any, **__: Any) -> None:
        self._lock = threading.Lock()

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if pixels.shape[1:3] == (4, 4):
            with self._lock:
                content = pixels.tobytes()
                CountingTower.seen[content] = CountingTower.seen.get(content, 0) + 1
        mean = pixels.mean(axis=(1, 2), dtype=np.float64) + 1.0
        vectors = np.zeros((len(pixels), SPEC.dimension), np.float32)
        vectors[:, :3] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors

    def embed_with_provenance(self, pixels: NDArray[np.uint8]) -> Embedded:
        return Embedded(self.embed(pixels), self.device, self.precision)


@contextmanager
def shared_processes() -> Iterator[None]:
    """Let every run use this tower and the same decoding processes."""
    pool = DecodePool(CountingTower.preprocessor, workers=2, limits=DecodeLimits(), min_side=16)
    close = pool.close
    pool.close = lambda *, cancel=False: None  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        for module in (kept_decoders, metadata_pass):
            patch.setattr(module, "DecodePool", lambda *_, **__: pool)
        patch.setattr(kept_towers, "VisionTower", CountingTower)
        yield
    close()


def run_index(library: Path, paths: Sequence[Path]) -> IngestReport:
    with open_store(library, writable=True) as store:
        RootPlaces(store, library).recognise()
        options = IndexOptions(jobs=2, on_battery="run")
        report = index_paths(
            store, SPEC, paths, options, stop=threading.Event(), listener=IndexListener()
        )
        RootPlaces(store, library).remember()
        return report


def run_looks(library: Path, looks: Sequence[Look]) -> IngestReport:
    with open_store(library, writable=True) as store:
        options = IndexOptions(jobs=2, on_battery="run")
        return look_at(
            store,
            SPEC,
            looks,
            options,
            stop=threading.Event(),
            listener=IndexListener(),
            towers=NewTowers(),
        )
