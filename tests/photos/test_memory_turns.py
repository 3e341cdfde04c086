"""Large pictures among small ones when memory is short: none is lost, and the large ones wait."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import wait
from typing import TYPE_CHECKING

import pytest
from photos import photo_preparers as preparers
from photos.drawn_pictures import quarters

from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.memory_turns import MemoryTurns

if TYPE_CHECKING:
    from pathlib import Path

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' limit of memory")


@LINUX_ONLY
def test_a_picture_that_needs_more_than_its_share_is_decoded_alone(tmp_path: Path) -> None:
    quarters(8000, 8000).save(tmp_path / "large.png", compress_level=1)  # 192 MB of pixels
    quarters(32, 8).save(tmp_path / "small.png")
    limits = DecodeLimits(max_seconds=60, shared_memory_bytes=64 * 1024**2)
    names = ["small.png", "large.png", "small.png", "large.png", "small.png", "small.png"]
    with DecodePool(preparers.nothing, workers=3, limits=limits, min_side=None) as pool:
        futures = [pool.decode(os.fsencode(tmp_path / name)) for name in names]
        wait(futures, timeout=120)
        widths = [future.result().facts.width for future in futures]
    assert widths == [32, 8000, 32, 8000, 32, 32]


@LINUX_ONLY
def test_one_that_needs_too_much_even_alone_is_a_failure(tmp_path: Path) -> None:
    quarters(8000, 8000).save(tmp_path / "large.png", compress_level=1)
    limits = DecodeLimits(
        max_seconds=60, max_memory_bytes=96 * 1024**2, shared_memory_bytes=64 * 1024**2
    )
    with DecodePool(preparers.nothing, workers=2, limits=limits, min_side=None) as pool:
        error = pool.decode(os.fsencode(tmp_path / "large.png")).exception(timeout=60)
    assert str(error) == "needs more than 0.0938 GiB of memory"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_decoder_that_crashes_is_tried_once_more_alone_and_then_blamed(tmp_path: Path) -> None:
    quarters(preparers.KILLS_ITSELF, 8).save(tmp_path / "deadly.png")
    limits = DecodeLimits(max_seconds=60, shared_memory_bytes=256 * 1024**2)
    with DecodePool(preparers.misbehave, workers=1, limits=limits, min_side=None) as pool:
        error = pool.decode(os.fsencode(tmp_path / "deadly.png")).exception(timeout=60)
    assert str(error) == "the decoder crashed (SIGKILL)"


def test_who_is_alone_is_alone_and_nobody_waits_for_ever() -> None:
    turns = MemoryTurns()
    inside: set[str] = set()
    seen: list[set[str]] = []
    guard = threading.Lock()

    def visit(name: str) -> None:
        for _ in range(50):
            with turns.alone() if name.startswith("alone") else turns.shared():
                with guard:
                    inside.add(name)
                    seen.append(set(inside))
                time.sleep(0.0005)
                with guard:
                    inside.discard(name)

    names = ["alone 1", "alone 2", "shared 1", "shared 2", "shared 3"]
    threads = [threading.Thread(target=visit, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(seen) == 250
    assert all(len(group) == 1 for group in seen if any("alone" in name for name in group))
    assert any(len(group) > 1 for group in seen)
