"""Decoding in worker processes that may crash, hang or run out of memory one picture at a time.

An own pool, after looking at the existing ones: in `concurrent.futures` one dead worker breaks
the pool and nothing stops a job that hangs; in Pebble a worker that is killed while it waits
breaks the pool too. Both start workers with `multiprocessing`, which runs the user's main script
again in each of them; these are started as programs of their own.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import threading
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from siglip_search.errors import WorkerError
from siglip_search.photos.memory_turns import MemoryTurns
from siglip_search.photos.worker_process import (
    Job,
    JobNotTakenError,
    KilledWorkerError,
    NeedsMemoryError,
    PreparedPicture,
    ReadFacts,
    WorkerDiedError,
    WorkerProcess,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from numpy.typing import NDArray
    from PIL import Image

    from siglip_index.records import Fingerprint, PhotoFacts
    from siglip_search.photos.decode import DecodeLimits

_MAX_ATTEMPTS = 3
"""So many workers in a row that do not start end the pool's attempts; so many that end before they
begin with a job end the attempts with that job."""


class DecodePool:
    """Worker processes, each of which reads, hashes, decodes and prepares one file at a time.

    They start when the first jobs come and end with the pool, or with this process, however it
    ends. A worker that dies or takes too long fails its own picture only and is replaced.

    Futures raise UnreadablePictureError (str() is the reason), its subclasses NotAPictureError,
    KilledWorkerError and TryAgainError (the latter: nothing is known about the content),
    FileNotFoundError, or WorkerError when no worker can be started at all.
    """

    def __init__(
        self,
        prepare: Callable[[Image.Image], NDArray[Any]] | None,
        *,
        workers: int,
        limits: DecodeLimits,
        min_side: int | None,
    ) -> None:
        """Remember how to work; nothing is started yet.

        Args:
            prepare: Turns an upright RGB picture into an array, in the workers. It is pickled,
                so it must not be defined in the main script. None for a pool that decodes nothing.
            workers: Most processes, >= 1.
            limits: What one picture may cost.
            min_side: As in `decode`.
        """
        if workers < 1:
            raise ValueError(f"a pool needs at least one worker, not {workers}")
        self._setup = pickle.dumps((prepare, limits, min_side))
        self._limits = limits
        self._turns = MemoryTurns()
        self._max_workers = workers
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._workers: set[WorkerProcess] = set()
        self._unfinished = 0
        self._failed_starts = 0
        self._broken: str | None = None
        self._closed = False
        self._cancelled = False
        self.one_at_a_time = False
        """Whether pictures are decoded one after another, each with the memory of one alone."""

    @property
    def is_at_rest(self) -> bool:
        """Whether it is open and has nothing to do, and all went well when processes started."""
        with self._lock:
            return not (self._unfinished or self._closed or self._failed_starts)

    def decode(self, path: bytes, sidecars: Sequence[bytes] = ()) -> Future[PreparedPicture]:
        """Hash, decode and prepare a file.

        Args:
            path: Absolute path.
            sidecars: Absolute paths of XMP files that say more of it; each counts for more than
                those before it, and one that cannot be read for nothing.

        Raises:
            RuntimeError: If the pool is closed.
        """
        return self._submit(Job("decode", path, Future(), tuple(sidecars)))

    def read_facts(
        self, path: bytes, facts: PhotoFacts, sidecars: Sequence[bytes] = ()
    ) -> Future[ReadFacts]:
        """Read a picture's metadata again, and not its pixels unless its format demands it.

        Args:
            path: Absolute path.
            facts: What is known of it; size and format stay.
            sidecars: As for `decode`.

        Raises:
            RuntimeError: If the pool is closed.
        """
        return self._submit(Job("facts", path, Future(), tuple(sidecars), facts))

    def hash(self, path: bytes) -> Future[tuple[bytes, Fingerprint]]:
        """Hash a file's bytes, and return the fingerprint of the descriptor that was read.

        Args:
            path: Absolute path.

        Raises:
            RuntimeError: If the pool is closed.
        """
        return self._submit(Job("hash", path, Future()))

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

    def _submit(self, job: Job) -> Future[Any]:
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
        worker: WorkerProcess | None = None
        try:
            while (job := self._jobs.get()) is not None:
                outcome = None
                is_wanted = job.future.set_running_or_notify_cancel()
                if is_wanted:
                    outcome, worker = self._serve_in_turn(job, worker)
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

    def _serve_in_turn(
        self, job: Job, worker: WorkerProcess | None
    ) -> tuple[Any, WorkerProcess | None]:
        """Have one job done beside others, and again, alone, if there was too little memory."""
        if self.one_at_a_time:
            with self._turns.alone():
                return self._serve(replace(job, is_alone=True), worker)
        if self._limits.shared_memory_bytes is None:
            return self._serve(job, worker)
        with self._turns.shared():
            outcome, worker = self._serve(job, worker)
        if isinstance(outcome, NeedsMemoryError) or (
            isinstance(outcome, KilledWorkerError) and not outcome.was_late
        ):
            with self._turns.alone():
                outcome, worker = self._serve(replace(job, is_alone=True), worker)
        return outcome, worker

    def _serve(self, job: Job, worker: WorkerProcess | None) -> tuple[Any, WorkerProcess | None]:
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
            except JobNotTakenError:
                # It died while it waited: not this picture's doing, so another one gets it.
                self._let_go(worker)
                worker = None
            except WorkerDiedError as death:
                was_late = worker.is_killed
                self._let_go(worker)
                if self._cancelled:
                    return CancelledError(), None
                return KilledWorkerError(str(death), was_late=was_late), None
            else:
                if worker.is_killed:
                    # The outcome came just before the time was up.
                    self._let_go(worker)
                    worker = None
                return outcome, worker
        return WorkerError("the decoding processes end before they begin with a picture"), worker

    def _start_worker(self) -> WorkerProcess:
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
                worker = WorkerProcess()
            except OSError as error:
                raise _cannot_start(str(error)) from error
            with self._lock:
                self._workers.add(worker)
                if self._cancelled:
                    worker.kill()
            try:
                worker.set_up(self._setup)
            except (WorkerDiedError, OSError) as death:
                self._let_go(worker)
                with self._lock:
                    self._failed_starts += 1
                    if self._failed_starts >= _MAX_ATTEMPTS and not self._cancelled:
                        self._broken = str(death)
                continue
            with self._lock:
                self._failed_starts = 0
            return worker

    def _let_go(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._workers.discard(worker)
        worker.end()


def _cannot_start(reason: str) -> WorkerError:
    return WorkerError(
        f"the decoding processes cannot be started: {reason}",
        hint="Check that Python itself, Pillow and numpy work: python -m PIL --report",
    )
