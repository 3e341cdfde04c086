"""Stopping one run without stopping the daemon, and the proof that the working thread goes on."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from siglip_search.service.readiness import notify, watchdog_interval_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

# systemd shows the newest status; more often than this nobody reads it.
_STATUS_EVERY_SECONDS = 2.0


class RunStop(threading.Event):
    """Stops a run: set by whoever needs the working thread, or with one of other events.

    A run looks at it several times a second, whatever it is doing; that is how the daemon knows
    that it does not hang.

    Args:
        others: Each of them, once set, counts as this one.
        on_look: Called whenever a run looks, in its thread.
    """

    def __init__(self, *others: threading.Event, on_look: Callable[[], None]) -> None:
        super().__init__()
        self._others = others
        self._on_look = on_look

    def is_set(self) -> bool:
        """Tell whether the run shall end."""
        self._on_look()
        return super().is_set() or any(other.is_set() for other in self._others)


class Pulse:
    """Tells the service manager that the working thread goes on, and what it does.

    Without a service manager it does nothing. Used by the working thread alone.

    Args:
        send: Sends a state to the service manager.
        interval_seconds: How often the watchdog wants to hear; None where there is none.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        send: Callable[[str], bool] = notify,
        *,
        interval_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._clock = clock
        self._interval = interval_seconds or watchdog_interval_seconds()
        self._beaten_at = -float("inf")
        self._status = ""
        self._status_at = -float("inf")

    @property
    def interval_seconds(self) -> float | None:
        """How often `beat` has to be called at least; None where nobody listens."""
        return self._interval

    def beat(self) -> None:
        """Say that the working thread goes on; cheap, to be called as often as it does."""
        now = self._clock()
        if self._interval is not None and now - self._beaten_at >= self._interval / 2:
            self._beaten_at = now
            self._send("WATCHDOG=1")

    def ready(self) -> None:
        """Say that questions are answered from now on."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the daemon ends."""
        self._send("STOPPING=1")

    def status(self, line: Callable[[], str]) -> None:
        """Say what is being done; what has not changed is not said again.

        Args:
            line: Makes the line, when it is time for one.
        """
        now = self._clock()
        if now - self._status_at < _STATUS_EVERY_SECONDS:
            return
        self._status_at = now
        if (status := line()) != self._status:
            self._status = status
            self._send(f"STATUS={status}")
