"""A sample that lasts, and distances on the globe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stored_samples import SPACE, fill

from siglip_index import open_store
from siglip_index.distance import EARTH_RADIUS_M, bounds_of, great_circle_m
from siglip_index.records import Space, Where

if TYPE_CHECKING:
    from pathlib import Path


def test_sample_lasts_and_a_smaller_one_begins_a_larger(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 900)
        sample = store.sample_ids(SPACE.key, 100)
        assert len(sample) == len(set(sample.tolist())) == 100
        assert sample.dtype == np.int64
        np.testing.assert_array_equal(store.sample_ids(SPACE.key, 100), sample)
        np.testing.assert_array_equal(store.sample_ids(SPACE.key, 250)[:100], sample)
        everything = store.sample_ids(SPACE.key, 5000)
        assert sorted(everything.tolist()) == list(range(1, 901))
        np.testing.assert_array_equal(everything[:100], sample)
        assert store.sample_ids(SPACE.key, 0).tolist() == []
        # A tenth more changes about a tenth of it, in which the others keep their order.
        fill(store, 90, first=900)
        larger = store.sample_ids(SPACE.key, 100)
        kept = [photo_id for photo_id in larger.tolist() if photo_id <= 900]
        assert 80 <= len(kept) <= 99
        assert kept == sample.tolist()[: len(kept)]
        # What is gone leaves it, the rest stays.
        (root,) = store.roots()
        gone = set(sample.tolist()[:50])
        with store.write() as writer:
            writer.mark_vanished([f.id for f in store.files(root.id) if f.photo_id in gone])
        without = store.sample_ids(SPACE.key, 100).tolist()
        assert store.photo_count() == store.counts().pictures == 940
        assert not gone & set(without)
        older = [photo_id for photo_id in without if photo_id <= 900]
        assert older[: len(kept) - 50] == kept[50:]


def test_sample_is_spread_over_the_library(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 4000)
        sample = store.sample_ids(SPACE.key, 400)
    tenths = np.histogram(sample, bins=10, range=(1, 4001))[0]
    assert tenths.min() > 20
    assert abs(np.corrcoef(np.arange(400), sample)[0, 1]) < 0.2


def test_sample_of_a_library_with_few_of_many_left(tmp_path: Path) -> None:
    other = Space("other", 8, "other")
    with open_store(tmp_path, writable=True) as store:
        fill(store, 3000)
        fill(store, 3, first=2990, space=other)
        assert sorted(store.sample_ids(other.key, 100).tolist()) == [2991, 2992, 2993]


def test_sample_of_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        with store.write() as writer:
            writer.ensure_space(SPACE)
        assert store.sample_ids(SPACE.key, 10).tolist() == []
        assert store.positions()[1].shape == (0, 2)
        assert store.positions(Where(near=(1.0, 2.0, 3.0)))[0].tolist() == []


@pytest.mark.parametrize(
    ("one", "other", "metres"),
    [
        ((0.0, 0.0), (0.0, 1.0), EARTH_RADIUS_M * math.radians(1)),
        ((0.0, 179.5), (0.0, -179.5), EARTH_RADIUS_M * math.radians(1)),
        ((90.0, 0.0), (90.0, 120.0), 0.0),
        ((90.0, 0.0), (-90.0, 0.0), EARTH_RADIUS_M * math.pi),
        ((89.0, 0.0), (89.0, 180.0), EARTH_RADIUS_M * math.radians(2)),
        ((45.0, 30.0), (-45.0, -150.0), EARTH_RADIUS_M * math.pi),
        # Three places at right angles to one another, as seen from the earth's centre.
        ((0.0, 45.0), (90.0, 0.0), EARTH_RADIUS_M * math.pi / 2),
        ((45.0, 0.0), (0.0, 90.0), EARTH_RADIUS_M * math.pi / 2),
        ((48.0, 2.0), (48.0, 2.00001), 0.744),
    ],
)
def test_distances(one: tuple[float, float], other: tuple[float, float], metres: float) -> None:
    (found,) = great_circle_m(*one, np.array([other[0]]), np.array([other[1]]))
    assert found == pytest.approx(metres, rel=1e-3, abs=1e-6)


def test_bounds_hold_every_place_of_the_circle() -> None:
    generator = np.random.default_rng(4)
    for _ in range(300):
        latitude = float(generator.choice([generator.uniform(-90, 90), 90.0, -90.0, 89.999]))
        longitude = float(generator.choice([generator.uniform(-180, 180), 180.0, -180.0]))
        radius_m = float(10 ** generator.uniform(0, 7.4))
        south, north, ranges = bounds_of(latitude, longitude, radius_m)
        # Many places near, in all directions, and some all over the world.
        spread = radius_m / 60_000
        latitudes = np.clip(latitude + generator.normal(0, spread, 500), -90, 90)
        wide = spread / max(0.001, math.cos(math.radians(latitude)))
        longitudes = (longitude + generator.normal(0, wide, 500) + 180) % 360 - 180
        inside = great_circle_m(latitude, longitude, latitudes, longitudes) <= radius_m
        within = np.zeros(500, dtype=bool)
        for west, east in ranges:
            within |= (longitudes >= west) & (longitudes <= east)
        within &= (latitudes >= south) & (latitudes <= north)
        assert not (inside & ~within).any()
