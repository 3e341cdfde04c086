"""One decoding process as its parent sees it: fed a job at a time, killed when it is late."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from multiprocessing.spawn import get_executable
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from siglip_index.records import Fingerprint, PhotoFacts
from siglip_search.errors import NotAPictureError, UnreadablePictureError
from siglip_search.photos.fingerprint import (
    ChangedWhileReadError,
    OnlineOnlyError,
    TryAgainError,
)
from siglip_search.photos.frames import read_header, read_raw, write_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

# Starting takes 0.3 s on an idle machine; a busy one with a cold disk must not count as broken.
_START_TIMEOUT_SECONDS = 60.0

_EXIT_TIMEOUT_SECONDS = 5.0

# Of a pause of the whole program, by Ctrl-Z or a sleeping computer, only so much counts against a
# picture's time.
_TICK_SECONDS = 0.5

# An own process group: a Ctrl-C in the terminal is then not sent to a worker, not even in the
# moment before it can ignore it.
if sys.platform == "linux":
    import fcntl

_PIPE_BYTES = 1024 * 1024
"""The most that Linux allows everybody."""

if sys.platform == "win32":
    _CREATION_FLAGS = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    _PROCESS_GROUP = None
else:
    _CREATION_FLAGS = 0
    _PROCESS_GROUP = 0

# The interpreter's own options are not passed on, but its module search path is: an application
# or a test may have extended it, and `prepare` is found by its module's name.
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from siglip_search.photos.decode_worker import main; main()"
)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPicture:
    """A decoded picture, ready for a vision tower.

    Attributes:
        content_hash: SHA-256 of the file's bytes.
        facts: What is known of the original.
        pixels: What `prepare` returned; owned by the caller, writable.
        fingerprint: Of the descriptor that was read, so of these very bytes.
    """

    content_hash: bytes
    facts: PhotoFacts
    pixels: NDArray[Any]
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class ReadFacts:
    """What a picture says of itself, read again without its pixels.

    Attributes:
        facts: Size and format as they were known, the rest as it is read today.
        fingerprint: Of the descriptor that was read.
    """

    facts: PhotoFacts
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What to do with one file.

    Attributes:
        kind: "decode", "hash" or "facts".
        path: Absolute path.
        future: Gets the outcome.
        sidecars: Absolute paths; each counts for more than those before it.
        facts: What is known of the picture, for "facts".
        is_alone: No other picture is in work, and it may have all the memory that one may have.
    """

    kind: str
    path: bytes
    future: Future[Any]
    sidecars: tuple[bytes, ...] = ()
    facts: PhotoFacts | None = None
    is_alone: bool = False

    def frame(self) -> dict[str, Any]:
        """Return what the worker is told."""
        return {
            "kind": self.kind,
            "path": os.fsdecode(self.path),
            "sidecars": [os.fsdecode(path) for path in self.sidecars],
            "facts": None if self.facts is None else asdict(self.facts),
            "is_alone": self.is_alone,
        }


class NeedsMemoryError(UnreadablePictureError):
    """The picture needs, or may need, more memory than it was allowed."""


class KilledWorkerError(UnreadablePictureError):
    """The picture's worker died over it, or had to be killed.

    Attributes:
        was_late: It had to, because it took too long. Otherwise it may have needed more memory:
            some decoders do not look whether they got what they asked for.
    """

    def __init__(self, reason: str, *, was_late: bool) -> None:
        super().__init__(reason)
        self.was_late = was_late


class WorkerDiedError(Exception):
    """The worker is gone; str() is the reason for people."""


class JobNotTakenError(Exception):
    """The worker was gone before it began with the job."""


