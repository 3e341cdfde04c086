"""A sample of the user's own pictures, decoded as indexing does it."""

from __future__ import annotations

import os
import random
from collections import deque
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from siglip_index import open_store
from siglip_index.errors import LibraryMissingError
from siglip_index.locations import join
from siglip_search.errors import PathError, UnreadablePictureError
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.scan import ScanRules, scan
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.photos.worker_process import PreparedPicture
    from siglip_search.towers.preprocess import Preprocessor

_SEED = 0
"""The same pictures each time, so that two variants, or two days, can be compared."""


def library_pictures(directory: Path) -> list[bytes]:
    """Return one present file of each picture in a library, in no order that means anything.

    Args:
        directory: The library; nothing is there yet, and the list is empty.

    Returns:
        Absolute paths.
    """
    try:
        store = open_store(directory, writable=False)
    except LibraryMissingError:
        return []
    try:
        files: dict[int, bytes] = {}
        for root in store.roots():
            for file in store.files(root.id):
                if file.present and file.photo_id is not None:
                    files.setdefault(file.photo_id, join(root.path, file.path))
    finally:
        store.close()
    return _shuffled(files.values())


def folder_pictures(folder: str | os.PathLike[str]) -> list[bytes]:
    """Return the files in a folder that may be pictures, in no order that means anything.

    Args:
        folder: As typed.

    Returns:
        Absolute paths.

    Raises:
        PathError: There is no such folder.
    """
    path = absolute_path(folder)
    if not path.exists():
        raise PathError(f"{path} does not exist", hint="Name a folder with pictures.")
    root = os.fsencode(path)
    return _shuffled(join(root, seen.path) for seen in scan(root, ScanRules()).files)


@contextmanager
def decoded_pictures(
    paths: Sequence[bytes],
    number: int,
    preprocessor: Preprocessor,
    *,
    workers: int,
    limits: DecodeLimits,
) -> Iterator[Iterator[NDArray[np.uint8]]]:
    """Give the first pictures that can be read, ready for a tower.

    Args:
        paths: Absolute paths; copies, and what cannot be read, are passed over.
        number: Most pictures, >= 1.
        preprocessor: Brings them to the tower's size.
        workers: Decoding processes, >= 1.
        limits: What one picture may cost.

    Returns:
        Pixels of one picture at a time, shape (1, height, width, 3).
    """
    pool = DecodePool(
        preprocessor, workers=workers, limits=limits, min_side=preprocessor.min_side_px
    )
    try:
        yield islice(_readable(pool, paths, ahead=2 * workers), number)
    finally:
        # Whoever has enough pictures, or was interrupted, does not wait for the next ones.
        pool.close(cancel=True)


def _readable(
    pool: DecodePool, paths: Iterable[bytes], *, ahead: int
) -> Iterator[NDArray[np.uint8]]:
    waiting = iter(paths)
    decoding: deque[Future[PreparedPicture]] = deque(map(pool.decode, islice(waiting, ahead)))
    seen: set[bytes] = set()
    while decoding:
        future = decoding.popleft()
        decoding.extend(map(pool.decode, islice(waiting, 1)))
        try:
            picture = future.result()
        except (UnreadablePictureError, FileNotFoundError):
            continue  # gone or damaged since it was indexed: another one is as good
        # Copies would count for more pictures than there are.
        if picture.content_hash not in seen:
            seen.add(picture.content_hash)
            yield picture.pixels[None]


def _shuffled(paths: Iterable[bytes]) -> list[bytes]:
    # Sorted first: a folder lists its files in another order after a copy.
    ordered = sorted(paths)
    random.Random(_SEED).shuffle(ordered)  # noqa: S311  a sample, not a secret
    return ordered
