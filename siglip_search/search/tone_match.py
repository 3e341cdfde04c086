"""What a filter does to tones and colours of a whole picture, found from two of the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.search.picture_registration import local_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.search.picture_registration import Plane

_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601, as JPEG and Pillow have it."""
_MIDDLE: Final = 128.0
_UNIT: Final = 64.0

_CLIPPED: Final = 3.0
"""Levels from 0 and 255 at which nothing more can be told."""
_FITS: Final = 4
_FEWEST: Final = 200
_EVERY: Final = 2
"""Of rows and columns: a few numbers are found from a quarter of the pixels as well."""

_COLOUR_GRID: Final = 32
_COLOUR_RADIUS: Final = 3
_MAX_SATURATION: Final = 3.0
_EDGE_SHIFT_PX: Final = 0.2
_TINT_RIDGE: Final = 0.03
"""A tint is believed as far as more than so much of the picture shows it."""


def luma(colours: NDArray[np.float32]) -> Plane:
    """Return the brightness of colours of shape (n, n, 3)."""
    brightness: Plane = colours @ _LUMA
    return brightness


def filtered(
    one: NDArray[np.float32], other: NDArray[np.float32], inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the first picture as the filter would show it that made the second of it.

    A filter gives each channel a mixture of the three, which makes saturation, tint and black and
    white, and a curve of third degree of the brightness; what leaves [0, 255] is cut off.

    Args:
        one: Red, green and blue, shape (n, n, 3).
        other: The same places in the other picture.
        inside: Which of them are there at all.
    """
    some = np.zeros_like(inside)
    some[::_EVERY, ::_EVERY] = inside[::_EVERY, ::_EVERY]
    terms, source, target = _terms(one), _terms(one[some]), other[some]
    channels = [terms @ _fitted(source, target[:, channel]) for channel in range(3)]
    result: NDArray[np.float32] = np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.float32)
    return result


def _terms(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled = (colours - _MIDDLE) / _UNIT
    tone = scaled @ _LUMA
    return np.concatenate(
        [scaled, np.stack([tone**3, tone**2, np.ones_like(tone)], axis=-1)], axis=-1
    )


def _fitted(terms: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weights of the terms, led astray by few outliers."""
    seen = (target > _CLIPPED) & (target < 255 - _CLIPPED)
    if seen.sum() < _FEWEST:
        seen = np.ones_like(seen)
    terms, target = terms[seen], target[seen]
    weights = np.ones(len(target), dtype=np.float32)
    ridge = np.eye(terms.shape[1]) * (1e-5 * len(target))
    fit: NDArray[np.floating] = np.zeros(terms.shape[1])
    for _ in range(_FITS):
        weighted = terms * weights[:, None]
        fit = np.linalg.solve((weighted.T @ terms) + ridge, weighted.T @ target)
        errors = np.abs(target - terms @ fit)
        spread = 3.0 * float(np.median(errors)) + 2.0
        weights = (1.0 / (1.0 + (errors / spread) ** 2)).astype(np.float32)
    return fit.astype(np.float32)


def colour_error(
    first: NDArray[np.float32], second: NDArray[np.float32], inside: NDArray[np.bool_]
) -> float:
    """Return how far off one saturation and one tint are, where they are worst.

    `filtered` could make a red thing blue, if it is the only red one.

    Args:
        first: Red, green and blue, shape (n, n, 3).
        second: The same places in the other picture.
        inside: Which of them are there at all.

    Returns:
        The length of the error of Cb and Cr in the mean of a few pixels, in levels of 255: a red
        thing that became blue is at 100.
    """
    step = len(first) // _COLOUR_GRID
    grid = np.s_[step // 2 :: step, step // 2 :: step]
    there = (local_mean(inside.astype(np.float32), _COLOUR_RADIUS) > 0.999)[grid]
    if there.sum() < _COLOUR_GRID:
        return 0.0  # too little is common to judge by

    def cells(plane: Plane) -> NDArray[np.float64]:
        return local_mean(plane, _COLOUR_RADIUS)[grid][there].astype(np.float64)

    tint = np.vander((cells(luma(first)) - _MIDDLE) / _UNIT, 3)
    planes, others = _chroma(first), _chroma(second)
    ours, theirs = (np.stack([cells(plane) for plane in one], axis=1) for one in (planes, others))
    # Where colours meet, compression and resizing move a little of one into the other.
    edges = _EDGE_SHIFT_PX * np.maximum(cells(_steepness(planes)), cells(_steepness(others)))
    # Black and white is told from the coloured one, never the other way round.
    return min(_worst(ours, theirs, tint, edges), _worst(theirs, ours, tint, edges))


def _chroma(colours: NDArray[np.float32]) -> tuple[Plane, Plane]:
    """Return Cb and Cr, around zero, each of shape (n, n)."""
    brightness = luma(colours)
    return (colours[:, :, 2] - brightness) * 0.564, (colours[:, :, 0] - brightness) * 0.713


def _steepness(planes: tuple[Plane, Plane]) -> Plane:
    slopes = [slope for plane in planes for slope in np.gradient(plane)]
    steepness: Plane = np.sqrt(sum(slope * slope for slope in slopes))
    return steepness


def _worst(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    tint: NDArray[np.float64],
    allowed: NDArray[np.float64],
) -> float:
    """Return the largest error of `after` = saturation * `before` + tint(brightness).

    Args:
        before: Cb and Cr, shape (cells, 2).
        after: Likewise.
        tint: Powers of the brightness, shape (cells, 3).
        allowed: What is no error yet, shape (cells,).
    """
    both = np.concatenate([before, after], axis=1)
    # The tint takes what it can of both; the saturation is one number for what is left. One thing
    # that is alone in its brightness must not make the tint, or it might have any colour.
    ridge = np.eye(tint.shape[1]) * (_TINT_RIDGE * len(tint))
    fit = np.linalg.solve(tint.T @ tint + ridge, tint.T @ both)
    left = both - tint @ fit
    left_before, left_after = left[:, :2], left[:, 2:]
    energy = float((left_before * left_before).sum())
    saturation = float((left_before * left_after).sum()) / energy if energy > 1e-6 else 0.0
    saturation = min(max(saturation, 0.0), _MAX_SATURATION)
    errors = np.linalg.norm(left_after - saturation * left_before, axis=1) - allowed
    return max(0.0, float(errors.max()))
