"""A background is the mean and the spread of a query's cosines, and knows when it is none."""

from __future__ import annotations

import numpy as np
import pytest

from siglip_search.search.background import MIN_PICTURES, UNKNOWN, background_from, background_of


def test_location_and_spread_are_mean_and_standard_deviation() -> None:
    found = background_from(np.array([0.1, 0.3, 0.2, 0.4], np.float32))
    assert found.location == pytest.approx(0.25)
    assert found.spread == pytest.approx(np.sqrt(0.0125))
    assert found.pictures == 4


def test_a_query_is_compared_with_every_picture_of_the_sample() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(51, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = [float(picture @ vectors[0]) for picture in vectors[1:]]
    found = background_of(vectors[0], vectors[1:])
    assert found.location == pytest.approx(np.mean(cosines), abs=1e-6)
    assert found.spread == pytest.approx(np.std(cosines), abs=1e-6)


def test_without_pictures_there_is_no_background() -> None:
    assert background_of(np.ones(4, np.float32), np.empty((0, 4), np.float32)) == UNKNOWN
    assert not UNKNOWN.is_known


def test_a_few_pictures_are_no_background() -> None:
    assert not background_from(np.zeros(MIN_PICTURES - 1)).is_known
    assert background_from(np.zeros(MIN_PICTURES)).is_known
