"""The C library's heaps, kept few and given back: a daemon lives for weeks.

glibc lets threads have heaps of their own, eight for each core, and gives back only what is free at
a heap's end. Here each question and each look has threads of its own, whose few lasting allocations
pin what is free around them: half of the heaps was free and still held. Other C libraries have
nothing of the kind to be told, and there nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Python has an allocator of its own for what is small, and the towers for what is large: threads
# seldom wait for each other over a heap.
MOST_HEAPS = 2

# Takes a millisecond or two.
TRIM_EVERY_SECONDS = 60.0

# Of glibc's <malloc.h>.
_M_ARENA_MAX = -8

# Who sets one of these knows what the heaps shall be like.
_SET_BY_USER = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


class Heaps:
    """The heaps of this process; used by one thread at a time.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._libc = _glibc()
        self._trim_at = clock() + TRIM_EVERY_SECONDS

    def keep_few(self) -> None:
        """Let threads share heaps from now on; before there are many threads."""
        if self._libc is not None and not any(map(os.environ.get, _SET_BY_USER)):
            self._libc.mallopt(_M_ARENA_MAX, MOST_HEAPS)

    def trim(self) -> None:
        """Give back what is free, if it was not done in the last minute; cheap otherwise."""
        now = self._clock()
        if self._libc is None or now < self._trim_at:
            return
        self._trim_at = now + TRIM_EVERY_SECONDS
        self._libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process if it is glibc."""
    if sys.platform != "linux":
        return None
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return None
        libc = ctypes.CDLL(None)
        libc.mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
        libc.malloc_trim.argtypes = (ctypes.c_size_t,)
    except (AttributeError, OSError, ValueError):  # musl knows neither the question nor these
        return None
    return libc
