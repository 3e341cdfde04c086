"""What a query found: answers and their hits."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, NamedTuple

from siglip_index.records import PhotoFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.protocol import Store
    from siglip_search.search.calibration import Origin


# What a hit tells of its picture, under the names that the library has for it.
_FACTS = tuple(field.name for field in fields(PhotoFacts) if field.name != "metadata_version")


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that answers a query.

    Attributes:
        rank: 1 for the best.
        path: Absolute path; bytes that are not text stand in it as os.fsdecode leaves them.
        probability: The model's own match probability of the texts that have to match, in [0, 1];
            None where the model has no learned bias and so states none, or a picture is in the
            query, or terms are added up without any words.
        cosine: Inner product of the unit vectors of query and picture, in [-1, 1], by which hits
            are ordered; with `plus` and `minus` that of their sum, to which probabilities do not
            belong. With a picture in the query this is their similarity. None where the query was
            a filter alone.
        copies: Absolute paths of other files with the same content.
        photo_id: Number of the content in the library.
        width: In pixels, upright.
        height: In pixels, upright.
        format: Pillow's name of the format.
        taken_at: Capture time, ISO 8601, None where the picture states none.
        camera: Make and model, None where the picture states none.
        calibrated_probability: The chance that query and picture belong together, in [0, 1], as
            labelled pairs have shown it; None where nothing was calibrated.
        companions: Absolute paths of what belongs to these files: the RAW beside a JPEG, the film
            of a Live Photo, XMP sidecars.
        taken_source: Where the capture time is from: "exif", "xmp", "iptc", "sidecar", or
            "file-name" when it is only guessed from the name.
        lens: Make and model.
        exposure_seconds: Exposure time, > 0.
        f_number: Focal length by aperture, > 0.
        iso: Sensitivity, > 0.
        focal_length_mm: Of the lens itself, > 0.
        latitude: Degrees north, in [-90, 90].
        longitude: Degrees east, in [-180, 180].
        altitude_m: Above sea level, negative below it.
        rating: Stars, in [0, 5]; -1 for rejected.
        title: One line.
        keywords: In the picture's own order, each once.

    What the picture and its sidecars do not tell is None, or empty.
    """

    rank: int
    path: str
    probability: float | None
    cosine: float | None
    copies: tuple[str, ...]
    photo_id: int
    width: int
    height: int
    format: str
    taken_at: str | None
    camera: str | None
    calibrated_probability: float | None = None
    companions: tuple[str, ...] = ()
    taken_source: str | None = None
    lens: str | None = None
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    rating: int | None = None
    title: str | None = None
    keywords: tuple[str, ...] = ()

    @property
    def score(self) -> float | None:
        """The calibrated probability, or else the model's own, or else the cosine."""
        for probability in (self.calibrated_probability, self.probability):
            if probability is not None:
                return probability
        return self.cosine


CutOn = Literal["calibrated", "probability", "similarity"]
"""What a cut is compared with: calibrated probabilities, the model's own, or cosines."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that a query found.

    Attributes:
        hits: In the order that was asked for; empty when nothing matches.
        best_refused: The best score below the cut when there is no hit, on the scale of
            `cut_on`; None when nothing was there to refuse or something matched.
        calibration: Who fitted the calibrated probabilities: "shipped" with the model, or "yours";
            None where there are none.
        cut: Smallest score of a hit; None where every picture is one.
        cut_on: What the cut is compared with. Where several cuts were asked for, each holds, and
            this is the first of them; when there is no hit, the first that refused the best.
        more: Whether the next page would hold a hit.
        passed_over: How many pictures match, where `offset` passes over all of them; else None.
        is_filtered_out: Whether the filters leave no picture at all.
    """

    hits: tuple[Hit, ...]
    best_refused: float | None = None
    calibration: Origin | None = None
    cut: float | None = None
    cut_on: CutOn | None = None
    more: bool = False
    passed_over: int | None = None
    is_filtered_out: bool = False


class Scored(NamedTuple):
    """A picture that reaches the cut, before anything else is known of it.

    Attributes:
        photo_id: Number of the content in the library.
        cosine: See `Hit`.
        probability: See `Hit`.
        calibrated: See `Hit.calibrated_probability`.
    """

    photo_id: int
    cosine: float | None = None
    probability: float | None = None
    calibrated: float | None = None


def hits_of(store: Store, page: Sequence[Scored], *, offset: int = 0) -> tuple[Hit, ...]:
    """Return pictures as hits, in their order.

    Args:
        store: Where the photos are.
        page: The pictures.
        offset: How many come before them.
    """
    photos = {photo.id: photo for photo in store.photos([scored.photo_id for scored in page])}
    hits: list[Hit] = []
    for scored in page:
        photo = photos.get(scored.photo_id)
        if photo is None:
            continue  # its last file vanished between the search and this look-up
        path, *copies = (os.fsdecode(path) for path in photo.paths)
        hits.append(
            Hit(
                rank=offset + len(hits) + 1,
                path=path,
                probability=scored.probability,
                cosine=scored.cosine,
                calibrated_probability=scored.calibrated,
                copies=tuple(copies),
                photo_id=photo.id,
                companions=tuple(map(os.fsdecode, photo.companions)),
                **{name: getattr(photo.facts, name) for name in _FACTS},
            )
        )
    return tuple(hits)
