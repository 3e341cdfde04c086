"""Capture times that phones and programs write into file names.

A name belongs to a file and not to a content, which may have several: the name under which a
content is first found decides, and only where the picture itself and its sidecar say nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from siglip_search.photos.metadata_values import iso_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siglip_index.records import PhotoFacts

# The years of digital photographs; an older scan is rarely named by the second.
_FIRST_YEAR = 1990
# Epoch milliseconds are taken for a time from here on: before, no phone named its pictures so.
_FIRST_EPOCH_YEAR = 2000

# No part of a longer number or of a hash; but letters may stand before a full time ("VID2024...").
_BEFORE = r"(?<![0-9A-Za-z])"
_BEFORE_TIME = r"(?<![0-9])"
_AFTER = r"(?![0-9A-Za-z])"


def _date(separator: str) -> str:
    return separator.join(
        (r"(?P<year>(?:19|20)\d\d)", r"(?P<month>0[1-9]|1[0-2])", r"(?P<day>0[1-9]|[12]\d|3[01])")
    )


def _time(separator: str) -> str:
    return separator.join(
        (r"(?P<hour>[01]\d|2[0-3])", r"(?P<minute>[0-5]\d)", r"(?P<second>[0-5]\d)")
    )


_PATTERNS = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        # PXL_20230704_123456789: the only ones whose clock is UTC's.
        r"(?P<utc>PXL_)" + _date("") + "_" + _time("") + r"(?P<fraction>\d{3})?" + _AFTER,
        # IMG_20240131_235959, 20240131-235959, VID20240131235959
        _BEFORE_TIME + _date("") + "[-_ T]?" + _time("") + r"(?P<fraction>\d{3})?" + _AFTER,
        # Screenshot 2024-02-03 at 9.11.12 PM, with a narrow space in newer ones of macOS
        _BEFORE_TIME
        + _date("-")
        + r",? at (?P<hour>0?[1-9]|1[0-2])[.:](?P<minute>[0-5]\d)[.:](?P<second>[0-5]\d)"
        + "[ \u00a0\u202f](?P<half>[AaPp])[Mm]"
        + _AFTER,
        # 2019-05-03 12.30.45, Screenshot_2021-03-04-05-06-07, 2024-01-31T23-59-59.123Z
        _BEFORE_TIME
        + _date("[-_.]")
        + r"(?:[-_ T]|,? at |_at_)"
        + _time("[-_.:]?")
        + r"(?:\.(?P<fraction>\d{3}))?(?P<utc>Z)?"
        + _AFTER,
        # signal-2022-01-02-030405 is of the kind above; here the day alone, as in WhatsApp's
        # IMG-20200101-WA0001 and in 2020-01-01.
        r"(?i:(?:IMG|VID|AUD|PTT|STK)-)" + _date("") + r"-WA\d{4}(?![0-9])",
        _BEFORE + _date("-") + _AFTER + r"(?!-\d)",
    )
)
_EPOCH_MILLISECONDS = re.compile(r"(?<![0-9A-Za-z.])(\d{13})(?![0-9A-Za-z])", re.ASCII)


def date_of_name(name: bytes | str, *, now: datetime | None = None) -> str | None:
    """Return the capture time that a file's name tells, as ISO 8601; None when it tells none.

    Eight digits alone are no date: too many are serial numbers.

    Args:
        name: With or without its folders, which are not looked at.
        now: The present time; a day after it, for time zones, nothing is believed.
    """
    text = os.fsdecode(name).replace("\\", "/").rpartition("/")[2]
    latest = (now or datetime.now()) + timedelta(days=1)
    for pattern in _PATTERNS:
        for match in pattern.finditer(text):
            found = _plausible(match, latest)
            if found is not None:
                return found
    for match in _EPOCH_MILLISECONDS.finditer(text):
        # Where it was taken nobody knows: the clock of this machine is the best guess.
        moment = datetime.fromtimestamp(int(match[1]) / 1000)
        if datetime(_FIRST_EPOCH_YEAR, 1, 1) <= moment <= latest:
            return moment.replace(microsecond=0).isoformat()
    return None


def dated_by_name(facts: PhotoFacts, name: bytes | str) -> PhotoFacts:
    """Return the facts of a content found under this name, with the name's date if they lack one.

    Call it last, after the picture's own metadata and its sidecar.
    """
    if facts.taken_at is not None:
        return facts
    taken_at = date_of_name(name)
    if taken_at is None:
        return facts
    return replace(facts, taken_at=taken_at, taken_source="file-name")


def _plausible(match: re.Match[str], latest: datetime) -> str | None:
    parts = match.groupdict()
    day = (parts["year"], parts["month"], parts["day"])
    has_time = parts.get("hour") is not None
    time = (_hour(parts), parts["minute"], parts["second"]) if has_time else (0, 0, 0)
    offset = "Z" if parts.get("utc") else ""
    moment = iso_time((*day, *time), fraction=parts.get("fraction") or "", offset=offset)
    if moment is None or int(day[0]) < _FIRST_YEAR:
        return None
    if moment[:19] > latest.isoformat()[:19]:
        return None
    return moment if has_time else moment[:10]


def _hour(parts: Mapping[str, str | None]) -> int:
    hour, half = int(parts["hour"] or 0), parts.get("half")
    if half is None:
        return hour
    return hour % 12 + (12 if half in "Pp" else 0)
