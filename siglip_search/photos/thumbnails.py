"""Small upright pictures for contact sheets and terminals."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from concurrent.futures import TimeoutError as NotDoneError
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from siglip_search.photos.worker_process import PreparedPicture

# Decoding twice as large as needed before resampling leaves no visible trace of DCT scaling.
_OVERSAMPLING: Final = 2
# To start a process takes as long as a dozen pictures, and each may need the memory of one.
_PICTURES_A_WORKER: Final = 12
_MOST_WORKERS: Final = 4
_AHEAD: Final = 2
"""Pictures in work for each worker: the next one waits while the last is drawn."""

_LIMITS: Final = DecodeLimits(shared_memory_bytes=512 << 20)


@dataclass(frozen=True, slots=True)
class _Box:
    """Shrinks pictures to fit a box; cheap to send to another process."""

    size: tuple[int, int]

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        small = image.convert("RGB")
        small.thumbnail(self.size, Image.Resampling.BICUBIC, reducing_gap=None)
        return np.asarray(small)


def thumbnails(
    paths: Sequence[str],
    size: tuple[int, int],
    *,
    limits: DecodeLimits = _LIMITS,
    seconds: float = float("inf"),
) -> Generator[Image.Image | None, None, None]:
    """Yield pictures that fit a box, decoded in processes of their own: one may be a trap by now.

    Args:
        paths: Absolute, as os.fsdecode gives them.
        size: Width and height of the box in pixels, both > 0. A picture keeps its proportions and
            is never enlarged.
        limits: What one picture may cost.
        seconds: How long all together may take; what is not done by then is left out.

    Yields:
        Upright, mode "RGB", for each path in turn; None where it is gone, cannot be decoded, would
        have to be downloaded, or is left out.

    Raises:
        WorkerError: The decoding processes cannot be started.
    """
    if not paths:
        return
    latest = time.monotonic() + seconds
    useful = -(-len(paths) // _PICTURES_A_WORKER)
    workers = min(useful, os.cpu_count() or 1, _MOST_WORKERS)
    pool = _pool(size, workers, limits)
    try:
        # No process is started for a picture that is gone.
        coming = (
            pool.decode(os.fsencode(path)) if os.path.exists(path) else None for path in paths
        )
        waiting = deque(islice(coming, _AHEAD * workers))
        while waiting:
            yield _outcome(waiting.popleft(), latest - time.monotonic())
            waiting.extend(islice(coming, 1))
    finally:
        # Whoever wants no more of them has gone, or time is up.
        pool.close(cancel=True)


def _outcome(future: Future[PreparedPicture] | None, seconds: float) -> Image.Image | None:
    if future is None:
        return None
    try:
        wait = None if math.isinf(seconds) else max(0.0, seconds)
        return Image.fromarray(future.result(wait).pixels)
    except (UnreadablePictureError, OSError, NotDoneError):
        return None


def thumbnail(path: bytes, size: tuple[int, int], limits: DecodeLimits) -> Image.Image:
    """Decode a picture, in a process of its own, and shrink it to fit a box.

    Args:
        path: Absolute path.
        size: As for `thumbnails`.
        limits: What it may cost.

    Returns:
        Upright, mode "RGB".

    Raises:
        FileNotFoundError: If the file is not there.
        UnreadablePictureError: If it cannot be decoded.
        WorkerError: The decoding process cannot be started.
    """
    with _pool(size, 1, limits) as pool:
        return Image.fromarray(pool.decode(path).result().pixels)


def _pool(size: tuple[int, int], workers: int, limits: DecodeLimits) -> DecodePool:
    min_side = _OVERSAMPLING * max(size)
    return DecodePool(_Box(size), workers=workers, limits=limits, min_side=min_side)
