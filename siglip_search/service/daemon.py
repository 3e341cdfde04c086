"""The daemon: catches up with the library's folders, follows them, and answers meanwhile.

Its threads: the working one, which calls `run` and is the only one that writes (`working_thread`);
one that looks after the watcher (`watcher_care`); those of the watcher, which only say where to
look; and one for each command that asks something (`endpoint`).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from siglip_search.engine.following import Follower
from siglip_search.photos.settling import Settling
from siglip_search.service.activity import Activity
from siglip_search.service.allocator import Heaps
from siglip_search.service.endpoint import Endpoint
from siglip_search.service.jobs import Requests
from siglip_search.service.resident_search import ResidentSearch
from siglip_search.service.run_stop import Pulse
from siglip_search.service.runs import unseen
from siglip_search.service.watch_options import WatchOptions
from siglip_search.service.watcher_care import Care
from siglip_search.service.working_thread import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siglip_search.engine.indexing import IndexOptions
    from siglip_search.search.question import Question
    from siglip_search.service.journal import Journal
    from siglip_search.service.messages import IndexJob, QueryReply
    from siglip_search.service.state import ServiceState
    from siglip_search.service.working_thread import Shown
    from siglip_search.settings import Settings

__all__ = ["Daemon", "WatchOptions"]


class Daemon:
    """Keeps a library up to date and answers questions; implements `Served`.

    Args:
        settings: Which library.
        model: Name of the model to index with; None for the library's own.
        options: How to index.
        watch_options: How to follow.
        journal: Takes a line about each thing that was done.
        shown: Gives a listener for each look through all folders, for as long as it goes on.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        model: str | None,
        options: IndexOptions,
        watch_options: WatchOptions,
        journal: Journal,
        shown: Shown = unseen,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._stop = threading.Event()
        self._activity = Activity(settings.library)
        self._settling = Settling(settle_seconds=watch_options.settle_seconds)
        self._search = ResidentSearch(settings)
        self._requests = Requests(self._somebody_waits)
        self._follower = Follower(settings, model=model)
        self._pulse = Pulse()
        self._heaps = Heaps()
        self._care = Care(
            settings,
            watch_options,
            self._settling,
            self._activity,
            journal,
            on_turn=self._take_turn,
            on_drives=lambda: self._work.drives_changed(),
            # A long run ends, and `run` finds the thread dead.
            on_end=lambda: self._work.interrupt(),
        )
        self._work = Work(
            self._follower,
            options=options,
            watch_options=watch_options,
            settling=self._settling,
            requests=self._requests,
            care=self._care,
            search=self._search,
            activity=self._activity,
            journal=journal,
            shown=shown,
            on_alive=self._alive,
        )

    def query(self, request: Question) -> QueryReply:
        """See `Served.query`."""
        return self._search.answer(request)

    def state(self) -> ServiceState:
        """See `Served.state`."""
        return self._activity.snapshot(
            waiting=len(self._settling) + self._work.waiting,
            folders=self._care.folders(),
            queries=self._search.answered,
            ran_on=self._follower.ran_on,
            towers_warm=self._follower.is_warm or self._search.is_warm,
        )

    def index(
        self,
        request: IndexJob,
        on_event: Callable[[dict[str, Any]], None],
        cancelled: threading.Event,
    ) -> dict[str, Any]:
        """See `Served.index`."""
        return self._requests.hand_over(request, on_event, cancelled)

    def step_aside(self, done: threading.Event) -> None:
        """See `Served.step_aside`."""
        self._requests.step_aside(done)

    def stop(self) -> None:
        """See `Served.stop`."""
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stop.is_set()

    def look_again(self) -> None:
        """Look through all folders as soon as nothing is more urgent; also from a signal."""
        self._work.look_again()

    def run(self, paths: Sequence[str | os.PathLike[str]] = ()) -> None:
        """Follow the library's folders, and these, until `stop` is called.

        What has been computed then is committed first. A daemon runs once.

        Args:
            paths: Folders to add.

        Raises:
            DaemonRunningError: Another daemon looks after this library.
            PathError: One of the paths does not exist, or the library has no place for a socket.
            ModelError: There is no model to index the paths with.
            CorruptLibraryError, NewerLibraryError: The library is damaged, or a newer program's.
        """
        stop = self._stop
        self._heaps.keep_few()
        endpoint = Endpoint(self._settings.library, self)
        endpoint.start()
        try:
            self._journal.info(f"process {os.getpid()} looks after {self._settings.library}")
            # Questions are answered from here on, with what the library had when it ended last.
            self._pulse.ready()
            self._care.start(stop)
            while not stop.is_set() and not self._care.has_begun(timeout_seconds=0.5):
                self._alive()
            self._work.begin(paths, stop)
            while not stop.is_set():
                self._care.has_begun(timeout_seconds=0.0)
                self._work.turn()
        finally:
            stop.set()
            self._pulse.stopping()
            self._requests.close()
            self._care.close()
            self._follower.close()
            self._search.start_afresh()
            endpoint.close()
        self._journal.info("stopped")

    def _alive(self) -> None:
        self._pulse.beat()
        self._pulse.status(self._status_line)

    def _status_line(self) -> str:
        state = self.state()
        if state.total:
            return f"{state.doing}: {state.done:,} of {state.total:,}"
        return f"{state.doing}: {state.why}" if state.why else state.doing

    def _take_turn(self) -> None:
        self._heaps.trim()
        self._make_way()

    def _make_way(self) -> None:
        if self._care.shortage is not None or self._work.has_new_pictures():
            self._work.interrupt()

    def _somebody_waits(self) -> None:
        self._work.interrupt()
        self._settling.wake()
