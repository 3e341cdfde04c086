"""What people write as conditions becomes fields of `Where`: times, places, sizes, formats."""

from __future__ import annotations

import math
import os
import re
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, get_args

from siglip_index.moments import local_time
from siglip_index.records import Orientation, Where
from siglip_search.errors import QueryError
from siglip_search.photos.formats import EXTENSIONS_BY_FORMAT, RAW_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_RADIUS_M: Final = 1000.0

_MOMENT = re.compile(
    r"\d{4}(-\d{1,2}(-\d{1,2}([T ]+\d{1,2}:\d\d(:\d\d)?)?)?)?",
    re.ASCII,
)
_SPAN = re.compile(r"(?P<number>\d{1,6})\s*(?P<unit>[a-z]+)", re.ASCII)
_DISTANCE = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>[a-z]+)", re.ASCII)
_NUMBER = r"[+-]?(\d+(\.\d*)?|\.\d+)"
_POSITION = re.compile(
    rf"\s*(?P<latitude>{_NUMBER})\s*°?\s*[,;\s]\s*(?P<longitude>{_NUMBER})\s*°?\s*", re.ASCII
)
_SIDES = re.compile(r"(?P<width>\d{1,9})\s*[x\u00d7*]\s*(?P<height>\d{1,9})", re.ASCII)
_MEGAPIXELS = re.compile(r"(?P<number>\d{1,6}(\.\d{1,6})?|\.\d{1,6})\s*mp", re.ASCII)

_MONTHS = {"mo": 1, "month": 1, "months": 1, "y": 12, "year": 12, "years": 12}
_SPANS = {
    **dict.fromkeys(("min", "minute", "minutes"), timedelta(minutes=1)),
    **dict.fromkeys(("h", "hour", "hours"), timedelta(hours=1)),
    **dict.fromkeys(("d", "day", "days"), timedelta(days=1)),
    **dict.fromkeys(("w", "week", "weeks"), timedelta(weeks=1)),
}
_METRES = {"m": 1.0, "km": 1000.0, "mi": 1609.344}

_SPAN_HINT = "Write a number and min, h, d, w, mo or y: 3w is three weeks, 6mo six months."
_TIME_HINT = (
    'Write a year, month or day (2024, 2024-06, 2024-06-03), "2024-06-03 14:00", today, yesterday'
    " or how long ago (3w, 10d, 6mo, 2y)."
)

# What `photos` calls the RAW files that it tells apart, and those that it does not.
_RAW_FORMATS = (
    *("3FR", "ARW", "CR2", "CR3", "CRW", "DCR", "DNG", "ERF", "IIQ", "MEF"),
    *("MOS", "MRW", "NEF", "ORF", "PEF", "RAF", "RAW", "RW2", "SRW", "X3F"),
)


def moment_of(typed: str, option: str, now: datetime) -> str:
    """Return the beginning of a time as people write it, as `Where.taken_from` takes it.

    Args:
        typed: "2024", "2024-06", "2024-06-03", "2024-06-03 14:00", "today", "yesterday", or how
            long ago: "3w", "10d", "6mo", "2y".
        option: What it was written for, such as "--after".
        now: The local clock, without time zone.

    Raises:
        QueryError: It is none of these, or there is no such time.
    """
    text = " ".join(typed.lower().split())
    if text == "today":
        return now.date().isoformat()
    if text == "yesterday":
        return (now.date() - timedelta(days=1)).isoformat()
    if _MOMENT.fullmatch(text.upper()):
        moment = _in_full(text.replace("t", " "))
        if moment is None:
            raise QueryError(f"{option} {typed}: there is no such time", hint=_TIME_HINT)
        return moment
    if _SPAN.fullmatch(text):
        return _ago(text, typed, option, now).isoformat(timespec="seconds")
    raise QueryError(f"{option} {typed!r} is no time", hint=_TIME_HINT)


