"""A folder that is really followed, and what was handed over of it."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from siglip_search.photos.settling import Look, Settling
from siglip_search.photos.watch import FolderWatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_SECONDS = 60.0
"""How long a test waits for what has to come; far longer than it ever takes."""

# After this long without anything new, nothing more comes: watchdog holds back half a rename for
# half a second.
QUIET_SECONDS = 0.65
_STEP_SECONDS = 0.05


class Followed:
    """A folder, its watch and its settling, as a daemon has them.

    Attributes:
        looks: Everything handed over, each with the time at which it was.
        lost: What `on_lost` was told.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settle_seconds: float = 0.1,
        poll: bool | None = None,
        poll_seconds: float = 3_600.0,
        apart: tuple[bytes, ...] = (),
    ) -> None:
        self.path = os.fsencode(folder)
        self.looks: list[tuple[float, Look]] = []
        self.lost: list[tuple[bytes, str]] = []
        self.settling = Settling(settle_seconds=settle_seconds)
        self._heard = 0.0
        self.watch = FolderWatch(
            on_change=self._changed,
            on_lost=self._lost,
            on_folder=self._folder_changed,
            poll_seconds=poll_seconds,
            apart=apart,
        )
        self.watch.follow(self.path, poll=poll)

    @property
    def how(self) -> str:
        (state,) = self.watch.states()
        return state.how

    def until(self, condition: Callable[[], bool]) -> None:
        """Go on as a daemon does until something is so."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < end, "it never came"
            self._step()

    def until_quiet(self) -> None:
        """Go on until nothing is waiting and nothing more is heard."""
        self._heard = time.monotonic()
        self.until(
            lambda: not len(self.settling) and time.monotonic() - self._heard > QUIET_SECONDS
        )

    def until_looked_at(self, path: bytes) -> float:
        """Go on until a look covers a path; return when it was handed over."""
        self.until(lambda: self.covers(path))
        return next(at for at, look in self.looks if covers(look, path))

    def covers(self, path: bytes) -> bool:
        return any(covers(look, path) for _, look in self.looks)

    def close(self) -> None:
        self.watch.close()

    def _step(self) -> None:
        self.watch.check()
        self.settling.wait(_STEP_SECONDS)
        now = time.monotonic()
        found = self.settling.due()
        if found:
            self._heard = now
        self.looks += [(now, look) for look in found]

    def _changed(self, path: bytes, closed: bool) -> None:
        self._heard = time.monotonic()
        self.settling.touch(path, closed=closed)

    def _folder_changed(self, path: bytes) -> None:
        self._heard = time.monotonic()
        self.settling.touch_folder(path)

    def _lost(self, path: bytes, why: str) -> None:
        self.lost.append((path, why))
        self.settling.touch_folder(path)


def covers(look: Look, path: bytes) -> bool:
    """Tell whether somebody who looks there sees what a path is like now."""
    if look.path in (path, os.path.dirname(path)):
        return True
    return look.subfolders and path.startswith(look.path + b"/")


def state_of(folder: bytes) -> dict[bytes, tuple[int, ...]]:
    """Return what every file below a folder is like; folders themselves are no pictures."""
    found: dict[bytes, tuple[int, ...]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                found[path] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


def changed_between(
    before: dict[bytes, tuple[int, ...]], after: dict[bytes, tuple[int, ...]]
) -> set[bytes]:
    """Return the paths whose files came, went or are others."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
