"""Do two pictures show the same photograph, one of them edited?

First a perceptual hash says whether, and turned how, they may. Then one is laid over the other and
they are compared place by place: everything in one must be in the other. A picture that differs in
one place, by a face or a line of text, is another picture, however much of the rest is the same.

What an edit may do: resize, recompress, crop, straighten by a few degrees, turn by quarters,
mirror; change brightness, contrast, tones and saturation of the whole, up to black and white.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from siglip_search.search.perceptual_hash import (
    TURNS,
    low_frequencies,
    turned_hashes,
    unturned_description,
)
from siglip_search.search.picture_registration import (
    SAME_POSE,
    inverse,
    overlaid,
    pyramid,
    register,
    resemblance,
    smoothed,
)
from siglip_search.search.tone_match import colour_error, filtered, luma
from siglip_search.search.window_likeness import least_likeness, whole_windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.search.picture_registration import Plane, Pose

THUMBNAIL_SIDE: Final = 128
_JPEG_QUALITY: Final = 92

_MAX_HASH_DISTANCE: Final = 18
"""Of 64 bits; of two pictures taken at random one in forty comes so near in some position."""
_INNER_HANDICAP: Final = 4
"""By so much nearer the hash of the middle has to be: it is compared twice as often."""
_INNER_MARGIN: Final = 0.08
_TURNS_WORTH_TRYING: Final = 4
"""Turns whose distance is at most so much above the best one's are tried too."""

_LEAST_RESEMBLANCE: Final = 0.6
"""Of coarse planes; below it pictures cannot be the same as they lie."""
_LEAST_CONTRAST: Final = 8.0
"""Standard deviation in grey levels; below it (fog, a black frame) nothing tells pictures apart."""
MIN_LIKENESS: Final = 0.9
_STRICT_LIKENESS: Final = 0.95
WHOLE: Final = 0.96
"""One picture lies in the other when so much of it does."""
RECOLOURED_ABOVE: Final = 6.0
"""Mean difference of the colours that is more than compression makes."""
_COLOUR_ERROR: Final = 9.5
_FILTERED_COLOUR_ERROR: Final = 18.0
"""In levels of 255, see `colour_error`."""
_LEAST_COMMON: Final = 0.5


@dataclass(frozen=True, slots=True)
class Likeness:
    """What is common to two pictures that show the same.

    Attributes:
        score: Of the place where they differ most, in [0, 1]; 1 where nothing differs.
        turn: Which turn of the second one shows the first; None for none.
        in_second: So much of the first one's area is in the second, in (0, 1].
        in_first: So much of the second one's area is in the first, in (0, 1].
        recoloured: Mean difference of red, green and blue, in levels of 255: what a filter, and
            to a small part compression, has made of them.
    """

    score: float
    turn: Image.Transpose | None
    in_second: float
    in_first: float
    recoloured: float

    @property
    def second_adds_nothing(self) -> bool:
        """True when the second picture is nothing but a smaller, poorer or cropped first one."""
        return self.turn is None and self.in_first >= WHOLE and self.recoloured <= RECOLOURED_ABOVE