def _in_full(text: str) -> str | None:
    """Return a time with all its zeros, as long as it was written; None when there is none such."""
    parts = re.split(r"[-: ]+", text)
    numbers = [int(part) for part in parts]
    try:
        time = datetime(*(numbers + [1, 1][len(numbers) - 1 :]))  # type: ignore[arg-type]
    except ValueError:
        return None
    ends = {1: 4, 2: 7, 3: 10, 5: 16, 6: 19}
    return time.isoformat(timespec="seconds")[: ends[len(numbers)]]


def changed_since(typed: str, option: str, now: datetime) -> float:
    """Return the time, epoch seconds, that lies as long ago as is written, such as "3w".

    Raises:
        QueryError: It is no span of time, or reaches back too far.
    """
    text = " ".join(typed.lower().split())
    try:
        return _ago(text, typed, option, now).timestamp()
    except (OverflowError, OSError, ValueError):
        # Before what the clock of this system knows: then nothing is too old.
        return 0.0


def _ago(text: str, typed: str, option: str, now: datetime) -> datetime:
    match = _SPAN.fullmatch(text)
    unit = match["unit"] if match else ""
    if match is None or (unit not in _MONTHS and unit not in _SPANS):
        meant = " (m could be minutes or months)" if unit == "m" else ""
        raise QueryError(f"{option} {typed!r} is no span of time{meant}", hint=_SPAN_HINT)
    number = int(match["number"])
    try:
        if unit in _SPANS:
            return now - number * _SPANS[unit]
        return _months_before(now, number * _MONTHS[unit])
    except (OverflowError, ValueError):
        raise QueryError(
            f"{option} {typed}: that is before the calendar begins", hint=_SPAN_HINT
        ) from None


def _months_before(now: datetime, months: int) -> datetime:
    """Return the same day of an earlier month, or the last day of a month that has none such."""
    year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
    for day in range(now.day, 0, -1):
        try:
            return now.replace(year=year, month=month + 1, day=day)
        except ValueError:
            if day <= 28:
                raise
    raise AssertionError("every month has 28 days")


def circle_of(near: str, within: str | None) -> tuple[float, float, float]:
    """Return `Where.near` of a position and a distance as people write them.

    Args:
        near: Degrees north and east, such as "48.85,2.35" or "-33.9, 151.2".
        within: Such as "500m", "5km" or "3mi"; None for `DEFAULT_RADIUS_M`.

    Raises:
        QueryError: They are none.
    """
    match = _POSITION.fullmatch(near)
    if match is None:
        raise QueryError(
            f"--near {near!r} is no position",
            hint='Write degrees north and east, as maps show them: --near "48.85,2.35".',
        )
    latitude, longitude = float(match["latitude"]), float(match["longitude"])
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise QueryError(
            f"--near {near}: there is no such place on the earth",
            hint="Latitude (-90 to 90) comes first, then longitude (-180 to 180).",
        )
    return latitude, longitude, DEFAULT_RADIUS_M if within is None else _metres(within)


def _metres(within: str) -> float:
    match = _DISTANCE.fullmatch(within.strip().lower())
    if match is None or match["unit"] not in _METRES:
        raise QueryError(
            f"--within {within!r} is no distance", hint="Write for example 500m, 5km or 3mi."
        )
    return float(match["number"]) * _METRES[match["unit"]]


def least_size(typed: str) -> tuple[int | None, int | None, int | None]:
    """Return least width, height and pixels of "2000x1500" or "12MP", None for what is not asked.

    Raises:
        QueryError: It is no size.
    """
    text = typed.strip().lower()
    if sides := _SIDES.fullmatch(text):
        return int(sides["width"]), int(sides["height"]), None
    if megapixels := _MEGAPIXELS.fullmatch(text):
        return None, None, round(float(megapixels["number"]) * 1_000_000)
    raise QueryError(
        f"--min-size {typed!r} is no size",
        hint="Write width and height in pixels, 2000x1500, or megapixels, 12MP.",
    )


