"""EXIF, IPTC and XMP as one, whichever of them a picture has, and however hostile."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from photos.written_metadata import iptc_block, jpeg_with, xmp_list, xmp_packet
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from siglip_index.records import PhotoFacts
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.exif import PictureExif
from siglip_search.photos.fingerprint import TryAgainError
from siglip_search.photos.metadata import (
    METADATA_VERSION,
    PictureMetadata,
    merged,
    read_metadata,
    read_raw_metadata,
    with_sidecar,
)
from siglip_search.photos.metadata_iptc import IptcFields
from siglip_search.photos.metadata_xmp import XmpFields, read_xmp
from siglip_search.photos.sidecar import read_sidecar

if TYPE_CHECKING:
    from pathlib import Path

TAG = ExifTags.Base


def metadata_of(content: bytes) -> PictureMetadata:
    with Image.open(BytesIO(content)) as image:
        image.load()
        return read_metadata(image)


def xmp_of(attributes: str = "", elements: str = "") -> XmpFields:
    found = read_xmp(xmp_packet(attributes, elements))
    assert found is not None
    return found


def test_everything_that_a_camera_and_its_user_write() -> None:
    found = metadata_of(
        jpeg_with(
            main={TAG.Make: "Canon", TAG.Model: "Canon EOS R5", TAG.Orientation: 6},
            capture={
                TAG.DateTimeOriginal: "2024:01:31 23:59:59",
                TAG.SubsecTimeOriginal: "120",
                TAG.OffsetTimeOriginal: "+09:00",
                TAG.LensMake: "Canon",
                TAG.LensModel: "RF24-70mm F2.8 L IS USM",
                TAG.ExposureTime: IFDRational(1, 250),
                TAG.FNumber: IFDRational(28, 10),
                TAG.ISOSpeedRatings: 6400,
                TAG.FocalLength: IFDRational(70, 1),
            },
            gps={
                1: "N",
                2: (35.0, 30.0, 0.0),
                3: "E",
                4: (139.0, 45.0, 0.0),
                5: b"\x01",
                6: IFDRational(25, 2),
            },
            iptc=iptc_block([(2, 25, b"street"), (2, 25, "Caf\u00e9".encode())]),
            xmp=xmp_packet(
                'xmp:Rating="4"',
                xmp_list("dc:subject", ["night", "street"]) + xmp_list("dc:title", ["Rain"], "Alt"),
            ),
        )
    )
    assert found == PictureMetadata(
        orientation=6,
        taken_at="2024-01-31T23:59:59.12+09:00",
        taken_source="exif",
        camera="Canon EOS R5",
        lens="Canon RF24-70mm F2.8 L IS USM",
        exposure_seconds=1 / 250,
        f_number=2.8,
        iso=6400,
        focal_length_mm=70.0,
        latitude=35.5,
        longitude=139.75,
        altitude_m=-12.5,
        rating=4,
        title="Rain",
        keywords=("night", "street", "Caf\u00e9"),
    )
    facts = found.facts(640, 480, "JPEG")
    assert (facts.width, facts.height, facts.format) == (640, 480, "JPEG")
    assert facts.metadata_version == METADATA_VERSION
    assert (facts.lens, facts.iso, facts.altitude_m) == (found.lens, 6400, -12.5)


def test_decoder_returns_it_with_the_picture() -> None:
    content = jpeg_with(xmp=xmp_packet('xmp:Rating="3"'))
    facts = decode(BytesIO(content), limits=DecodeLimits()).facts
    assert (facts.rating, facts.metadata_version) == (3, METADATA_VERSION)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_xmp_in_other_formats(kind: str) -> None:
    target = BytesIO()
    packet = xmp_packet('xmp:Rating="2"')
    options: dict[str, Any] = {"xmp": packet}
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        options = {"pnginfo": info}
    elif kind == "TIFF":
        options = {"tiffinfo": {700: packet}}
    Image.new("RGB", (8, 8)).save(target, kind, **options)
    assert metadata_of(target.getvalue()).rating == 2


def test_raw_that_is_a_tiff_has_its_xmp() -> None:
    target = BytesIO()
    packet = xmp_packet('xmp:Rating="5"', xmp_list("dc:subject", ["owl"]))
    Image.new("RGB", (8, 8)).save(target, "TIFF", tiffinfo={700: packet})
    found = read_raw_metadata(target, PictureExif(camera="Maker"))
    assert (found.rating, found.keywords, found.camera) == (5, ("owl",), "Maker")
    assert read_raw_metadata(BytesIO(b"FUJIFILMCCD-RAW"), PictureExif(iso=200)).iso == 200


@pytest.mark.parametrize(
    ("exif", "iptc", "xmp", "expected"),
    [
        ("2001-01-01T00:00:00", "2002-01-01", "2003-01-01", ("2001-01-01T00:00:00", "exif")),
        (None, "2002-01-01", "2003-01-01", ("2002-01-01", "iptc")),
        (None, None, "2003-01-01", ("2003-01-01", "xmp")),
        (None, None, None, (None, None)),
    ],
)
def test_capture_time_is_of_exif_then_iptc_then_xmp(
    exif: str | None, iptc: str | None, xmp: str | None, expected: tuple[str | None, str | None]
) -> None:
    found = merged(PictureExif(taken_at=exif), IptcFields(taken_at=iptc), XmpFields(taken_at=xmp))
    assert (found.taken_at, found.taken_source) == expected


def test_place_is_of_one_source_only() -> None:
    xmp = XmpFields(latitude=1.0, longitude=2.0, altitude_m=3.0)
    found = merged(PictureExif(latitude=10.0, longitude=20.0), xmp=xmp)
    assert (found.latitude, found.longitude, found.altitude_m) == (10.0, 20.0, None)
    found = merged(PictureExif(altitude_m=7.0), xmp=xmp)
    assert (found.latitude, found.longitude, found.altitude_m) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [("25", ".25"), ("25  ", ".25"), ("000", ""), ("123456789", ".123456"), ("x", ""), ("", "")],
)
def test_sub_seconds(fraction: str, expected: str) -> None:
    capture = {TAG.DateTimeOriginal: "2020:01:02 03:04:05", TAG.SubsecTimeOriginal: fraction}
    assert metadata_of(jpeg_with(capture=capture)).taken_at == f"2020-01-02T03:04:05{expected}"


@pytest.mark.parametrize(
    ("tags", "iso"),
    [
        ({TAG.ISOSpeedRatings: 100}, 100),
        ({TAG.ISOSpeedRatings: (200, 0)}, 200),
        ({TAG.ISOSpeedRatings: 65535, TAG.RecommendedExposureIndex: 102400}, 102400),
        ({TAG.ISOSpeedRatings: 0}, None),
    ],
)
def test_sensitivity(tags: dict[int, Any], iso: int | None) -> None:
    assert metadata_of(jpeg_with(capture=tags)).iso == iso


def test_impossible_numbers_are_left_out() -> None:
    found = metadata_of(
        jpeg_with(
            capture={
                TAG.ExposureTime: IFDRational(1, 0),
                TAG.FNumber: IFDRational(0, 1),
                TAG.FocalLength: IFDRational(4_000_000_000, 1),
                TAG.LensModel: "----",
            },
            gps={6: IFDRational(4_000_000_000, 1), 5: b"\0"},
        )
    )
    assert found == PictureMetadata()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-05-04T13:14:15.25+02:00", "2021-05-04T13:14:15.25+02:00"),
        ("2021-05-04T13:14:15Z", "2021-05-04T13:14:15+00:00"),
        ("2021-05-04T13:14", "2021-05-04T13:14:00"),
        ("2021-05-04", "2021-05-04"),
        ("2021-05", None),
        ("2021", None),
        ("2021-13-04", None),
        ("0001-01-01", None),
        ("soon", None),
    ],
)
def test_times_of_xmp(text: str, expected: str | None) -> None:
    assert xmp_of(f'photoshop:DateCreated="{text}"').taken_at == expected
    assert xmp_of("", f"<xmp:CreateDate>{text}</xmp:CreateDate>").taken_at == expected


def test_of_the_times_of_xmp_that_of_the_exposure_counts() -> None:
    found = xmp_of(
        'xmp:CreateDate="2003-03-03" photoshop:DateCreated="2002-02-02"'
        ' exif:DateTimeOriginal="2001-01-01"'
    )
    assert found.taken_at == "2001-01-01"


@pytest.mark.parametrize(
    ("attributes", "rating"),
    [
        ('xmp:Rating="5"', 5),
        ('xmp:Rating="3.0"', 3),
        ('xmp:Rating="-1"', -1),
        ('xmp:Rating="0"', 0),
        ('xmp:Rating="6"', None),
        ('xmp:Rating="many"', None),
        ('MicrosoftPhoto:Rating="75"', 4),
        ('MicrosoftPhoto:Rating="74"', None),
        ('xmp:Rating="2" MicrosoftPhoto:Rating="99"', 2),
    ],
)
def test_rating(attributes: str, rating: int | None) -> None:
    assert xmp_of(attributes).rating == rating


def test_keywords_are_those_of_the_list_and_the_leaves_of_the_tree() -> None:
    found = xmp_of(
        "",
        xmp_list("dc:subject", ["Berlin", "tower"])
        + xmp_list("lr:hierarchicalSubject", ["places|Germany|berlin", "animals|owl"]),
    )
    assert found.keywords == ("Berlin", "tower", "owl")


def test_title_in_the_default_language_wins() -> None:
    found = xmp_of(
        "",
        '<dc:title><rdf:Alt><rdf:li xml:lang="de">Turm</rdf:li>'
        '<rdf:li xml:lang="x-default">Tower</rdf:li></rdf:Alt></dc:title>',
    )
    assert found.title == "Tower"


def test_measurements_of_xmp_stand_in_for_missing_exif() -> None:
    found = xmp_of(
        'tiff:Make="NIKON CORPORATION" tiff:Model="NIKON Z 8" aux:Lens="NIKKOR Z 50mm"'
        ' exif:ExposureTime="1/125" exif:FNumber="18/10" exif:FocalLength="50/1"'
        ' exif:GPSLatitude="52,30.6N" exif:GPSLongitude="13,22,48W"'
        ' exif:GPSAltitude="345/10" exif:GPSAltitudeRef="0"',
        xmp_list("exif:ISOSpeedRatings", ["400"], "Seq"),
    )
    assert found == XmpFields(
        camera="NIKON Z 8",
        lens="NIKKOR Z 50mm",
        exposure_seconds=1 / 125,
        f_number=1.8,
        iso=400,
        focal_length_mm=50.0,
        latitude=pytest.approx(52.51),
        longitude=pytest.approx(-13.38),
        altitude_m=34.5,
    )


@pytest.mark.parametrize(
    ("text", "reference", "metres"),
    [("10/1", "0", 10.0), ("10/1", "1", -10.0), ("-10/1", "1", -10.0), ("-10/1", "0", -10.0)],
)
def test_below_the_sea_is_said_once_or_twice(text: str, reference: str, metres: float) -> None:
    found = xmp_of(f'exif:GPSAltitude="{text}" exif:GPSAltitudeRef="{reference}"')
    assert found.altitude_m == metres


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([(2, 55, b"20210504"), (2, 60, b"131415+0200")], "2021-05-04T13:14:15+02:00"),
        ([(2, 55, b"20210504"), (2, 60, b"131415")], "2021-05-04T13:14:15"),
        ([(2, 55, b"20210504")], "2021-05-04"),
        ([(2, 55, b"20210504"), (2, 60, b"996060")], "2021-05-04"),
        ([(2, 55, b"00000000")], None),
        ([(2, 60, b"131415")], None),
    ],
)
def test_times_of_iptc(sets: list[tuple[int, int, bytes]], expected: str | None) -> None:
    found = metadata_of(jpeg_with(iptc=iptc_block(sets)))
    assert (found.taken_at, found.taken_source) == (expected, expected and "iptc")


def test_texts_of_iptc_in_the_encodings_that_are_met() -> None:
    word = "Z\u00fcrich"
    for first, content in (((1, 90, b"\x1b%G"), word.encode()), ((2, 0, b"\0\2"), b"Z\xfcrich")):
        found = metadata_of(jpeg_with(iptc=iptc_block([first, (2, 5, content), (2, 25, content)])))
        assert (found.title, found.keywords) == (word, (word,))


# --- sidecars ---------------------------------------------------------------------------------


def test_sidecar_counts_where_people_edit_and_fills_in_what_is_missing() -> None:
    facts = PhotoFacts(
        640,
        480,
        "JPEG",
        taken_at="2020-01-01T00:00:00",
        taken_source="exif",
        camera="Maker",
        rating=1,
        title="old",
        keywords=("old",),
        latitude=1.0,
        longitude=2.0,
        altitude_m=3.0,
    )
    sidecar = XmpFields(
        taken_at="2021-01-01",
        camera="Another",
        lens="Lens",
        rating=5,
        title="new",
        keywords=("new",),
        latitude=4.0,
        longitude=5.0,
    )
    changed = with_sidecar(facts, sidecar)
    assert (changed.rating, changed.title, changed.keywords) == (5, "new", ("new",))
    assert (changed.latitude, changed.longitude, changed.altitude_m) == (4.0, 5.0, None)
    assert (changed.camera, changed.lens) == ("Maker", "Lens")
    assert (changed.taken_at, changed.taken_source) == ("2020-01-01T00:00:00", "exif")
    assert with_sidecar(facts, XmpFields()) == facts
    guessed = PhotoFacts(1, 1, "PNG", taken_at="1999-01-01", taken_source="file-name")
    dated = with_sidecar(guessed, sidecar)
    assert (dated.taken_at, dated.taken_source) == ("2021-01-01", "sidecar")


def test_sidecar_is_read_and_never_written(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.CR2.xmp"
    path.write_bytes(xmp_packet('xmp:Rating="3"'))
    path.chmod(0o444)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert read_sidecar(bytes(path)) == XmpFields(rating=3)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert read_sidecar(bytes(tmp_path / "nothing.xmp")) is None
    (tmp_path / "other.xmp").write_bytes(b"<html><body>no XMP</body></html>")
    assert read_sidecar(bytes(tmp_path / "other.xmp")) is None
    assert read_sidecar(bytes(tmp_path)) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that cannot be read")
def test_sidecar_that_cannot_be_read_is_none_only_for_now(tmp_path: Path) -> None:
    # Reading it at its beginning is an input/output error, as of a drive that fails.
    (tmp_path / "a.xmp").symlink_to("/proc/self/mem")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    sidecar, path = bytes(tmp_path / "a.xmp"), bytes(tmp_path / "a.png")
    with pytest.raises(TryAgainError):
        read_sidecar(sidecar)
    with DecodePool(np.asarray, workers=1, limits=DecodeLimits(), min_side=None) as pool:
        facts = pool.decode(path, [sidecar]).result().facts
        assert facts.metadata_version == 0, "a later run reads it"
        with pytest.raises(TryAgainError):
            pool.read_facts(path, facts, [sidecar]).result()
        assert pool.read_facts(path, facts).result().facts.metadata_version == METADATA_VERSION
