"""Neighbours in the store become ranked hits."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from siglip_index.records import PhotoFacts
from siglip_search.search.scoring import match_probability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.protocol import Store
    from siglip_index.records import Neighbour


# What a hit tells of its picture, under the names that the library has for it.
_FACTS = tuple(field.name for field in fields(PhotoFacts) if field.name != "metadata_version")


@dataclass(frozen=True, slots=True)
class Hit:
    """A picture that answers a query.

    Attributes:
        rank: 1 for the best.
        path: Absolute path; bytes that are not text stand in it as os.fsdecode leaves them.
        probability: The model's own match probability, in [0, 1]; None where the model has no
            learned bias and so states none.
        cosine: Inner product of the unit vectors of query and picture, in [-1, 1].
        copies: Absolute paths of other files with the same content.
        photo_id: Number of the content in the library.
        width: In pixels, upright.
        height: In pixels, upright.
        format: Pillow's name of the format.
        taken_at: Capture time, ISO 8601, None where the picture states none.
        camera: Make and model, None where the picture states none.
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
    cosine: float
    copies: tuple[str, ...]
    photo_id: int
    width: int
    height: int
    format: str
    taken_at: str | None
    camera: str | None
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
    def score(self) -> float:
        """The probability, or the cosine of a model that states no probability."""
        return self.cosine if self.probability is None else self.probability


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything that a query found.

    Attributes:
        hits: Best first; empty when nothing matches.
        best_refused: The best probability (or cosine, for a model without probabilities) below
            the cut when there is no hit; None when the library is empty or something matched.
    """

    hits: tuple[Hit, ...]
    best_refused: float | None = None


def rank(
    store: Store,
    neighbours: Sequence[Neighbour],
    *,
    logit_scale: float,
    logit_bias: float | None,
    min_probability: float,
) -> Answer:
    """Return the neighbours that reach the cut as hits, in their order.

    Args:
        store: Where the photos are.
        neighbours: Best first, as the store returned them.
        logit_scale: Temperature after exp(), > 0.
        logit_bias: None for a model without one; then nothing is cut.
        min_probability: Smallest probability of a hit, in [0, 1].
    """

    def probability_of(neighbour: Neighbour) -> float | None:
        if logit_bias is None:
            return None
        return match_probability(neighbour.cosine, logit_scale=logit_scale, logit_bias=logit_bias)

    scored = [(neighbour, probability_of(neighbour)) for neighbour in neighbours]
    kept = [
        (neighbour, probability)
        for neighbour, probability in scored
        if probability is None or probability >= min_probability
    ]
    photos = {photo.id: photo for photo in store.photos([near.photo_id for near, _ in kept])}
    hits: list[Hit] = []
    for neighbour, probability in kept:
        photo = photos.get(neighbour.photo_id)
        if photo is None:
            continue  # its last file vanished between the search and this look-up
        path, *copies = (os.fsdecode(path) for path in photo.paths)
        hits.append(
            Hit(
                rank=len(hits) + 1,
                path=path,
                probability=probability,
                cosine=neighbour.cosine,
                copies=tuple(copies),
                photo_id=photo.id,
                companions=tuple(map(os.fsdecode, photo.companions)),
                **{name: getattr(photo.facts, name) for name in _FACTS},
            )
        )
    best_refused = scored[0][1] if scored and not hits else None
    return Answer(tuple(hits), best_refused)
