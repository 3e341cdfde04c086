"""What the daemon does when nothing else is to be done: snapshots, albums, letting go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from siglip_index.errors import StoreError
from siglip_search.errors import SiglipSearchError
from siglip_search.service.thrift import Backoff

if TYPE_CHECKING:
    import threading

    from siglip_search.engine.following import Follower
    from siglip_search.service.activity import Activity
    from siglip_search.service.journal import Journal
    from siglip_search.service.resident_search import ResidentSearch
    from siglip_search.service.runs import Runs

# Amid a burst, a snapshot would be written and an album filled twice.
QUIET_SECONDS = 5.0
# An album of "the last three weeks" loses pictures though nothing happens.
ALBUMS_SECONDS = 24 * 60 * 60.0


class QuietWork:
    """Does, turn by turn, what may wait for quiet.

    Args:
        follower: Writes snapshots, and has a picture tower.
        search: Answers the searches of albums, and has a text tower.
        runs: Knows whether there is anything new.
        activity: Is told what went wrong.
        journal: Takes a line about it.
        unload_after_seconds: How long towers stay that nobody uses.
    """

    def __init__(
        self,
        follower: Follower,
        search: ResidentSearch,
        runs: Runs,
        activity: Activity,
        journal: Journal,
        *,
        unload_after_seconds: float,
    ) -> None:
        self._follower = follower
        self._search = search
        self._runs = runs
        self._activity = activity
        self._journal = journal
        self._unload_after_seconds = unload_after_seconds
        self._snapshot_backoff = Backoff()
        self._worked_at = time.monotonic()
        self._albums_due_at = self._worked_at

    def worked(self) -> None:
        """Note that something was done just now, with the picture tower perhaps."""
        self._worked_at = time.monotonic()

    def albums_may_change(self) -> None:
        """Note that albums may have to change: others wrote, or a drive came or went."""
        self._albums_due_at = time.monotonic()

    def turn(self, stop: threading.Event) -> None:
        """Do what is due after so much quiet.

        Args:
            stop: When set, the rest waits for the next turn.
        """
        idle_seconds = time.monotonic() - self._worked_at
        if idle_seconds >= QUIET_SECONDS:
            if self._runs.has_news or time.monotonic() >= self._albums_due_at:
                self._refresh_albums(stop)
            if self._runs.has_unsaved and not self._snapshot_backoff.seconds_left():
                self._write_snapshot()
        if self._follower.is_warm and idle_seconds >= self._unload_after_seconds:
            self._follower.unload()
        if self._search.is_warm and self._search.seconds_idle() >= self._unload_after_seconds:
            self._search.start_afresh()

    def _refresh_albums(self, stop: threading.Event) -> None:
        from siglip_search.engine.albums import refresh_albums

        self._runs.has_news = False
        self._albums_due_at = time.monotonic() + ALBUMS_SECONDS
        try:
            reports = self._search.use(
                lambda library: refresh_albums(library, stop=stop, on_failure=self._warn)
            )
        except (SiglipSearchError, StoreError, OSError) as error:
            self._warn(f"albums were not brought up to date: {error}", getattr(error, "hint", ""))
            return
        for report in reports:
            if report.added or report.removed:
                self._journal.info(
                    f"album {report.folder}: {report.added:,} new, {report.removed:,} gone"
                )
        if stop.is_set():
            self.albums_may_change()  # what is left is still due

    def _warn(self, line: str, hint: str) -> None:
        if self._activity.warn(line):
            self._journal.warning(line, hint=hint)

    def _write_snapshot(self) -> None:
        """Write what is due; a failure makes the next start slower, and no picture wait."""
        try:
            self._follower.write_snapshot()
        except (StoreError, OSError) as error:
            self._snapshot_backoff.failed(error)
            self._warn(
                f"no snapshot was written: {error}; tried again later", getattr(error, "hint", "")
            )
        else:
            self._runs.has_unsaved = False
            self._snapshot_backoff.succeeded()
