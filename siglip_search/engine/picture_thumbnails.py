"""Thumbnails of indexed pictures: from the cache, or read from their files and kept there."""

from __future__ import annotations

from collections import OrderedDict, deque
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from siglip_search.engine.machine_state import available_memory
from siglip_search.engine.memory_share import share_memory
from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.search.near_duplicates import Thumbnail, Thumbnailer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from siglip_search.engine.duplicate_files import KnownPicture
    from siglip_search.engine.thumbnail_cache import ThumbnailCache
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.photos.worker_process import PreparedPicture

_KEPT_AT_A_TIME: Final = 64
_IN_MEMORY: Final = 128
"""Each takes some 400 kB with what is made of it."""


def make_thumbnails(
    pictures: Iterable[KnownPicture],
    cache: ThumbnailCache,
    *,
    limits: DecodeLimits,
    jobs: int,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[int, str]:
    """Read the pictures of which the cache has no thumbnail.

    Args:
        pictures: Those that are to be compared.
        cache: Where thumbnails are kept; every 64 are written, so that an interrupted run goes on.
        limits: What one picture may cost.
        jobs: Pictures read at a time, >= 1.
        on_progress: Called with how many of how many were read.

    Returns:
        Of each picture without a thumbnail, by photo id, the reason.

    Raises:
        WorkerError: The decoding processes cannot be started.
    """
    pictures = list(pictures)
    known = cache.known(picture.content_hash for picture in pictures)
    missing = [picture for picture in pictures if picture.content_hash not in known]
    failures: dict[int, str] = {}
    if not missing:
        return failures
    made: list[tuple[bytes, bytes]] = []
    with closing(read_thumbnails(missing, Thumbnailer(), limits=limits, jobs=jobs)) as outcomes:
        try:
            for done, (picture, outcome) in enumerate(outcomes, start=1):
                if isinstance(outcome, str):
                    failures[picture.photo_id] = outcome
                else:
                    made.append((picture.content_hash, outcome))
                if len(made) >= _KEPT_AT_A_TIME:
                    cache.put(made)
                    made = []
                on_progress(done, len(missing))
        finally:
            # Whoever interrupts keeps what was read.
            cache.put(made)
    return failures


def read_thumbnails(
    pictures: Sequence[KnownPicture], thumbnailer: Thumbnailer, *, limits: DecodeLimits, jobs: int
) -> Generator[tuple[KnownPicture, bytes | str]]:
    """Yield each picture, in their order, with its thumbnail, or else why there is none.

    Args:
        pictures: Those that are read.
        thumbnailer: Makes the thumbnails.
        limits: What one picture may cost.
        jobs: Pictures read at a time, >= 1.

    Raises:
        WorkerError: The decoding processes cannot be started.
    """
    share = share_memory(min(jobs, len(pictures)), available_memory(), limits)
    pool = DecodePool(
        thumbnailer,
        workers=share.decode_workers,
        limits=replace(limits, shared_memory_bytes=share.shared_bytes),
        min_side=thumbnailer.min_decoded_side,
    )
    waiting: deque[tuple[KnownPicture, Future[PreparedPicture]]] = deque()
    try:
        for picture in pictures:
            waiting.append((picture, pool.decode(picture.files[0].path)))
            if len(waiting) > 2 * share.decode_workers:
                yield _outcome(pool, *waiting.popleft())
        while waiting:
            yield _outcome(pool, *waiting.popleft())
    finally:
        pool.close(cancel=True)


def _outcome(
    pool: DecodePool, picture: KnownPicture, future: Future[PreparedPicture]
) -> tuple[KnownPicture, bytes | str]:
    reason = ""
    for place in range(len(picture.files)):
        try:
            read = (future if place == 0 else pool.decode(picture.files[place].path)).result()
        except FileNotFoundError:
            reason = "it is no longer there"
        except UnreadablePictureError as error:
            reason = str(error)
        else:
            if read.content_hash == picture.content_hash:
                return picture, read.pixels.tobytes()
            reason = "it changed since it was indexed"
    return picture, reason


class LoadedThumbnails:
    """Thumbnails ready for comparing; the ones used last stay in memory.

    Args:
        pictures: By photo id.
        cache: Where the thumbnails are.

    Attributes:
        lost: Photo ids of those that the cache could not give back, though it had them.
    """

    def __init__(self, pictures: Mapping[int, KnownPicture], cache: ThumbnailCache) -> None:
        self._pictures = pictures
        self._cache = cache
        self._loaded: OrderedDict[int, Thumbnail] = OrderedDict()
        self.lost: set[int] = set()

    def get(self, photo_id: int) -> Thumbnail | None:
        """Return a picture's thumbnail, None where there is none."""
        if photo_id in self._loaded:
            self._loaded.move_to_end(photo_id)
            return self._loaded[photo_id]
        content_hash = self._pictures[photo_id].content_hash
        jpeg = self._cache.get(content_hash)
        if jpeg is None:
            self.lost.add(photo_id)
            return None
        try:
            thumbnail = Thumbnail(jpeg)
        except OSError:  # not what was written there
            self._cache.forget(content_hash)
            self.lost.add(photo_id)
            return None
        self._loaded[photo_id] = thumbnail
        if len(self._loaded) > _IN_MEMORY:
            self._loaded.popitem(last=False)
        return thumbnail
