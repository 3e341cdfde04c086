"""What cameras write into pictures tells two exposures apart, and which were taken in a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from siglip_index.records import PhotoFacts

BURST_GAP_SECONDS: Final = 2.0

_SETTINGS: Final = ("exposure_seconds", "f_number", "iso", "focal_length_mm")
_SETTING_TOLERANCE: Final = 0.02
"""Editors round: 1/60 s becomes 0.0167 s."""
_WITHOUT_OFFSET: Final = 19
_TICK_SECONDS: Final = 0.0005


@dataclass(frozen=True, slots=True)
class Moment:
    """When a camera took a picture, by its own clock.

    Attributes:
        seconds: Since some day of the past.
        is_exact: It has a fraction of a second.
    """

    seconds: float
    is_exact: bool


def camera_moment(facts: PhotoFacts) -> Moment | None:
    """Return when the camera says that it took the picture, None where it does not say.

    A time from a file's name or a sidecar is not the camera's.
    """
    if facts.taken_at is None or facts.taken_source != "exif":
        return None
    try:
        time = datetime.fromisoformat(facts.taken_at)
    except ValueError:
        return None
    # As the clock showed it: copies agree in this, whether or not they state an offset.
    local = time.replace(tzinfo=None)
    has_fraction = "." in facts.taken_at[_WITHOUT_OFFSET:]
    return Moment((local - datetime(2000, 1, 1)).total_seconds(), has_fraction)


def are_different_exposures(first: PhotoFacts, second: PhotoFacts) -> bool:
    """Tell whether cameras say that these are two exposures, however alike they look.

    Edits and copies keep camera, time and settings, or lose them; frames of a burst and of a
    bracket have others.
    """
    if first.camera and second.camera and not _same_name(first.camera, second.camera):
        return True
    for name in _SETTINGS:
        one, other = getattr(first, name), getattr(second, name)
        if one and other and abs(one - other) > _SETTING_TOLERANCE * max(one, other):
            return True
    one, other = camera_moment(first), camera_moment(second)
    if one is None or other is None:
        return False
    if one.is_exact and other.is_exact:
        return abs(one.seconds - other.seconds) > _TICK_SECONDS
    return int(one.seconds) != int(other.seconds)


def may_be_one_burst(first: PhotoFacts, second: PhotoFacts) -> bool:
    """Tell whether two pictures of the same second may be frames of a burst as well as copies.

    Same camera, same size, and a clock without fractions of a second: nothing but the pictures
    themselves can tell.
    """
    one, other = camera_moment(first), camera_moment(second)
    return (
        one is not None
        and other is not None
        and not (one.is_exact and other.is_exact)
        and sorted((first.width, first.height)) == sorted((second.width, second.height))
    )


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture that may belong to a burst.

    Attributes:
        photo_id: The content.
        camera: Make and model.
        moment: When it was taken.
    """

    photo_id: int
    camera: str
    moment: Moment


def bursts(
    frames: Iterable[Frame],
    are_near: Callable[[int, int], bool],
    *,
    gap_seconds: float = BURST_GAP_SECONDS,
) -> list[list[int]]:
    """Return the photos that were taken in a row, each row by time.

    A frame belongs to a row when it follows its last frame within the gap, and looks like both
    the last and the first one: a camera that pans on to something else begins another row.

    Args:
        frames: In any order.
        are_near: Tells of two photo ids whether the pictures look alike.
        gap_seconds: Most time between two frames.
    """
    rows: list[list[Frame]] = []
    for frame in sorted(frames, key=lambda one: (one.camera, one.moment.seconds, one.photo_id)):
        row = rows[-1] if rows else []
        if (
            row
            and row[-1].camera == frame.camera
            and frame.moment.seconds - row[-1].moment.seconds <= gap_seconds
            and are_near(row[-1].photo_id, frame.photo_id)
            and are_near(row[0].photo_id, frame.photo_id)
        ):
            row.append(frame)
        else:
            rows.append([frame])
    return [[frame.photo_id for frame in row] for row in rows if len(row) > 1]


def _same_name(first: str, second: str) -> bool:
    # "iPhone 12" is "Apple iPhone 12" without its maker, and not "iPhone 12 Pro".
    shorter, longer = sorted((first.casefold().split(), second.casefold().split()), key=len)
    return longer[len(longer) - len(shorter) :] == shorter