def formats_of(typed: str) -> tuple[str, ...]:
    """Return the format names of file name extensions, such as "heic,jpg" or "raw".

    Raises:
        QueryError: An extension is none of a picture.
    """
    found: dict[str, None] = {}
    for part in typed.split(","):
        name = part.strip().lower().removeprefix(".")
        formats = _formats_called(name)
        if not formats and name.encode() in RAW_EXTENSIONS:
            raise QueryError(
                f"--type {name}: such RAW files are not told apart from others",
                hint="--type raw means all RAW files.",
            )
        if not formats:
            raise QueryError(
                f"--type {part.strip()!r} is no format of pictures",
                hint="Write file name extensions: --type jpg, --type heic,png or --type raw.",
            )
        found.update(dict.fromkeys(formats))
    return tuple(found)


def _formats_called(name: str) -> list[str]:
    if name == "raw":
        return list(_RAW_FORMATS)
    if name.upper() in _RAW_FORMATS:
        return [name.upper()]
    formats = [
        known
        for known, extensions in EXTENSIONS_BY_FORMAT.items()
        if name == known.lower() or name.encode() in extensions
    ]
    # Cameras write several pictures into one file and call it .jpg.
    return [*formats, "MPO"] if formats == ["JPEG"] else formats


def where_as_object(where: Where) -> dict[str, Any]:
    """Return conditions as an object for JSON, without those that are not given.

    Paths stand in it as os.fsdecode leaves them.
    """
    found: dict[str, Any] = {}
    for field in fields(Where):
        value = getattr(where, field.name)
        if value == field.default:
            continue
        if field.name == "under":
            value = [os.fsdecode(path) for path in value]
        elif isinstance(value, frozenset):
            value = sorted(value)
        elif isinstance(value, tuple):
            value = list(value)
        found[field.name] = value
    return found


def where_from_object(found: object) -> Where:
    """Return the conditions that `where_as_object` made an object of.

    Raises:
        QueryError: It is none: another version made it, perhaps, or somebody edited it.
    """
    if not isinstance(found, dict):
        raise _no_conditions("an object was expected")
    values: dict[str, Any] = {}
    for name, value in found.items():
        read = _READ.get(name)
        if read is None:
            raise _no_conditions(f"{name!r} is not known")
        try:
            values[name] = read(value)
        except (TypeError, ValueError, OverflowError):
            raise _no_conditions(f"{name!r} cannot be {value!r}") from None
    return Where(**values)


def _no_conditions(why: str) -> QueryError:
    return QueryError(
        f"the stored conditions have no meaning here: {why}",
        hint="Write them again; another version of the program may have stored them.",
    )


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(part) for part in _list(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _time(value: object) -> str:
    time = _text(value)
    local_time(time)
    return time


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    if abs(value) >= 2**63:
        raise ValueError  # more than the library can compare
    return value


def _ids(value: object) -> frozenset[int]:
    return frozenset(_whole(part) for part in _list(value))


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _orientation(value: object) -> str:
    if _text(value) not in get_args(Orientation):
        raise ValueError
    return _text(value)


def _circle(value: object) -> tuple[float, float, float]:
    latitude, longitude, radius_m = map(_number, _list(value))
    if abs(latitude) > 90 or abs(longitude) > 180 or radius_m < 0:
        raise ValueError
    return latitude, longitude, radius_m


_READ: Final[dict[str, Callable[[object], Any]]] = {
    "under": lambda value: tuple(os.fsencode(path) for path in _texts(value)),
    "formats": _texts,
    "taken_from": _time,
    "taken_before": _time,
    "changed_from": _number,
    "changed_before": _number,
    "near": _circle,
    "cameras": _texts,
    "lenses": _texts,
    "orientation": _orientation,
    "min_width": _whole,
    "min_height": _whole,
    "min_pixels": _whole,
    "has_gps": _bool,
    "min_rating": _whole,
    "keywords": _texts,
    "tags": _texts,
    "photo_ids": _ids,
    "not_photo_ids": _ids,
}
