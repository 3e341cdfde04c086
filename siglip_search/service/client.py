"""A command's side of the conversation with the daemon of its library."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from siglip_search.errors import SiglipSearchError
from siglip_search.service.address import dial

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from siglip_search.search.question import Question
    from siglip_search.service.channel import Channel
    from siglip_search.service.messages import Greeting, IndexJob, QueryReply
    from siglip_search.service.state import ServiceState

# A daemon greets at once, whatever it is doing; one that was suspended never does.
GREETING_SECONDS = 1.0
# A question may have to wait for its tower to be loaded. Working alone would not be quicker.
ANSWER_SECONDS = 15.0
# A picture may have to be decoded, and its tower be loaded as well.
PICTURE_SECONDS = 60.0
# The batch in work is committed first.
ASIDE_SECONDS = 60.0

_LOOK_UP_SECONDS = 0.2


class DaemonUnavailableError(Exception):
    """The daemon is gone, does not answer, or failed in a way that is not the user's to mend.

    Whoever asked goes on without it.
    """


def connect(directory: Path, *, greeting_seconds: float = GREETING_SECONDS) -> DaemonClient | None:
    """Return the daemon of a library, None where none answers.

    Args:
        directory: Folder of the library.
        greeting_seconds: How long one that is there may take to greet.
    """
    client = DaemonClient(directory, greeting_seconds=greeting_seconds)
    try:
        client.greet()
    except DaemonUnavailableError:
        return None
    return client


class DaemonClient:
    """The daemon of a library, as a command sees it.

    Made by `connect`; each request is a connection of its own. Every method raises
    DaemonUnavailableError when the daemon is gone or fails.

    Args:
        directory: Folder of the library.
        greeting_seconds: How long it may take to greet.
    """

    def __init__(self, directory: Path, *, greeting_seconds: float = GREETING_SECONDS) -> None:
        self._directory = directory
        self._greeting_seconds = greeting_seconds
        self._channel: Channel | None = None
        self._greeting: Greeting | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self._greeting is not None
        return self._greeting.pid

    @property
    def version(self) -> str:
        """The version of the program that the daemon runs."""
        assert self._greeting is not None
        return self._greeting.version

    @property
    def same_version(self) -> bool:
        """Whether its answers are what this program would answer itself."""
        from siglip_search.service.version import installed_version, package_folder

        assert self._greeting is not None
        return (
            self._greeting.package == package_folder()
            or self._greeting.version == installed_version()
        )

    def close(self) -> None:
        """Hang up."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def greet(self) -> None:
        """Connect, unless a connection waits for its request, and take the greeting.

        Raises:
            DaemonUnavailableError: Nobody is there, or somebody else.
        """
        if self._channel is not None:
            return
        line = dial(self._directory)
        if line is None:
            raise DaemonUnavailableError("no daemon listens")
        # Only now: a command without a daemon is not to pay for them.
        from siglip_search.service.channel import (
            WORD_BYTES,
            BadMessageError,
            Channel,
            PartnerGoneError,
        )
        from siglip_search.service.messages import PROTOCOL, greeting_from_object

        channel = Channel(line.socket)
        try:
            if line.secret is not None:
                from siglip_search.service.proof import prove_as_command

                prove_as_command(channel, line.secret, seconds=self._greeting_seconds)
            greeting = greeting_from_object(
                channel.receive(seconds=self._greeting_seconds, limit=WORD_BYTES)
            )
            if greeting.protocol != PROTOCOL:
                raise ValueError("the daemon speaks another protocol")
        except (BadMessageError, PartnerGoneError, TimeoutError, ValueError) as error:
            channel.close()
            raise DaemonUnavailableError(str(error)) from error
        except BaseException:
            channel.close()
            raise
        self._channel = channel
        self._greeting = greeting

    def query(self, question: Question) -> QueryReply:
        """Ask a question; the pictures in it have absolute paths.

        Any failure is DaemonUnavailableError: whoever works alone then meets and tells it.
        """
        from siglip_search.search.question_object import question_as_object
        from siglip_search.service.messages import reply_from_object

        request = {"ask": "query", "query": question_as_object(question)}
        try:
            reply = self._ask(request, PICTURE_SECONDS if question.like else ANSWER_SECONDS)
            return reply_from_object(reply)
        except (SiglipSearchError, ValueError) as error:
            raise DaemonUnavailableError(str(error)) from error

    def state(self) -> ServiceState:
        """Return what the daemon is doing."""
        from siglip_search.service.state import state_from_object

        try:
            return state_from_object(self._ask({"ask": "state"}, ANSWER_SECONDS))
        except (SiglipSearchError, ValueError) as error:
            raise DaemonUnavailableError(str(error)) from error

    def index(
        self,
        job: IndexJob,
        on_event: Callable[[dict[str, Any]], None],
        stop: threading.Event,
    ) -> dict[str, Any]:
        """Hand a run of `index` over and wait until it is done.

        Args:
            job: What to index.
            on_event: Takes what `index_events.tell` understands.
            stop: When set, the daemon stops this run; its report still comes.

        Returns:
            What `messages.report_from_object` understands.

        Raises:
            SiglipSearchError: The run failed, as it would have here.
        """
        from siglip_search.service.messages import CANCEL, job_object

        with self._request({"ask": "index", "job": job_object(job)}) as channel:
            has_cancelled = False
            while True:
                try:
                    message = channel.receive(seconds=_LOOK_UP_SECONDS)
                except TimeoutError:
                    message = {}
                if stop.is_set() and not has_cancelled:
                    channel.send(CANCEL)
                    has_cancelled = True
                if "event" in message:
                    on_event(message["event"])
                elif message:
                    return _reply(message)

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """Have the daemon leave the writer's lock alone while the body runs.

        Nothing is raised when it is gone, or does not step aside in time: whoever then takes the
        lock is told who has it.
        """
        from siglip_search.service.channel import BadMessageError, PartnerGoneError

        try:
            self.greet()
            assert self._channel is not None
            self._channel.send({"ask": "step_aside"}, seconds=GREETING_SECONDS)
            self._channel.receive(seconds=ASIDE_SECONDS)
        except (DaemonUnavailableError, BadMessageError, PartnerGoneError, TimeoutError):
            self.close()
        except BaseException:
            self.close()
            raise
        try:
            yield
        finally:
            self.close()  # which tells the daemon, as our death would

    def stop(self, *, wait_seconds: float = 30.0) -> bool:
        """Have the daemon end, and wait for it.

        Args:
            wait_seconds: At most so long.

        Returns:
            Whether it has ended.
        """
        from siglip_search.service.channel import PartnerGoneError

        with self._request({"ask": "stop"}) as channel:
            _reply(channel.receive(seconds=ANSWER_SECONDS))
            try:
                channel.receive(seconds=wait_seconds)
            except PartnerGoneError:
                return True
            except TimeoutError:
                pass
        return False

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        with self._request(request) as channel:
            return _reply(channel.receive(seconds=seconds))

    @contextmanager
    def _request(self, request: dict[str, Any]) -> Iterator[Channel]:
        """Give the connection on which a request was made."""
        from siglip_search.service.channel import REQUEST_BYTES, BadMessageError, PartnerGoneError

        self.greet()
        channel = self._channel
        assert channel is not None
        try:
            channel.send(request, seconds=ANSWER_SECONDS, limit=REQUEST_BYTES)
            yield channel
        except (BadMessageError, PartnerGoneError, TimeoutError) as error:
            raise DaemonUnavailableError(str(error)) from error
        finally:
            self.close()


def _reply(message: dict[str, Any]) -> dict[str, Any]:
    """Return the reply in a message.

    Raises:
        SiglipSearchError: It is the failure of something that a person can do something about.
        DaemonUnavailableError: It is another failure, or none of both.
    """
    match message:
        case {"reply": dict(reply)}:
            return reply
        case {"error": {"expected": True, "message": str(what), "hint": str(hint)}}:
            raise SiglipSearchError(what, hint=hint)
        case {"error": {"message": str(what)}}:
            raise DaemonUnavailableError(what)
    raise DaemonUnavailableError("what the daemon said is no reply")
