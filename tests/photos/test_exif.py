from __future__ import annotations

import struct
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos.drawn_pictures import encoded, quarters
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from siglip_search.photos.exif import PictureExif, read_exif


def with_tags(
    main: dict[int, Any] | None = None,
    capture: dict[int, Any] | None = None,
    gps: dict[int, Any] | None = None,
) -> PictureExif:
    exif = Image.Exif()
    for number, value in (main or {}).items():
        exif[number] = value
    exif.get_ifd(ExifTags.IFD.Exif).update(capture or {})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    with Image.open(encoded(quarters(), "JPEG", exif=exif)) as image:
        image.load()
        return read_exif(image)


def taken(when: Any, offset: Any = None) -> str | None:
    capture = {ExifTags.Base.DateTimeOriginal: when}
    if offset is not None:
        capture[ExifTags.Base.OffsetTimeOriginal] = offset
    return with_tags(capture=capture).taken_at


@pytest.mark.parametrize(
    ("when", "offset", "expected"),
    [
        ("2019:05:01 12:30:05", None, "2019-05-01T12:30:05"),
        ("2019:05:01 12:30:05", "+02:00", "2019-05-01T12:30:05+02:00"),
        ("2019:05:01 12:30:05", "-09:30", "2019-05-01T12:30:05-09:30"),
        ("2019:05:01 12:30:05", "Z", "2019-05-01T12:30:05+00:00"),
        ("2019:05:01 12:30:05", "+99:00", "2019-05-01T12:30:05"),
        ("2019:05:01 12:30:05", "+01:75", "2019-05-01T12:30:05"),
        ("2019-05-01T12:30:05", None, "2019-05-01T12:30:05"),
        ("2019:05:01 12:30:05.25", None, "2019-05-01T12:30:05"),
        ("0000:00:00 00:00:00", None, None),
        ("2019:02:30 12:00:00", None, None),
        ("2019:05:01 25:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        ("", None, None),
        ("yesterday", None, None),
    ],
)
def test_capture_time_is_iso_8601(when: str, offset: str | None, expected: str | None) -> None:
    assert taken(when, offset) == expected


def test_time_of_digitising_stands_in_for_a_missing_time_of_capture() -> None:
    capture = {ExifTags.Base.DateTimeDigitized: "2001:02:03 04:05:06"}
    assert with_tags(capture=capture).taken_at == "2001-02-03T04:05:06"


def test_time_of_the_last_edit_is_no_capture_time() -> None:
    assert with_tags({ExifTags.Base.DateTime: "2001:02:03 04:05:06"}).taken_at is None


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("Apple", None, "Apple"),
        (None, "iPhone 12", "iPhone 12"),
        ("  ", " \t", None),
        ("Evil\x1b[31m\r\nInc", "X\0junk", "Evil [31m Inc X"),
        ("A", "B" * 5000, "A " + "B" * 98),
    ],
)
def test_camera_is_one_clean_line(
    make: str | None, model: str | None, expected: str | None
) -> None:
    tags = {ExifTags.Base.Make: make, ExifTags.Base.Model: model}
    assert with_tags({k: v for k, v in tags.items() if v is not None}).camera == expected


def gps(latitude: Any, north: Any, longitude: Any, east: Any) -> tuple[Any, Any]:
    exif = with_tags(gps={1: north, 2: latitude, 3: east, 4: longitude})
    return exif.latitude, exif.longitude


def test_position_is_in_degrees_north_and_east() -> None:
    assert gps((52.0, 30.0, 36.0), "N", (13.0, 22.0, 48.0), "E") == pytest.approx((52.51, 13.38))
    assert gps((33.0, 51.0, 0.0), "S", (70.0, 39.0, 0.0), "W") == pytest.approx((-33.85, -70.65))
    assert gps((90.0, 0.0, 0.0), "N", (180.0, 0.0, 0.0), "E") == (90, 180)


@pytest.mark.parametrize(
    ("latitude", "north"),
    [
        ((91.0, 0.0, 0.0), "N"),
        ((90.0, 1.0, 0.0), "N"),
        ((10.0, 61.0, 0.0), "N"),
        ((10.0, 0.0, 3600.0), "N"),
        ((IFDRational(1, 0), 0.0, 0.0), "N"),
        ((IFDRational(0, 0), 0.0, 0.0), "N"),
        ((10.0, 0.0, 0.0), "X"),
        ((10.0, 0.0, 0.0), ""),
        ((10.0, 0.0, 0.0, 0.0), "N"),
    ],
)
def test_impossible_position_is_left_out_whole(latitude: Any, north: Any) -> None:
    assert gps(latitude, north, (13.0, 0.0, 0.0), "E") == (None, None)


def test_position_without_a_satellite_is_no_position() -> None:
    assert gps((0.0, 0.0, 0.0), "N", (0.0, 0.0, 0.0), "E") == (None, None)


@pytest.mark.parametrize(("stored", "expected"), [(0, 1), (1, 1), (6, 6), (8, 8), (9, 1), (77, 1)])
def test_orientation_outside_1_to_8_means_upright(stored: int, expected: int) -> None:
    assert with_tags({ExifTags.Base.Orientation: stored}).orientation == expected


def test_picture_without_exif_has_no_facts() -> None:
    with Image.open(encoded(quarters(), "PNG")) as image:
        assert read_exif(image) == PictureExif()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_hostile_exif_never_raises(data: st.DataObject) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2019:05:01 12:30:05"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (1.0, 2.0, 3.0), 3: "E", 4: (4.0,)})
    raw = bytearray(exif.tobytes())
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(6, len(raw) - 1))
        raw[position] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    image = quarters(8, 8)
    image.info["exif"] = bytes(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as `decode` does
        found = read_exif(image)
    assert 1 <= found.orientation <= 8
    assert (found.latitude is None) == (found.longitude is None)
    for text in (found.camera, found.taken_at):
        assert text is None or (text.isprintable() and text)


def test_exif_that_points_at_itself_ends() -> None:
    # One directory whose Exif pointer leads back to it.
    entry = struct.pack("<HHII", ExifTags.IFD.Exif, 4, 1, 8)
    image = quarters(8, 8)
    image.info["exif"] = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)
    assert read_exif(image) == PictureExif()
