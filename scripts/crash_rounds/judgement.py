"""What a library holds, read by somebody who has nothing to do with the writer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siglip_index import open_store
from siglip_index.errors import LibraryMissingError, StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_index.local_store import LocalStore
    from siglip_index.records import Photo


@dataclass(frozen=True)
class Holding:
    """What a library holds.

    Attributes:
        pictures: SHA-256 of the content under each path that is found.
        vectors: How many vectors it has, also of contents that are gone.
        generation: Counts its changes.
    """

    pictures: dict[Path, bytes]
    vectors: int = 0
    generation: int = -1


def holding(library: Path) -> Holding:
    """Return what a library holds; nothing where there is none yet."""
    try:
        with open_store(library, writable=False) as store:
            generation = store.generation()
            space = store.active_space()
            if space is None:
                return Holding({}, 0, generation)
            pictures = {
                Path(path.decode()): photo.content_hash
                for photo in _visible(store)
                for path in photo.paths
            }
            vectors = len(store.photos_in_space(space.key))
            return Holding(pictures, vectors, generation)
    except LibraryMissingError:
        return Holding({})


def generation_of(library: Path) -> int:
    """Return the number of the library's newest change; -1 while it cannot be read."""
    try:
        with open_store(library, writable=False) as store:
            return store.generation()
    except StoreError:
        return -1


def vectors_by_path(library: Path) -> dict[Path, NDArray[np.float32]]:
    """Return the vector of each picture that is found; float32, shape (dimension,)."""
    with open_store(library, writable=False) as store:
        space = store.active_space()
        assert space is not None
        photos = _visible(store)
        vectors = store.vectors(space.key, [photo.id for photo in photos])
        return {
            Path(path.decode()): vector
            for photo, vector in zip(photos, vectors, strict=True)
            for path in photo.paths
        }


def _visible(store: LocalStore) -> list[Photo]:
    files = [file for root in store.roots() for file in store.files(root.id)]
    return store.photos(sorted({file.photo_id for file in files if file.photo_id is not None}))


def difference(library: Path, fresh: Path) -> list[str]:
    """Return how two libraries of the same pictures differ, one line each; none when equal."""
    here, there = holding(library).pictures, holding(fresh).pictures
    lines = [f"only in one: {path}" for path in sorted(here.keys() ^ there.keys())]
    both = sorted(here.keys() & there.keys())
    lines += [f"other content: {path}" for path in both if here[path] != there[path]]
    if lines:
        return lines
    one, other = vectors_by_path(library), vectors_by_path(fresh)
    return [
        f"other vector: {path}"
        for path, vector in one.items()
        if not np.allclose(vector, other[path], atol=1e-3)
    ]
