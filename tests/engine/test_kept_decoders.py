"""Decoding processes that stay from one small run to the next."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from siglip_search import demo
from siglip_search.engine.kept_decoders import MOST_KEPT, MOST_SECONDS, KeptDecoders
from siglip_search.engine.kept_towers import KeptTowers
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.towers.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siglip_search.ingest.pipeline import Decoders

SMALL = Preprocessor((32, 32), "squash", "bilinear")
OTHER = Preprocessor((48, 48), "squash", "bilinear")
LIMITS = DecodeLimits()


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(clock: Clock) -> Iterator[KeptDecoders]:
    decoders = KeptDecoders(clock)
    yield decoders
    decoders.unload()


def pictures() -> list[bytes]:
    return [bytes(path) for path in sorted(demo.gallery_directory().rglob("*.jpg"))[:4]]


def used(decoders: Decoders) -> set[int]:
    """Read a few pictures as a run does, and return the processes that did it."""
    for future in [decoders.decode(path) for path in pictures()]:
        assert future.result(30).pixels.shape[-1] == 3
    found = processes(decoders)
    decoders.close(cancel=True)
    decoders.close(cancel=True)
    return found


def processes(decoders: Decoders) -> set[int]:
    pool = getattr(decoders, "_kept", None)
    return {worker._process.pid for worker in (pool.pool if pool else decoders)._workers}  # type: ignore[attr-defined]


def test_a_run_finds_the_processes_of_the_one_before(kept: KeptDecoders) -> None:
    first = used(kept.lend(SMALL, 1, LIMITS))
    assert used(kept.lend(Preprocessor((32, 32), "squash", "bilinear"), 2, LIMITS)) >= first


def test_another_tower_other_limits_or_much_time_take_new_ones(
    kept: KeptDecoders, clock: Clock
) -> None:
    first = used(kept.lend(SMALL, 2, LIMITS))
    second = used(kept.lend(OTHER, 2, LIMITS))
    third = used(kept.lend(OTHER, 2, DecodeLimits(max_seconds=7.0)))
    clock.now += MOST_SECONDS
    fourth = used(kept.lend(OTHER, 2, DecodeLimits(max_seconds=7.0)))
    assert len(first | second | third | fourth) == sum(map(len, (first, second, third, fourth)))


def test_what_is_free_may_change_a_little(kept: KeptDecoders) -> None:
    def limits(mebibytes: int) -> DecodeLimits:
        return DecodeLimits(shared_memory_bytes=mebibytes * 2**20)

    first = used(kept.lend(SMALL, 2, limits(1000)))
    assert used(kept.lend(SMALL, 2, limits(1200))) == first
    assert used(kept.lend(SMALL, 2, limits(800))) == first
    # One picture alone shares nothing.
    assert used(kept.lend(SMALL, 1, limits(600))) == first
    assert not used(kept.lend(SMALL, 2, limits(600))) & first


def test_where_memory_is_for_one_picture_there_is_one_at_a_time(
    kept: KeptDecoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve, lock = DecodePool._serve, threading.Lock()
    now, most = 0, 0

    def watched(pool: DecodePool, *arguments: Any) -> Any:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        try:
            return serve(pool, *arguments)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(DecodePool, "_serve", watched)
    used(kept.lend(SMALL, 1, LIMITS))
    assert most == 1
    used(kept.lend(SMALL, 2, LIMITS))
    assert most == 2
    most = 0
    used(kept.lend(SMALL, 1, LIMITS))
    assert most == 1


def test_processes_are_let_go_though_no_tower_is_open(kept: KeptDecoders) -> None:
    assert not kept.is_warm
    used(kept.lend(SMALL, 1, LIMITS))
    assert kept.is_warm
    kept.unload()
    assert not kept.is_warm
    towers = KeptTowers()
    used(towers.decoders(SMALL, workers=1, limits=LIMITS))
    assert towers.is_warm
    towers.unload()
    assert not towers.is_warm


def test_a_process_that_died_while_it_waited_is_replaced(kept: KeptDecoders) -> None:
    first = used(kept.lend(SMALL, 2, LIMITS))
    for pid in first:
        os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    assert not used(kept.lend(SMALL, 2, LIMITS)) & first


def test_what_is_unfinished_ends_with_its_run(kept: KeptDecoders) -> None:
    decoders = kept.lend(SMALL, 2, LIMITS)
    futures = [decoders.decode(path) for path in pictures() * 500]
    futures[0].result(30)
    first = processes(decoders)
    decoders.close(cancel=True)
    assert all(future.done() for future in futures)
    assert not used(kept.lend(SMALL, 2, LIMITS)) & first


def test_large_runs_have_their_own_and_keep_none(kept: KeptDecoders) -> None:
    first = used(kept.lend(SMALL, 2, LIMITS))
    large = used(kept.lend(SMALL, MOST_KEPT + 1, LIMITS))
    assert not first & large
    assert used(kept.lend(SMALL, 2, LIMITS)) == first


def test_unloading_ends_them(kept: KeptDecoders) -> None:
    first = used(kept.lend(SMALL, 2, LIMITS))
    kept.unload()
    assert not used(kept.lend(SMALL, 2, LIMITS)) & first
