"""Decoding in worker processes that may crash, hang or run out of memory one picture at a time.

An own pool, after looking at the existing ones: in `concurrent.futures` one dead worker breaks
the pool and nothing stops a job that hangs; in Pebble a worker that is killed while it waits
breaks the pool too. Both start workers with `multiprocessing`, which runs the user's main script
again in each of them; these are started as programs of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from multiprocessing.spawn import get_executable
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import numpy as np

from siglip_index.records import Fingerprint, PhotoFacts
from siglip_search.errors import NotAPictureError, UnreadablePictureError, WorkerError
from siglip_search.photos.fingerprint import ChangedWhileReadError, TryAgainError
from siglip_search.photos.frames import read_header, read_raw, write_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray
    from PIL import Image

    from siglip_search.photos.decode import DecodeLimits

# Starting takes 0.3 s on an idle machine; a busy one with a cold disk must not count as broken.
_START_TIMEOUT_SECONDS = 60.0

_MAX_ATTEMPTS = 3
"""So many workers in a row that do not start end the pool's attempts; so many that end before they
begin with a job end the attempts with that job."""

_EXIT_TIMEOUT_SECONDS = 5.0

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


class DecodePool:
    """Worker processes, each of which reads, hashes, decodes and prepares one file at a time.

    They start when the first jobs come and end with the pool, or with this process, however it
    ends. A worker that dies or takes too long fails its own picture only and is replaced.

    Futures raise UnreadablePictureError (str() is the reason), its subclasses NotAPictureError
    and TryAgainError (the latter: nothing is known about the content), FileNotFoundError, or
    WorkerError when no worker can be started at all.
    """

    def __init__(
        self,
        prepare: Callable[[Image.Image], NDArray[Any]],
        *,
        workers: int,
        limits: DecodeLimits,
        min_side: int | None,
    ) -> None:
        """Remember how to work; nothing is started yet.

        Args:
            prepare: Turns an upright RGB picture into an array, in the workers. It is pickled,
                so it must not be defined in the main script.
            workers: Most processes, >= 1.
            limits: What one picture may cost.
            min_side: As in `decode`.
        """
        if workers < 1:
            raise ValueError(f"a pool needs at least one worker, not {workers}")
        self._setup = pickle.dumps((prepare, limits, min_side))
        self._limits = limits
        self._max_workers = workers
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._workers: set[_Worker] = set()
        self._unfinished = 0
        self._failed_starts = 0
        self._broken: str | None = None
        self._closed = False
        self._cancelled = False

    def decode(self, path: bytes) -> Future[PreparedPicture]:
        """Hash, decode and prepare a file.

        Args:
            path: Absolute path.

        Raises:
            RuntimeError: If the pool is closed.
        """
        return self._submit("decode", path)

    def hash(self, path: bytes) -> Future[tuple[bytes, Fingerprint]]:
        """Hash a file's bytes, and return the fingerprint of the descriptor that was read.

        Args:
            path: Absolute path.

        Raises:
            RuntimeError: If the pool is closed.
        """
        return self._submit("hash", path)

    def close(self, *, cancel: bool = False) -> None:
        """End the workers; a second call does nothing more.

        Args:
            cancel: Kill them at once; unfinished futures raise CancelledError. Otherwise wait
                until every job is done.
        """
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            if cancel:
                self._cancelled = True
                for worker in self._workers:
                    worker.kill()
        if cancel:
            self._cancel_waiting()
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Whoever leaves with an exception no longer waits for the results.
        self.close(cancel=kind is not None)

    def _submit(self, kind: str, path: bytes) -> Future[Any]:
        job = _Job(kind, path, Future())
        with self._lock:
            if self._closed:
                raise RuntimeError("the decoding pool is closed")
            self._unfinished += 1
            if self._unfinished > len(self._threads) < self._max_workers:
                thread = threading.Thread(
                    target=self._run, name=f"decode-{len(self._threads)}", daemon=True
                )
                self._threads.append(thread)
                thread.start()
            self._jobs.put(job)
        return job.future

    def _cancel_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.future.cancel()
                    job.future.set_running_or_notify_cancel()

    def _run(self) -> None:
        """Serve jobs with one worker process at a time; runs in a thread of its own."""
        worker: _Worker | None = None
        try:
            while (job := self._jobs.get()) is not None:
                outcome = None
                is_wanted = job.future.set_running_or_notify_cancel()
                if is_wanted:
                    outcome, worker = self._serve(job, worker)
                # Before the outcome is known: whoever reacts to it with another job must find
                # this worker free, and not start one more.
                with self._lock:
                    self._unfinished -= 1
                if is_wanted and isinstance(outcome, Exception):
                    job.future.set_exception(outcome)
                elif is_wanted:
                    job.future.set_result(outcome)
        finally:
            if worker is not None:
                self._let_go(worker)

    def _serve(self, job: _Job, worker: _Worker | None) -> tuple[Any, _Worker | None]:
        """Have one job done.

        Returns:
            What the future holds, a result or an exception, and the worker that can take the
            next job.
        """
        for _ in range(_MAX_ATTEMPTS):
            if worker is None:
                try:
                    worker = self._start_worker()
                except (CancelledError, WorkerError) as error:
                    return error, None
            try:
                outcome = worker.do(job, self._limits.max_seconds)
            except _JobNotTakenError:
                # It died while it waited: not this picture's doing, so another one gets it.
                self._let_go(worker)
                worker = None
            except _WorkerDiedError as death:
                self._let_go(worker)
                if self._cancelled:
                    return CancelledError(), None
                return UnreadablePictureError(str(death)), None
            else:
                if worker.is_killed:
                    # The outcome came just before the time was up.
                    self._let_go(worker)
                    worker = None
                return outcome, worker
        return WorkerError("the decoding processes end before they begin with a picture"), worker

    def _start_worker(self) -> _Worker:
        """Start a worker and wait until it is ready.

        Raises:
            CancelledError: If the pool was closed meanwhile.
            WorkerError: If too many in a row ended instead, or none can be started at all.
        """
        while True:
            with self._lock:
                if self._cancelled:
                    raise CancelledError
                if self._broken is not None:
                    raise _cannot_start(self._broken)
            try:
                worker = _Worker()
            except OSError as error:
                raise _cannot_start(str(error)) from error
            with self._lock:
                self._workers.add(worker)
                if self._cancelled:
                    worker.kill()
            try:
                worker.set_up(self._setup)
            except (_WorkerDiedError, OSError) as death:
                self._let_go(worker)
                with self._lock:
                    self._failed_starts += 1
                    if self._failed_starts >= _MAX_ATTEMPTS and not self._cancelled:
                        self._broken = str(death)
                continue
            with self._lock:
                self._failed_starts = 0
            return worker

    def _let_go(self, worker: _Worker) -> None:
        with self._lock:
            self._workers.discard(worker)
        worker.end()


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """What to do with one file.

    Attributes:
        kind: "decode" or "hash".
    """

    kind: str
    path: bytes
    future: Future[Any]


class _WorkerDiedError(Exception):
    """The worker is gone; str() is the reason for people."""


class _JobNotTakenError(Exception):
    """The worker was gone before it began with the job."""


class _Worker:
    """One worker process, as the thread that serves it sees it."""

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
            _WorkerDiedError: If it ended instead.
            OSError: If it ended even before it could listen.
        """
        write_frame(self._to_worker, {"kind": "setup"}, memoryview(setup))
        header = self._receive_header(_START_TIMEOUT_SECONDS)
        if header["kind"] != "ready":
            raise _WorkerDiedError(header.get("reason", "it did not start as expected"))

    def do(self, job: _Job, max_seconds: float) -> Any:
        """Have a job done.

        Returns:
            What the future holds: a result, or an exception.

        Raises:
            _JobNotTakenError: If it was gone before it began.
            _WorkerDiedError: If it died over it, or was killed because its time was up.
        """
        with self._killed_after(max_seconds):
            try:
                write_frame(self._to_worker, {"kind": job.kind, "path": os.fsdecode(job.path)})
                read_header(self._from_worker)
            except (EOFError, OSError):
                raise _JobNotTakenError from None
            try:
                header = read_header(self._from_worker)
                kind = header["kind"]
                if kind == "crash":
                    raise _WorkerDiedError(f"the decoder crashed ({header['reason'][:100]})")
                if kind in _FAILURES:
                    return _FAILURES[kind](header)
                digest = bytes.fromhex(header["hash"])
                status = Fingerprint(**header["fingerprint"])
                if kind == "hashed":
                    return digest, status
                pixels = np.empty(header["shape"], np.dtype(header["dtype"]))
                if pixels.nbytes:
                    read_raw(self._from_worker, pixels.reshape(-1).data)
            except (EOFError, OSError):
                raise _WorkerDiedError(self._cause_of_death(max_seconds)) from None
        return PreparedPicture(digest, PhotoFacts(**header["facts"]), pixels, status)

    def _receive_header(self, max_seconds: float) -> dict[str, Any]:
        with self._killed_after(max_seconds):
            try:
                return read_header(self._from_worker)
            except (EOFError, OSError):
                raise _WorkerDiedError(self._cause_of_death(max_seconds)) from None

    @contextlib.contextmanager
    def _killed_after(self, max_seconds: float) -> Iterator[None]:
        """Kill the worker when the block takes longer."""
        # A timer beside a blocking read, because only sockets can be waited for with a time
        # limit on every platform.
        is_over = False

        def kill_if_not_over() -> None:
            with self._lock:
                if not is_over:
                    self._is_killed = self._timed_out = True
                    self._process.kill()

        timer = threading.Timer(max_seconds, kill_if_not_over)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            with self._lock:
                is_over = True
            timer.cancel()

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
    "refused": lambda header: TryAgainError(header["reason"]),
    "not_a_picture": lambda header: NotAPictureError(header["reason"]),
    "unreadable": lambda header: UnreadablePictureError(header["reason"]),
}


def _cannot_start(reason: str) -> WorkerError:
    return WorkerError(
        f"the decoding processes cannot be started: {reason}",
        hint="Check that Python itself, Pillow and numpy work: python -m PIL --report",
    )
