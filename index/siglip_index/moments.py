"""When a photo was taken, as far as the library knows, in SQL."""

# ruff: noqa: S608 - the statements are put together from constants and marks for values

from __future__ import annotations

import re
from datetime import UTC, datetime

from siglip_index.stat_numbers import storable_nanoseconds

Parameter = bytes | str | int | float

_ISO_TIME = re.compile(
    r"(?P<local>\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?)(\.\d+)?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
# What a shortened time leaves out.
_FIRST_MOMENT = "0001-01-01T00:00:00"
_DATE_CHARACTERS = 10
_AFTER_ALL = "~"  # follows, as text, whatever stands behind a date
# More than any clock differs from UTC.
_CLOCK_MARGIN_S = 48 * 3600

# Wall-clock time to the second: "2021-05-04T13:14:15" of "2021-05-04T13:14:15.25+02:00".
_TAKEN_LOCAL = "replace(substr(photo.taken_at, 1, 19), ' ', 'T')"
# Down to the second also before 1970, where SQLite's division would go up.
_MTIME = "photo.oldest_mtime_ns"
_MTIME_LOCAL = (
    "strftime('%Y-%m-%dT%H:%M:%S',"
    f" {_MTIME} / 1000000000 - ({_MTIME} < 0 AND {_MTIME} % 1000000000 <> 0),"
    " 'unixepoch', 'localtime')"
)

MOMENT = f"ifnull({_TAKEN_LOCAL}, {_MTIME_LOCAL})"
"""A photo's moment: capture time, else the oldest present file's time on the local clock."""


def local_time(time: str) -> str:
    """Return an ISO 8601 date or time as the clock showed it, in the form of `MOMENT`.

    A year, a month, a day, an hour or a minute alone stays as short: compared as text, it is
    before all that lies in it.

    Raises:
        ValueError: It is none.
    """
    match = _ISO_TIME.fullmatch(time)
    if match is not None:
        local = match["local"].replace(" ", "T")
        try:
            _in_full(local)
        except ValueError:
            match = None
        else:
            return local
    raise ValueError(f"{time!r} is no ISO 8601 date or time")


def _in_full(local: str) -> datetime:
    return datetime.fromisoformat(local + _FIRST_MOMENT[len(local) :]).replace(tzinfo=UTC)


def ids_by_moment(start: str | None, end: str | None) -> tuple[str, list[Parameter]]:
    """Return what selects the photos of a time, and its parameters.

    An index answers it. What the clock showed is asked only of times near the limits, for it takes
    a microsecond each.

    Args:
        start: ISO 8601 date or time; the moment is at or after it. None for no such limit.
        end: The moment is before it.

    Raises:
        ValueError: A time is not ISO 8601.
    """
    taken, taken_parameters = ["photo.taken_at IS NOT NULL"], list[Parameter]()
    changed, changed_parameters = ["photo.taken_at IS NULL"], list[Parameter]()
    if start is not None:
        local, day, early, late = _limits(start)
        taken.append(f"photo.taken_at >= ? AND (photo.taken_at >= ? OR {_TAKEN_LOCAL} >= ?)")
        taken_parameters += [day, day + _AFTER_ALL, local]
        changed.append(f"{_MTIME} >= ? AND ({_MTIME} >= ? OR {_MTIME_LOCAL} >= ?)")
        changed_parameters += [early, late, local]
    if end is not None:
        local, day, early, late = _limits(end)
        taken.append(f"photo.taken_at < ? AND (photo.taken_at < ? OR {_TAKEN_LOCAL} < ?)")
        taken_parameters += [day + _AFTER_ALL, day, local]
        changed.append(f"{_MTIME} < ? AND ({_MTIME} < ? OR {_MTIME_LOCAL} < ?)")
        changed_parameters += [late, early, local]
    return (
        f"SELECT photo.id AS id FROM photo WHERE {' AND '.join(taken)}"
        f" UNION ALL SELECT photo.id FROM photo WHERE {' AND '.join(changed)}",
        [*taken_parameters, *changed_parameters],
    )


def _limits(time: str) -> tuple[str, str, int, int]:
    """Return a time, its day, and what lies surely before and surely after it on any clock."""
    local = local_time(time)
    limit_s = _in_full(local).timestamp()
    early, late = (
        storable_nanoseconds(limit_s + margin_s) for margin_s in (-_CLOCK_MARGIN_S, _CLOCK_MARGIN_S)
    )
    return local, local[:_DATE_CHARACTERS], early, late
