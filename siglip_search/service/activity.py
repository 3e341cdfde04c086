"""What the daemon is doing, in numbers: written by its working thread, read by all the others."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict, deque
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from siglip_search.service.state import ServiceState
from siglip_search.service.thrift import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from siglip_search.ingest.report import Committed, Progress
    from siglip_search.service.state import Doing, FolderState

# The rate is that of the last pictures, which tells more about the next ones than a whole night's.
_RATE_SECONDS = 60.0
_RATE_READINGS = 64
_WARNINGS_SHOWN = 10
# So many different warnings are known as told; beyond them the oldest is told anew.
_WARNINGS_REMEMBERED = 200
_TELL_AGAIN_SECONDS = 24 * 3600.0


class Activity:
    """Everything of `ServiceState` that changes; nothing in it grows with time.

    Args:
        library: Folder of the library.
        clock: Seconds that never go back; times of day are told by the system's clock.
    """

    def __init__(self, library: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._readings: deque[tuple[float, int]] = deque(maxlen=_RATE_READINGS)
        self._told: OrderedDict[str, float] = OrderedDict()
        self._paused_from: tuple[Doing, str | None] | None = None
        self._state = ServiceState(
            pid=os.getpid(),
            version=version("siglip-search"),
            started_at=time.time(),
            library=os.fspath(library),
            model=None,
            device=None,
            precision=None,
            doing="starting",
            why=None,
            queue=0,
            done=0,
            total=0,
            pictures_per_second=None,
            seconds_left=None,
            last_event_at=None,
            last_commit_at=None,
            embedded=0,
            failed=0,
            looks=0,
            folders=(),
            last_warnings=(),
            queries=0,
            towers_warm=False,
            memory_bytes=None,
        )

    def snapshot(
        self,
        *,
        waiting: int,
        folders: tuple[FolderState, ...],
        queries: int,
        towers_warm: bool,
        ran_on: tuple[str, str] | None,
    ) -> ServiceState:
        """Return the state as it is now.

        Args:
            waiting: Places that wait to be looked at.
            folders: What is followed.
            queries: Answered since the start.
            towers_warm: Whether a question or a picture finds its tower loaded.
            ran_on: Device and precision of the picture tower; None before one was needed.
        """
        with self._lock:
            state, rate = self._state, self._rate()
        device, precision = ran_on or (None, None)
        left = max(0, state.total - state.done)
        return replace(
            state,
            device=device,
            precision=precision,
            queue=waiting + left,
            folders=folders,
            queries=queries,
            towers_warm=towers_warm,
            pictures_per_second=rate,
            seconds_left=left / rate if rate and left else None,
            memory_bytes=resident_bytes(),
        )

    @property
    def doing(self) -> Doing:
        """See `ServiceState.doing`."""
        return self._state.doing

    def now(self, doing: Doing, why: str | None = None) -> None:
        """Say what is being done from now on; what was counted of a former run is over."""
        with self._lock:
            self._paused_from = None
            self._readings.clear()
            self._state = replace(self._state, doing=doing, why=why, done=0, total=0)

    def progress(self, progress: Progress) -> None:
        """Note how far a run is."""
        with self._lock:
            self._readings.append((self._clock(), progress.done))
            doing: Doing = "paused" if self._paused_from else "embedding"
            self._state = replace(
                self._state, doing=doing, done=progress.done, total=progress.total
            )

    def tagging(self, progress: Progress) -> None:
        """Note how far tagging is, which comes after the pictures of a run."""
        with self._lock:
            self._readings.clear()  # a rate would be that of labels
            self._state = replace(
                self._state, doing="tagging", done=progress.done, total=progress.total
            )

    def held_back(self, why: str | None, *, paused: bool) -> None:
        """Note that a run pauses or slows down for this cause; None when it goes on as before."""
        with self._lock:
            state = self._state
            before = self._paused_from
            if paused and before is None:
                self._paused_from = (state.doing, state.why)
                self._state = replace(state, doing="paused", why=why)
            elif not paused:
                doing = before[0] if before else state.doing
                self._paused_from = None
                self._state = replace(state, doing=doing, why=why)
            self._readings.clear()

    def committed(self, committed: Committed) -> None:
        """Note a batch that is safely on disk."""
        with self._lock:
            self._state = replace(
                self._state,
                last_commit_at=time.time(),
                embedded=self._state.embedded + committed.embedded,
                # What is tried again and again would count each time.
                failed=self._state.failed
                + sum(not failure.try_again for failure in committed.failures),
            )

    def looked(self) -> None:
        """Count a run over places that something happened to."""
        with self._lock:
            self._state = replace(self._state, looks=self._state.looks + 1)

    def event(self) -> None:
        """Note that the watcher reported something; called for each, from its threads."""
        with self._lock:
            self._state = replace(self._state, last_event_at=time.time())

    def model(self, name: str | None) -> None:
        """Note which model answers; None before there is one."""
        if name != self._state.model:
            with self._lock:
                self._state = replace(self._state, model=name)

    def warn(self, warning: str) -> bool:
        """Note a warning; return whether it is news.

        The same is news again after a day: what has been wrong for weeks stays in the newest log.
        """
        now = self._clock()
        with self._lock:
            told_at = self._told.pop(warning, None)
            is_news = told_at is None or now - told_at >= _TELL_AGAIN_SECONDS
            self._told[warning] = now if told_at is None or is_news else told_at
            if len(self._told) > _WARNINGS_REMEMBERED:
                self._told.popitem(last=False)
            others = [known for known in self._state.last_warnings if known != warning]
            newest = (*others, warning)[-_WARNINGS_SHOWN:]
            self._state = replace(self._state, last_warnings=newest)
        return is_news

    def _rate(self) -> float | None:
        now = self._clock()
        while self._readings and now - self._readings[0][0] > _RATE_SECONDS:
            self._readings.popleft()
        if len(self._readings) < 2:
            return None
        (first_at, first), (last_at, last) = self._readings[0], self._readings[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else None
