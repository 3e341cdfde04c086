"""What people write becomes conditions, or one clear line about what is wrong."""

from __future__ import annotations

import json
import time
from calendar import monthrange
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_index.moments import local_time
from siglip_index.records import Where
from siglip_search.errors import QueryError
from siglip_search.photos.formats import EXTENSIONS_BY_FORMAT, RAW_EXTENSIONS
from siglip_search.photos.raw_signature import _SIGNATURES, _TYPE_BY_MAKER
from siglip_search.search.filters import (
    DEFAULT_RADIUS_M,
    changed_since,
    circle_of,
    formats_of,
    least_size,
    moment_of,
    where_as_object,
    where_from_object,
)

NOW = datetime(2024, 3, 31, 15, 30, 45, 123456)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("2024", "2024"),
        ("2024-06", "2024-06"),
        ("2024-6-3", "2024-06-03"),
        ("2024-06-03 14:00", "2024-06-03T14:00"),
        ("2024-06-03T14:00:05", "2024-06-03T14:00:05"),
        ("2024-06-03  7:05", "2024-06-03T07:05"),
        ("2024-02-29", "2024-02-29"),
        ("today", "2024-03-31"),
        (" Yesterday ", "2024-03-30"),
        ("3w", "2024-03-10T15:30:45"),
        ("10d", "2024-03-21T15:30:45"),
        ("10 days", "2024-03-21T15:30:45"),
        ("36h", "2024-03-30T03:30:45"),
        ("90min", "2024-03-31T14:00:45"),
        ("0d", "2024-03-31T15:30:45"),
        ("1mo", "2024-02-29T15:30:45"),
        ("13mo", "2023-02-28T15:30:45"),
        ("2y", "2022-03-31T15:30:45"),
        ("1 Year", "2023-03-31T15:30:45"),
    ],
)
def test_times(typed: str, expected: str) -> None:
    found = moment_of(typed, "--after", NOW)
    assert found == expected
    assert local_time(found) == expected


@pytest.mark.parametrize(
    "typed",
    [
        *("", "24", "2024-13", "2024-00", "2023-02-29", "2024-06-31", "0000", "2024-06-03 25:00"),
        *("2024-06-03 14", "06/03/2024", "tomorrow", "3", "3m", "3x", "-3w", "1.5w", "3w ago"),
        *("2024-06-03T14:00Z", "9999y", "999999mo", "999999w", "\u0662\u0660\u0662\u0664"),
    ],
)
def test_what_is_no_time_is_refused_in_one_line(typed: str) -> None:
    with pytest.raises(QueryError) as caught:
        moment_of(typed, "--after", NOW)
    assert str(caught.value).startswith("--after")
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_m_is_asked_back() -> None:
    with pytest.raises(QueryError, match="minutes or months"):
        changed_since("3m", "--changed-within", NOW)


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.integers(0, 999_999))
def test_months_and_years_keep_to_the_calendar(now: datetime, number: int) -> None:
    for unit, months in (("mo", number), ("y", 12 * number)):
        first = now.year * 12 + now.month - 1 - months
        if first < 12:
            with pytest.raises(QueryError, match="before the calendar"):
                moment_of(f"{number}{unit}", "--after", now)
            continue
        found = datetime.fromisoformat(moment_of(f"{number}{unit}", "--after", now))
        assert found.year * 12 + found.month - 1 == first
        assert found.time() == now.time().replace(microsecond=0)
        last_day = monthrange(found.year, found.month)[1]
        assert found.day == min(now.day, last_day)


@given(st.datetimes(datetime(1970, 1, 3), datetime(2200, 1, 1)), st.integers(0, 20_000))
def test_changed_since_is_a_time_of_the_clock(now: datetime, days: int) -> None:
    found = changed_since(f"{days}d", "--changed-within", now)
    expected = now - timedelta(days=days)
    assert found == pytest.approx(expected.timestamp())


def test_changed_since_before_all_that_a_clock_knows() -> None:
    now = datetime(2, 1, 1)
    assert changed_since("1y", "--changed-within", now) <= 0


@pytest.mark.parametrize(
    ("near", "within", "expected"),
    [
        ("48.85,2.35", "5km", (48.85, 2.35, 5000.0)),
        (" -33.9 , 151.2 ", "500m", (-33.9, 151.2, 500.0)),
        ("48.85 2.35", None, (48.85, 2.35, DEFAULT_RADIUS_M)),
        ("48.85\u00b0, 2.35\u00b0", ".5 KM", (48.85, 2.35, 500.0)),
        ("90;180", "3mi", (90.0, 180.0, 4828.032)),
        ("+1,-.5", "0m", (1.0, -0.5, 0.0)),
    ],
)
def test_circles(near: str, within: str | None, expected: tuple[float, float, float]) -> None:
    assert circle_of(near, within) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("near", "within", "message"),
    [
        ("Paris", "5km", "--near"),
        ("48.85", "5km", "--near"),
        ("48,85,2,35", "5km", "--near"),
        ("91,2", "5km", "no such place"),
        ("48,181", "5km", "no such place"),
        ("nan,2", "5km", "--near"),
        ("48,2", "5", "--within"),
        ("48,2", "-5km", "--within"),
        ("48,2", "5 yards", "--within"),
        ("48,2", "", "--within"),
    ],
)
def test_no_circle(near: str, within: str, message: str) -> None:
    with pytest.raises(QueryError, match=message) as caught:
        circle_of(near, within)
    assert caught.value.hint


