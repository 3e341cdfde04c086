"""The library's folders and the watcher, kept in step with each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from siglip_search.photos.watch import IS_BACK, LOOK_AGAIN, FolderWatch
from siglip_search.service.state import FolderState

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.photos.settling import Settling
    from siglip_search.service.activity import Activity
    from siglip_search.service.journal import Journal
    from siglip_search.service.library_standing import Standing


class FollowedRoots:
    """Follows what the library says, and lets what happens there settle; for one thread.

    Args:
        library: Its folder; what happens in it is the daemon's own doing.
        settling: Takes what happened.
        activity: Counts it.
        journal: Is told of folders that come and go.
        poll: Look at every folder again and again; None where its drive makes it necessary.
        poll_seconds: How often.
        hidden: Hidden files and folders count as well.
    """

    def __init__(
        self,
        library: Path,
        settling: Settling,
        activity: Activity,
        journal: Journal,
        *,
        poll: bool | None,
        poll_seconds: float,
        hidden: bool,
    ) -> None:
        self._settling = settling
        self._activity = activity
        self._journal = journal
        self._poll = poll
        self._hidden = hidden
        self._excludes: dict[bytes, tuple[str, ...]] = {}
        self._hows: dict[bytes, str] = {}
        self._watch = FolderWatch(
            on_change=self._changed,
            on_lost=self._lost,
            on_folder=self._folder_changed,
            poll_seconds=poll_seconds,
            apart=(os.fsencode(library),),
        )

    def update(self, standing: Standing, *, look: bool = True) -> None:
        """Follow the roots of this standing and no others.

        Args:
            standing: As the library says now.
            look: Have what is new or differently left out looked at.
        """
        before, self._excludes = self._excludes, dict(standing.excludes)
        for path in before.keys() - self._excludes.keys():
            self._watch.unfollow(path)
            self._journal.info(f"{os.fsdecode(path)} is not followed any more", folder=path)
        for path in self._excludes.keys() - before.keys():
            self._watch.follow(path, poll=self._poll, hidden=self._hidden)
            self._journal.info(f"following {os.fsdecode(path)}", folder=path)
        if not look:
            return
        for path, patterns in self._excludes.items():
            if before.get(path) != patterns:
                self._settling.touch_folder(path)

    def check(self) -> bool:
        """Look after the watcher, about every second; tell of folders that go and come back.

        Returns:
            Whether a folder that is away may be at another place now: a drive came, or went.
        """
        are_mounts_changed = self._watch.check()
        folders = self._watch.states()
        for folder in folders:
            before = self._hows.get(folder.path, "events")
            name = os.fsdecode(folder.path)
            if folder.how == before:
                continue
            if folder.how == "away":
                self._journal.warning(f"{name} is not there now: its pictures are kept")
            elif before == "away":
                self._journal.info(f"{name} is there again")
            else:
                self._journal.info(f"{name} is followed by {folder.how}: {folder.why or 'again'}")
        self._hows = {folder.path: folder.how for folder in folders}
        return are_mounts_changed and "away" in self._hows.values()

    def states(self) -> tuple[FolderState, ...]:
        """Return how each folder is followed; from any thread, and without waiting for a drive."""
        return tuple(
            FolderState(os.fsdecode(folder.path), folder.how, folder.why)
            for folder in self._watch.states()
        )

    def close(self) -> None:
        """Follow nothing any more."""
        self._watch.close()

    def _changed(self, path: bytes, closed: bool | None) -> None:
        self._activity.event()
        self._settling.touch(path, closed=closed)

    def _folder_changed(self, path: bytes) -> None:
        self._activity.event()
        self._settling.touch_folder(path)

    def _lost(self, folder: bytes, why: str) -> None:
        self._settling.touch_folder(folder)
        if why in {LOOK_AGAIN, IS_BACK}:
            return  # routine, or told already
        line = f"{os.fsdecode(folder)} is looked at again: {why}"
        # However often events are lost in a place, it is worth one line a day.
        if self._activity.warn(line):
            self._journal.warning(line, folder=folder)
