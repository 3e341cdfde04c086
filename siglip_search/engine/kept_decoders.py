"""Decoding processes that stay from one small run to the next.

Starting two takes 0.3 to 0.4 s on two cores, which is most of what a look at a new picture takes.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from siglip_search.photos.decode_pool import DecodePool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from siglip_index.records import Fingerprint
    from siglip_search.ingest.pipeline import Decoders
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.photos.worker_process import PreparedPicture
    from siglip_search.towers.preprocess import Preprocessor

# Each takes some 37 MB while it waits. A run that needs more processes is long anyway.
MOST_KEPT = 2
# What decoders may leave behind in their processes, and what is installed anew, counts no longer.
MOST_SECONDS = 600.0
# What is free is never the same twice; processes with up to so much less than it serve as well.
MEMORY_STEP_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class _Kept:
    """Processes that are kept.

    Attributes:
        pool: Of them.
        preprocessor: As they were set up.
        limits: As they were set up; the shared memory is the most that they may be used with.
        until: When they are replaced, as the clock has it.
    """

    pool: DecodePool
    preprocessor: Preprocessor
    limits: DecodeLimits
    until: float


class KeptDecoders:
    """Keeps the decoding processes of the last small run, for one run at a time.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    @property
    def is_warm(self) -> bool:
        """Whether processes wait for the next run."""
        with self._lock:
            return self._kept is not None

    def lend(self, preprocessor: Preprocessor, workers: int, limits: DecodeLimits) -> Decoders:
        """Return processes for one run; see `Towers.decoders`."""
        if workers > MOST_KEPT:
            return new_decoders(preprocessor, workers, limits)
        now = self._clock()
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None and not (
            kept.preprocessor == preprocessor
            and _may_serve(kept.limits, limits, workers)
            and now < kept.until
        ):
            kept.pool.close(cancel=True)
            kept = None
        if kept is None:
            limits = _a_little_less(limits)
            pool = new_decoders(preprocessor, MOST_KEPT, limits)
            kept = _Kept(pool, preprocessor, limits, now + MOST_SECONDS)
        # There are two processes also where the memory is enough for one picture only.
        kept.pool.one_at_a_time = workers == 1
        return _Lent(kept, self._take_back)

    def unload(self) -> None:
        """Let the processes go that no run uses."""
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            kept.pool.close(cancel=True)

    def _take_back(self, kept: _Kept) -> None:
        with self._lock:
            if self._kept is None and kept.pool.is_at_rest:
                self._kept = kept
                return
        kept.pool.close(cancel=True)


def _may_serve(kept: DecodeLimits, limits: DecodeLimits, workers: int) -> bool:
    """Tell whether processes with these limits keep to others: the shared memory may be less."""
    if replace(kept, shared_memory_bytes=None) != replace(limits, shared_memory_bytes=None):
        return False
    if workers == 1 or limits.shared_memory_bytes is None:
        return True  # nothing is shared, or nothing has to be
    return (
        kept.shared_memory_bytes is not None
        and kept.shared_memory_bytes <= limits.shared_memory_bytes
    )


def _a_little_less(limits: DecodeLimits) -> DecodeLimits:
    """Round the shared memory down, so that what is free may shrink a little afterwards."""
    shared = limits.shared_memory_bytes
    if shared is None or shared < 2 * MEMORY_STEP_BYTES:
        return limits
    return replace(limits, shared_memory_bytes=shared // MEMORY_STEP_BYTES * MEMORY_STEP_BYTES)


class _Lent:
    """Decoding processes as one run has them; implements `Decoders`."""

    def __init__(self, kept: _Kept, give_back: Callable[[_Kept], None]) -> None:
        self._kept = kept
        self._give_back = give_back
        self._is_closed = False

    def decode(self, path: bytes, sidecars: Sequence[bytes] = ()) -> Future[PreparedPicture]:
        """See `DecodePool.decode`."""
        return self._kept.pool.decode(path, sidecars)

    def hash(self, path: bytes) -> Future[tuple[bytes, Fingerprint]]:
        """See `DecodePool.hash`."""
        return self._kept.pool.hash(path)

    def close(self, *, cancel: bool = False) -> None:
        """Give them back if all is done; end them otherwise, as `DecodePool.close` does."""
        if self._is_closed:
            return
        self._is_closed = True
        if cancel:
            self._give_back(self._kept)
        else:
            self._kept.pool.close()


def new_decoders(preprocessor: Preprocessor, workers: int, limits: DecodeLimits) -> DecodePool:
    """Return decoding processes that end with their run."""
    return DecodePool(
        preprocessor, workers=workers, limits=limits, min_side=preprocessor.min_side_px
    )
