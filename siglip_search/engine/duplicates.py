"""Copies, edited copies and bursts among the pictures of a library. Nothing is moved or deleted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from siglip_index.records import Where
from siglip_search.engine.duplicate_files import (
    known_pictures,
    pictures_with_copies,
    quality_rank,
)
from siglip_search.engine.picture_thumbnails import LoadedThumbnails, make_thumbnails
from siglip_search.engine.thumbnail_cache import ThumbnailCache, thumbnail_cache_file
from siglip_search.photos.decode import DecodeLimits
from siglip_search.search.duplicate_groups import cliques
from siglip_search.search.exposures import (
    BURST_GAP_SECONDS,
    Frame,
    are_different_exposures,
    bursts,
    camera_moment,
    may_be_one_burst,
)
from siglip_search.search.near_duplicates import likeness
from siglip_search.search.neighbour_pairs import near_cosine, nearest_pairs, typical_cosine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_search.engine.duplicate_files import KnownPicture
    from siglip_search.search.near_duplicates import Likeness

DuplicateKind = Literal["exact", "near", "burst"]
ALL_KINDS: Final[tuple[DuplicateKind, ...]] = ("exact", "near", "burst")

READ_ALL_UP_TO: Final = 2_000
"""Pictures; with 12 megapixels they take a minute on two cores, the first time."""

_BATCH: Final = 4096
_LOST: Final = "its thumbnail was damaged; the next run makes another one"
_LEAST_ALIKE_DESCRIPTIONS: Final = 0.97
_SIMILAR_DESCRIPTIONS: Final = 16


@dataclass(frozen=True, slots=True)
class DuplicateOptions:
    """What to look for.

    Attributes:
        kinds: Which kinds of groups.
        where: Only these pictures.
        thorough: Also read pictures that the model does not find near another: turned ones, and
            black and white ones, are then found whatever the model makes of them. None to do so
            where there are no more than `READ_ALL_UP_TO` pictures.
        burst_gap_seconds: Most time between two frames of a burst, >= 0.
        limits: What one picture may cost.
        jobs: Pictures read at a time, >= 1.
        cache: Where thumbnails are kept; None for the usual place.
    """

    kinds: Collection[DuplicateKind] = ALL_KINDS
    where: Where = field(default_factory=Where)
    thorough: bool | None = None
    burst_gap_seconds: float = BURST_GAP_SECONDS
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    jobs: int = 1
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A picture in a group.

    Attributes:
        picture: With its files.
        likeness: To the best picture of the group; None for that one, and in other kinds of groups.
    """

    picture: KnownPicture
    likeness: Likeness | None = None


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Pictures that belong together.

    Attributes:
        kind: "exact": one picture in several files. "near": each two of them show the same
            photograph. "burst": taken in a row, and none of them a copy.
        members: The one to keep first; those of a burst by time.
    """

    kind: DuplicateKind
    members: tuple[GroupMember, ...]


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """What was found.

    Attributes:
        groups: Near ones, then exact ones, then bursts. No file stands in two of the first two.
        kinds: Of which kinds they may be.
        pictures: How many were looked at.
        thorough: Every picture was read.
        min_cosine: From which cosine on two pictures were compared.
        crowded: How many pictures have more look-alikes than were compared.
        unreadable: Path and reason of each picture that could not be compared.
    """

    groups: tuple[DuplicateGroup, ...]
    kinds: frozenset[DuplicateKind]
    pictures: int
    thorough: bool
    min_cosine: float
    crowded: int
    unreadable: tuple[tuple[bytes, str], ...]


def find_duplicates(
    store: Store,
    space_key: str,
    options: DuplicateOptions | None = None,
    *,
    on_progress: Callable[[str, int, int], None] = lambda _stage, _done, _total: None,
) -> DuplicateReport:
    """Look for copies, edited copies and bursts.

    Args:
        store: The library.
        space_key: By whose vectors pictures are near one another.
        options: What to look for.
        on_progress: Called with what is being done, and how much of how much is.

    Raises:
        StoreError: The library cannot be read.
        WorkerError: The decoding processes cannot be started.
        SettingsError: There is no place for the thumbnails.
    """
    options = options or DuplicateOptions()
    search = _Search(store, space_key, options, on_progress)
    near = search.near_groups() if "near" in options.kinds else []
    exact = search.exact_groups(near) if "exact" in options.kinds else []
    in_a_row = search.burst_groups(near) if "burst" in options.kinds else []
    return DuplicateReport(
        groups=(*near, *exact, *in_a_row),
        kinds=frozenset(options.kinds),
        pictures=len(search.ids),
        thorough=search.thorough,
        min_cosine=search.min_cosine,
        crowded=search.crowded,
        unreadable=tuple(search.unreadable),
    )


class _Search:
    """One run: the vectors once, and what is found with them.

    Args:
        store: The library.
        space_key: The space.
        options: What to look for.
        on_progress: See `find_duplicates`.
    """

    def __init__(
        self,
        store: Store,
        space_key: str,
        options: DuplicateOptions,
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        self._store = store
        self._options = options
        self._on_progress = on_progress
        where = options.where
        self._wanted = None if where.is_empty else set(store.photo_ids(where).tolist())
        self.ids, self._vectors = _half_vectors(store, space_key, self._wanted)
        self.min_cosine = near_cosine(typical_cosine(self._vectors))
        few = len(self.ids) <= READ_ALL_UP_TO
        self.thorough = few if options.thorough is None else options.thorough
        self.crowded = 0
        self.unreadable: list[tuple[bytes, str]] = []

    def near_groups(self) -> list[DuplicateGroup]:
        """Return groups of edited copies."""
        pairs = self._near_pairs()
        wanted = self.ids.tolist() if self.thorough else _all_of(pairs)
        pictures = known_pictures(self._store, wanted)
        pairs = _not_known_to_differ(pairs, pictures)
        compared = pictures.keys() if self.thorough else _all_of(pairs)
        with ThumbnailCache(self._options.cache or thumbnail_cache_file()) as cache:
            failures = make_thumbnails(
                (pictures[photo_id] for photo_id in sorted(compared)),
                cache,
                limits=self._options.limits,
                jobs=self._options.jobs,
                on_progress=lambda done, total: self._on_progress("reading", done, total),
            )
            self.unreadable = [
                (pictures[photo_id].files[0].path, why) for photo_id, why in failures.items()
            ]
            thumbnails = LoadedThumbnails(pictures, cache)
            if self.thorough:
                described = self._described_alike(thumbnails, pictures, failures)
                pairs = sorted({*pairs, *_not_known_to_differ(described, pictures)})
            groups = self._grouped(pairs, pictures, thumbnails)
            self.unreadable += [
                (pictures[photo_id].files[0].path, _LOST)
                for photo_id in sorted(thumbnails.lost - failures.keys())
            ]
            return groups

    def _near_pairs(self) -> list[tuple[int, int]]:
        found = nearest_pairs(
            self._vectors,
            self.min_cosine,
            on_progress=lambda done, total: self._on_progress("comparing", done, total),
        )
        self.crowded = found.crowded
        first, second = self.ids[found.first].tolist(), self.ids[found.second].tolist()
        return list(zip(first, second, strict=True))

    def _described_alike(
        self,
        thumbnails: LoadedThumbnails,
        pictures: Mapping[int, KnownPicture],
        failures: Mapping[int, str],
    ) -> list[tuple[int, int]]:
        described, rows = [], []
        for done, photo_id in enumerate(pictures, start=1):
            thumbnail = None if photo_id in failures else thumbnails.get(photo_id)
            self._on_progress("describing", done, len(pictures))
            if thumbnail is not None and (description := thumbnail.description).any():
                described.append(photo_id)
                rows.append(description.astype(np.float16))
        if not rows:
            return []
        found = nearest_pairs(
            np.stack(rows), _LEAST_ALIKE_DESCRIPTIONS, neighbours=_SIMILAR_DESCRIPTIONS
        )
        return [
            (described[first], described[second])
            for first, second in zip(found.first.tolist(), found.second.tolist(), strict=True)
        ]

    def _grouped(
        self,
        pairs: list[tuple[int, int]],
        pictures: Mapping[int, KnownPicture],
        thumbnails: LoadedThumbnails,
    ) -> list[DuplicateGroup]:
        found: dict[tuple[int, int], Likeness] = {}

        def are_alike(first: int, second: int) -> bool:
            facts = pictures[first].facts, pictures[second].facts
            one, other = thumbnails.get(first), thumbnails.get(second)
            if one is None or other is None or are_different_exposures(*facts):
                return False
            like = likeness(one, other, strict=may_be_one_burst(*facts))
            if like is not None:
                found[first, second] = like
            return like is not None

        ranked = sorted(_all_of(pairs), key=lambda photo_id: quality_rank(pictures[photo_id]))
        groups = cliques(
            ranked,
            pairs,
            are_alike,
            on_progress=lambda done: self._on_progress("confirming", done, len(ranked)),
        )
        return [
            DuplicateGroup(
                "near",
                tuple(
                    GroupMember(pictures[photo_id], found.get((group[0], photo_id)))
                    for photo_id in group
                ),
            )
            for group in groups
        ]

    def exact_groups(self, near: Iterable[DuplicateGroup]) -> list[DuplicateGroup]:
        """Return pictures in several files that are in no group of edited copies."""
        told = {member.picture.photo_id for group in near for member in group.members}
        ids = set(pictures_with_copies(self._store, self._wanted)) - told
        pictures = known_pictures(self._store, ids)
        return [
            DuplicateGroup("exact", (GroupMember(picture),))
            for picture in sorted(pictures.values(), key=lambda one: one.files[0].path)
            if len(picture.files) > 1
        ]

    def burst_groups(self, near: Iterable[DuplicateGroup]) -> list[DuplicateGroup]:
        """Return rows of frames; of a group of edited copies only the best one is a frame."""
        copies = {member.picture.photo_id for group in near for member in group.members[1:]}
        place = {photo_id: row for row, photo_id in enumerate(self.ids.tolist())}

        def are_near(first: int, second: int) -> bool:
            one, other = (self._vectors[place[photo_id]] for photo_id in (first, second))
            return float(one.astype(np.float32) @ other.astype(np.float32)) >= self.min_cosine

        rows = bursts(
            (frame for frame in self._frames() if frame.photo_id not in copies),
            are_near,
            gap_seconds=self._options.burst_gap_seconds,
        )
        pictures = known_pictures(self._store, {photo_id for row in rows for photo_id in row})
        # Another process may have taken note of a vanished file meanwhile.
        present = ([photo_id for photo_id in row if photo_id in pictures] for row in rows)
        return [
            DuplicateGroup("burst", tuple(GroupMember(pictures[photo_id]) for photo_id in row))
            for row in present
            if len(row) > 1
        ]

    def _frames(self) -> Iterable[Frame]:
        for start in range(0, len(self.ids), _BATCH):
            batch = self.ids[start : start + _BATCH].tolist()
            for photo in self._store.photos(batch):
                moment = camera_moment(photo.facts)
                if moment is not None and photo.facts.camera:
                    yield Frame(photo.id, photo.facts.camera, moment)


def _half_vectors(
    store: Store, space_key: str, wanted: set[int] | None
) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Return ids and vectors of the visible pictures, in half precision as they are stored."""
    batches = []
    for ids, vectors in store.iter_vectors(space_key, _BATCH):
        halves = vectors.astype(np.float16)
        if wanted is not None:
            kept = np.fromiter((one in wanted for one in ids.tolist()), np.bool_, len(ids))
            ids, halves = ids[kept], halves[kept]
        batches.append((ids, halves))
    if not batches:
        return np.empty(0, dtype=np.int64), np.empty((0, 1), dtype=np.float16)
    return (
        np.concatenate([ids for ids, _ in batches]),
        np.concatenate([vectors for _, vectors in batches]),
    )


def _all_of(pairs: Iterable[tuple[int, int]]) -> set[int]:
    return {photo_id for pair in pairs for photo_id in pair}


def _not_known_to_differ(
    pairs: Iterable[tuple[int, int]], pictures: Mapping[int, KnownPicture]
) -> list[tuple[int, int]]:
    return [
        (first, second)
        for first, second in pairs
        if first in pictures
        and second in pictures
        and not are_different_exposures(pictures[first].facts, pictures[second].facts)
    ]
