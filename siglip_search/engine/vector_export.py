"""Taking everything along: vectors and metadata of a library in formats that others read."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from siglip_index.errors import LibraryMissingError
from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

    from siglip_index.local_store import LocalStore
    from siglip_index.protocol import Store
    from siglip_index.records import Photo, Space

ExportFormat = Literal["parquet", "jsonl"]

# 4,096 vectors of 768 numbers are 12 MiB; more in hand at once makes nothing faster.
_BATCH = 4096


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        form: The file's format.
        vectors: Export the vectors too, not the metadata alone.
        half: Vectors in half precision, as the library keeps them; for Parquet only.
    """

    form: ExportFormat
    vectors: bool = True
    half: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ExportBatch:
    """Some photos of one space.

    Attributes:
        space: The space.
        photos: With the present files of each.
        vectors: Of the photos, in their order, float32, shape (len(photos), space.dimension).
    """

    space: Space
    photos: Sequence[Photo]
    vectors: NDArray[np.float32]


class BatchWriter(Protocol):
    """Writes batches to a file of one format."""

    def write(self, batch: ExportBatch) -> None:
        """Write a row for each photo.

        Raises:
            OSError: The file cannot be written.
        """
        ...

    def close(self) -> None:
        """Write what belongs at the end; the file itself stays open.

        Raises:
            OSError: The file cannot be written.
        """
        ...


def spaces_to_export(
    store: Store, *, model: str | None = None, key: str | None = None, every: bool = False
) -> list[Space]:
    """Return the spaces that were asked for, the active one by default.

    Args:
        store: The library.
        model: Name of a model; a library may have vectors of several versions of it.
        key: A space's key, or how it begins.
        every: All spaces.

    Raises:
        LibraryMissingError: Nothing has been indexed yet.
        ModelError: The library has no vectors of that model, or none or several spaces have a
            key that begins so.
    """
    active, spaces = store.active_space(), store.spaces()
    if active is None:
        raise LibraryMissingError(
            "there is no picture in the library yet",
            hint="Index a folder first: siglip-search index ~/Pictures",
        )
    if model is None and key is None:
        return spaces if every else [active]
    found = [
        space
        for space in spaces
        if model in {None, space.model} and space.key.startswith(key or "")
    ]
    if not found or (key is not None and len(found) > 1):
        wanted = f"the model {model!r}" if key is None else f"a space whose key begins with {key!r}"
        there = "; ".join(f"{space.model} ({space.key[:12]})" for space in spaces)
        raise ModelError(
            f"the library has {'several spaces for' if found else 'no vectors of'} {wanted}",
            hint=f"It has these: {there}.",
        )
    return found


def exported_batches(store: Store, spaces: Sequence[Space]) -> Iterator[ExportBatch]:
    """Yield every visible photo that has a vector in these spaces, with its files.

    A library that changes meanwhile is exported as it is batch by batch; no photo comes twice in
    a space.

    Raises:
        CorruptLibraryError: A vector is damaged.
    """
    for space in spaces:
        for ids, vectors in store.iter_vectors(space.key, _BATCH):
            photos = store.photos(ids.tolist())
            if len(photos) < len(ids):  # some lost their last file just now
                kept = np.isin(ids, [photo.id for photo in photos])
                vectors = vectors[kept]
            yield ExportBatch(space, photos, vectors)


def export_vectors(
    store: LocalStore,
    spaces: Sequence[Space],
    options: ExportOptions,
    stream: BinaryIO,
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write a row for each photo and space; return how many.

    Args:
        store: The library.
        spaces: Which vectors.
        options: In which form.
        stream: Where to; it need not be seekable, and it stays open.
        on_progress: Called with the number of rows written so far.

    Raises:
        ModelError: What writes the format is not installed.
        StoreError: The library cannot be read.
        OSError: The stream cannot be written.
    """
    writer: BatchWriter
    if options.form == "parquet":
        from siglip_search.engine.parquet_export import ParquetWriter

        writer = ParquetWriter(stream, spaces, options)
    else:
        writer = JsonLinesWriter(stream, options)
    rows = 0
    try:
        for batch in exported_batches(store, spaces):
            writer.write(batch)
            rows += len(batch.photos)
            on_progress(rows)
    finally:
        writer.close()
    return rows


def rows_at_most(store: LocalStore, spaces: Sequence[Space]) -> int:
    """Return how many rows an export has, those of pictures that have vanished included."""
    keys = {space.key for space in spaces}
    return sum(usage.vectors for usage in store.space_usage() if usage.space.key in keys)


class JsonLinesWriter:
    """One JSON object a line, ASCII only; implements `BatchWriter`.

    Args:
        stream: Where to.
        options: See `ExportOptions`.
    """

    def __init__(self, stream: BinaryIO, options: ExportOptions) -> None:
        self._stream = stream
        self._vectors = options.vectors

    def write(self, batch: ExportBatch) -> None:
        """See `BatchWriter.write`. Paths that are no text survive as escaped surrogates."""
        lines = []
        for photo, vector in zip(batch.photos, batch.vectors, strict=True):
            row: dict[str, object] = {
                "content_hash": photo.content_hash.hex(),
                "paths": [os.fsdecode(path) for path in photo.paths],
                "companions": [os.fsdecode(path) for path in photo.companions],
                **{field.name: getattr(photo.facts, field.name) for field in fields(photo.facts)},
                "model": batch.space.model,
                "space": batch.space.key,
            }
            if self._vectors:
                row["vector"] = vector.tolist()
            lines.append(json.dumps(row, separators=(",", ":")))
        if lines:
            self._stream.write("\n".join(lines).encode("ascii") + b"\n")

    def close(self) -> None:
        """See `BatchWriter.close`."""
