"""The two protocols: a whole store, and the index of vectors inside the local one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from siglip_index.protocol_annotations import AnnotationReader, AnnotationWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

    from siglip_index.records import (
        Companion,
        FileEntry,
        Fingerprint,
        KnownFile,
        Neighbour,
        NewPhoto,
        Photo,
        PhotoFacts,
        Root,
        Space,
        SpaceUsage,
        StoreCounts,
        Where,
    )


class VectorIndex(Protocol):
    """Ids and unit vectors, nothing else: no metadata, no filters, no files.

    Vectors are float32 of shape (n, dimension) and kept in half precision. An id stands once.
    """

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        ...

    def __len__(self) -> int: ...

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors of shape (n, dimension) under ids of shape (n,).

        Raises:
            InvalidVectorError: Wrong dimension, not finite, an id twice or already there;
                nothing is added then.
        """
        ...

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove ids, all in one pass; return how many were there."""
        ...

    def search(
        self,
        vectors: NDArray[np.float32],
        k: int,
        only: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids and inner products of shape (n, min(k, reachable)), best first.

        Args:
            vectors: Queries, shape (n, dimension).
            k: How many to return for each, > 0.
            only: The ids that may be returned; None for all. The search stays exact.

        Raises:
            InvalidVectorError: Wrong dimension, or not finite.
        """
        ...

    def range_search(
        self,
        vector: NDArray[np.float32],
        min_product: float,
        only: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids and inner products, shape (m,), of all with product >= min_product.

        Args:
            vector: The query, shape (dimension,).
            min_product: Least inner product, inclusive.
            only: The ids that may be returned; None for all.

        Raises:
            InvalidVectorError: Wrong dimension, or not finite.
        """
        ...


class StoreWriter(AnnotationWriter, Protocol):
    """One transaction: everything done through it is committed together, or not at all."""

    def ensure_space(self, space: Space) -> None:
        """Make the space known, or give it the model's new name; the first becomes active."""
        ...

    def activate_space(self, key: str) -> None:
        """Let searches use this space from now on; if it was the coming one, there is none."""
        ...

    def prepare_space(self, key: str | None) -> None:
        """Remember that this space is being filled to become the active one; None for none."""
        ...

    def drop_space(self, key: str) -> int:
        """Delete a space with all its vectors, and photos that have a vector nowhere else.

        Files of such photos are read again by the next run.

        Returns:
            How many vectors were deleted.

        Raises:
            ValueError: It is the active one and has vectors.
            UnknownSpaceError: There is none of this key.
        """
        ...

    def ensure_root(self, path: bytes, device: int | None) -> Root:
        """Return the root of this absolute path, added or with its device updated.

        Roots that lie below the path are absorbed: their files keep their photos and become
        files of this root.
        """
        ...

    def relocate_root(self, root_id: int, new_path: bytes) -> int:
        """Say that a root lies elsewhere now; nothing else changes, and nothing is read again.

        Where the new path overlaps other roots they become one, the outermost: of two rows for
        the same path the one that names a present picture stays, the other root's row otherwise.

        Returns:
            The root that has the files now: another one where that root lies around the new path.

        Raises:
            LookupError: There is no such root.
        """
        ...

    def set_root_volume(
        self, root_id: int, volume: str | None, volume_path: bytes | None, device: int | None
    ) -> None:
        """Remember on which volume a root lies, where in it, and its present st_dev."""
        ...

    def remember_directory(self, directory: bytes) -> None:
        """Remember in which folder the library lies, from which its roots can be found again."""
        ...

    def set_root_exclude(self, root_id: int, patterns: Sequence[str]) -> None:
        """Remember what the user does not want from a root; the next run acts on it."""
        ...

    def set_online_only(
        self,
        root_id: int,
        paths: Iterable[bytes],
        under: bytes = b"",
        *,
        subfolders: bool = True,
    ) -> None:
        """Replace the root's cloud placeholders, those at or below a folder of it, by these.

        Args:
            root_id: The root.
            paths: Relative to the root; those of another part of it than is meant are passed over.
            under: File or folder of the root, relative to it; empty for all of it.
            subfolders: As for `Store.files`.
        """
        ...

    def add_photo(self, space_key: str, photo: NewPhoto) -> int:
        """Add a content with its vector; return its id.

        A content that is there already gets the vector if it has none in this space.
        """
        ...

    def update_facts(self, photo_id: int, facts: PhotoFacts) -> None:
        """Replace what is known of a photo, after its metadata were read again."""
        ...

    def forget_metadata(self, photo_ids: Iterable[int]) -> None:
        """Note that these photos' metadata are to be read again: their version is 0 from now on."""
        ...

    def link_files(self, photo_id: int, files: Iterable[FileEntry]) -> None:
        """Let these files name the photo (and nothing else); they are present from now on."""
        ...

    def refresh_files(self, seen: Iterable[tuple[int, Fingerprint, int | None]]) -> None:
        """Record new stat results (file id, fingerprint, device) of files with unchanged content.

        A vanished file is present again afterwards.
        """
        ...

    def set_companions(self, file_id: int, companions: Iterable[Companion]) -> None:
        """Let these files, and no others, belong to a file; a row that is not there is none."""
        ...

    def record_failure(self, file: FileEntry, reason: str) -> None:
        """Record that this file cannot be read as a picture; it names no photo any more."""
        ...

    def mark_vanished(self, file_ids: Iterable[int]) -> None:
        """Take these files out of the results at once; photos and vectors stay until pruned."""
        ...

    def drop_files(self, file_ids: Iterable[int]) -> None:
        """Forget these file rows altogether (an excluded or ignored path, say)."""
        ...

    def drop_root(self, root_id: int) -> int:
        """Forget a root, its files, and at once the contents that only they named.

        Returns:
            How many contents were deleted.
        """
        ...

    def prune(self, vanished_before: float) -> int:
        """Delete contents that lost their last file before this time (epoch seconds).

        Returns:
            How many contents were deleted.
        """
        ...


class Store(AnnotationReader, Protocol):
    """Photos, their files and their vectors, consistent with one another at any moment."""

    def generation(self) -> int:
        """Return a number that grows with every transaction that changed anything."""
        ...

    def counts(self) -> StoreCounts:
        """Return how much is in the library."""
        ...

    def spaces(self) -> list[Space]:
        """Return all embedding spaces."""
        ...

    def active_space(self) -> Space | None:
        """Return the space that searches use, None in an empty library."""
        ...

    def coming_space(self) -> Space | None:
        """Return the space that is being filled to become the active one, None if none is."""
        ...

    def space_usage(self) -> list[SpaceUsage]:
        """Return how much each space holds, oldest first."""
        ...

    def roots(self) -> list[Root]:
        """Return the indexed roots, by path."""
        ...

    def former_directory(self) -> bytes | None:
        """Return the folder in which the library lay when the roots' places were recorded last."""
        ...

    def files(
        self, root_id: int, under: bytes = b"", *, subfolders: bool = True
    ) -> Iterator[KnownFile]:
        """Yield the files known of a root, or of a part of it, vanished ones included, by path.

        The cost is that of what is yielded, and of the folder's own subfolders.

        Args:
            root_id: The root.
            under: File or folder of it, relative to it; empty for all of it.
            subfolders: Also what lies deeper; otherwise that file, or the files directly in that
                folder.
        """
        ...

    def failures(self) -> list[tuple[bytes, str]]:
        """Return absolute path and reason of every present file that is no readable picture."""
        ...

    def online_only(self) -> list[bytes]:
        """Return the absolute paths of cloud placeholders of which nothing else is known."""
        ...

    def known_sizes(self) -> set[int]:
        """Return the sizes in bytes of all known contents: only these can have a copy."""
        ...

    def photos_by_hash(
        self, space_key: str, content_hashes: Sequence[bytes]
    ) -> dict[bytes, tuple[int, bool]]:
        """Return photo id, and whether it has a vector in the space, of each known hash."""
        ...

    def photos_in_space(self, space_key: str, among: Collection[int] | None = None) -> set[int]:
        """Return the ids of all photos (visible or not) that have a vector in this space.

        Args:
            space_key: The space.
            among: Only these are meant, which costs no more than they do; None for all.
        """
        ...

    def photos_with_older_metadata(
        self, version: int, among: Collection[int] | None = None
    ) -> set[int]:
        """Return the ids of visible photos whose `metadata_version` is below this one.

        Args:
            version: The version.
            among: As for `photos_in_space`.
        """
        ...

    def photos(self, photo_ids: Sequence[int]) -> list[Photo]:
        """Return these photos in the order asked for; ids without a present file are left out."""
        ...

    def vectors(self, space_key: str, photo_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return vectors of shape (len(photo_ids), dimension).

        Raises:
            LookupError: If one of the photos has no vector in this space.
        """
        ...

    def iter_vectors(
        self, space_key: str, batch_size: int = 4096
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield ids and vectors of all visible photos."""
        ...

    def nearest(
        self,
        space_key: str,
        vectors: NDArray[np.float32],
        k: int,
        where: Where | None = None,
    ) -> list[list[Neighbour]]:
        """Return for each query (n, dimension) its k nearest visible photos, best first."""
        ...

    def matches(
        self,
        space_key: str,
        vector: NDArray[np.float32],
        min_cosine: float,
        where: Where | None = None,
    ) -> list[Neighbour]:
        """Return every visible photo with cosine >= min_cosine to vector (dimension,)."""
        ...

    def write(self) -> AbstractContextManager[StoreWriter]:
        """Open a transaction; leaving it without an exception commits durably.

        Raises:
            DiskFullError: The transaction was rolled back for want of space.
        """
        ...

    def write_snapshot(self) -> int:
        """Write the snapshots that are due, so that the next start is quick; return how many.

        Raises:
            DiskFullError: There is no room; nothing is lost and the former ones stay in force.
        """
        ...

    def close(self) -> None:
        """Write a snapshot if one is due and release files and locks."""
        ...
