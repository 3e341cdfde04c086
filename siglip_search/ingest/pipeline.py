"""Carry out a plan: decode in processes, embed in threads, commit in this one.

Three stages overlap, so that the slowest alone sets the pace. All bookkeeping happens in the
thread that calls `run`, which therefore needs no locks; the other stages only hand over futures.
"""

from __future__ import annotations

import queue
import sys
import time
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from siglip_index.records import NewPhoto
from siglip_search.errors import DeviceError, ModelError, UnreadablePictureError, WorkerError
from siglip_search.ingest.raws_in_stead import apart_from_raws
from siglip_search.ingest.report import Committed, Failure, Progress
from siglip_search.ingest.work import Batch, Content, Work, never_up_to_date, newest_first
from siglip_search.photos.fingerprint import OnlineOnlyError, TryAgainError
from siglip_search.photos.optional_formats import raw_available
from siglip_search.photos.worker_process import KilledWorkerError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_index.records import FileEntry, Fingerprint, Space
    from siglip_search.ingest.plan import RootPlan
    from siglip_search.ingest.report import IngestReport
    from siglip_search.photos.worker_process import PreparedPicture
    from siglip_search.towers.failover import Embedded

T = TypeVar("T")

# How often a waiting run looks at the stop signal.
POLL_SECONDS = 0.1

# Of so few files the hashes, some 3 ms each, are quicker had than the sizes of all contents.
FEW_FILES = 32

# So many decoding processes may die over a picture before it counts as its doing: one may be killed
# by somebody else, or for want of memory that others took.
MOST_KILLED = 3


class PictureTower(Protocol):
    """What the pipeline needs of a vision tower."""

    def embed_with_provenance(self, pixels: NDArray[np.uint8]) -> Embedded:
        """Return unit vectors (n, dimension) of pixels (n, height, width, 3); thread-safe.

        Device and precision are those that made these vectors, and are recorded with each.
        """
        ...


class Decoders(Protocol):
    """What the pipeline needs of a `DecodePool`."""

    def decode(self, path: bytes, sidecars: Sequence[bytes] = ()) -> Future[PreparedPicture]:
        """See `DecodePool.decode`."""
        ...

    def hash(self, path: bytes) -> Future[tuple[bytes, Fingerprint]]:
        """See `DecodePool.hash`."""
        ...

    def close(self, *, cancel: bool = False) -> None:
        """See `DecodePool.close`."""
        ...


