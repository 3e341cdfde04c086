"""The questions to a store that one look at the database answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from siglip_index import (
    catalogue_places,
    catalogue_read,
    photo_lookup,
    photo_tags,
    selection,
    small_records,
)
from siglip_index.database import explained
from siglip_index.records import Where

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from siglip_index.reader_pool import ReaderPool
    from siglip_index.records import Photo, Root, Space, StoreCounts

Result = TypeVar("Result")


class StoreReads:
    """The part of `Store` that only reads the database, each time its newest committed state."""

    _directory: Path
    _pool: ReaderPool

    def _read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        with explained(self._directory):
            return self._pool.run(query)

    def generation(self) -> int:
        """Return a number that grows with every transaction that changed anything."""
        return self._read(catalogue_read.generation)

    def counts(self) -> StoreCounts:
        """See `Store.counts`."""
        return self._read(catalogue_read.counts)

    def spaces(self) -> list[Space]:
        """See `Store.spaces`."""
        return [row.space for row in self._read(catalogue_read.space_rows)]

    def active_space(self) -> Space | None:
        """See `Store.active_space`."""
        return self._read(catalogue_read.active_space)

    def coming_space(self) -> Space | None:
        """See `Store.coming_space`."""
        return self._read(catalogue_read.coming_space)

    def roots(self) -> list[Root]:
        """See `Store.roots`."""
        return self._read(catalogue_places.roots)

    def former_directory(self) -> bytes | None:
        """See `Store.former_directory`."""
        return self._read(catalogue_places.former_directory)

    def failures(self) -> list[tuple[bytes, str]]:
        """See `Store.failures`."""
        return self._read(catalogue_places.failures)

    def online_only(self) -> list[bytes]:
        """See `Store.online_only`."""
        return self._read(catalogue_places.online_only)

    def known_sizes(self) -> set[int]:
        """See `Store.known_sizes`."""
        return self._read(catalogue_read.known_sizes)

    def photos_by_hash(
        self, space_key: str, content_hashes: Sequence[bytes]
    ) -> dict[bytes, tuple[int, bool]]:
        """See `Store.photos_by_hash`."""
        query = catalogue_read.photos_by_hash
        return self._read(partial(query, space_key=space_key, content_hashes=content_hashes))

    def photos_in_space(self, space_key: str, among: Collection[int] | None = None) -> set[int]:
        """See `Store.photos_in_space`."""
        query = partial(catalogue_read.photos_in_space, space_key=space_key, among=among)
        return self._read(query)

    def photos_with_older_metadata(
        self, version: int, among: Collection[int] | None = None
    ) -> set[int]:
        """See `Store.photos_with_older_metadata`."""
        query = partial(catalogue_read.photos_with_older_metadata, version=version, among=among)
        return self._read(query)

    def photos(self, photo_ids: Sequence[int]) -> list[Photo]:
        """See `Store.photos`."""
        return self._read(partial(catalogue_read.photos, photo_ids=photo_ids))

    def vectors(self, space_key: str, photo_ids: Sequence[int]) -> NDArray[np.float32]:
        """See `Store.vectors`."""
        return self._read(partial(catalogue_read.vectors, space_key=space_key, photo_ids=photo_ids))

    def tags(
        self, space_key: str, photo_ids: Collection[int]
    ) -> dict[int, tuple[tuple[str, float], ...]]:
        """See `Store.tags`."""
        return self._read(partial(photo_tags.tags, space_key=space_key, photo_ids=photo_ids))

    def tag_counts(self, space_key: str) -> dict[str, int]:
        """See `Store.tag_counts`."""
        return self._read(partial(photo_tags.tag_counts, space_key=space_key))

    def photos_untagged(
        self, space_key: str, vocabulary: str, among: Collection[int] | None = None
    ) -> set[int]:
        """See `Store.photos_untagged`."""
        query = partial(
            photo_tags.photos_untagged, space_key=space_key, vocabulary=vocabulary, among=among
        )
        return self._read(query)

    def records(self, kind: str) -> dict[str, str]:
        """See `Store.records`."""
        return self._read(partial(small_records.records, kind=kind))

    def moments(self, photo_ids: Collection[int]) -> dict[int, str]:
        """See `Store.moments`."""
        return self._read(partial(photo_lookup.moments, photo_ids=photo_ids))

    def photo_ids(self, where: Where | None = None) -> NDArray[np.int64]:
        """See `Store.photo_ids`."""
        return self._read(partial(selection.photo_ids_where, where=where or Where()))

    def positions(
        self, where: Where | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """See `Store.positions`."""
        return self._read(partial(selection.positions, where=where or Where()))

    def photo_count(self) -> int:
        """See `Store.photo_count`."""
        return self._read(photo_lookup.photo_count)

    def sample_ids(self, space_key: str, limit: int) -> NDArray[np.int64]:
        """See `Store.sample_ids`."""
        return self._read(partial(photo_lookup.sample_ids, space_key=space_key, limit=limit))
