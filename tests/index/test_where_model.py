"""Every condition, and any together, select what plain Python says."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, fields
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_samples import SPACE, new_photo, unit_vectors

from siglip_index import open_store
from siglip_index.distance import EARTH_RADIUS_M
from siglip_index.records import FileEntry, Fingerprint, PhotoFacts, Where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siglip_index.local_store import LocalStore

COUNT = 400
ROOTS = [b"/photos", b"/more/photos"]
FOLDERS = [b"", b"a/", b"a/b/", b"a\xff/", b"a0/"]
NAMES = ["Canon EOS R5", "canon ixus", "Nikon Z 9", "Stra\u00dfen-Kamera", "\u0130FIX 100%", "a_b"]
NAME_PARTS = ["canon", "EOS", "STRASSEN", "i\u0307fix", "%", "_", "z 9", "\u00df", "none"]
KEYWORDS = [
    "sea",
    "Sea side",
    "\u00c9t\u00e9",
    'a "quoted',
    "quoted",
    "50%",
    "a_b",
    "STRASSE",
    "\\",
]
ASKED_KEYWORDS = ["SEA", "sea side", "\u00e9T\u00c9", 'A "QUOTED', "quoted", "50%", "stra\u00dfe"]
ASKED_KEYWORDS += ["a?b", "A_B", "\\", "nothing"]
TAGS = ["dog", "Caf\u00e9", "at the sea"]
# Around the moments at which the clocks of Berlin jump, before 1970, and on a usual day.
TIMES = [
    *("2024-03-31T01:59:59", "2024-03-31T03:00:00", "2024-10-27T02:15:00", "2024-10-27T02:45:00"),
    *("1969-12-31T23:59:59", "1970-01-01T01:00:00", "2024-06-03", "2024-06-03T14:00:00.25+02:00"),
    *("2024-06-03 23:59:59", "2023-12-31T23:59:59Z", "2024-01-01T00:00:00"),
]
ASKED_TIMES = [
    *("2024", "2024-06", "2024-06-03", "2024-06-03T14", "2024-06-03 14:00", "2024-06-04"),
    *("2024-03-31T02:30", "2024-03-31T03:00:00", "2024-10-27T02:30", "2024-10-27T03:00"),
    *("1970", "1970-01-01T00:59:59", "1970-01-01T01:00:00.5+05:00", "9999", "0001"),
]
PLACES = [(0.0, 0.0), (48.85, 2.35), (90.0, 0.0), (-90.0, 77.0), (-17.0, 179.99), (-17.0, -179.99)]
PLACES += [(52.5, 13.4), (89.99, 120.0), (0.0, 180.0), (0.0, -180.0)]


@dataclass(frozen=True)
class Known:
    """What was written of a photo that can be found."""

    id: int
    facts: PhotoFacts
    files: tuple[tuple[bytes, int], ...]
    tags: tuple[str, ...]

    @property
    def moment(self) -> str:
        if self.facts.taken_at is not None:
            return self.facts.taken_at[:19].replace(" ", "T")
        oldest_s = min(mtime for _, mtime in self.files) // 10**9
        return datetime.fromtimestamp(oldest_s).isoformat()


def epoch_ns(number: int) -> int:
    """Return a time near one of those in which the clock matters."""
    base = [1_711_846_800, 1_729_990_800, 0, 1_717_400_000, 1_704_063_600][number % 5]
    return (base + (number * 977) % 7200 - 3600) * 10**9 + number % 3 * 499_999_999 - number % 2


@pytest.fixture(scope="module")
def berlin() -> Iterator[None]:
    if not hasattr(time, "tzset"):
        yield  # the clock of this machine will do
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        assert time.timezone == -3600
        yield
    time.tzset()


def random_facts(generator: np.random.Generator) -> PhotoFacts:
    def maybe(values: list[str]) -> str | None:
        return None if generator.random() < 0.4 else values[generator.integers(len(values))]

    latitude, longitude = PLACES[generator.integers(len(PLACES))]
    latitude = float(np.clip(latitude + generator.normal(0, 0.02), -90, 90))
    longitude = float((longitude + generator.normal(0, 0.02) + 180) % 360 - 180)
    has_place = generator.random() < 0.6
    return PhotoFacts(
        width=int(generator.choice([480, 640, 4000])),
        height=int(generator.choice([480, 640, 3000])),
        format=str(generator.choice(["JPEG", "PNG", "HEIF"])),
        taken_at=maybe(TIMES),
        camera=maybe(NAMES),
        lens=maybe(NAMES),
        latitude=latitude if has_place else None,
        longitude=longitude if has_place else None,
        rating=None if generator.random() < 0.5 else int(generator.integers(-1, 6)),
        keywords=tuple(
            generator.choice(KEYWORDS, size=generator.integers(0, 4), replace=False).tolist()
        ),
    )


@pytest.fixture(scope="module")
def library(
    tmp_path_factory: pytest.TempPathFactory, berlin: None
) -> Iterator[tuple[LocalStore, list[Known]]]:
    """A library of many photos, of which some are gone, and what is in it."""
    generator = np.random.default_rng(8)
    vectors = unit_vectors(COUNT, seed=3)
    with open_store(tmp_path_factory.mktemp("where") / "library", writable=True) as store:
        known = []
        gone = []
        with store.write() as writer:
            writer.ensure_space(SPACE)
            roots = [writer.ensure_root(path, 1).id for path in ROOTS]
            for number in range(COUNT):
                photo = dataclasses.replace(
                    new_photo(number, vectors[number]), facts=random_facts(generator)
                )
                photo_id = writer.add_photo(SPACE.key, photo)
                files = []
                for copy in range(generator.integers(1, 4)):
                    which = generator.integers(len(ROOTS))
                    folder = FOLDERS[generator.integers(len(FOLDERS))]
                    path = folder + b"%d-%d.jpg" % (number, copy)
                    mtime = epoch_ns(int(generator.integers(10_000)))
                    entry = FileEntry(roots[which], path, Fingerprint(1, mtime), 1)
                    writer.link_files(photo_id, [entry])
                    is_gone = generator.random() < 0.2
                    if is_gone:
                        gone.append((roots[which], path))
                    else:
                        files.append((ROOTS[which] + b"/" + path, mtime))
                tags = [tag for tag in TAGS if generator.random() < 0.3]
                writer.put_tags(SPACE.key, "words", [(photo_id, [(tag, 0.5) for tag in tags])])
                if files:
                    known.append(Known(photo_id, photo.facts, tuple(files), tuple(tags)))
        places = {(root, file.path): file.id for root in roots for file in store.files(root)}
        with store.write() as writer:
            writer.mark_vanished([places[place] for place in gone])
        assert len(known) < COUNT
        yield store, known


def distance_m(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the great-circle distance by the angle of two vectors in space."""

    def vector(place: tuple[float, float]) -> np.ndarray:
        north, east = map(math.radians, place)
        return np.array(
            [math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)]
        )

    a, b = vector(one), vector(other)
    return EARTH_RADIUS_M * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


