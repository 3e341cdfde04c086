"""IPTC-IIM, the oldest of the three ways to write into a picture what it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from PIL import IptcImagePlugin

from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.metadata_values import (
    MAX_TITLE_CHARACTERS,
    clean_keywords,
    clean_line,
    iso_time,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image, ImageFile

# IIM 4.2: record and data set.
_CHARACTER_SET = (1, 90)
_TITLE = (2, 5)
_KEYWORDS = (2, 25)
_DATE_CREATED = (2, 55)
_TIME_CREATED = (2, 60)

_UTF_8 = b"\x1b%G"
_PHOTOSHOP_IPTC = 0x0404
_MAX_IPTC_BYTES = 2**20

_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)
_TIME = re.compile(r"(\d\d)(\d\d)(\d\d)([+-]\d{4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class IptcFields:
    """What IPTC data say; the fields are those of `siglip_index.records.PhotoFacts`."""

    taken_at: str | None = None
    title: str | None = None
    keywords: tuple[str, ...] = ()


def read_iptc(image: Image.Image) -> IptcFields:
    """Read a picture's IPTC data; what is missing, damaged or impossible is left out."""
    try:
        block = image.info.get("photoshop")
        # Parsing goes byte by byte: nobody writes a megabyte of captions.
        if isinstance(block, dict) and len(block.get(_PHOTOSHOP_IPTC, b"")) > _MAX_IPTC_BYTES:
            return IptcFields()
        sets = IptcImagePlugin.getiptcinfo(cast("ImageFile.ImageFile", image))
    except BAD_DATA_ERRORS:
        return IptcFields()
    if not sets:
        return IptcFields()
    return IptcFields(
        taken_at=_taken_at(sets),
        title=next((clean_line(text, MAX_TITLE_CHARACTERS) for text in _texts(sets, _TITLE)), None)
        or None,
        keywords=clean_keywords(_texts(sets, _KEYWORDS)),
    )


def _taken_at(sets: Mapping[Any, Any]) -> str | None:
    date = _DATE.fullmatch(clean_line(next(iter(_texts(sets, _DATE_CREATED)), "")))
    if date is None:
        return None
    time = _TIME.fullmatch(clean_line(next(iter(_texts(sets, _TIME_CREATED)), "")))
    if time is not None:
        moment = iso_time((*date.groups(), *time.groups()[:3]), offset=time[4] or "")
        if moment is not None:
            return moment
    moment = iso_time((*date.groups(), 0, 0, 0))
    return None if moment is None else moment[:10]


def _texts(sets: Mapping[Any, Any], number: tuple[int, int]) -> list[str]:
    values = sets.get(number)
    values = values if isinstance(values, list) else [values]
    is_utf_8 = sets.get(_CHARACTER_SET) == _UTF_8
    return [_decoded(value, is_utf_8=is_utf_8) for value in values if isinstance(value, bytes)]


def _decoded(value: bytes, *, is_utf_8: bool) -> str:
    # Many programs write UTF-8 without saying so; what is no UTF-8 is mostly Windows' Latin.
    try:
        return value.decode("utf-8", "replace" if is_utf_8 else "strict")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")
