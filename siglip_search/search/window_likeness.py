"""How like two brightness planes are in the place where they differ most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.search.picture_registration import local_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.search.picture_registration import Plane

_RADIUS: Final = 5
_NOISE: Final = 5.0
_GRAIN: Final = 2.0
"""Standard deviations in grey levels at the common contrast: where less than `_NOISE` is to be seen
nothing counts for much, and differences below `_GRAIN` are the compression's."""
_SHIFT_PX: Final = 0.4
"""So far an edge may be off, in pixels of the planes."""
_COMMON_CONTRAST: Final = 50.0
_MOST_AMPLIFIED: Final = 4.0


def whole_windows(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where windows lie wholly inside: at the rim half of one is compared with nothing."""
    return local_mean(inside.astype(np.float32), _RADIUS) > 0.999


def least_likeness(
    told: Plane, seen: Plane, inside: NDArray[np.bool_], places: NDArray[np.bool_]
) -> float:
    """Return how like the least like window is: 1 - (what differs) / (what is there).

    Args:
        told: What should be seen, in grey levels, shape (n, n).
        seen: What is.
        inside: Where anything is to be compared.
        places: The middles of the windows, at least one.

    Returns:
        At most 1; no more than noise and compression differ there.
    """
    scale = min(_COMMON_CONTRAST / max(float(seen[inside].std()), 1.0), _MOST_AMPLIFIED)
    told, seen = told * scale, seen * scale
    difference = told - seen
    allowed = _SHIFT_PX * np.maximum(_steepness(told), _steepness(seen))
    difference = np.sign(difference) * np.maximum(0.0, np.abs(difference) - allowed)
    differing = np.maximum(0.0, _local_variance(difference) - _GRAIN**2)
    there = _local_variance(told) + _local_variance(seen)
    windows = 1.0 - differing / (there + _NOISE**2)
    return float(windows[places].min())


def _steepness(plane: Plane) -> Plane:
    down, across = np.gradient(plane)
    steepness: Plane = np.hypot(down, across)
    return steepness


def _local_variance(plane: Plane) -> Plane:
    mean = local_mean(plane, _RADIUS)
    variance: Plane = np.maximum(0.0, local_mean(plane * plane, _RADIUS) - mean * mean)
    return variance