def local(asked: str) -> str:
    return asked[:19].replace(" ", "T")


def has_part(name: str | None, parts: tuple[str, ...]) -> bool:
    return name is not None and any(part.casefold() in name.casefold() for part in parts)


def is_near(facts: PhotoFacts, near: tuple[float, float, float]) -> bool | None:
    """Tell whether a photo is in the circle; None where the two formulas may differ."""
    if facts.latitude is None or facts.longitude is None:
        return False
    distance = distance_m((facts.latitude, facts.longitude), near[:2])
    return None if abs(distance - near[2]) < 0.5 else distance < near[2]


def meets(known: Known, where: Where) -> bool | None:
    facts = known.facts
    words = {word.casefold() for word in facts.keywords}
    if where.near is not None and not (near := is_near(facts, where.near)):
        return near
    return (
        (
            not where.under
            or any(
                path == folder.rstrip(b"/") or path.startswith(folder.rstrip(b"/") + b"/")
                for path, _ in known.files
                for folder in where.under
            )
        )
        and (not where.formats or facts.format in {name.upper() for name in where.formats})
        and (where.taken_from is None or known.moment >= local(where.taken_from))
        and (where.taken_before is None or known.moment < local(where.taken_before))
        and any(
            (where.changed_from is None or mtime >= Fraction(where.changed_from) * 10**9)
            and (where.changed_before is None or mtime < Fraction(where.changed_before) * 10**9)
            for _, mtime in known.files
        )
        and (not where.cameras or has_part(facts.camera, where.cameras))
        and (not where.lenses or has_part(facts.lens, where.lenses))
        and {
            None: True,
            "portrait": facts.height > facts.width,
            "landscape": facts.height < facts.width,
            "square": facts.height == facts.width,
        }[where.orientation]
        and facts.width >= (where.min_width or 0)
        and facts.height >= (where.min_height or 0)
        and facts.width * facts.height >= (where.min_pixels or 0)
        and (where.has_gps is None or where.has_gps == (facts.latitude is not None))
        and (
            where.min_rating is None
            or (facts.rating is not None and facts.rating >= where.min_rating)
        )
        and all(word.casefold() in words for word in where.keywords)
        and {tag.casefold() for tag in where.tags} <= {tag.casefold() for tag in known.tags}
        and (where.photo_ids is None or known.id in where.photo_ids)
        and known.id not in where.not_photo_ids
    )


def several(values: list[str], most: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most).map(tuple)


