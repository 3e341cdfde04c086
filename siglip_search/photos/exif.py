"""What cameras write beside the pixels. Hostile metadata never raises: it is left out."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from PIL import ExifTags

from siglip_search.photos.bad_data import BAD_DATA_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

_CAMERA_MAX_CHARACTERS = 100

_DATE_TIME = re.compile(
    r"(\d{4})[:/.-](\d{2})[:/.-](\d{2})[ T](\d{2}):(\d{2}):(\d{2})(?!\d)", re.ASCII
)
_UTC_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})", re.ASCII)

# The time zones in use reach from -12:00 to +14:00.
_MAX_OFFSET_MINUTES = 14 * 60

_NO_TAGS: Mapping[int, Any] = {}


@dataclass(frozen=True, slots=True)
class PictureExif:
    """The part of a picture's EXIF data that the search uses.

    Attributes:
        orientation: How the stored pixels must be turned, in [1, 8] as in EXIF; 1 is upright.
        taken_at: Capture time as ISO 8601 in seconds, with its UTC offset where one is stated.
        camera: Make and model, one line.
        latitude: Degrees north, in [-90, 90].
        longitude: Degrees east, in [-180, 180].
    """

    orientation: int = 1
    taken_at: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None


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
    latitude, longitude = _position(_sub_tags(tags, ExifTags.IFD.GPSInfo))
    return PictureExif(
        orientation=_orientation(tags),
        taken_at=_taken_at(capture),
        camera=_camera(tags),
        latitude=latitude,
        longitude=longitude,
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
    for date_tag, offset_tag in (
        (ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal),
        (ExifTags.Base.DateTimeDigitized, ExifTags.Base.OffsetTimeDigitized),
    ):
        match = _DATE_TIME.match(_text(_tag(capture, date_tag)))
        if match is None:
            continue
        try:
            moment = datetime(*(int(part) for part in match.groups()))  # type: ignore[arg-type]  # six numbers
        except ValueError:
            # 0000:00:00 is how cameras say that their clock was never set.
            continue
        return moment.isoformat() + _utc_offset(_text(_tag(capture, offset_tag)))
    return None


def _utc_offset(text: str) -> str:
    if text == "Z":
        return "+00:00"
    match = _UTC_OFFSET.fullmatch(text)
    if match is None:
        return ""
    sign, hours, minutes = match.group(1), int(match.group(2)), int(match.group(3))
    if minutes >= 60 or hours * 60 + minutes > _MAX_OFFSET_MINUTES:
        return ""
    return f"{sign}{hours:02}:{minutes:02}"


def _camera(tags: Image.Exif) -> str | None:
    make = _text(_tag(tags, ExifTags.Base.Make))
    model = _text(_tag(tags, ExifTags.Base.Model))
    if make and model:
        # "Canon" + "Canon EOS 5D", "NIKON CORPORATION" + "NIKON D90": the model says it all.
        brand = make.split()[0].casefold()
        name = model if model.casefold().startswith(brand) else f"{make} {model}"
    else:
        name = make or model
    return name[:_CAMERA_MAX_CHARACTERS].strip() or None


def _text(value: Any) -> str:
    """Return one clean line: up to the first NUL, without control and format characters."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    value = value.split("\0", 1)[0][: 10 * _CAMERA_MAX_CHARACTERS]
    # Categories C*: control, format (text direction overrides), surrogate, private, unassigned.
    kept = "".join(
        character if not unicodedata.category(character).startswith("C") else " "
        for character in value
    )
    return " ".join(kept.split())


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
    letter = _text(reference).upper()[:1]
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