class Thumbnailer:
    """Makes what is compared of an upright picture; cheap to send to another process.

    Args:
        side: Of the thumbnail, in pixels.

    Attributes:
        min_decoded_side: To which a JPEG may be reduced in pixels while it is decoded: the
            thumbnail is then no other.
    """

    def __init__(self, side: int = THUMBNAIL_SIDE) -> None:
        self._side = side
        self.min_decoded_side = 2 * side

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return a JPEG of side x side pixels, whatever the aspect ratio: of 128, 4 to 8 kB."""
        size = (self._side, self._side)
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        file = io.BytesIO()
        small.save(file, "JPEG", quality=_JPEG_QUALITY)
        return np.frombuffer(file.getvalue(), dtype=np.uint8)


class Thumbnail:
    """A picture as it is compared.

    Args:
        jpeg: What `Thumbnailer` made.

    Raises:
        OSError: It is none.
    """

    def __init__(self, jpeg: bytes) -> None:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            if image.size != (THUMBNAIL_SIDE, THUMBNAIL_SIDE):
                raise OSError(f"it has {image.size} pixels")
            self._image = image.convert("RGB")
        self._coefficients = low_frequencies(self._image)
        margin = round(_INNER_MARGIN * THUMBNAIL_SIDE)
        far = THUMBNAIL_SIDE - margin
        inner = low_frequencies(self._image.crop((margin, margin, far, far)))
        self._hashes = turned_hashes(self._coefficients)
        self._inner_hashes = turned_hashes(inner)
        self._views: dict[Image.Transpose | None, _View] = {}

    @property
    def description(self) -> NDArray[np.float32]:
        """Unit vector of shape (64,) that pictures share in any position, roughly."""
        return unturned_description(self._coefficients)

    def possible_turns(self, other: Thumbnail) -> list[Image.Transpose | None]:
        """Return how this picture may have to be turned to show the other; empty: not at all."""
        # Whole against whole, and the middle of one against the whole of the other: of a picture
        # that was cropped on all sides the hash is another one.
        whole, inner = other._hashes[0], other._inner_hashes[0]
        distances = np.minimum.reduce(
            [
                (self._hashes != whole).sum(axis=1),
                (self._inner_hashes != whole).sum(axis=1) + _INNER_HANDICAP,
                (self._hashes != inner).sum(axis=1) + _INNER_HANDICAP,
            ]
        )
        best = distances.min()
        if best > _MAX_HASH_DISTANCE:
            return []
        limit = min(best + _TURNS_WORTH_TRYING, _MAX_HASH_DISTANCE)
        return [
            TURNS[way] for way in np.argsort(distances, kind="stable") if distances[way] <= limit
        ]

    def view(self, turn: Image.Transpose | None) -> _View:
        """Return the picture, turned, in the form in which it is compared."""
        if turn not in self._views:
            image = self._image if turn is None else self._image.transpose(turn)
            self._views[turn] = _View(image)
        return self._views[turn]


class _View:
    """A picture as it lies on its side or not; what is costly is made when it is asked for."""

    def __init__(self, image: Image.Image) -> None:
        self._brightness = np.asarray(image.convert("L"), dtype=np.float32)
        colours = np.asarray(image, dtype=np.float32)
        self.colours = np.stack([smoothed(colours[:, :, channel]) for channel in range(3)], axis=2)
        self.contrast = float(self._brightness.std())
        self._pyramid: list[Plane] | None = None

    @property
    def pyramid(self) -> list[Plane]:
        if self._pyramid is None:
            self._pyramid = pyramid(self._brightness)
        return self._pyramid


def likeness(first: Thumbnail, second: Thumbnail, *, strict: bool = False) -> Likeness | None:
    """Return how two pictures show the same, None where they do not, or nothing can be told.

    Args:
        first: One.
        second: The other.
        strict: Something speaks against it already: only what an edit can do without moving
            anything is believed.
    """
    upright = first.view(None)
    if min(upright.contrast, second.view(None).contrast) < _LEAST_CONTRAST:
        return None
    least = _STRICT_LIKENESS if strict else MIN_LIKENESS
    for turn in second.possible_turns(first):
        turned = second.view(turn)
        found = None
        if resemblance(upright.pyramid, turned.pyramid) >= _LEAST_RESEMBLANCE:
            found = _compared(upright, turned, SAME_POSE)
        if (found is None or found.score < _STRICT_LIKENESS) and not strict:
            pose = register(upright.pyramid, turned.pyramid)
            found = None if pose is None else _compared_on_the_wider(upright, turned, pose)
        if found is not None and found.score >= least:
            return Likeness(found.score, turn, found.in_second, found.in_first, found.recoloured)
    return None


@dataclass(frozen=True, slots=True)
class _Compared:
    """As `Likeness`, of one turn."""

    score: float
    in_second: float
    in_first: float
    recoloured: float


def _compared_on_the_wider(first: _View, second: _View, pose: Pose) -> _Compared | None:
    """Compare two pictures in the place of the one that shows more.

    The part of it that a crop shows has fewer pixels there: the crop is made as coarse, where the
    other way round details would be asked of a picture that has none.
    """
    if np.linalg.det(pose[:, :2]) >= 1.0:
        return _compared(first, second, pose)
    found = _compared(second, first, inverse(pose))
    if found is None:
        return None
    return replace(found, in_second=found.in_first, in_first=found.in_second)


def _compared(first: _View, second: _View, pose: Pose) -> _Compared | None:
    """Compare two pictures place by place; None where they are no crops of one another."""
    overlay = overlaid(second.colours, pose)
    inside = overlay.inside
    share = float(inside.mean())
    share_of_second = share * abs(float(np.linalg.det(pose[:, :2])))
    if max(share, share_of_second) < WHOLE or min(share, share_of_second) < _LEAST_COMMON:
        return None
    places = whole_windows(inside)
    if not places.any():
        return None
    # Most edits are no filters; and of what is nearly all white none can be found.
    score = least_likeness(luma(first.colours), luma(overlay.values), inside, places)
    if score < _STRICT_LIKENESS:
        # A filter can lose colours, and what is very bright or dark: the picture that lost them is
        # told from the other, never the other way round.
        score = max(
            score,
            *(
                least_likeness(luma(filtered(one, other, inside)), luma(other), inside, places)
                for one, other in (
                    (first.colours, overlay.values),
                    (overlay.values, first.colours),
                )
            ),
        )
    recoloured = float(np.abs(first.colours - overlay.values)[inside].mean())
    if score >= MIN_LIKENESS:
        # A filter bends colours more than a tint can say; where there is none they must fit well.
        most = _COLOUR_ERROR if recoloured <= RECOLOURED_ABOVE else _FILTERED_COLOUR_ERROR
        if colour_error(first.colours, overlay.values, inside) > most:
            return None
    return _Compared(min(score, 1.0), min(share, 1.0), min(share_of_second, 1.0), recoloured)
