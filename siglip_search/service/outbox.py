"""What a run has to tell a command that may be slow to listen, or not listen at all."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from siglip_search.service.index_events import SUPERSEDED

if TYPE_CHECKING:
    from collections.abc import Iterator

# A command that is this far behind has been suspended, most likely: the run goes on without it.
LARGEST_BACKLOG = 10_000


class Outbox:
    """Messages on their way to a command; putting one in never waits for it.

    Iterating gives the messages in their order, waits for more, and ends when the last one was
    put in or nobody listens any more.
    """

    def __init__(self) -> None:
        self._messages: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()
        self._is_complete = False
        self._is_abandoned = False

    def put_event(self, event: dict[str, Any]) -> None:
        """Put in an event of the run; it takes the place of an older one of which it is news."""
        with self._changed:
            if self._is_abandoned:
                return
            last = self._messages[-1]["event"]["event"] if self._messages else None
            if last in SUPERSEDED and last == event["event"]:
                self._messages.pop()
            self._messages.append({"event": event})
            if len(self._messages) > LARGEST_BACKLOG:
                self._abandon()
            self._changed.notify_all()

    def put_last(self, message: dict[str, Any]) -> None:
        """Put in the reply or error that ends the conversation."""
        with self._changed:
            if not self._is_abandoned:
                self._messages.append(message)
            self._is_complete = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that nobody listens any more."""
        with self._changed:
            self._abandon()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._messages or self._is_complete)
                if not self._messages:
                    return
                message = self._messages.popleft()
            yield message

    def _abandon(self) -> None:
        self._messages.clear()
        self._is_abandoned = self._is_complete = True
