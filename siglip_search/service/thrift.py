"""What keeps the daemon from being a burden: its priority, waits after failures, a full disk."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from siglip_index.errors import LibraryBusyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 600.0
# Somebody else's write is over soon, and nothing is broken.
FIRST_WAIT_WHILE_BUSY_SECONDS = 0.5
LONGEST_WAIT_WHILE_BUSY_SECONDS = 15.0

MEGABYTE = 1_000_000


def lower_priority(nice: int) -> None:
    """Let this process, and those that it starts, come after others.

    The disk as well: on Linux only where psutil is installed, and on macOS not at all.

    Args:
        nice: As the command `nice` has it, from 0 (as others) to 19 (last). Windows knows steps
            only: below normal from 1 on, idle from 15 on.
    """
    if nice <= 0:
        return
    if sys.platform == "win32":
        import psutil

        step = psutil.IDLE_PRIORITY_CLASS if nice >= 15 else psutil.BELOW_NORMAL_PRIORITY_CLASS
        with suppress(psutil.Error):
            psutil.Process().nice(step)
            psutil.Process().ionice(psutil.IOPRIO_LOW)
        return
    with suppress(OSError):
        # Whoever started this may have been nice already: 10 is meant, not 10 more.
        os.nice(max(0, nice - os.nice(0)))
    if sys.platform == "linux":
        with suppress(ImportError):
            import psutil

            with suppress(psutil.Error, OSError):
                psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def resident_bytes() -> int | None:
    """Return how much memory this process has in use now; None where the system does not tell."""
    if sys.platform == "linux":
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        except (OSError, ValueError, IndexError):
            return None
    import psutil

    try:
        return int(psutil.Process().memory_info().rss)
    except psutil.Error:
        return None


class Backoff:
    """Waits longer after each failure in a row, and not at all after a success.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    def failed(self, error: Exception) -> float:
        """Note a failure; return for how many seconds nothing shall be tried."""
        is_busy = isinstance(error, LibraryBusyError)
        first = FIRST_WAIT_WHILE_BUSY_SECONDS if is_busy else FIRST_WAIT_SECONDS
        longest = LONGEST_WAIT_WHILE_BUSY_SECONDS if is_busy else LONGEST_WAIT_SECONDS
        # The power is bounded as well, or it would overflow after a year of failures.
        wait = min(longest, first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        self._until = self._clock() + wait
        return wait

    def succeeded(self) -> None:
        """Note that all is well again."""
        self._failures = 0
        self._until = 0.0

    @property
    def failures(self) -> int:
        """How many there were in a row."""
        return self._failures

    def seconds_left(self) -> float:
        """Return for how long nothing shall be tried, >= 0."""
        return max(0.0, self._until - self._clock()) if self._failures else 0.0


class DiskSpace:
    """Watches the room that is left where the library lies.

    Args:
        directory: Folder of the library, which need not exist.
        min_free_bytes: With less than this nothing new is written; with a tenth more it goes on.
    """

    def __init__(self, directory: Path, min_free_bytes: int) -> None:
        self._directory = directory
        self._min_free = min_free_bytes
        self._is_low = False

    def shortage(self) -> str | None:
        """Return what is wrong, as one line; None while there is room enough."""
        free = self._free()
        if free is None:
            return None  # a disk that does not tell may have room: writing will show
        self._is_low = free < self._min_free * (1.1 if self._is_low else 1.0)
        if not self._is_low:
            return None
        return (
            f"only {free / MEGABYTE:,.0f} MB are free where the library lies "
            f"({self._directory}): paused until there are {self._min_free * 1.1 / MEGABYTE:,.0f} MB"
        )

    def _free(self) -> int | None:
        folder = self._directory
        while True:
            try:
                return shutil.disk_usage(folder).free
            except FileNotFoundError:
                if folder == folder.parent:
                    return None
                folder = folder.parent
            except OSError:
                return None