class WorkerProcess:
    """One worker process, for the thread that serves it."""

    def __init__(self) -> None:
        interpreter = os.fsdecode(get_executable() or sys.executable)
        self._process = subprocess.Popen(  # noqa: S603  our own interpreter and constant code
            [interpreter, "-c", _BOOTSTRAP, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # One core each: there are as many workers as are wanted, and every thread of a
            # linear algebra library would reserve memory out of the picture's limit.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            process_group=_PROCESS_GROUP,
            creationflags=_CREATION_FLAGS,
        )
        self._enlarge_pipe()
        self._lock = threading.Lock()
        self._is_killed = False
        self._timed_out = False

    def _enlarge_pipe(self) -> None:
        # At Linux' 64 KiB, the worker and its thread would wait for each other a dozen times to
        # hand over one picture of 384 x 384; on a busy machine each time costs a time slice.
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._from_worker, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def is_killed(self) -> bool:
        """True once it was told to die, whether it has or not."""
        with self._lock:
            return self._is_killed

    def kill(self) -> None:
        """Kill it without waiting; from any thread."""
        with self._lock:
            self._is_killed = True
            self._process.kill()

    def end(self) -> None:
        """Close its pipes, which ends it when it waits for work, and take its exit status."""
        for pipe in (self._to_worker, self._from_worker):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(_EXIT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def set_up(self, setup: bytes) -> None:
        """Hand over what does not change from job to job, and wait until it is ready.

        Raises:
            WorkerDiedError: If it ended instead.
            OSError: If it ended even before it could listen.
        """
        write_frame(self._to_worker, {"kind": "setup"}, memoryview(setup))
        header = self._receive_header(_START_TIMEOUT_SECONDS)
        if header["kind"] != "ready":
            raise WorkerDiedError(header.get("reason", "it did not start as expected"))

    def do(self, job: Job, max_seconds: float) -> Any:
        """Have a job done.

        Returns:
            What the future holds: a result, or an exception.

        Raises:
            JobNotTakenError: If it was gone before it began.
            WorkerDiedError: If it died over it, or was killed because its time was up.
        """
        with self._killed_after(max_seconds):
            try:
                write_frame(self._to_worker, job.frame())
                read_header(self._from_worker)
            except (EOFError, OSError):
                raise JobNotTakenError from None
            try:
                header = read_header(self._from_worker)
                kind = header["kind"]
                if kind == "crash":
                    raise WorkerDiedError(f"the decoder crashed ({header['reason'][:100]})")
                if kind in _FAILURES:
                    return _FAILURES[kind](header)
                status = Fingerprint(**header["fingerprint"])
                if kind == "facts":
                    return ReadFacts(PhotoFacts(**header["facts"]), status)
                digest = bytes.fromhex(header["hash"])
                if kind == "hashed":
                    return digest, status
                pixels = np.empty(header["shape"], np.dtype(header["dtype"]))
                if pixels.nbytes:
                    read_raw(self._from_worker, pixels.reshape(-1).data)
            except (EOFError, OSError):
                raise WorkerDiedError(self._cause_of_death(max_seconds)) from None
        return PreparedPicture(digest, PhotoFacts(**header["facts"]), pixels, status)

    def _receive_header(self, max_seconds: float) -> dict[str, Any]:
        with self._killed_after(max_seconds):
            try:
                return read_header(self._from_worker)
            except (EOFError, OSError):
                raise WorkerDiedError(self._cause_of_death(max_seconds)) from None

    @contextlib.contextmanager
    def _killed_after(self, max_seconds: float) -> Iterator[None]:
        """Kill the worker when the block takes longer, not counting that this program was stopped.

        After a stop (SIGSTOP, Ctrl-Z) or a sleep every clock is past the limit at once, and the
        worker, which has a process group of its own, has had its answer ready for long.
        """
        # A thread beside a blocking read, because only sockets can be waited for with a time
        # limit on every platform.
        over = threading.Event()

        def kill_when_late() -> None:
            left = max_seconds
            while left > 0:
                tick = min(left, _TICK_SECONDS)
                if over.wait(tick):
                    return
                left -= tick  # and not what a clock says has passed
            with self._lock:
                if not over.is_set():
                    self._is_killed = self._timed_out = True
                    self._process.kill()

        watch = threading.Thread(target=kill_when_late, name="time-limit", daemon=True)
        watch.start()
        try:
            yield
        finally:
            with self._lock:
                over.set()

    def _cause_of_death(self, max_seconds: float) -> str:
        with self._lock:
            timed_out = self._timed_out
        if timed_out:
            return f"took longer than {max_seconds:g} s"
        # Its end of the pipe closes a moment before its exit status is there.
        self._process.wait(_EXIT_TIMEOUT_SECONDS)
        status = self._process.returncode
        if os.name != "nt" and status < 0:
            with contextlib.suppress(ValueError):
                return f"the decoder crashed ({signal.Signals(-status).name})"
        return f"the decoder crashed (exit status {status})"

    @property
    def _to_worker(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdin)

    @property
    def _from_worker(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdout)


_FAILURES: dict[str, Callable[[dict[str, Any]], Exception]] = {
    "vanished": lambda _: FileNotFoundError("the file is not there any more"),
    "changed": lambda _: ChangedWhileReadError(),
    "online_only": lambda _: OnlineOnlyError(),
    "refused": lambda header: TryAgainError(header["reason"]),
    "not_a_picture": lambda header: NotAPictureError(header["reason"]),
    "unreadable": lambda header: UnreadablePictureError(header["reason"]),
    "needs_memory": lambda header: NeedsMemoryError(header["reason"]),
}
