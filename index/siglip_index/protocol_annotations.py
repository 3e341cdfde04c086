"""The protocols' part on what is kept beside the photos: tags, and small records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_index.records import Where


class AnnotationWriter(Protocol):
    """What a transaction can write beside the photos."""

    def put_tags(
        self,
        space_key: str,
        vocabulary: str,
        rows: Iterable[tuple[int, Sequence[tuple[str, float]]]],
    ) -> None:
        """Replace the tags of photos; they count as looked at under this vocabulary.

        A photo without a vector in the space, or that is gone meanwhile, is passed over.

        Args:
            space_key: The space whose vectors were compared with the labels.
            vocabulary: Names the labels and the way in which they were chosen, a digest say.
            rows: Photo ids, each with its labels (each once) and their probabilities in [0, 1];
                none at all for a photo that no label fits.

        Raises:
            UnknownSpaceError: There is no such space.
        """
        ...

    def clear_tags(self, space_key: str) -> None:
        """Delete all tags of a space; none of its photos has been looked at then.

        Raises:
            UnknownSpaceError: There is no such space.
        """
        ...

    def put_record(self, kind: str, key: str, value: str | None) -> None:
        """Keep a small record that belongs to the library, in place of the former one.

        Args:
            kind: What it is, such as "calibration".
            key: Which one of this kind.
            value: JSON; None deletes the record.

        Raises:
            ValueError: The value is no JSON.
        """
        ...


class AnnotationReader(Protocol):
    """What a store tells of what is kept beside the photos, and of the photos in short."""

    def tags(
        self, space_key: str, photo_ids: Collection[int]
    ) -> dict[int, tuple[tuple[str, float], ...]]:
        """Return labels and probabilities in [0, 1] of these photos, best first.

        Photos that have none are left out.

        Raises:
            UnknownSpaceError: There is no such space.
        """
        ...

    def tag_counts(self, space_key: str) -> dict[str, int]:
        """Return how many visible photos have each label, most first.

        Raises:
            UnknownSpaceError: There is no such space.
        """
        ...

    def photos_untagged(
        self, space_key: str, vocabulary: str, among: Collection[int] | None = None
    ) -> set[int]:
        """Return visible photos with a vector that were not looked at under this vocabulary.

        Args:
            space_key: The space.
            vocabulary: As for `AnnotationWriter.put_tags`.
            among: Only these are meant, which costs no more than they do; None for all.

        Raises:
            UnknownSpaceError: There is no such space.
        """
        ...

    def records(self, kind: str) -> dict[str, str]:
        """Return the records of a kind: JSON by key, in the order of the keys."""
        ...

    def moments(self, photo_ids: Collection[int]) -> dict[int, str]:
        """Return when visible photos were taken, as far as is known, to sort by.

        Returns:
            ISO 8601 to the second without offset, such as "2021-05-04T13:14:15": the capture time
            or, where the photo states none, the modification time of its oldest present file, as
            the clock showed them. A capture time that is known to the day only is as short.
        """
        ...

    def photo_ids(self, where: Where | None = None) -> NDArray[np.int64]:
        """Return the ids of all visible photos that meet the conditions, ascending.

        Raises:
            ValueError: A time is not ISO 8601.
        """
        ...

    def positions(
        self, where: Where | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the visible photos that state a position and meet the conditions.

        Returns:
            Ids of shape (n,), ascending, and degrees of shape (n, 2): north, then east.

        Raises:
            ValueError: A time is not ISO 8601.
        """
        ...

    def photo_count(self) -> int:
        """Return how many photos are visible, at less cost than `counts`, which looks at files."""
        ...

    def sample_ids(self, space_key: str, limit: int) -> NDArray[np.int64]:
        """Return a pseudo-random sample of visible photos that have a vector in this space.

        It is the same at every call, and lasts: what is added or removed changes the sample by as
        much as its share of the library. A smaller sample is the beginning of a larger one.

        Args:
            space_key: The space.
            limit: How many at most, >= 0.

        Raises:
            UnknownSpaceError: There is no such space.
        """
        ...