folders = [b"/photos", b"/photos/a", b"/photos/a/", b"/more", b"/", b"/photos/a\xff", b"/none"]
ids = st.frozensets(st.integers(0, COUNT + 5), max_size=COUNT)
CONDITIONS: dict[str, st.SearchStrategy[object]] = {
    "under": st.lists(st.sampled_from(folders), min_size=1, max_size=2).map(tuple),
    "formats": several(["JPEG", "png", "HEIF", "GIF"], 2),
    "taken_from": st.sampled_from(ASKED_TIMES),
    "taken_before": st.sampled_from(ASKED_TIMES),
    "changed_from": st.sampled_from([0.0, -1e12, 1.7e9, 1_711_846_800.5, 1_729_990_800.0, 1e300]),
    "changed_before": st.sampled_from([0.0, 1e12, 1_717_400_000.0, 1_729_990_800.0, -1e300]),
    "near": st.tuples(
        st.sampled_from(PLACES), st.sampled_from([0.0, 900.0, 3e3, 2e5, 9e6, 2.1e7])
    ).map(lambda pair: (*pair[0], pair[1])),
    "cameras": several(NAME_PARTS, 2),
    "lenses": several(NAME_PARTS, 2),
    "orientation": st.sampled_from(["portrait", "landscape", "square"]),
    "min_width": st.sampled_from([0, 480, 641, 4000]),
    "min_height": st.sampled_from([0, 640, 3000, 3001]),
    "min_pixels": st.sampled_from([0, 640 * 480, 12_000_000, 10**12]),
    "has_gps": st.booleans(),
    "min_rating": st.integers(-1, 6),
    "keywords": several(ASKED_KEYWORDS, 2),
    "tags": several(["DOG", "caf\u00c9", "At the sea", "unknown"], 2),
    "photo_ids": ids,
    "not_photo_ids": ids,
}


def check(library: tuple[LocalStore, list[Known]], where: Where) -> int:
    """Compare all ways to ask; return how many were found."""
    store, known = library
    judged = {photo.id: meets(photo, where) for photo in known}
    wanted = {photo_id for photo_id, is_wanted in judged.items() if is_wanted}
    unsure = {photo_id for photo_id, is_wanted in judged.items() if is_wanted is None}
    query = unit_vectors(1, seed=99)
    (nearest,) = store.nearest(SPACE.key, query, COUNT, where)
    found = {neighbour.photo_id for neighbour in nearest}
    assert found - unsure == wanted
    assert store.photo_ids(where).tolist() == sorted(found)
    # Exact within the conditions: the cosines are those of a search without any.
    (everywhere,) = store.nearest(SPACE.key, query, COUNT)
    cosines = {neighbour.photo_id: neighbour.cosine for neighbour in everywhere}
    assert {n.photo_id: n.cosine for n in nearest} == pytest.approx(
        {photo_id: cosines[photo_id] for photo_id in found}, abs=1e-6
    )
    matched = store.matches(SPACE.key, query[0], 0.1, where)
    assert {n.photo_id for n in matched} == {n.photo_id for n in nearest if n.cosine >= 0.1}
    (best,) = store.nearest(SPACE.key, query, 3, where)
    assert [n.cosine for n in best] == pytest.approx([n.cosine for n in nearest[:3]], abs=1e-6)
    ids, degrees = store.positions(where)
    places = {p.id: (p.facts.latitude, p.facts.longitude) for p in known}
    assert ids.tolist() == sorted(i for i in found if places[i][0] is not None)
    assert [tuple(row) for row in degrees.tolist()] == [places[i] for i in ids.tolist()]
    return len(found)


def test_conditions_are_all_looked_at() -> None:
    assert set(CONDITIONS) == {field.name for field in fields(Where)}


@pytest.mark.parametrize("name", CONDITIONS)
def test_each_condition_alone(library: tuple[LocalStore, list[Known]], name: str) -> None:
    sizes = set()

    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(CONDITIONS[name])
    def try_all(value: object) -> None:
        sizes.add(check(library, Where(**{name: value})))  # type: ignore[arg-type]

    try_all()
    assert len(sizes) > 1, "the values select nothing, or everything"


def test_conditions_together(library: tuple[LocalStore, list[Known]]) -> None:
    found = set()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.sampled_from(sorted(CONDITIONS)), min_size=2, max_size=4, unique=True).flatmap(
            lambda names: st.fixed_dictionaries({name: CONDITIONS[name] for name in names})
        )
    )
    def try_all(values: dict[str, object]) -> None:
        found.add(check(library, Where(**values)))  # type: ignore[arg-type]

    try_all()
    assert len(found) > 5


def test_moments_are_what_the_clock_showed(library: tuple[LocalStore, list[Known]]) -> None:
    store, known = library
    everything = range(COUNT + 5)
    assert store.moments(everything) == {photo.id: photo.moment for photo in known}
    assert store.moments([]) == {}
    assert len({photo.moment for photo in known if photo.facts.taken_at is None}) > 50


def test_what_no_pattern_can_hold_is_looked_for_all_the_same(
    library: tuple[LocalStore, list[Known]],
) -> None:
    store, photos = library
    asked = max((word for photo in photos for word in photo.facts.keywords), key=len)
    assert len(store.photo_ids(Where(keywords=(asked,)))) > 0
    for word in ("k" * 60_000, "%" * 60_000, "\u00e9" * 60_000):
        assert len(store.photo_ids(Where(keywords=(word,)))) == 0
    assert len(store.photo_ids(Where(formats=("\udcff",)))) == 0