def test_sizes() -> None:
    assert least_size("2000x1500") == (2000, 1500, None)
    assert least_size(" 2000 \u00d7 1500 ") == (2000, 1500, None)
    assert least_size("12MP") == (None, None, 12_000_000)
    assert least_size("0.3 mp") == (None, None, 300_000)
    for typed in ("", "2000", "x1500", "12", "12MB", "-1x5", "1e9MP"):
        with pytest.raises(QueryError, match="--min-size"):
            least_size(typed)


def test_formats() -> None:
    assert formats_of("heic,jpg") == ("HEIF", "JPEG", "MPO")
    assert formats_of(".PNG, png") == ("PNG",)
    assert formats_of("jpeg") == formats_of("jpg") == ("JPEG", "MPO")
    assert formats_of("nef") == ("NEF",)
    assert "NEF" in formats_of("raw")
    for typed in ("", "docx", "jpg,", "mp4", "*.jpg"):
        with pytest.raises(QueryError, match="--type"):
            formats_of(typed)


def test_every_extension_of_a_picture_is_a_type() -> None:
    for name, extensions in EXTENSIONS_BY_FORMAT.items():
        for extension in extensions:
            assert name in formats_of(extension.decode())
    raw = set(formats_of("raw"))
    assert raw == {*(name for _, _, name in _SIGNATURES), *_TYPE_BY_MAKER.values(), "DNG", "RAW"}
    for name in sorted(raw):
        assert set(formats_of(name)) == ({name} if name != "RAW" else raw)
    for extension in RAW_EXTENSIONS - {name.lower().encode() for name in raw}:
        with pytest.raises(QueryError, match="not told apart"):
            formats_of(extension.decode())


texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=3).map(tuple)
times = st.datetimes().map(lambda moment: moment.isoformat(timespec="seconds"))
numbers = st.floats(allow_nan=False, allow_infinity=False)
ids = st.frozensets(st.integers(0, 2**62), max_size=5)
wheres = st.builds(
    Where,
    under=st.lists(st.binary(max_size=5), max_size=3).map(tuple),
    formats=texts,
    taken_from=st.none() | times,
    taken_before=st.none() | times,
    changed_from=st.none() | numbers,
    changed_before=st.none() | numbers,
    near=st.none()
    | st.tuples(st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 1e9, exclude_min=True)),
    cameras=texts,
    lenses=texts,
    orientation=st.none() | st.sampled_from(["portrait", "landscape", "square"]),
    min_width=st.none() | st.integers(0, 10**9),
    min_height=st.none() | st.integers(0, 10**9),
    min_pixels=st.none() | st.integers(0, 10**18),
    has_gps=st.none() | st.booleans(),
    min_rating=st.none() | st.integers(0, 5),
    keywords=texts,
    tags=texts,
    photo_ids=st.none() | ids,
    not_photo_ids=ids,
)


@given(wheres)
def test_conditions_survive_json(where: Where) -> None:
    stored = json.dumps(where_as_object(where))
    assert stored.isascii()
    assert where_from_object(json.loads(stored)) == where


def test_only_what_is_asked_is_stored() -> None:
    assert where_as_object(Where()) == {}
    assert where_as_object(Where(has_gps=False, photo_ids=frozenset())) == {
        "has_gps": False,
        "photo_ids": [],
    }


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {"unknown": 1},
        {"under": "text"},
        {"under": [1]},
        {"formats": ["JPEG", None]},
        {"taken_from": "yesterday"},
        {"taken_from": 2024},
        {"changed_from": "1"},
        {"changed_from": True},
        {"changed_from": float("nan")},
        {"near": [1.0, 2.0]},
        {"near": [91.0, 2.0, 3.0]},
        {"near": [1.0, 2.0, -3.0]},
        {"near": [1.0, 2.0, None]},
        {"orientation": "upside down"},
        {"orientation": ["portrait"]},
        {"min_width": 1.5},
        {"min_pixels": 10**30},
        {"has_gps": 1},
        {"photo_ids": 5},
        {"photo_ids": [True]},
        {"photo_ids": [10**30]},
    ],
)
def test_what_is_no_condition_is_refused(stored: object) -> None:
    with pytest.raises(QueryError, match="stored conditions") as caught:
        where_from_object(stored)
    assert caught.value.hint


def test_local_clock_decides_what_today_is(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(time, "tzset"):
        pytest.skip("the clock of this system cannot be set for one program")
    found = []
    for zone in ("Europe/Berlin", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        found.append(changed_since("1h", "--changed-within", NOW))
    monkeypatch.undo()
    time.tzset()
    assert found[1] - found[0] == 6 * 3600
