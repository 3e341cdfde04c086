"""Is a copy one in its small things too: the number on a form, the face in a crowd?

Two pictures that a thumbnail does not tell apart are laid over one another once more, four times
as large. Only brightness is compared, up to gain and offset: what was filtered is not asked about.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from siglip_search.search.near_duplicates import MIN_LIKENESS, THUMBNAIL_SIDE
from siglip_search.search.picture_registration import (
    SAME_POSE,
    overlaid,
    pyramid,
    register,
    smoothed,
)
from siglip_search.search.window_likeness import least_likeness, whole_windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.search.picture_registration import Plane, Pose

CLOSE_SIDE: Final = 512
_LEAST_COVERED: Final = 0.9
"""Of the copy; what is not laid over the best picture is not compared with anything."""


def close_side(*shorter_sides: int) -> int:
    """Return at which size pictures are compared: as large as the smallest of them shows anything.

    Args:
        shorter_sides: Of the pictures, in pixels.

    Returns:
        512, 256 or 128 pixels.
    """
    side = CLOSE_SIDE
    while side > min(shorter_sides) and side > THUMBNAIL_SIDE:
        side //= 2
    return side


def same_in_detail(best: bytes, other: bytes, side: int) -> bool:
    """Tell whether a copy shows nothing that the best picture does not.

    Args:
        best: What `Thumbnailer(CLOSE_SIDE)` made of the picture that shows as much of the scene.
        other: The same of its copy: as large or smaller, more compressed, or a crop.
        side: At which size, see `close_side`.

    Raises:
        OSError: One of them is no such thumbnail.
    """
    first, second = _brightness(best, side), _brightness(other, side)
    if _likeness(first, second, SAME_POSE) >= MIN_LIKENESS:
        return True
    pose = register(pyramid(first), pyramid(second))
    return pose is not None and _likeness(first, second, pose) >= MIN_LIKENESS


def _brightness(jpeg: bytes, side: int) -> Plane:
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        if image.size != (CLOSE_SIDE, CLOSE_SIDE):
            raise OSError(f"it has {image.size} pixels")
        grey = image.convert("L")
        return np.asarray(grey.reduce(CLOSE_SIDE // side), dtype=np.float32)


def _likeness(first: Plane, second: Plane, pose: Pose) -> float:
    plane = smoothed(first)
    overlay = overlaid(smoothed(second), pose)
    inside = overlay.inside
    covered = float(inside.mean()) * abs(float(np.linalg.det(pose[:, :2])))
    places = whole_windows(inside)
    if covered < _LEAST_COVERED or not places.any():
        return -1.0
    # Either may have lost what was very bright or dark: it is told from the other.
    return max(
        least_likeness(_levelled(one, other, inside), other, inside, places)
        for one, other in ((plane, overlay.values), (overlay.values, plane))
    )


def _levelled(one: Plane, other: Plane, inside: NDArray[np.bool_]) -> Plane:
    """Return the first plane with the gain and offset that bring it nearest to the other."""
    source, target = one[inside], other[inside]
    middle = float(source.mean())
    gain = float((source - middle) @ target) / max(float(source.var()) * source.size, 1.0)
    levelled: Plane = gain * (one - middle) + float(target.mean())
    return levelled
