"""XMP: the properties that a search uses, out of a packet in a picture or in a sidecar.

The parser is expat, of Python itself, told to give up at the first document type: without one
there are no entities, and so no bombs made of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.parsers import expat

from siglip_search.photos.metadata_values import (
    MAX_ALTITUDE_M,
    MAX_EXPOSURE_SECONDS,
    MAX_F_NUMBER,
    MAX_FOCAL_LENGTH_MM,
    MAX_ISO,
    MAX_TITLE_CHARACTERS,
    clean_keywords,
    clean_line,
    finite_number,
    iso_time,
    make_and_model,
    positive_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Cameras write some kilobytes, editors that keep a history up to some hundred.
MAX_XMP_BYTES = 4 * 2**20
_MAX_DEPTH = 64
_MAX_VALUES = 2000
_MAX_CHARACTERS = 4000

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_EXIF = "http://ns.adobe.com/exif/1.0/ "
_EXIF_EX = "http://cipa.jp/exif/1.0/ "
_TIFF = "http://ns.adobe.com/tiff/1.0/ "
_XMP = "http://ns.adobe.com/xap/1.0/ "
_DUBLIN_CORE = "http://purl.org/dc/elements/1.1/ "
_LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"

_SUBJECT = _DUBLIN_CORE + "subject"
_TITLE = _DUBLIN_CORE + "title"
_HIERARCHY = "http://ns.adobe.com/lightroom/1.0/ hierarchicalSubject"
_RATING = _XMP + "Rating"
_RATING_PERCENT = "http://ns.microsoft.com/photo/1.0/ Rating"
_DATES = (
    _EXIF + "DateTimeOriginal",
    "http://ns.adobe.com/photoshop/1.0/ DateCreated",
    _XMP + "CreateDate",
)
_WANTED = frozenset(
    {
        _SUBJECT,
        _TITLE,
        _HIERARCHY,
        _RATING,
        _RATING_PERCENT,
        *_DATES,
        _TIFF + "Make",
        _TIFF + "Model",
        "http://ns.adobe.com/exif/1.0/aux/ Lens",
        _EXIF_EX + "LensMake",
        _EXIF_EX + "LensModel",
        _EXIF + "ExposureTime",
        _EXIF + "FNumber",
        _EXIF + "FocalLength",
        _EXIF + "ISOSpeedRatings",
        _EXIF_EX + "PhotographicSensitivity",
        _EXIF + "GPSLatitude",
        _EXIF + "GPSLongitude",
        _EXIF + "GPSAltitude",
        _EXIF + "GPSAltitudeRef",
    }
)

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
_DEGREES = re.compile(r"(\d{1,3}),(\d{1,2}(?:\.\d+)?)(?:,(\d{1,2}(?:\.\d+)?))?([NSEW])", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{1,15})?", re.ASCII)

# What Windows writes for one star to five.
_STARS_OF_PERCENT = {0: 0, 1: 1, 25: 2, 50: 3, 75: 4, 99: 5}


@dataclass(frozen=True, slots=True)
class XmpFields:
    """What an XMP packet says; the fields are those of `siglip_index.records.PhotoFacts`."""

    taken_at: str | None = None
    camera: str | None = None
    lens: str | None = None
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    focal_length_mm: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    rating: int | None = None
    title: str | None = None
    keywords: tuple[str, ...] = ()


def read_xmp(packet: bytes) -> XmpFields | None:
    """Read an XMP packet; values that are damaged or impossible are left out.

    Of what stands before a place where the XML is broken everything is kept.

    Returns:
        None when there is no XMP in it, or more than `MAX_XMP_BYTES`.
    """
    if len(packet) > MAX_XMP_BYTES:
        return None
    reader = _PacketReader()
    reader.feed(packet.strip(b"\0 \t\r\n"))
    return _fields(reader.values) if reader.is_rdf else None


class _TooMuchError(Exception):
    """The packet is no XMP that anybody writes."""


class _PacketReader:
    """Collects the texts of wanted properties: of themselves, or of the items of their lists."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.is_rdf = False
        self._path: list[str] = []
        self._property: str | None = None
        self._text: list[str] | None = None
        self._is_default_language = False

    def feed(self, packet: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._refuse
        # A bad encoding name is a LookupError or ValueError.
        try:
            parser.Parse(packet, True)
        except (expat.ExpatError, _TooMuchError, LookupError, ValueError):
            return

    def _refuse(self, *_: object) -> None:
        raise _TooMuchError

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._path.append(name)
        if len(self._path) > _MAX_DEPTH:
            raise _TooMuchError
        if name == _RDF + "RDF":
            self.is_rdf = True
        elif name == _RDF + "Description" and self._path[-2:-1] == [_RDF + "RDF"]:
            # Simple properties are written as attributes as often as not.
            for key, value in attributes.items():
                if key in _WANTED:
                    self._keep(key, value)
        elif self._path[-3:-1] == [_RDF + "RDF", _RDF + "Description"]:
            self._property = name if name in _WANTED else None
            self._text = [] if self._property else None
        elif self._property and name == _RDF + "li":
            self._is_default_language = attributes.get(_LANGUAGE) == "x-default"
            self._text = []

    def _characters(self, text: str) -> None:
        if self._text is not None and sum(map(len, self._text)) < _MAX_CHARACTERS:
            self._text.append(text[:_MAX_CHARACTERS])

    def _end(self, name: str) -> None:
        self._path.pop()
        if self._property and name in (self._property, _RDF + "li") and self._text is not None:
            text = "".join(self._text)
            if text.strip():
                self._keep(self._property, text, first=self._is_default_language)
            self._text, self._is_default_language = None, False
        if name == self._property:
            self._property = None

    def _keep(self, name: str, value: str, *, first: bool = False) -> None:
        values = self.values.setdefault(name, [])
        if len(values) < _MAX_VALUES:
            values.insert(0 if first else len(values), value[:_MAX_CHARACTERS])


def _fields(values: Mapping[str, Sequence[str]]) -> XmpFields:
    def line(name: str) -> str:
        return clean_line(next(iter(values.get(name, ())), ""))

    latitude = _degrees(line(_EXIF + "GPSLatitude"), "NS", 90)
    longitude = _degrees(line(_EXIF + "GPSLongitude"), "EW", 180)
    is_placed = latitude is not None and longitude is not None and (latitude, longitude) != (0, 0)
    iso = line(_EXIF + "ISOSpeedRatings") or line(_EXIF_EX + "PhotographicSensitivity")
    sensitivity = positive_number(_rational(iso), MAX_ISO)
    lens = line(_EXIF_EX + "LensModel") or line("http://ns.adobe.com/exif/1.0/aux/ Lens")
    return XmpFields(
        taken_at=next(filter(None, (xmp_time(line(name)) for name in _DATES)), None),
        camera=make_and_model(line(_TIFF + "Make"), line(_TIFF + "Model")),
        lens=make_and_model(line(_EXIF_EX + "LensMake"), lens),
        exposure_seconds=positive_number(
            _rational(line(_EXIF + "ExposureTime")), MAX_EXPOSURE_SECONDS
        ),
        f_number=positive_number(_rational(line(_EXIF + "FNumber")), MAX_F_NUMBER),
        iso=round(sensitivity) if sensitivity is not None and sensitivity >= 1 else None,
        focal_length_mm=positive_number(
            _rational(line(_EXIF + "FocalLength")), MAX_FOCAL_LENGTH_MM
        ),
        latitude=latitude if is_placed else None,
        longitude=longitude if is_placed else None,
        altitude_m=_altitude(line(_EXIF + "GPSAltitude"), line(_EXIF + "GPSAltitudeRef")),
        rating=_rating(line(_RATING), line(_RATING_PERCENT)),
        title=clean_line(next(iter(values.get(_TITLE, ())), ""), MAX_TITLE_CHARACTERS) or None,
        keywords=clean_keywords(
            [
                *values.get(_SUBJECT, ()),
                # The last level is the keyword; the levels above it are how the user sorts them.
                *(path.rpartition("|")[2] for path in values.get(_HIERARCHY, ())),
            ]
        ),
    )


def xmp_time(text: str) -> str | None:
    """Return a time of XMP, which may end after the day, as ISO 8601; None when it is none."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    if hour is None:
        moment = iso_time((year, month, day, 0, 0, 0))
        return None if moment is None else moment[:10]
    return iso_time(
        (year, month, day, hour, minute, second or 0), fraction=fraction or "", offset=offset or ""
    )


def _rating(stars: str, percent: str) -> int | None:
    if _NUMBER.fullmatch(stars):
        value = round(float(stars))
        return value if -1 <= value <= 5 else None
    return _STARS_OF_PERCENT.get(int(percent)) if percent.isascii() and percent.isdigit() else None


def _altitude(text: str, reference: str) -> float | None:
    metres = finite_number(_rational(text))
    if metres is None or abs(metres) > MAX_ALTITUDE_M:
        return None
    return -abs(metres) if reference == "1" else metres


def _rational(text: str) -> float | None:
    numerator, _, denominator = text.partition("/")
    if not _NUMBER.fullmatch(numerator) or not _NUMBER.fullmatch(denominator or "1"):
        return None
    divisor = float(denominator or "1")
    return float(numerator) / divisor if divisor else None


def _degrees(text: str, directions: str, limit: int) -> float | None:
    """Return degrees from "52,30.6N" or "52,30,36N"."""
    match = _DEGREES.fullmatch(text)
    if match is None or match[4] not in directions:
        return None
    minutes, seconds = float(match[2]), float(match[3] or 0)
    value = int(match[1]) + minutes / 60 + seconds / 3600
    if minutes > 60 or seconds > 60 or value > limit:
        return None
    return -value if match[4] == directions[1] else value
