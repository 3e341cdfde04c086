"""Laying one picture over another: which shift, scale and small turn brings them together?

Gauss-Newton on brightness, inverse compositional and from coarse to fine (S. Baker, I. Matthews:
Lucas-Kanade 20 Years On, IJCV 56, 2004, section 3.2), with weights that pass over what differs.
Brightness is made local first, (value - local mean) / local deviation, so that filters do not
matter.

A pose is a matrix of shape (2, 3): a point (x, y, 1) of the first picture, each coordinate in
[-1, 1] from edge to edge, is shown at `pose @ point` in the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Pose = NDArray[np.float64]
    Plane = NDArray[np.float32]

SAME_POSE: Final = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

_COARSEST: Final = 32
_ITERATIONS: Final = (12, 8, 4, 3, 3)
"""From the coarsest plane on, up to 512 pixels; the finest has least left to do."""
_START_SCALES: Final = (1.0, 0.9, 1.1)
"""A crop of a tenth from each side is 0.8 or 1.25: from 0.9 and 1.1 the descent reaches them."""
_GOOD_START: Final = 0.97
_CONVERGED: Final = 3e-4
_OUTLIER: Final = 0.7
"""In local deviations: what differs by more hardly pulls any more."""
_GREY_LEVELS_OF_NOISE: Final = 4.0
_LEAST_OVERLAP: Final = 0.5
_LEAST_AGREEMENT: Final = 0.5
"""Of the coarsest planes, laid over one another: those of edits agree to 0.8 and more."""
_BINOMIAL: Final = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """The second picture, seen from the first one's place.

    Attributes:
        values: Shape (n, n), or (n, n, channels).
        inside: Which of them lie inside the second picture, shape (n, n).
    """

    values: Plane
    inside: NDArray[np.bool_]


def pyramid(brightness: Plane) -> list[Plane]:
    """Return a picture made local, at its own size, a half, and so on down to 32 pixels.

    Args:
        brightness: Shape (n, n) with n = 32 times a power of two, values in [0, 255].
    """
    planes = [smoothed(brightness)]
    while len(planes[-1]) > _COARSEST:
        side = len(planes[-1]) // 2
        blocks = smoothed(planes[-1]).reshape(side, 2, side, 2)
        planes.append(blocks.mean(axis=(1, 3)))
    return [_made_local(plane) for plane in planes]


def register(first: Sequence[Plane], second: Sequence[Plane]) -> Pose | None:
    """Return the pose of one picture in another, None where they do not agree in any.

    Args:
        first: As `pyramid` gives it.
        second: Likewise, of the same sizes.
    """
    best: tuple[float, Pose] | None = None
    coarse, coarse_second = _Template(first[-1]), second[-1]
    for scale in _START_SCALES:
        pose = coarse.descend(coarse_second, SAME_POSE * scale, _ITERATIONS[0])
        agreement = coarse.agreement(coarse_second, pose)
        if best is None or agreement > best[0]:
            best = agreement, pose
        if agreement > _GOOD_START:
            break
    assert best is not None
    agreement, pose = best
    if agreement < _LEAST_AGREEMENT:
        return None
    finer = zip(first[-2::-1], second[-2::-1], _ITERATIONS[1:], strict=False)
    for plane, plane_of_second, iterations in finer:
        pose = _Template(plane).descend(plane_of_second, pose, iterations)
    return pose


def inverse(pose: Pose) -> Pose:
    """Return the pose of the first picture in the second.

    Raises:
        numpy.linalg.LinAlgError: There is none.
    """
    back = np.linalg.inv(pose[:, :2])
    return np.column_stack([back, -back @ pose[:, 2]])


def resemblance(first: Sequence[Plane], second: Sequence[Plane]) -> float:
    """Return how the coarsest planes correlate as they lie, in [-1, 1].

    Args:
        first: As `pyramid` gives it.
        second: Likewise.
    """
    return correlation(first[-1].reshape(-1), second[-1].reshape(-1))


def overlaid(second: Plane, pose: Pose) -> Overlay:
    """Return what the second picture shows at the first one's points, bilinearly.

    Args:
        second: Shape (n, n), or (n, n, channels).
        pose: See above.
    """
    side = len(second)
    points = _places(side)
    x, y = ((pose @ points + 1.0) * (side / 2) - 0.5).astype(np.float32)
    inside = (x >= -0.5) & (x <= side - 0.5) & (y >= -0.5) & (y <= side - 0.5)
    x, y = np.clip(x, 0, side - 1.001), np.clip(y, 0, side - 1.001)
    left, top = x.astype(np.intp), y.astype(np.intp)
    x -= left
    y -= top
    corner = top * side + left
    flat = second.reshape(side * side, -1)
    x, y = x[:, None], y[:, None]
    above = flat[corner] * (1 - x) + flat[corner + 1] * x
    below = flat[corner + side] * (1 - x) + flat[corner + side + 1] * x
    values = above * (1 - y) + below * y
    return Overlay(values.reshape(second.shape), inside.reshape(side, side))


def local_mean(plane: Plane, radius: int) -> Plane:
    """Return the mean over a square of 2 * radius + 1 around each point, as far as it reaches."""
    side = len(plane)
    sums = np.zeros((side + 1, side + 1))
    np.cumsum(plane, axis=0, dtype=np.float64, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    low = np.clip(np.arange(side) - radius, 0, side)
    high = np.clip(np.arange(side) + radius + 1, 0, side)
    rows = sums[high] - sums[low]
    counts = (high - low).astype(np.float64)
    means = (rows[:, high] - rows[:, low]) / (counts[:, None] * counts[None, :])
    return means.astype(np.float32)


def smoothed(plane: Plane) -> Plane:
    """Return a plane without what is finer than about two pixels."""
    for _ in range(2):
        padded = np.pad(plane, ((2, 2), (0, 0)), mode="edge")
        rows = [padded[start : start + len(plane)] for start in range(len(_BINOMIAL))]
        plane = np.ascontiguousarray(
            sum(weight * row for weight, row in zip(_BINOMIAL, rows, strict=True)).T  # type: ignore[union-attr]
        )
    return plane


class _Template:
    """One plane of the first picture, with what each iteration needs of it.

    Args:
        plane: Shape (n, n).
    """

    def __init__(self, plane: Plane) -> None:
        side = len(plane)
        down, across = np.gradient(plane)
        # Per unit of the coordinates, which is half a side.
        across, down = across.reshape(-1) * (side / 2), down.reshape(-1) * (side / 2)
        x, y, one = _places(side).astype(np.float32)
        self._plane = plane
        self._slopes = np.stack(
            [across * x, across * y, across * one, down * x, down * y, down * one], axis=1
        )

    def descend(self, second: Plane, pose: Pose, iterations: int) -> Pose:
        """Return a pose improved by at most so many steps."""
        for _ in range(iterations):
            overlay = overlaid(second, pose)
            difference = (overlay.values - self._plane).reshape(-1)
            weights = overlay.inside.reshape(-1) / (1 + (difference / _OUTLIER) ** 2)
            weighted = self._slopes * weights[:, None].astype(np.float32)
            curvature = (weighted.T @ self._slopes).astype(np.float64)
            # A plane without structure in some direction must not run away in it.
            curvature += np.eye(6) * (1e-5 * len(difference))
            step = np.linalg.solve(curvature, (weighted.T @ difference).astype(np.float64))
            change = np.vstack([SAME_POSE + step.reshape(2, 3), [0.0, 0.0, 1.0]])
            if abs(np.linalg.det(change)) < 0.1:
                break
            pose = pose @ np.linalg.inv(change)
            if np.abs(step).max() < _CONVERGED:
                break
        return pose

    def agreement(self, second: Plane, pose: Pose) -> float:
        """Return the correlation where both are, in [-1, 1]; 0 where they hardly overlap."""
        overlay = overlaid(second, pose)
        if overlay.inside.mean() < _LEAST_OVERLAP:
            return 0.0
        return correlation(self._plane[overlay.inside], overlay.values[overlay.inside])


def correlation(first: Plane, second: Plane) -> float:
    """Return Pearson's correlation of two rows of values, 0 where one of them is constant."""
    first, second = first - first.mean(), second - second.mean()
    norms = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / norms if norms > 0 else 0.0


def _made_local(plane: Plane) -> Plane:
    radius = max(2, len(plane) // 8)
    centred = plane - local_mean(plane, radius)
    deviation = np.sqrt(local_mean(centred * centred, radius) + _GREY_LEVELS_OF_NOISE**2)
    local: Plane = (centred / deviation).astype(np.float32)
    return local


def _places(side: int) -> NDArray[np.float64]:
    """Return the middle of each pixel, row by row, as (x, y, 1): shape (3, side * side)."""
    middles = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(middles, middles)
    return np.stack([x.reshape(-1), y.reshape(-1), np.ones(side * side)])
