"""Pictures as parts of a question: their vectors, from the library where it knows them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siglip_index.locations import relative_to
from siglip_search.errors import PathError, QueryError, UnreadablePictureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_search.models.spec import ModelSpec
    from siglip_search.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class QueryPicture:
    """A picture of a question.

    Attributes:
        vector: Unit vector, shape (dimension,).
        photo_id: Its number in the library, None where it is not in it.
    """

    vector: NDArray[np.float32]
    photo_id: int | None


def indexed_pictures(store: Store, spec: ModelSpec, photo_ids: Sequence[int]) -> list[QueryPicture]:
    """Return pictures of the library by their numbers.

    Raises:
        QueryError: One is not in the library.
    """
    return [_stored(store, spec, photo_id) for photo_id in photo_ids]


def query_pictures(
    store: Store, spec: ModelSpec, paths: Sequence[str], settings: Settings
) -> list[QueryPicture]:
    """Return the pictures of files, in their order.

    A file that the library knows, by its path with unchanged size and time or by its content, has
    its vector there and is not decoded. Where the path is known and nothing is there now (the
    drive is away, say), what the library knows is meant.

    Args:
        store: The library.
        spec: The model whose space is searched.
        paths: Absolute.
        settings: What a picture may cost, and where the tower runs.

    Raises:
        PathError: There is no such file, or it cannot be read as a picture.
        ModelError, DeviceError: The picture tower cannot be loaded or fails.
        WorkerError: The decoding processes cannot be started.
    """
    numbers = {path: _number(store, spec, path) for path in paths}
    unknown = [path for path, number in numbers.items() if number is None]
    embedded = dict(zip(unknown, _embedded(unknown, spec, settings), strict=True))
    return [
        QueryPicture(embedded[path], None) if number is None else _stored(store, spec, number)
        for path, number in ((path, numbers[path]) for path in paths)
    ]


def _stored(store: Store, spec: ModelSpec, photo_id: int) -> QueryPicture:
    try:
        (vector,) = store.vectors(spec.space_key, [photo_id])
    except LookupError:
        raise QueryError(
            f"there is no picture {photo_id} in the library",
            hint="`siglip-search query --json` shows the numbers, as photo_id.",
        ) from None
    # Half precision does not keep the length to the last digit.
    return QueryPicture(vector / np.linalg.norm(vector), photo_id)


def _number(store: Store, spec: ModelSpec, path: str) -> int | None:
    """Return the number of the picture that a file holds, None if it is not in the library."""
    from siglip_search.photos.fingerprint import content_hash, open_regular

    number = _number_by_path(store, os.fsencode(path))
    if number is None:
        try:
            with open_regular(os.fsencode(path)) as file:
                digest = content_hash(file)
        except FileNotFoundError:
            raise PathError(
                f"{path} does not exist", hint="Name a picture, in the library or not."
            ) from None
        except (UnreadablePictureError, OSError) as error:
            raise _unusable(path, error) from error
        number, _ = store.photos_by_hash(spec.space_key, [digest]).get(digest, (None, False))
    if number is None or not store.photos_in_space(spec.space_key, [number]):
        return None  # or not embedded by this model yet: it is now, for this question
    return number


def _number_by_path(store: Store, path: bytes) -> int | None:
    for root in store.roots():
        relative = relative_to(path, root.path)
        if relative is None:
            continue
        for file in store.files(root.id, relative, subfolders=False):
            if file.path != relative or file.photo_id is None:
                continue
            try:
                status = os.stat(path)
            except OSError:
                return file.photo_id
            known = file.fingerprint
            if (status.st_size, status.st_mtime_ns) == (known.size, known.mtime_ns):
                return file.photo_id
    return None


def _embedded(
    paths: Sequence[str], spec: ModelSpec, settings: Settings
) -> list[NDArray[np.float32]]:
    if not paths:
        return []
    # Here: a question without a picture, or about indexed ones, decodes nothing.
    from siglip_search.engine.picture_vectors import picture_vectors
    from siglip_search.ingest.report import Failure
    from siglip_search.photos.decode import DecodeLimits

    limits = DecodeLimits(max_pixels=settings.max_pixels, max_seconds=settings.max_seconds)
    vectors = list(
        picture_vectors(
            [os.fsencode(path) for path in paths],
            spec,
            limits=limits,
            jobs=1,
            device=settings.device,
        )
    )
    for path, vector in zip(paths, vectors, strict=True):
        if isinstance(vector, Failure):
            raise _unusable(path, vector.reason)
    return [vector for vector in vectors if not isinstance(vector, Failure)]


def _unusable(path: str, reason: object) -> PathError:
    return PathError(f"{path}: {reason}", hint="Ask with another picture, or in words.")
