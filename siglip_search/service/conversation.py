"""The daemon's side of one connection."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from siglip_index.errors import StoreError
from siglip_search.errors import SiglipSearchError
from siglip_search.service.channel import (
    REQUEST_BYTES,
    WORD_BYTES,
    BadMessageError,
    PartnerGoneError,
)
from siglip_search.service.jobs import DaemonStoppingError
from siglip_search.service.messages import (
    CANCEL,
    job_from_object,
    question_received,
    reply_object,
)
from siglip_search.service.outbox import Outbox
from siglip_search.service.proof import prove_as_daemon
from siglip_search.service.state import state_object

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.service.channel import Channel
    from siglip_search.service.messages import Greeting
    from siglip_search.service.served import Served

# A command asks at once; whoever says nothing, or half of it, must not keep a thread.
REQUEST_SECONDS = 5.0
# For an answer to be taken; a command waits for it.
TAKING_SECONDS = 10.0


class Conversation:
    """One connection: greeting, one request, events, one reply or error.

    Args:
        channel: To the command; closed at the end.
        served: Who answers.
        greeting: What is said first.
        secret: Which the command has to know; None where the system has vouched for it.
    """

    def __init__(
        self, channel: Channel, served: Served, greeting: Greeting, secret: bytes | None
    ) -> None:
        self._channel = channel
        self._served = served
        self._greeting = greeting
        self._secret = secret
        self._is_answering = False
        self._awaits_end = False

    @property
    def is_answering(self) -> bool:
        """Whether somebody waits for an answer that is being made."""
        return self._is_answering

    @property
    def awaits_end(self) -> bool:
        """Whether somebody has asked the daemon to end, and waits until it has."""
        return self._awaits_end

    def shut(self) -> None:
        """Break the connection; `run` then ends."""
        self._channel.shut()

    def run(self) -> None:
        """Hold the conversation; whatever the other end does, this ends without an exception.

        A defect of the daemon's own is raised, for its journal; the command goes on alone.
        """
        try:
            if self._secret is not None:
                prove_as_daemon(self._channel, self._secret, seconds=REQUEST_SECONDS)
            self._channel.send(asdict(self._greeting), seconds=REQUEST_SECONDS)
            request = self._channel.receive(seconds=REQUEST_SECONDS, limit=REQUEST_BYTES)
            self._answer(request)
        except BadMessageError as error:
            self._say(_error(error))
        except (PartnerGoneError, TimeoutError):
            pass  # it has gone, or never was one of ours
        finally:
            self._is_answering = False
            self._channel.close()

    def _answer(self, request: dict[str, Any]) -> None:
        self._is_answering = True
        try:
            match request:
                case {"ask": "query", "query": dict(query)}:
                    reply = reply_object(self._served.query(question_received(query)))
                case {"ask": "state"}:
                    reply = state_object(self._served.state())
                case {"ask": "index", "job": dict(job)}:
                    self._index(job)
                    return
                case {"ask": "step_aside"}:
                    self._step_aside()
                    return
                case {"ask": "stop"}:
                    self._stop()
                    return
                case _:
                    raise BadMessageError("this is nothing that a daemon is asked")
        except (SiglipSearchError, StoreError, ValueError) as error:
            self._say(_error(error))
        else:
            self._say({"reply": reply})

    def _index(self, job: dict[str, Any]) -> None:
        request = job_from_object(job)
        outbox = Outbox()
        cancelled = threading.Event()

        def heard(word: dict[str, Any]) -> None:
            if word == CANCEL:
                cancelled.set()

        def work() -> None:
            last: dict[str, Any] = {"error": {"message": "the daemon failed"}}
            try:
                last = {"reply": self._served.index(request, outbox.put_event, cancelled)}
            except (SiglipSearchError, StoreError) as error:
                last = _error(error)
            finally:
                outbox.put_last(last)

        self._hear(heard, outbox.abandon)
        # In a thread of its own, which goes on when the command is killed.
        threading.Thread(target=work, name="index job", daemon=True).start()
        try:
            for message in outbox:
                # As long as it takes: a suspended command comes back, and the run does not wait.
                self._channel.send(message)
        finally:
            outbox.abandon()

    def _step_aside(self) -> None:
        done = threading.Event()
        self._hear(lambda _: done.set(), done.set)
        try:
            self._served.step_aside(done)
            self._is_answering = False
            self._channel.send({"reply": {}}, seconds=TAKING_SECONDS)
            done.wait()
        finally:
            done.set()

    def _stop(self) -> None:
        self._awaits_end = True
        self._served.stop()
        self._channel.send({"reply": {}}, seconds=TAKING_SECONDS)
        self._is_answering = False
        # The end of the connection is the end of the daemon: the command waits for it.
        gone = threading.Event()
        self._hear(lambda _: None, gone.set)
        gone.wait()

    def _hear(self, on_word: Callable[[dict[str, Any]], None], on_gone: Callable[[], None]) -> None:
        """Listen, in a thread of its own, to what the command says from now on."""

        def hear() -> None:
            try:
                while True:
                    on_word(self._channel.receive(limit=WORD_BYTES))
            except (PartnerGoneError, BadMessageError):
                on_gone()

        threading.Thread(target=hear, name="hearing", daemon=True).start()

    def _say(self, message: dict[str, Any]) -> None:
        try:
            try:
                self._channel.send(message, seconds=TAKING_SECONDS)
            except BadMessageError as error:
                self._channel.send(_error(error), seconds=TAKING_SECONDS)
        except (PartnerGoneError, TimeoutError):
            pass  # nobody waits for it any more


def _error(error: Exception) -> dict[str, Any]:
    """Return a failure as JSON knows it; "expected" if a person can do something about it."""
    # That the daemon ends is no failure of the command's: it goes on alone.
    is_end = isinstance(error, DaemonStoppingError)
    return {
        "error": {
            "expected": isinstance(error, SiglipSearchError | StoreError) and not is_end,
            "message": str(error),
            "hint": getattr(error, "hint", ""),
        }
    }
