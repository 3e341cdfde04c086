"""What commands ask of the daemon's one working thread: runs handed over, and stepping aside."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from siglip_search.errors import SiglipSearchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.service.messages import IndexJob

# How often a waiting thread looks whether the one it waits for is still there.
_LOOK_EVERY_SECONDS = 0.2


class DaemonStoppingError(SiglipSearchError):
    """The daemon takes nothing on any more."""


class HandedOver:
    """A run of `index` that a command waits for.

    Args:
        request: What to index.
        on_event: Told what the run tells; never blocks.
        cancelled: Set when the user stopped the command.

    Attributes:
        request: See above.
        on_event: See above.
        cancelled: See above.
    """

    def __init__(
        self,
        request: IndexJob,
        on_event: Callable[[dict[str, Any]], None],
        cancelled: threading.Event,
    ) -> None:
        self.request = request
        self.on_event = on_event
        self.cancelled = cancelled
        self._ended = threading.Event()
        self._report: dict[str, Any] | None = None
        self._error: Exception | None = None

    def succeed(self, report: dict[str, Any]) -> None:
        """Give the report to whoever waits."""
        self._report = report
        self._ended.set()

    def fail(self, error: Exception) -> None:
        """Raise this where somebody waits; it is nobody's any more after that."""
        self._error = error
        self._ended.set()

    @property
    def has_ended(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._ended.is_set()

    def result(self) -> dict[str, Any]:
        """Wait for the end and return the report.

        Raises:
            SiglipSearchError, StoreError: As the run raised it.
        """
        self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._report is not None
        return self._report


class Requests:
    """Stands between the threads of the connections and the one that works.

    Args:
        on_request: Called, in the asking thread, when there is something to do at once.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self._on_request = on_request
        self._changed = threading.Condition()
        self._jobs: deque[HandedOver] = deque()
        self._asides: list[threading.Event] = []
        self._is_aside = False
        self._closed = False

    def is_urgent(self) -> bool:
        """Tell whether somebody waits for the working thread; cheap, from any thread."""
        return bool(self._jobs or self._asides)

    def hand_over(
        self,
        request: IndexJob,
        on_event: Callable[[dict[str, Any]], None],
        cancelled: threading.Event,
    ) -> dict[str, Any]:
        """Have a job run and return its report; waits for as long as that takes.

        Raises:
            DaemonStoppingError: The daemon ends before it has begun.
            SiglipSearchError, StoreError: As the run raised it.
        """
        job = HandedOver(request, on_event, cancelled)
        with self._changed:
            self._refuse_when_closed()
            self._jobs.append(job)
        self._on_request()
        return job.result()

    def next_job(self) -> HandedOver | None:
        """Return the job that has waited longest, which is the caller's to end."""
        with self._changed:
            return self._jobs.popleft() if self._jobs else None

    def step_aside(self, done: threading.Event) -> None:
        """Return once the working thread is aside, or `done` is set; at once when it ends."""
        with self._changed:
            if self._closed:
                return
            self._asides.append(done)
        self._on_request()
        with self._changed:
            while not (self._is_aside or done.is_set() or self._closed):
                self._changed.wait(_LOOK_EVERY_SECONDS)

    def wants_aside(self) -> bool:
        """Tell whether a command wants to write, or has wanted to; cheap."""
        return bool(self._asides)

    def stay_aside(self) -> bool:
        """Let every command that asked for it write, for a moment.

        For the working thread, which holds no writer's lock then.

        Returns:
            Whether somebody is still at it; while this is so, call it again and do nothing else.
        """
        with self._changed:
            self._asides = [done for done in self._asides if not done.is_set()]
            # Decided while nobody can ask: whoever does so next is told to wait again.
            self._is_aside = bool(self._asides)
            if not self._asides:
                return False
            self._changed.notify_all()
            first = self._asides[0]
        first.wait(_LOOK_EVERY_SECONDS)
        return True

    def close(self) -> None:
        """Let nobody wait any more: the working thread ends."""
        with self._changed:
            self._closed = True
            jobs, self._jobs = self._jobs, deque()
            self._changed.notify_all()
        for job in jobs:
            job.fail(_stopping())

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise _stopping()


def _stopping() -> DaemonStoppingError:
    return DaemonStoppingError(
        "the daemon of this library is ending",
        hint="Try again in a moment: commands work without it.",
    )
