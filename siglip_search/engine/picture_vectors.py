"""Picture files become unit vectors, in their order, without a library."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from siglip_search.engine.substitutes import substitutes_on_cpu
from siglip_search.errors import UnreadablePictureError
from siglip_search.ingest.report import Failure
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.photos.worker_process import PreparedPicture
    from siglip_search.towers.session import Device


def picture_vectors(
    paths: Sequence[bytes],
    spec: ModelSpec,
    *,
    limits: DecodeLimits,
    jobs: int,
    device: Device = "cpu",
) -> Generator[NDArray[np.float32] | Failure, None, None]:
    """Yield for each file, in order, its embedding or why it has none.

    Pictures are decoded as for the index: upright, in processes of their own, which a bad file
    may crash without harm. A few are worked on ahead of the one that is asked for. The processes
    end with the iteration, however it ends.

    Args:
        paths: Absolute paths.
        spec: The model, whose picture tower is opened when the first embedding is asked for.
        limits: What one picture may cost.
        jobs: Pictures worked on at the same time, >= 1.
        device: Where the tower runs.

    Yields:
        A unit vector of shape (dimension,), or the failure.

    Raises:
        ModelError, DeviceError: The tower cannot be opened or fails.
        WorkerError: The decoding processes cannot be started.
    """
    if not paths:
        return
    tower = VisionTower(
        spec, threads=1, device=device, substitutes=partial(substitutes_on_cpu, spec)
    )
    jobs = min(jobs, len(paths))
    # As in the index, so that the same file gives the same vector.
    pool = DecodePool(
        tower.preprocessor, workers=jobs, limits=limits, min_side=tower.preprocessor.min_side_px
    )
    embedders = ThreadPoolExecutor(jobs, thread_name_prefix="embed")
    waiting: deque[tuple[bytes, Future[NDArray[np.float32]]]] = deque()
    try:
        for path in paths:
            waiting.append((path, embedders.submit(_embed, tower, pool.decode(path))))
            # So many keep every worker busy while the oldest one is being embedded.
            if len(waiting) >= 3 * jobs:
                yield _outcome(*waiting.popleft())
        while waiting:
            yield _outcome(*waiting.popleft())
    finally:
        # First the pool, for which the embedding threads wait.
        pool.close(cancel=True)
        embedders.shutdown(wait=True, cancel_futures=True)


def _embed(tower: VisionTower, decoding: Future[PreparedPicture]) -> NDArray[np.float32]:
    vector: NDArray[np.float32] = tower.embed(decoding.result().pixels[None])[0]
    return vector


def _outcome(path: bytes, future: Future[NDArray[np.float32]]) -> NDArray[np.float32] | Failure:
    try:
        return future.result()
    except FileNotFoundError:
        return Failure(path, "no such file")
    except UnreadablePictureError as error:
        return Failure(path, str(error))
