"""Reading metadata again, of pictures whose vectors stay as they are.

Two things make it necessary: a sidecar that changed, came or went, and a version of the program
that reads more than the one that indexed. Either way the store remembers a version of metadata
below the present one, so that a run that is stopped, or a drive that is away, delays it only.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import TYPE_CHECKING

from siglip_index.locations import join
from siglip_search.errors import UnreadablePictureError
from siglip_search.ingest.report import Progress
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.fingerprint import TryAgainError, would_download
from siglip_search.photos.metadata import METADATA_VERSION
from siglip_search.photos.stacks import in_order_of_weight, is_sidecar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable, Sequence
    from concurrent.futures import Future

    from siglip_index.protocol import Store
    from siglip_index.records import Fingerprint, Photo, PhotoFacts
    from siglip_search.ingest.plan import RootPlan
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.photos.worker_process import ReadFacts

_PHOTOS_A_COMMIT = 256


def read_metadata_again(
    store: Store,
    plans: Sequence[RootPlan],
    limits: DecodeLimits,
    *,
    jobs: int,
    stop: threading.Event,
    on_progress: Callable[[Progress], None] = lambda _: None,
    among: Collection[int] | None = None,
) -> int:
    """Read what has to be read again; return of how many pictures.

    Args:
        store: Opened for writing; what the plans say is carried out already.
        plans: What the scan of each root meant. Nothing else is read.
        limits: As for decoding.
        jobs: Pictures read at the same time, >= 1.
        stop: When set, no more are read, and what was read is committed.
        on_progress: Called now and then.
        among: Only these photos; None for all that the plans have seen.

    Raises:
        StoreError: A commit failed; what was committed before it stays.
        WorkerError: The reading processes do not start.
    """
    work = _MetadataPass(store, plans, download_cloud=limits.download_cloud, among=among)
    if not len(work) or stop.is_set():
        return 0
    workers = min(jobs, len(work))
    pool = DecodePool(None, workers=workers, limits=limits, min_side=None)
    try:
        # Two jobs a worker keep it busy while its last result is fetched.
        return work.run(pool, in_work=2 * workers, stop=stop, on_progress=on_progress)
    finally:
        pool.close(cancel=stop.is_set())


class _MetadataPass:
    """What has to be read again, of the files that this run's scan has seen.

    Args:
        store: Opened for writing; what the plans say without reading is recorded already.
        plans: What the scan of each root meant.
        download_cloud: As in `DecodeLimits`.
        among: Only these photos; None for all.
    """

    def __init__(
        self,
        store: Store,
        plans: Sequence[RootPlan],
        *,
        download_cloud: bool,
        among: Collection[int] | None,
    ) -> None:
        self._store = store
        self._download_cloud = download_cloud
        self._photos = sorted(store.photos_with_older_metadata(METADATA_VERSION, among))
        # Only what was seen now is read: below a root whose drive was replaced by another one
        # lie other files under the same names.
        self._seen = _seen_files(plans) if self._photos else {}

    def __len__(self) -> int:
        return len(self._photos) if self._seen else 0

    def run(
        self,
        pool: DecodePool,
        *,
        in_work: int,
        stop: threading.Event,
        on_progress: Callable[[Progress], None],
    ) -> int:
        """Read and commit, with so many files in work at a time; see `read_metadata_again`."""
        done = 0
        for start in range(0, len(self), _PHOTOS_A_COMMIT):
            if stop.is_set():
                break
            photos = self._store.photos(self._photos[start : start + _PHOTOS_A_COMMIT])
            found = list(self._read(photos, pool, in_work, stop))
            with self._store.write() as writer:
                for photo, facts in found:
                    writer.update_facts(photo.id, facts)
            done += len(found)
            on_progress(Progress(min(start + _PHOTOS_A_COMMIT, len(self)), len(self)))
        return done

    def _read(
        self, photos: Iterable[Photo], pool: DecodePool, in_work: int, stop: threading.Event
    ) -> Iterable[tuple[Photo, PhotoFacts]]:
        waiting: deque[tuple[Photo, Fingerprint, bool, Future[ReadFacts]]] = deque()
        for photo in photos:
            path = next((path for path in photo.paths if path in self._seen), None)
            if path is None or stop.is_set():
                continue
            if len(waiting) >= in_work:
                yield from _outcome(*waiting.popleft())
            sidecars = in_order_of_weight(photo.paths, filter(is_sidecar, photo.companions))
            # Without what it said before, less would be known than now: a later run reads it.
            if not self._download_cloud and any(map(would_download, sidecars)):
                continue
            # A copy on a drive that is away has its say when it is back.
            is_whole = all(path in self._seen for path in photo.paths) or all(
                map(os.path.exists, sidecars)
            )
            future = pool.read_facts(path, photo.facts, sidecars)
            waiting.append((photo, self._seen[path], is_whole, future))
        while waiting:
            yield from _outcome(*waiting.popleft())


def _outcome(
    photo: Photo, expected: Fingerprint, is_whole: bool, future: Future[ReadFacts]
) -> Iterable[tuple[Photo, PhotoFacts]]:
    """Yield the photo with its facts of today, or nothing when a later run has to try again.

    Args:
        photo: As it is known.
        expected: Of the file that is read, as the scan saw it.
        is_whole: Whether all of its sidecars are there; if not, a later run reads once more.
        future: What the reading gives.
    """
    try:
        read = future.result()
    except (CancelledError, FileNotFoundError, TryAgainError):
        return
    except UnreadablePictureError:
        # It was a picture once, and its vector is there: what is known of it stays.
        yield photo, replace(photo.facts, metadata_version=METADATA_VERSION)
        return
    if read.fingerprint != expected:
        return  # changed since the scan
    facts, before = read.facts, photo.facts
    if before.taken_source == "file-name" and facts.taken_source in (None, "file-name"):
        # The name under which a picture was first found decides, whatever it is called by now.
        facts = replace(facts, taken_at=before.taken_at, taken_source="file-name")
    yield photo, facts if is_whole else replace(facts, metadata_version=0)


def _seen_files(plans: Iterable[RootPlan]) -> dict[bytes, Fingerprint]:
    """Return the absolute path of every file that names a picture and was seen, as it was seen."""
    seen: dict[bytes, Fingerprint] = {}
    for root_plan in plans:
        root, plan = root_plan.root.path, root_plan.plan
        for known in plan.unchanged:
            seen[join(root, known.path)] = known.fingerprint
        for file in plan.to_read():
            seen[join(root, file.path)] = file.fingerprint
        for _, file in (*plan.refreshed, *plan.returned, *plan.moved):
            seen[join(root, file.path)] = file.fingerprint
    return seen
