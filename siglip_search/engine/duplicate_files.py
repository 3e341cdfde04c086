"""The files of pictures that are compared, and which of several is the one to keep."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from siglip_index.locations import join
from siglip_search.photos.formats import is_raw_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from siglip_index.protocol import Store
    from siglip_index.records import Companion, KnownFile, PhotoFacts


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One file of a picture, as the library knows it.

    Attributes:
        path: Absolute, as the operating system gave it.
        size_bytes: When it was indexed.
        mtime_ns: Likewise, nanoseconds since the epoch.
        companions: The RAW, film and sidecars that belong to it, with absolute paths.
        shared: Paths of those that belong to another picture's file as well, as "IMG_1.xmp" does
            to both "IMG_1.heic" and "IMG_1.jpg".
    """

    path: bytes
    size_bytes: int
    mtime_ns: int
    companions: tuple[Companion, ...] = ()
    shared: frozenset[bytes] = frozenset()

    @property
    def is_raw(self) -> bool:
        """True when the file is a camera's RAW itself."""
        return is_raw_name(self.path)

    @property
    def has_raw(self) -> bool:
        """True when a RAW belongs to it."""
        return any(companion.kind == "raw" for companion in self.companions)


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """A picture with its files.

    Attributes:
        photo_id: The content.
        content_hash: SHA-256 of its bytes.
        facts: What is known of it.
        files: All present ones, the one to keep first; never empty.
    """

    photo_id: int
    content_hash: bytes
    facts: PhotoFacts
    files: tuple[PictureFile, ...]

    @property
    def is_raw(self) -> bool:
        """True when it is a camera's RAW."""
        return self.files[0].is_raw


def pictures_with_copies(store: Store, among: Collection[int] | None) -> list[int]:
    """Return the ids of photos with several present files, ascending.

    Args:
        store: The library.
        among: Only these; None for all.
    """
    counts = Counter(
        file.photo_id
        for root in store.roots()
        for file in store.files(root.id)
        if file.present and file.photo_id is not None
    )
    return sorted(
        photo_id
        for photo_id, number in counts.items()
        if number > 1 and (among is None or photo_id in among)
    )


def known_pictures(store: Store, photo_ids: Collection[int]) -> dict[int, KnownPicture]:
    """Return these photos with their present files, by id; what has vanished is left out."""
    wanted = set(photo_ids)
    files: defaultdict[int, list[PictureFile]] = defaultdict(list)
    for root in store.roots() if wanted else ():
        asked_for: list[tuple[int, KnownFile]] = []
        belongs_to: Counter[bytes] = Counter()
        for file in store.files(root.id):
            if file.present:
                belongs_to.update(one.path for one in file.companions)
                if file.photo_id in wanted:
                    asked_for.append((file.photo_id, file))
        for photo_id, file in asked_for:
            files[photo_id].append(_picture_file(root.path, file, belongs_to))
    return {
        photo.id: KnownPicture(
            photo.id,
            photo.content_hash,
            photo.facts,
            tuple(sorted(files[photo.id], key=_file_rank)),
        )
        for photo in store.photos(sorted(wanted))
        if files[photo.id]
    }


def _picture_file(root: bytes, file: KnownFile, belongs_to: Mapping[bytes, int]) -> PictureFile:
    return PictureFile(
        join(root, file.path),
        file.fingerprint.size,
        file.fingerprint.mtime_ns,
        tuple(replace(one, path=join(root, one.path)) for one in file.companions),
        frozenset(join(root, one.path) for one in file.companions if belongs_to[one.path] > 1),
    )


def _file_rank(file: PictureFile) -> tuple[object, ...]:
    # Bytes are the same: what lies beside a file counts, then which came first.
    return (not file.has_raw, -len(file.companions), file.mtime_ns, len(file.path), file.path)


def quality_rank(picture: KnownPicture) -> tuple[object, ...]:
    """Return a key by which the picture to keep is the least.

    A RAW, or one with a RAW beside it; then the larger in pixels; then one that still says which
    camera took it; then the less compressed, which has more bytes; then the older; then by path.
    """
    facts, best = picture.facts, picture.files[0]
    return (
        not (best.is_raw or best.has_raw),
        -facts.width * facts.height,
        facts.camera is None,
        -best.size_bytes,
        best.mtime_ns,
        best.path,
    )