class Pipeline:
    """One run of ingest over any number of roots.

    Args:
        store: Opened for writing.
        space: The embedding space of the tower.
        tower: Makes the vectors.
        pool: Reads the files.
        report: The counts so far, which the run adds to.
        decode_workers: Processes of the pool.
        embed_threads: Pictures embedded at the same time.
        stop: When set, no new work is begun, computed vectors are committed and `run` returns.
        pace: Asked, often, how many pictures may be in work now; at 0 the run is paused.
        on_commit: Called after each COMMIT.
        on_progress: Called after each file read.
    """

    def __init__(
        self,
        store: Store,
        space: Space,
        tower: PictureTower,
        pool: Decoders,
        report: IngestReport,
        *,
        decode_workers: int,
        embed_threads: int,
        stop: threading.Event,
        pace: Callable[[], int] = lambda: sys.maxsize,
        on_commit: Callable[[Committed], None] = lambda _: None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._pace = pace
        self._space = space
        self._tower = tower
        self._pool = pool
        self._stop = stop
        self._on_commit = on_commit
        self._on_progress = on_progress
        # Two jobs a worker keep it busy while its last result is fetched; the second bound keeps
        # decoded pixels from piling up in front of a slow tower.
        self._max_decoding = 2 * decode_workers
        self._max_embedding = 2 * embed_threads + decode_workers
        self._embedders = ThreadPoolExecutor(embed_threads, thread_name_prefix="embed")
        self._finished: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._decoding = 0
        self._embedding: dict[bytes, Content] = {}
        self._batch = Batch()
        self._accepting = True
        self._report = report
        self._progress = Progress(0, 0)
        self._waiting: deque[Work] = deque()
        self._sizes_in_store: set[int] | None = None  # None for all sizes that there are

    def run(self, plans: Sequence[RootPlan]) -> IngestReport:
        """Carry out the plans and return the counts of what was committed.

        Raises:
            StoreError: A commit failed; what was committed before it stays.
            ModelError: The tower failed; computed vectors were committed first.
            DeviceError: Its device did, for good; likewise, and the message counts what is left.
            WorkerError: The decoding processes do not start; likewise.
        """
        waiting = self._waiting = newest_first(plans)
        self._progress = Progress(0, len(waiting))
        self._sizes_in_store = self._store.known_sizes() if len(waiting) > FEW_FILES else None
        failure: ModelError | DeviceError | WorkerError | None = None
        try:
            self._work_through(waiting)
        except (ModelError, DeviceError, WorkerError) as error:
            failure = error
        finally:
            self._accepting = False
            self._pool.close(cancel=True)
            self._embedders.shutdown(wait=True, cancel_futures=True)
        # Also after a failure or a stop: what was computed is not thrown away.
        self._drain()
        self._commit()
        self._report.pending += len(waiting) + self._decoding
        self._report.pending += sum(len(content.files) for content in self._embedding.values())
        if isinstance(failure, DeviceError):
            raise self._stopped_by(failure) from failure
        if failure is not None:
            raise failure
        self._report.stopped = self._stop.is_set()
        return self._report

    def _stopped_by(self, failure: DeviceError) -> DeviceError:
        """Return the failure with what a user wants to know then: nothing is lost."""
        kept, left = self._report.embedded, self._report.pending
        return DeviceError(
            f"{failure}; embedded in this run, and kept: {kept:,}; left for the next: {left:,}",
            hint=failure.hint,
        )

    def _work_through(self, waiting: deque[Work]) -> None:
        while (waiting or self._decoding or self._embedding) and not self._stop.is_set():
            while waiting and self._has_room():
                self._read(waiting.popleft())
            try:
                handle = self._finished.get(timeout=POLL_SECONDS)
            except queue.Empty:
                pass  # nothing finished: look at the clock and the stop signal
            else:
                handle()
            if self._batch.is_due(time.monotonic()):
                self._commit()

    def _has_room(self) -> bool:
        in_work = self._decoding + len(self._embedding)
        return (
            self._decoding < self._max_decoding
            and len(self._embedding) < self._max_embedding
            and in_work < self._pace()
        )

    def _drain(self) -> None:
        while not self._finished.empty():
            self._finished.get()()

    def _read(self, work: Work) -> None:
        # A copy has the size of its original, so only such files are worth hashing first.
        sizes = self._sizes_in_store
        if sizes is None or work.seen.fingerprint.size in sizes:
            self._submit(self._pool.hash(work.path), self._hashed, work)
        else:
            self._submit(self._pool.decode(work.path, work.sidecars), self._decoded, work)

    def _submit(
        self, future: Future[T], handle: Callable[[Work, Future[T]], None], work: Work
    ) -> None:
        self._decoding += 1
        future.add_done_callback(lambda done: self._finished.put(partial(handle, work, done)))

    def _hashed(self, work: Work, future: Future[tuple[bytes, Fingerprint]]) -> None:
        self._decoding -= 1
        result = self._result(work, future)
        if result is None:
            return
        content_hash, fingerprint = result
        if self._join_known_content(content_hash, work, work.entry(fingerprint)):
            return
        if self._accepting:
            self._submit(self._pool.decode(work.path, work.sidecars), self._decoded, work)
        else:
            self._report.pending += 1

    def _decoded(self, work: Work, future: Future[PreparedPicture]) -> None:
        self._decoding -= 1
        prepared = self._result(work, future)
        if prepared is None:
            return
        entry = work.entry(prepared.fingerprint)
        if self._join_known_content(prepared.content_hash, work, entry):
            return
        if not self._accepting:
            self._report.pending += 1
            return
        content = Content(prepared.content_hash, prepared.facts, [(work, entry)])
        self._embedding[content.content_hash] = content
        self._embedders.submit(
            self._tower.embed_with_provenance, prepared.pixels[None]
        ).add_done_callback(lambda done: self._finished.put(partial(self._embedded, content, done)))

    def _embedded(self, content: Content, future: Future[Embedded]) -> None:
        if future.cancelled() or (not self._accepting and future.exception() is not None):
            return  # stays in self._embedding, which the report counts as pending
        embedded = future.result()
        del self._embedding[content.content_hash]
        photo = NewPhoto(
            content_hash=content.content_hash,
            facts=content.facts,
            vector=embedded.vectors[0],
            precision=embedded.precision,
            device=embedded.device,
        )
        self._batch.start()
        self._batch.new[content.content_hash] = (content, photo)
        self._report.embedded += 1
        self._advance(len(content.files))

    def _join_known_content(self, content_hash: bytes, work: Work, entry: FileEntry) -> bool:
        """Let the file name a content that has a vector, or is about to; False if there is none."""
        if content_hash in self._embedding:
            self._embedding[content_hash].files.append((work, entry))
            return True
        if self._sizes_in_store is not None:
            self._sizes_in_store.add(entry.fingerprint.size)
        if content_hash in self._batch.new:
            self._batch.new[content_hash][0].files.append((work, entry))
        else:
            known = self._store.photos_by_hash(self._space.key, [content_hash])
            photo_id, has_vector = known.get(content_hash, (0, False))
            if not has_vector:
                return False
            self._batch.start()
            self._batch.links.append((photo_id, work, entry))
        self._advance(1)
        return True

    def _result(self, work: Work, future: Future[T]) -> T | None:
        """Return what a reading gave, or None after accounting for why it gave nothing."""
        try:
            return future.result()
        except CancelledError:
            self._report.pending += 1
        except FileNotFoundError:
            self._advance(1)  # gone since the scan: there is nothing to account for
        except OnlineOnlyError:
            self._set_aside(work)
        except TryAgainError as error:
            entry = work.entry(never_up_to_date(work.seen.fingerprint))
            self._fail(entry, Failure(work.path, str(error), try_again=True))
        except UnreadablePictureError as error:
            # What took too long would do so twice more, and others wait meanwhile.
            if isinstance(error, KilledWorkerError) and not error.was_late:
                self._try_at_the_end(work, str(error))
                return None
            self._fail(self._without_raws(work).entry(), Failure(work.path, str(error)))
        return None

    def _try_at_the_end(self, work: Work, cause: str) -> None:
        """Put a picture that killed its decoding process last, and in quarantine the third time."""
        work = replace(work, killed=work.killed + 1)
        if work.killed < MOST_KILLED:
            self._waiting.append(work)
            return
        reason = f"quarantined: {cause}, {work.killed} times"
        self._fail(self._without_raws(work).entry(), Failure(work.path, reason))

    def _set_aside(self, work: Work) -> None:
        """Take note of a file that went to the cloud after the scan; what was known holds on."""
        self._batch.start()
        self._batch.online_only.append(work)
        self._advance(1)

    def _without_raws(self, work: Work) -> Work:
        """Let the RAWs of a new picture that cannot be read be read in its stead."""
        if work.kind == "unchanged" or not raw_available():
            return work
        seen, raws = apart_from_raws(work.seen)
        self._waiting.extend(Work(work.root, raw, "added") for raw in raws)
        self._progress = replace(self._progress, total=self._progress.total + len(raws))
        self._report.companions -= len(raws)
        return replace(work, seen=seen)

    def _fail(self, entry: FileEntry, failure: Failure) -> None:
        self._batch.start()
        self._batch.failures.append((entry, failure))
        self._advance(1)

    def _advance(self, files: int) -> None:
        self._progress = replace(self._progress, done=self._progress.done + files)
        self._on_progress(self._progress)

    def _commit(self) -> None:
        batch, self._batch = self._batch, Batch()
        if not len(batch):
            return
        names = {
            photo.id: set(photo.paths)
            for photo in self._store.photos([link[0] for link in batch.links])
        }
        with self._store.write() as writer:
            for content, photo in batch.new.values():
                photo_id = writer.add_photo(self._space.key, photo)
                writer.link_files(photo_id, [entry for _, entry in content.files])
                # Those of the first file were read with the picture.
                if any(work.sidecars for work, _ in content.files[1:]):
                    writer.forget_metadata([photo_id])
            for photo_id, _, entry in batch.links:
                writer.link_files(photo_id, [entry])
            writer.forget_metadata(photo_id for photo_id, work, _ in batch.links if work.sidecars)
            for entry, failure in batch.failures:
                writer.record_failure(entry, failure.reason)
            for work in batch.online_only:
                if work.kind == "added":
                    path = work.seen.path
                    writer.set_online_only(work.root.id, [path], under=path)
        for work in batch.online_only:
            if work.kind == "added":
                self._report.online_only += 1
            else:
                self._report.unchanged += 1
        for content, _ in batch.new.values():
            for position, (work, _) in enumerate(content.files):
                self._count(work, is_copy=position > 0)
        for photo_id, work, _ in batch.links:
            others = names.setdefault(photo_id, set()) - {work.path}
            is_move = work.kind == "added" and not others
            self._count(replace(work, kind="moved") if is_move else work, is_copy=bool(others))
            names[photo_id].add(work.path)
        failures = tuple(failure for _, failure in batch.failures)
        self._report.failed += len(failures)
        self._report.failures.extend(failures)
        works = [work for content, _ in batch.new.values() for work, _ in content.files]
        works += [work for _, work, _ in batch.links]
        if works or failures:
            paths = tuple(work.path for work in works)
            self._on_commit(Committed(paths, failures, len(batch.new)))

    def _count(self, work: Work, *, is_copy: bool) -> None:
        match work.kind:
            case "added":
                self._report.added += 1
            case "changed":
                self._report.changed += 1
            case "moved":
                self._report.moved += 1
            case _:
                self._report.unchanged += 1
        if is_copy and work.kind in {"added", "changed"}:
            self._report.copies += 1
