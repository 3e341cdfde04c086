"""Distances on the earth, taken for a sphere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the earth (IUGG); a great circle is within 0.6 % of the true distance."""

# Degrees by which a box is larger than need be, so that no rounding keeps a place out of it.
_MARGIN_DEGREES = 1e-6


def great_circle_m(
    latitude: float,
    longitude: float,
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the distances in metres from one place to others of shape (n,); all in degrees.

    The haversine formula, which is exact to a fraction of a metre for near places as well.
    """
    here, there = math.radians(latitude), np.radians(latitudes)
    north = np.sin((there - here) / 2)
    east = np.sin(np.radians(longitudes - longitude) / 2)
    haversine = north**2 + math.cos(here) * np.cos(there) * east**2
    distances: NDArray[np.float64] = (
        2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(haversine, 0.0, 1.0)))
    )
    return distances


def bounds_of(
    latitude: float, longitude: float, radius_m: float
) -> tuple[float, float, list[tuple[float, float]]]:
    """Return what holds a circle: least and greatest latitude, and one or two longitude ranges.

    Args:
        latitude: Of the centre, degrees in [-90, 90].
        longitude: Of the centre, degrees in [-180, 180].
        radius_m: Metres, >= 0.

    Returns:
        Degrees. There are two ranges where the circle crosses the date line, and one of all
        longitudes where it holds a pole.
    """
    angle = radius_m / EARTH_RADIUS_M
    reach = math.degrees(angle) + _MARGIN_DEGREES
    south, north = latitude - reach, latitude + reach
    if south <= -90 or north >= 90:
        return south, north, [(-180.0, 180.0)]
    # The widest meridian that touches the circle (not the one through its east).
    width = math.degrees(math.asin(math.sin(angle) / math.cos(math.radians(latitude))))
    width += _MARGIN_DEGREES / math.cos(math.radians(latitude))
    west, east = longitude - width, longitude + width
    if west < -180:
        return south, north, [(west + 360, 180.0), (-180.0, east)]
    if east > 180:
        return south, north, [(west, 180.0), (-180.0, east - 360)]
    return south, north, [(west, east)]
