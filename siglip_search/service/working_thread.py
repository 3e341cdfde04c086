"""The daemon's working thread: the only one that writes, one thing after another.

In the order of urgency: stepping aside for another command, jobs handed over by `index`, places
where something happened, looking through all folders. The urgent interrupts a run of the daemon's
own; what that has computed is committed first, and going on costs another look around.

The writer's lock is held during a run only, so that other programs can write in between.
"""

from __future__ import annotations

import math
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from siglip_index.errors import (
    CorruptLibraryError,
    LibraryAccessError,
    LibraryBusyError,
    NewerLibraryError,
    StoreError,
)
from siglip_search.engine.indexing import IndexListener
from siglip_search.errors import ModelError, PathError, SiglipSearchError
from siglip_search.service.job_runs import carry_out_job
from siglip_search.service.quiet_work import QuietWork
from siglip_search.service.run_stop import RunStop
from siglip_search.service.runs import Runs
from siglip_search.service.thrift import Backoff

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from siglip_search.engine.following import Follower
    from siglip_search.engine.indexing import IndexOptions
    from siglip_search.ingest.report import IngestReport
    from siglip_search.photos.settling import Look, Settling
    from siglip_search.service.activity import Activity
    from siglip_search.service.jobs import HandedOver, Requests
    from siglip_search.service.journal import Journal
    from siglip_search.service.resident_search import ResidentSearch
    from siglip_search.service.watch_options import WatchOptions
    from siglip_search.service.watcher_care import Care

    Shown = Callable[[], AbstractContextManager[IndexListener]]

# The working thread turns at least so often, which the service manager's watchdog relies on.
TURN_SECONDS = 2.0
# More places than these are one look through everything.
MOST_LOOKS = 10_000
# A look is interrupted for new pictures elsewhere once it has embedded for so long, and for so many
# times as long as it looked around, which it does again when it goes on.
EMBEDDING_SECONDS = 5.0
EMBEDDING_TIMES_SCANNING = 5.0


