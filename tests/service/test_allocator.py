"""The C library's heaps: in processes of their own, for a process can be told only once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from installed_command import CommandLine

from siglip_search import demo
from siglip_search.search.question import Question
from siglip_search.service import allocator
from siglip_search.service.allocator import MOST_HEAPS, Heaps
from siglip_search.service.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HAS_GLIBC = Heaps()._libc is not None
needs_glibc = pytest.mark.skipif(not HAS_GLIBC, reason="only glibc has such heaps")

# The heaps of threads begin at multiples of this, on 64-bit systems; the first has another place.
THREAD_HEAP_BYTES = 64 * 2**20

MANY_THREADS = """
import ctypes, threading
from pathlib import Path
from siglip_search.service.allocator import Heaps
Heaps().keep_few()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(17)
def allocate():
    libc.malloc(ctypes.c_size_t(10_000))
    together.wait()
    together.wait()
for _ in range(16):
    threading.Thread(target=allocate).start()
together.wait()
print(Path("/proc/self/maps").read_text())
together.wait()
"""


def heaps_in(maps: str) -> int:
    """Count the heaps in a process's map of its memory."""
    starts = [line.split("-")[0] for line in maps.splitlines() if " rw-p 00000000 00:00 0" in line]
    return 1 + sum(int(start, 16) % THREAD_HEAP_BYTES == 0 for start in starts)


def heaps_of_many_threads(environment: Mapping[str, str]) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MANY_THREADS],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return heaps_in(done.stdout)


@needs_glibc
def test_threads_share_heaps_unless_the_user_has_said_how_many() -> None:
    assert heaps_of_many_threads({"MALLOC_ARENA_MAX": "", "GLIBC_TUNABLES": ""}) <= MOST_HEAPS
    assert heaps_of_many_threads({"MALLOC_ARENA_MAX": "6"}) == 6


@needs_glibc
def test_a_daemon_has_few_heaps_however_many_ask(
    tmp_path: Path, cleanup: Callable[[Callable[[], object]], None]
) -> None:
    library = tmp_path / "library"
    pictures = sorted(demo.gallery_directory().rglob("*.jpg"))[:3]
    CommandLine(library).index(*pictures)
    daemon = CommandLine(library).start("watch", "--quiet")
    cleanup(lambda: ended(daemon))

    def ask() -> None:
        client = connect(library, greeting_seconds=10.0)
        assert client is not None
        client.query(Question("house", top_k=100, min_probability=0.0))

    deadline = time.monotonic() + 30
    while (client := connect(library)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.close()
    for _ in range(3):
        asking = [threading.Thread(target=ask) for _ in range(12)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    # One of them may have grown to a second piece.
    assert heaps_in(Path(f"/proc/{daemon.pid}/maps").read_text()) <= MOST_HEAPS + 1


def ended(process: subprocess.Popen[str]) -> None:
    with process:
        process.terminate()
        process.communicate(timeout=30)


GIVEN_BACK = """
import ctypes
from siglip_search.service.allocator import TRIM_EVERY_SECONDS, Heaps
from siglip_search.service.thrift import resident_bytes
now = 0.0
heaps = Heaps(lambda: now)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
pieces = [libc.malloc(ctypes.c_size_t(50_000)) for _ in range(2_000)]
for piece in pieces:
    ctypes.memset(piece, 1, 50_000)
for piece in pieces[:-1]:  # the last one pins them all
    libc.free(ctypes.c_void_p(piece))
for now in (0.0, TRIM_EVERY_SECONDS - 1, TRIM_EVERY_SECONDS):
    heaps.trim()
    print(resident_bytes())
"""


@needs_glibc
def test_what_is_free_is_given_back_once_a_minute() -> None:
    said = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    first, before, after = map(int, said.split())
    assert abs(before - first) < 10_000_000
    assert after < before - 90_000_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_name: str) -> str:
        raise ValueError("unrecognized configuration name")  # as musl's Python says

    monkeypatch.setattr(allocator.os, "confstr", unknown, raising=False)
    heaps = Heaps(lambda: 1e9)
    assert heaps._libc is None
    heaps.keep_few()
    heaps.trim()
