"""What cameras write beside the pixels. Hostile metadata never raises: it is left out."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import ExifTags

from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.metadata_values import (
    MAX_ALTITUDE_M,
    MAX_EXPOSURE_SECONDS,
    MAX_F_NUMBER,
    MAX_FOCAL_LENGTH_MM,
    MAX_ISO,
    clean_line,
    finite_number,
    iso_time,
    make_and_model,
    positive_number,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

_DATE_TIME = re.compile(
    r"(\d{4})[:/.-](\d{2})[:/.-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})(?!\d)", re.ASCII
)

# "The number does not fit here": the true one stands in another tag then (EXIF 2.3, 0x8827).
_ISO_OVERFLOW = 65535

_NO_TAGS: Mapping[int, Any] = {}


@dataclass(frozen=True, slots=True)
class PictureExif:
    """The part of a picture's EXIF data that the search uses.

    Attributes:
        orientation: How the stored pixels must be turned, in [1, 8] as in EXIF; 1 is upright.
        taken_at: Capture time as ISO 8601, with its fraction of a second and its UTC offset where
            they are stated.
        camera: Make and model, one line.
        lens: Make and model, one line.
        exposure_seconds: Exposure time, > 0.
        f_number: Focal length by aperture, > 0.
        iso: Sensitivity, > 0.
        focal_length_mm: Of the lens itself, > 0.
        latitude: Degrees north, in [-90, 90].
        longitude: Degrees east, in [-180, 180].
        altitude_m: Above sea level, negative below it.
    """

    orientation: int = 1
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


def read_exif(image: Image.Image) -> PictureExif:
    """Read a picture's EXIF data; what is missing, damaged or impossible is left out.

    Args:
        image: An opened picture. A PNG may keep its EXIF data behind the pixels, so that
            reading it first loads the picture: call this after load().
    """
    try:
        tags = image.getexif()
    except BAD_DATA_ERRORS:
        return PictureExif()
    capture = _sub_tags(tags, ExifTags.IFD.Exif)
    gps = _sub_tags(tags, ExifTags.IFD.GPSInfo)
    latitude, longitude = _position(gps)
    base = ExifTags.Base
    return PictureExif(
        orientation=_orientation(tags),
        taken_at=_taken_at(capture),
        camera=make_and_model(
            clean_line(_tag(tags, base.Make)), clean_line(_tag(tags, base.Model))
        ),
        lens=make_and_model(
            clean_line(_tag(capture, base.LensMake)), clean_line(_tag(capture, base.LensModel))
        ),
        exposure_seconds=positive_number(_tag(capture, base.ExposureTime), MAX_EXPOSURE_SECONDS),
        f_number=positive_number(_tag(capture, base.FNumber), MAX_F_NUMBER),
        iso=_iso(capture),
        focal_length_mm=positive_number(_tag(capture, base.FocalLength), MAX_FOCAL_LENGTH_MM),
        latitude=latitude,
        longitude=longitude,
        altitude_m=_altitude(gps),
    )


def _sub_tags(tags: Image.Exif, ifd: int) -> Mapping[int, Any]:
    try:
        return tags.get_ifd(ifd)
    except BAD_DATA_ERRORS:
        return _NO_TAGS


def _tag(tags: Mapping[int, Any] | Image.Exif, number: int) -> Any:
    # Values are parsed when they are asked for, and may fail only then.
    try:
        return tags.get(number)
    except BAD_DATA_ERRORS:
        return None


def _orientation(tags: Image.Exif) -> int:
    value = _tag(tags, ExifTags.Base.Orientation)
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    return value if type(value) is int and 1 <= value <= 8 else 1


def _taken_at(capture: Mapping[int, Any]) -> str | None:
    # IFD0's DateTime is left out: editors write the time of the last change there.
    base = ExifTags.Base
    for date_tag, fraction_tag, offset_tag in (
        (base.DateTimeOriginal, base.SubsecTimeOriginal, base.OffsetTimeOriginal),
        (base.DateTimeDigitized, base.SubsecTimeDigitized, base.OffsetTimeDigitized),
    ):
        match = _DATE_TIME.match(clean_line(_tag(capture, date_tag)))
        if match is None:
            continue
        moment = iso_time(
            match.groups(),
            fraction=clean_line(_tag(capture, fraction_tag)),
            offset=clean_line(_tag(capture, offset_tag)),
        )
        if moment is not None:
            return moment
    return None


def _iso(capture: Mapping[int, Any]) -> int | None:
    base = ExifTags.Base
    for number in (base.ISOSpeedRatings, base.RecommendedExposureIndex, base.ISOSpeed):
        value = positive_number(_tag(capture, number), MAX_ISO)
        if value is not None and value >= 1 and value != _ISO_OVERFLOW:
            return round(value)
    return None


def _altitude(gps: Mapping[int, Any]) -> float | None:
    metres = finite_number(_tag(gps, ExifTags.GPS.GPSAltitude))
    if metres is None or abs(metres) > MAX_ALTITUDE_M:
        return None
    reference = _tag(gps, ExifTags.GPS.GPSAltitudeRef)
    return -abs(metres) if reference in (1, b"\x01", (1,)) else metres


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | tuple[None, None]:
    latitude = _degrees(
        _tag(gps, ExifTags.GPS.GPSLatitude), _tag(gps, ExifTags.GPS.GPSLatitudeRef), "NS", 90
    )
    longitude = _degrees(
        _tag(gps, ExifTags.GPS.GPSLongitude), _tag(gps, ExifTags.GPS.GPSLongitudeRef), "EW", 180
    )
    if latitude is None or longitude is None:
        return None, None
    # Exactly 0, 0 is what cameras write that have found no satellite yet.
    if latitude == 0 and longitude == 0:
        return None, None
    return latitude, longitude


def _degrees(parts: Any, reference: Any, directions: str, limit: float) -> float | None:
    """Return degrees from (degrees, minutes, seconds) and a letter such as "N"; None if unfit."""
    letter = clean_line(reference).upper()[:1]
    if not letter or letter not in directions or not isinstance(parts, tuple):
        return None
    if not 1 <= len(parts) <= 3:
        return None
    try:
        numbers = [float(part) for part in parts] + [0.0] * (3 - len(parts))
    except BAD_DATA_ERRORS:
        return None
    degrees, minutes, seconds = numbers
    # 60 is written by cameras that round up. NaN, from a denominator of 0, fails every comparison.
    if not (0 <= degrees <= limit and 0 <= minutes <= 60 and 0 <= seconds <= 60):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(value) or value > limit:
        return None
    return -value if letter == directions[1] else value