class Work:
    """Does the most urgent thing, turn by turn.

    Args:
        follower: Does it.
        options: How to index.
        watch_options: How to follow.
        settling: Hands over the places where it has become quiet.
        requests: What commands ask for.
        care: Knows what the library says and whether there is room.
        search: Lets its files go while another command writes, and its tower when idle.
        activity: Is told what is being done.
        journal: Takes a line about each thing.
        shown: Gives a listener for each look through all folders, for as long as it goes on.
        on_alive: Called several times a second while the thread works.
    """

    def __init__(
        self,
        follower: Follower,
        *,
        options: IndexOptions,
        watch_options: WatchOptions,
        settling: Settling,
        requests: Requests,
        care: Care,
        search: ResidentSearch,
        activity: Activity,
        journal: Journal,
        shown: Shown,
        on_alive: Callable[[], None],
    ) -> None:
        self._follower = follower
        self._options = options
        self._watch_options = watch_options
        self._settling = settling
        self._requests = requests
        self._care = care
        self._search = search
        self._activity = activity
        self._journal = journal
        self._shown = shown
        self._on_alive = on_alive
        self._runs = Runs(settling, activity, journal)
        self._backoff = Backoff()
        self._quiet = QuietWork(
            follower,
            search,
            self._runs,
            activity,
            journal,
            unload_after_seconds=watch_options.idle_unload_seconds,
        )
        self._stop = threading.Event()
        self._looks: dict[Look, None] = {}
        self._unfinished: dict[Look, None] = {}  # was begun, and interrupted or failed
        self._gathering = threading.Lock()
        self._first_paths: list[str | os.PathLike[str] | bytes] = []
        self._has_caught_up = False
        self._reconcile_at = -math.inf
        self._coming: str | None = None
        self._are_drives_changed = False
        # Of the run in progress, if it may be interrupted.
        self._interruptible: RunStop | None = None

    @property
    def waiting(self) -> int:
        """How many places are to be looked at as soon as it is their turn."""
        return len(self._looks) + len(self._unfinished)

    def begin(self, paths: Sequence[str | os.PathLike[str]], stop: threading.Event) -> None:
        """Say what to do first.

        Args:
            paths: Folders to add.
            stop: Ends the run in progress; then call `turn` no more.
        """
        self._first_paths = list(paths)
        self._stop = stop

    def look_again(self) -> None:
        """Look through all folders as soon as nothing is more urgent; also from a signal."""
        self._reconcile_at = -math.inf

    def drives_changed(self) -> None:
        """A folder that is away may be at another place from now on; from any thread."""
        self._are_drives_changed = True
        self._settling.wake()

    def interrupt(self) -> None:
        """End a run of the daemon's own, which goes on later; from any thread."""
        running = self._interruptible
        if running is not None:
            running.set()

    def has_new_pictures(self) -> bool:
        """Tell whether the run in progress is to be interrupted for them; from another thread."""
        if self._interruptible is None:
            return False
        scanning, embedding = self._runs.seconds_of_scan_and_embedding()
        if embedding < max(EMBEDDING_SECONDS, EMBEDDING_TIMES_SCANNING * scanning):
            return False
        self._gather()
        return bool(self._looks)

    def turn(self) -> None:
        """Do the most urgent thing that there is, or wait for a moment.

        Raises:
            PathError, ModelError: The paths that were named first cannot be indexed.
            CorruptLibraryError, NewerLibraryError: The library was so at the start.
        """
        self._on_alive()
        if self._requests.wants_aside():
            self._step_aside()
        elif job := self._requests.next_job():
            self._run_job(job)
        elif self._must_wait():
            self._gather()  # or what settles meanwhile would end the rest again and again
            self._rest()
        else:
            try:
                self._do_own_work()
            except (PathError, ModelError) as error:
                if self._first_paths:
                    raise  # whoever named them is told at once
                self._failed(error)
            except (CorruptLibraryError, NewerLibraryError) as error:
                if not self._has_caught_up:
                    raise  # waiting mends nothing, and whoever starts it is there to be told
                self._failed(error)
            except (SiglipSearchError, StoreError, OSError) as error:
                self._failed(error)

    def _do_own_work(self) -> None:
        standing = self._care.standing
        self._activity.model(standing.model)
        if standing.coming is not None and standing.coming != self._coming:
            self.look_again()
        self._coming = standing.coming
        self._gather()
        if self._are_drives_changed:
            self._recognise_roots()
        if self._first_paths:
            self._reconcile()  # a folder that was just named comes before all others
        elif self._looks or self._unfinished:
            self._look()
        elif time.monotonic() >= self._reconcile_at:
            self._reconcile()
        else:
            self._be_idle()
            self._rest()

    def _recognise_roots(self) -> None:
        """Note what is at another place now; being a new folder to follow, it is looked through."""
        self._are_drives_changed = False
        try:
            for relocation in self._follower.recognise_roots():
                self._journal.info(str(relocation))
            self._quiet.albums_may_change()
        except BaseException:
            self._are_drives_changed = True
            raise

    def _must_wait(self) -> bool:
        if self._backoff.seconds_left() > 0:
            return True
        shortage = self._care.shortage
        if shortage is not None and self._activity.doing != "paused":
            self._journal.warning(shortage)
            self._activity.now("paused", shortage)
        return shortage is not None

    def _reconcile(self) -> None:
        """Look through all folders; when interrupted, again as soon as nothing is more urgent."""
        roots = [root.path for root in self._follower.roots()]
        paths = [*self._first_paths, *roots] if self._first_paths else []
        if not roots and not paths:
            # There may not even be a library; the first `index` is handed over, or noticed.
            self._has_caught_up = True
            self._reconcile_at = math.inf
            return
        what = "looked through all folders" if self._has_caught_up else "caught up"
        # Whoever asks for another look meanwhile means one that begins after that.
        self._reconcile_at = math.inf
        is_done = False
        try:
            with self._shown() as listener:
                report = self._own_run(
                    lambda stop, listener: self._follower.index(
                        paths, options=self._options, stop=stop, listener=listener
                    ),
                    what,
                    listener=listener,
                )
            # Also if it was interrupted they are the library's own from now on, and what happened
            # somewhere comes before the rest of them.
            self._first_paths = []
            is_done = not report.stopped
        finally:
            if not is_done:
                self.look_again()
        if is_done:
            self._has_caught_up = True
            every = self._watch_options.reconcile_every_seconds
            self._reconcile_at = min(self._reconcile_at, time.monotonic() + every)

    def _look(self) -> None:
        with self._gathering:
            # A picture that came just now does not wait for the rest of a large folder.
            taken = self._looks or self._unfinished
            looks = list(taken)
            taken.clear()
        is_done = False
        try:
            report = self._own_run(
                lambda stop, listener: self._follower.look(
                    looks, options=self._options, stop=stop, listener=listener
                ),
                f"looked at {len(looks):,} {'place' if len(looks) == 1 else 'places'}",
                routine=True,
            )
            self._activity.looked()
            is_done = not report.stopped
        except PathError:
            self.look_again()  # a root went another way meanwhile: these places mean nothing now
            is_done = True
            raise
        finally:
            if not is_done:
                self._unfinished |= dict.fromkeys(looks)
                if len(self._unfinished) > MOST_LOOKS:
                    self._unfinished.clear()
                    self.look_again()

    def _own_run(
        self,
        run: Callable[[RunStop, IndexListener], IngestReport],
        what: str,
        *,
        listener: IndexListener | None = None,
        routine: bool = False,
    ) -> IngestReport:
        stop = RunStop(self._stop, on_look=self._on_alive)
        self._interruptible = stop
        try:
            if self._requests.is_urgent():  # it may have come before there was one to interrupt
                stop.set()
            report = self._runs.carry_out(
                partial(run, stop), what, listener or IndexListener(), routine=routine
            )
        finally:
            self._interruptible = None
            # Looking around needs no tower: a folder that is polled must not keep one in memory.
            if self._runs.has_read:
                self._quiet.worked()
        self._backoff.succeeded()
        return report

    def _run_job(self, job: HandedOver) -> None:
        stop = RunStop(self._stop, job.cancelled, on_look=self._on_alive)
        try:
            if carry_out_job(
                job,
                self._follower,
                self._runs,
                self._journal,
                own_options=self._options,
                stop=stop,
            ):
                self._backoff.succeeded()
        finally:
            self._activity.now("idle")
            self._quiet.worked()

    def _step_aside(self) -> None:
        self._activity.now("aside", "another command writes")
        # Another library may lie there afterwards, and Windows exchanges no file that is open.
        self._let_files_go()
        with self._care.hands_off():
            while not self._stop.is_set() and self._requests.stay_aside():
                self._on_alive()
        self._search.start_afresh()
        self._quiet.albums_may_change()
        self._activity.now("idle")
        self._backoff.succeeded()  # what was in the way may have been mended just now

    def _let_files_go(self) -> None:
        self._follower.close()
        self._search.start_afresh()

    def _be_idle(self) -> None:
        if self._activity.doing != "idle":
            self._activity.now("idle")
        stop = RunStop(self._stop, on_look=self._on_alive)
        self._interruptible = stop
        try:
            if not self._requests.is_urgent():  # see `_own_run`
                self._quiet.turn(stop)
        finally:
            self._interruptible = None

    def _failed(self, error: Exception) -> None:
        wait = self._backoff.failed(error)
        if isinstance(error, LibraryAccessError):
            # Of a database that was opened while its disk could only be read, SQLite can only read
            # as long as anybody in this process has it open.
            self._let_files_go()
            with self._care.hands_off():  # which closes what that thread has open
                pass
        self._activity.now("waiting", str(error))
        is_busy = isinstance(error, LibraryBusyError)
        if is_busy and self._backoff.failures > 1:
            return  # said once: whoever writes may take hours
        self._activity.warn(str(error))
        again = "waiting for that" if is_busy else f"trying again in {wait:.0f} s"
        self._journal.warning(f"{error}; {again}", hint=getattr(error, "hint", ""))

    def _rest(self) -> None:
        self._settling.wait(min(TURN_SECONDS, self._backoff.seconds_left() or TURN_SECONDS))

    def _gather(self) -> None:
        """Take over the places where it has become quiet; from any thread."""
        with self._gathering:
            self._looks.update(dict.fromkeys(self._settling.due()))
            if len(self._looks) > MOST_LOOKS:
                self._looks.clear()
                self.look_again()
