"""One followed folder: how it is followed now, and what has to be looked at because of that."""

from __future__ import annotations

import errno
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from siglip_index.locations import join, relative_to
from siglip_search.photos.watch_events import FolderEvents
from siglip_search.photos.watch_mounts import mounts_below, polling_reason
from siglip_search.photos.watch_rules import WatchRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_AGAIN = "changes there come without events"
"""Why a polled folder is looked at again: nothing was lost, it is merely time."""

IS_BACK = "it is back"
"""Why a folder is looked at that had gone away."""

_A_FILE = "it is a single file"
_ASKED_FOR = "asked for"
_CHANGED = "it changed"
_OTHER_FOLDER = "another folder has taken its place"
_OTHER_MOUNTS = "a drive was mounted or unmounted below it"
_OTHER_LIMITS = "the system's limits were changed"
_FOLDER, _FILE = 1, 2

# What ends again and again is begun anew after this long, doubling up to the polling interval.
_FIRST_PAUSE_SECONDS = 0.25
_STEADY_SECONDS = 60.0

_LIMITS = {
    errno.ENOSPC: Path("/proc/sys/fs/inotify/max_user_watches"),
    errno.EMFILE: Path("/proc/sys/fs/inotify/max_user_instances"),
}


@dataclass(frozen=True, slots=True)
class FollowedFolder:
    """How a folder is followed.

    Attributes:
        path: Absolute, as it was given.
        how: By events, by looking again and again, or not now, because it is not there.
        why: The reason in a few words; empty where events simply work.
    """

    path: bytes
    how: Literal["events", "polling", "away"]
    why: str


@dataclass(frozen=True, slots=True)
class Following:
    """How a place is to be followed.

    Attributes:
        poll: By looking again and again, or never so; None where the file system needs it.
        hidden: Hidden files and folders count as well.
        apart: Absolute folders without links in which nothing is followed.
        poll_seconds: How often a polled place is looked at.
        on_path: See `FolderEvents`.
        on_folder: See `FolderEvents`.
    """

    poll: bool | None
    hidden: bool
    apart: tuple[bytes, ...]
    poll_seconds: float
    on_path: Callable[[bytes, bool | None], None]
    on_folder: Callable[[bytes], None]


class Place:
    """A folder, or a single file, that is followed until `end`; used by one thread at a time.

    Args:
        path: Absolute; nothing need be there.
        following: How.
        now: The time in seconds, as for `check`.

    Attributes:
        state: How it is followed now; may be read by any thread.
    """

    def __init__(self, path: bytes, following: Following, now: float) -> None:
        self._path = path
        self._following = following
        self._events: FolderEvents | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._begun_at = self._look_again_at = now
        self._begin(now)

    def check(self, now: float, *, are_mounts_changed: bool) -> Iterator[tuple[bytes, str]]:
        """Follow anew what has changed; yield what has to be looked at, each path with why."""
        why = self._why_anew(now, are_mounts_changed)
        if why is not None:
            was_away = self.state.how == "away"
            is_steady = now - self._begun_at >= _STEADY_SECONDS
            longer = min(2 * self._pause, self._following.poll_seconds)
            self._pause = _FIRST_PAUSE_SECONDS if is_steady else longer
            self._begin(now)
            if self.state.how != "away":
                yield self._path, IS_BACK if was_away else why
            return
        lost = self._events.lost() if self._events is not None else None
        if lost is not None:
            yield self._path, lost
        if now >= self._look_again_at:
            self._look_again_at = now + self._following.poll_seconds
            for path in self._polled_paths():
                yield path, LOOK_AGAIN

    def end(self) -> None:
        """Follow it no more."""
        if self._events is not None:
            self._events.close()
        self._events = None

    def _begin(self, now: float) -> None:
        self.end()
        self._begun_at = now
        self._look_again_at = now + self._following.poll_seconds
        self._limits: tuple[int, ...] | None = None
        self._mounts: dict[bytes, str | None] = {}
        self._real = os.path.realpath(self._path)
        self._identity = _identity(self._path)
        if self._identity is None:
            self._set_state("away", "it is not there")
            return
        if self._identity[0] == _FILE:
            self._set_state("polling", _A_FILE)
            self._look_again_at = math.inf  # a look at its size and time tells each second
            return
        reason = None
        if self._following.poll is not False:
            reason = _ASKED_FOR if self._following.poll else polling_reason(self._real)
        if reason is not None:
            self._set_state("polling", reason)
            return
        self._mounts = mounts_below(self._real)
        rules = WatchRules(self._real, hidden=self._following.hidden, apart=self._following.apart)
        following = self._following
        try:
            self._events = FolderEvents(
                self._path, self._real, rules, following.on_path, following.on_folder
            )
        except OSError as error:
            self._poll_because(error)
            return
        self._set_state("events", "; ".join(filter(None, self._mounts.values())))

    def _why_anew(self, now: float, are_mounts_changed: bool) -> str | None:
        """Return why it has to be followed anew, None when all goes on."""
        if _identity(self._path) != self._identity:
            return _CHANGED if self.state.why == _A_FILE else _OTHER_FOLDER
        if are_mounts_changed and self._is_affected_by_mounts():
            return _OTHER_MOUNTS
        if self._limits not in (None, _limits()):
            return _OTHER_LIMITS
        if self._events is None:
            return None
        limit = self._events.limit()
        if limit is not None:
            self._poll_because(limit)
            self._look_again_at = now
            return None
        ended = self._events.end()
        return ended if ended is not None and now >= self._begun_at + self._pause else None

    def _is_affected_by_mounts(self) -> bool:
        return self._events is not None and self._mounts != mounts_below(self._real)

    def _poll_because(self, error: OSError) -> None:
        """Give events up, and with them what they took of the system's limits."""
        self.end()
        limit = _LIMITS.get(error.errno or 0)
        if limit is not None:
            self._limits = _limits()
            self._set_state("polling", f"a limit of the system is reached, see {limit}")
        else:
            reason = error.strerror or type(error).__name__
            self._set_state("polling", f"its changes cannot be followed: {reason}")

    def _polled_paths(self) -> Iterator[bytes]:
        if self.state.how == "polling":
            yield self._path
        for point, reason in self._mounts.items():
            if self.state.how == "events" and reason is not None:
                yield join(self._path, relative_to(point, self._real) or b"")

    def _set_state(self, how: Literal["events", "polling", "away"], why: str) -> None:
        self.state = FollowedFolder(self._path, how, why)


def _identity(path: bytes) -> tuple[int, ...] | None:
    """Return what tells one folder, or one state of a file, from another; None for nothing.

    Of folders that is device and inode: on a mount point without its drive both are others.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(status.st_mode):
        return _FOLDER, status.st_dev, status.st_ino
    return _FILE, status.st_size, status.st_mtime_ns


def _limits() -> tuple[int, ...]:
    found = []
    for limit in _LIMITS.values():
        try:
            found.append(int(limit.read_bytes()))
        except (OSError, ValueError):
            found.append(0)
    return tuple(found)
