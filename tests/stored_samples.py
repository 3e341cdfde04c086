"""Made-up photos, files and vectors for the tests of the index."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siglip_index.records import FileEntry, Fingerprint, NewPhoto, PhotoFacts, Space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_index.protocol import Store

SPACE = Space(key="space-a", dimension=16, model="sample")
ROOT = b"/pictures"
LIBRARIES = Path(__file__).parent / "golden" / "libraries"


def unit_vectors(count: int, dimension: int = 16, *, seed: int = 0) -> NDArray[np.float32]:
    """Return random unit vectors that half precision represents exactly enough."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def as_stored(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors.astype(np.float16).astype(np.float32)


def new_photo(number: int, vector: NDArray[np.float32], **facts: object) -> NewPhoto:
    values = {"width": 640, "height": 480, "format": "JPEG"} | facts
    return NewPhoto(
        content_hash=b"content-%d" % number,
        facts=PhotoFacts(**values),  # type: ignore[arg-type]
        vector=vector,
        precision="fp32",
        device="cpu",
    )


def file_entry(root_id: int, path: bytes, number: int = 0) -> FileEntry:
    return FileEntry(root_id, path, Fingerprint(1000 + number, 10**18 + number, 7 + number), 42)


def fill(
    store: Store,
    count: int,
    *,
    first: int = 0,
    space: Space = SPACE,
    root: bytes = ROOT,
) -> list[int]:
    """Add photos number `first` and following, one file each, in one transaction."""
    vectors = unit_vectors(count, space.dimension, seed=first)
    with store.write() as writer:
        writer.ensure_space(space)
        root_id = writer.ensure_root(root, 42).id
        photo_ids = []
        for number, vector in enumerate(vectors, start=first):
            photo_id = writer.add_photo(space.key, new_photo(number, vector))
            writer.link_files(photo_id, [file_entry(root_id, b"%d.jpg" % number, number)])
            photo_ids.append(photo_id)
    return photo_ids


def write_older_library(directory: Path, version: int = 1) -> Path:
    """Write the stored sample of a library of an older format; return its database."""
    directory.mkdir(parents=True, exist_ok=True)
    database = directory / "library.sqlite3"
    script = (LIBRARIES / f"format-{version}.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)
        connection.execute("PRAGMA journal_mode = WAL")
    return database
