"""What the endpoint asks of the daemon behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from siglip_search.search.question import Question
    from siglip_search.service.messages import IndexJob, QueryReply
    from siglip_search.service.state import ServiceState


class Served(Protocol):
    """A daemon, as the endpoint sees it.

    Each is called in a thread of its connection, several at a time. Expected failures
    (SiglipSearchError, StoreError) reach the command with their message and hint.
    """

    def query(self, request: Question) -> QueryReply:
        """Answer a question."""
        ...

    def state(self) -> ServiceState:
        """Return what the daemon is doing; must never wait for it."""
        ...

    def index(
        self,
        request: IndexJob,
        on_event: Callable[[dict[str, Any]], None],
        cancelled: threading.Event,
    ) -> dict[str, Any]:
        """Run a job and return `messages.report_object` of its report.

        Args:
            request: What to index.
            on_event: Takes what `index_events.listener_for` makes of the run's listener. It never
                blocks and never fails, also when nobody listens any more.
            cancelled: Set when the user stopped the command. It is not set when the command was
                killed: then the job goes on.
        """
        ...

    def step_aside(self, done: threading.Event) -> None:
        """Return once the writer's lock is free, and leave it alone until `done` is set.

        Args:
            done: Set when the command has finished or is gone, possibly while this still waits;
                then return.
        """
        ...

    def stop(self) -> None:
        """Begin to end; return at once."""
        ...
