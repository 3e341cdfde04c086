"""Following folders: what changed in them, and where nobody can tell and one has to look.

Nothing here says what happened, only where to look. A folder is followed by the system's events
where they can be relied on, and is looked at again and again elsewhere. Looking is the caller's:
a scan, which does tens of thousands of files a second and compares with what the library knows.
watchdog's own polling walks the same tree no faster, and keeps every file of it in memory twice.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from siglip_search.photos.watch_mounts import mount_table
from siglip_search.photos.watch_place import (
    IS_BACK,
    LOOK_AGAIN,
    FollowedFolder,
    Following,
    Place,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["IS_BACK", "LOOK_AGAIN", "FolderWatch", "FollowedFolder"]


class FolderWatch:
    """Follows folders, and knows what the system's events do not tell.

    The callbacks come from several threads. They must return quickly and call nothing here. What
    happens once `follow` has returned is told, so a folder is scanned after that, not before.

    Args:
        on_change: Called with the absolute path of a file that something happened to; True when
            it was closed or got its name, None when only its attributes changed.
        on_lost: Called with a folder that is to be looked at with all below it, and why: events
            were lost, it came back, a drive was mounted in it, or (`LOOK_AGAIN`) it is time.
        on_folder: Called with a folder that came, went, was renamed or got other permissions: it
            is to be looked at with all below it. Without this, `on_change` is called.
        poll_seconds: How often what has no events is looked at.
        apart: Absolute folders in which nothing is followed, such as the library's own.
        clock: Tells the time in seconds, never going back.
    """

    def __init__(
        self,
        *,
        on_change: Callable[[bytes, bool | None], None],
        on_lost: Callable[[bytes, str], None],
        on_folder: Callable[[bytes], None] | None = None,
        poll_seconds: float = 30.0,
        apart: tuple[bytes, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change = on_change
        self._on_lost = on_lost
        self._on_folder = on_folder or (lambda path: on_change(path, False))
        self._poll_seconds = poll_seconds
        self._apart = tuple(map(os.path.realpath, apart))
        self._clock = clock
        self._places: dict[bytes, Place] = {}
        self._mount_table = mount_table()
        self._is_closed = False
        self._lock = threading.Lock()

    def follow(self, folder: bytes, *, poll: bool | None = None, hidden: bool = False) -> None:
        """Follow a folder, or a single file; one that is not there is followed when it comes.

        Takes about as long as listing all folders below.

        Args:
            folder: Absolute. One that is followed already is followed anew, with these choices.
            poll: Look at it again and again, or never so; None: where the file system needs it.
            hidden: Hidden files and folders in it count as well.
        """
        following = Following(
            poll, hidden, self._apart, self._poll_seconds, self._on_change, self._on_folder
        )
        with self._lock:
            if self._is_closed:
                return
            self._end(folder)
            self._places[folder] = Place(folder, following, self._clock())

    def unfollow(self, folder: bytes) -> None:
        """Follow a folder no more; one that is not followed is no mistake."""
        with self._lock:
            self._end(folder)

    def check(self) -> bool:
        """Find out what no event tells; to be called about every second.

        Returns:
            Whether a drive came or went, as far as the system tells (Linux does): what is away
            here may be at another place from now on.
        """
        lost: list[tuple[bytes, str]] = []
        with self._lock:
            before, self._mount_table = self._mount_table, mount_table()
            are_mounts_changed = before != self._mount_table
            now = self._clock()
            for place in self._places.values():
                lost += place.check(now, are_mounts_changed=are_mounts_changed)
        for path, why in lost:
            self._on_lost(path, why)
        return are_mounts_changed

    def states(self) -> tuple[FollowedFolder, ...]:
        """Return how each folder is followed, in the order of their paths; never waits."""
        # A copy of a dict's values is made in one step, and a drive that does not answer keeps
        # `check` in the lock.
        return tuple(sorted((place.state for place in [*self._places.values()]), key=_path_of))

    def close(self) -> None:
        """Follow nothing any more; no event comes after this."""
        with self._lock:
            self._is_closed = True
            for folder in [*self._places]:
                self._end(folder)

    def _end(self, folder: bytes) -> None:
        place = self._places.pop(folder, None)
        if place is not None:
            place.end()


def _path_of(followed: FollowedFolder) -> bytes:
    return followed.path
