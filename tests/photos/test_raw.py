"""RAW files, each written by drawn_raws and read by the real LibRaw."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from photos import photo_preparers as preparers
from photos.drawn_pictures import difference, encoded, quarters
from photos.drawn_raws import (
    Directory,
    camera_tags,
    cr2_stand_in,
    dng,
    dng_tags,
    jpeg_directory,
    monochrome_directory,
    mosaic_directory,
    nef_stand_in,
    rgb_directory,
    stored,
    tiff,
)
from PIL import ExifTags, Image

from siglip_search.errors import NotAPictureError, UnreadablePictureError
from siglip_search.photos import optional_formats
from siglip_search.photos.decode import DecodedPicture, DecodeLimits, decode
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.raw_signature import raw_type

if TYPE_CHECKING:
    from pathlib import Path

rawpy = pytest.importorskip("rawpy", reason="needs the extra raw")

PREVIEW_SIZE = (1280, 960)

# What cannot be made here: these formats hold their sensor's data in ways that only the maker
# knows, and LibRaw refuses what has no such data. Their beginnings are recognised, see below.
NOT_MADE = ["CR2", "CR3", "RAF", "ORF", "RW2", "X3F", "CRW", "IIQ"]


def decoded(file: io.BytesIO, **options: Any) -> DecodedPicture:
    return decode(file, limits=options.pop("limits", DecodeLimits()), **options)


def reason(file: io.BytesIO, **options: Any) -> str:
    with pytest.raises(UnreadablePictureError) as caught:
        decoded(file, **options)
    return str(caught.value)


def preview_of(colour: str, size: tuple[int, int] = PREVIEW_SIZE, **options: Any) -> Directory:
    return jpeg_directory(Image.new("RGB", size, colour), **options)


def orientation_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


# Preview or development


def test_large_preview_is_taken() -> None:
    found = decoded(dng(quarters(640, 480), preview=preview_of("green")))
    assert found.image.size == PREVIEW_SIZE
    assert found.image.getpixel((5, 5))[1] > 100
    assert found.image.getpixel((5, 5))[0] < 10
    # The facts are the sensor's.
    assert (found.facts.width, found.facts.height) == (640, 480)
    assert found.facts.format == "DNG"


def test_preview_is_decoded_at_reduced_size() -> None:
    file = dng(quarters(640, 480), preview=preview_of("green"))
    assert decoded(file, min_side=200).image.size == (320, 240)


@pytest.mark.parametrize(("longer_side", "is_taken"), [(1024, True), (1023, False)])
def test_preview_counts_from_1024_pixels_on(longer_side: int, is_taken: bool) -> None:
    file = dng(quarters(640, 480), preview=preview_of("green", (longer_side, 768)))
    expected = (longer_side, 768) if is_taken else (320, 240)
    assert decoded(file).image.size == expected


@pytest.mark.parametrize("linear", [False, True])
def test_without_a_large_preview_the_sensors_data_is_developed(linear: bool) -> None:
    found = decoded(dng(quarters(640, 480), linear=linear))
    # A picture with all colours at each pixel is not halved: there is nothing to put together.
    assert found.image.size == ((640, 480) if linear else (320, 240))
    assert difference(found.image, quarters(*found.image.size)) < 1


def test_sensor_without_filters_gives_greys() -> None:
    first = rgb_directory(quarters(32, 24), subfile=1)
    first.tags |= camera_tags(1) | dng_tags()
    first.children = [monochrome_directory(quarters(640, 480))]
    found = decoded(io.BytesIO(tiff(first))).image
    expected = quarters(*found.size).convert("L").convert("RGB")
    assert difference(found, expected) < 2


def test_night_stays_night() -> None:
    dark = quarters(640, 480).point(lambda value: value // 8)
    assert difference(decoded(dng(dark)).image, dark.resize((320, 240))) < 3


def test_large_bitmap_preview_is_taken_and_turned() -> None:
    upright = quarters(960, 1280)
    first = rgb_directory(stored(upright, 6))
    first.tags |= camera_tags(6) | dng_tags()
    first.children = [mosaic_directory(stored(quarters(480, 640), 6))]
    found = decoded(io.BytesIO(tiff(first)))
    assert difference(found.image, upright) < 1


def test_damaged_preview_falls_back_to_the_sensors_data() -> None:
    preview = preview_of("green")
    assert preview.data is not None
    preview.data = preview.data[: len(preview.data) // 2]
    assert decoded(dng(quarters(640, 480), preview=preview)).image.size == (320, 240)


# Upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("linear", [False, True])
def test_development_is_upright(orientation: int, linear: bool) -> None:
    found = decoded(dng(quarters(640, 480), orientation=orientation, linear=linear))
    assert (found.facts.width, found.facts.height) == (640, 480)
    assert difference(found.image, quarters(*found.image.size)) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_preview_without_a_word_is_turned_as_the_raw(orientation: int) -> None:
    preview = jpeg_directory(stored(quarters(*PREVIEW_SIZE), orientation))
    found = decoded(dng(quarters(640, 480), orientation=orientation, preview=preview))
    assert difference(found.image, quarters(*PREVIEW_SIZE)) < 4
    assert (found.facts.width, found.facts.height) == (640, 480)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_preview_that_says_the_same_is_not_turned_twice(orientation: int) -> None:
    preview = jpeg_directory(
        stored(quarters(*PREVIEW_SIZE), orientation), exif=orientation_exif(orientation)
    )
    found = decoded(dng(quarters(640, 480), orientation=orientation, preview=preview))
    assert difference(found.image, quarters(*PREVIEW_SIZE)) < 4


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("says_so", [False, True])
def test_preview_that_is_upright_already_stays_so(orientation: int, says_so: bool) -> None:
    options = {"exif": orientation_exif(1)} if says_so else {}
    preview = jpeg_directory(quarters(*PREVIEW_SIZE), **options)
    found = decoded(dng(quarters(640, 480), orientation=orientation, preview=preview))
    assert difference(found.image, quarters(*PREVIEW_SIZE)) < 4


def test_upside_down_preview_that_was_turned_says_so() -> None:
    preview = jpeg_directory(quarters(*PREVIEW_SIZE), exif=orientation_exif(1))
    found = decoded(dng(quarters(640, 480), orientation=3, preview=preview))
    assert difference(found.image, quarters(*PREVIEW_SIZE)) < 4


def test_raw_that_was_turned_by_a_program_later_prevails() -> None:
    # The preview still says what the camera thought.
    preview = jpeg_directory(quarters(*PREVIEW_SIZE), exif=orientation_exif(6))
    found = decoded(dng(quarters(640, 480), orientation=1, preview=preview))
    assert difference(found.image, quarters(*PREVIEW_SIZE)) < 4


# Never a thumbnail in silence


@pytest.mark.parametrize("name", [b"", b"a.tif", b"a", b"a.dng", b"a.jpg"])
def test_content_makes_a_raw_whatever_its_name(name: bytes) -> None:
    for file, kind in ((dng(quarters(640, 480)), "DNG"), (nef_stand_in(quarters(640, 480)), "NEF")):
        found = decoded(file, name=name)
        assert found.facts.format == kind
        assert min(found.image.size) == 240


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (dng(quarters()), "DNG"),
        (dng(quarters(), linear=True), "DNG"),
        (nef_stand_in(quarters()), "NEF"),
        (cr2_stand_in(quarters()), "CR2"),
        (io.BytesIO(b"FUJIFILMCCD-RAW 0201FF383501"), "RAF"),
        (io.BytesIO(b"IIRO\x08\0\0\0"), "ORF"),
        (io.BytesIO(b"IIU\0\x18\0\0\0"), "RW2"),
        (io.BytesIO(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"), "CR3"),
        (io.BytesIO(b"II\x1a\0\0\0HEAPCCDR"), "CRW"),
        (io.BytesIO(b"FOVb\0\0\2\0"), "X3F"),
        (io.BytesIO(b"IIII\1\2\3\4"), "IIQ"),
        (encoded(quarters(), "TIFF"), None),
        (encoded(quarters(), "JPEG"), None),
        (encoded(quarters(), "TIFF", big_tiff=True), None),
        (io.BytesIO(b"II*\0"), None),
        (io.BytesIO(b"II*\0\xff\xff\xff\xff"), None),
        (io.BytesIO(b"II*\0\x08\0\0\0\xff\xff" + bytes(100)), None),
        (io.BytesIO(b""), None),
    ],
)
def test_raw_is_recognised(file: io.BytesIO, kind: str | None) -> None:
    assert raw_type(file) == kind


def test_directories_that_link_in_a_circle_end() -> None:
    circle = b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0"
    assert raw_type(io.BytesIO(circle)) is None


@pytest.mark.parametrize("kind", NOT_MADE)
def test_real_files_of_closed_formats(kind: str) -> None:
    pytest.skip(f"{kind}: cannot be made; its beginning is recognised, the rest is LibRaw's")


def test_raw_that_libraw_refuses_is_never_its_thumbnail() -> None:
    assert reason(cr2_stand_in(quarters(640, 480)), name=b"a.cr2") == ("damaged or unsupported CR2")
    assert reason(cr2_stand_in(quarters(640, 480)), name=b"a.tif") == ("damaged or unsupported CR2")


def test_other_pictures_under_a_raws_name_are_read_as_what_they_are() -> None:
    for picture_format in ("TIFF", "JPEG", "PNG"):
        found = decoded(encoded(quarters(), picture_format), name=b"a.dng")
        assert found.facts.format == picture_format
        assert difference(found.image, quarters()) < 6


def test_what_is_no_picture_is_none_under_a_raws_name_either() -> None:
    with pytest.raises(NotAPictureError, match="not a picture"):
        decoded(io.BytesIO(b"some text, of a program that calls its files raw" * 9), name=b"a.raw")
    with pytest.raises(NotAPictureError, match="empty"):
        decoded(io.BytesIO(b""), name=b"a.raw")


# Facts, limits, damage


def test_facts_are_of_the_raw_and_not_made_up_by_libraw() -> None:
    facts = decoded(dng(quarters(640, 480), preview=preview_of("green"))).facts
    assert facts.camera == "Drawn Camera"
    assert facts.taken_at is None


def test_limit_of_pixels_is_kept_before_anything_is_developed() -> None:
    file = dng(quarters(640, 480))
    limits = DecodeLimits(max_pixels=640 * 480 - 1)
    assert reason(file, limits=limits).startswith("640 x 480 pixels is more than the limit of")


def test_preview_beyond_the_limit_of_pixels_is_not_decoded() -> None:
    file = dng(quarters(640, 480), preview=preview_of("green"))
    assert decoded(file, limits=DecodeLimits(max_pixels=640 * 480)).image.size == (320, 240)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_raw_is_refused_or_its_whole_preview(share: float) -> None:
    content = dng(quarters(640, 480)).getvalue()
    text = reason(io.BytesIO(content[: int(len(content) * share)]), name=b"a.dng")
    assert text.startswith(("damaged", "truncated"))
    assert "\n" not in text


def test_damaged_raws_end_in_a_picture_or_a_reason() -> None:
    whole = dng(quarters(64, 48), preview=jpeg_directory(quarters(64, 48))).getvalue()
    random = np.random.default_rng(6)
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 6):
            content[place] = random.integers(0, 256)
        # The directories lie at the end.
        content[-random.integers(1, 500)] ^= 0xFF
        try:
            outcome = decoded(io.BytesIO(bytes(content)), name=b"a.dng").image.mode
        except UnreadablePictureError as error:
            outcome = str(error)
        assert outcome.isprintable()


def test_file_stays_open_for_its_owner() -> None:
    file = dng(quarters(640, 480))
    decoded(file)
    assert not file.closed


def test_workers_read_raws_by_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.dng"
    path.write_bytes(dng(quarters(640, 480), orientation=6).getvalue())
    with DecodePool(preparers.nothing, workers=1, limits=DecodeLimits(), min_side=64) as pool:
        found = pool.decode(str(path).encode()).result()
    assert (found.facts.width, found.facts.height) == (640, 480)


def test_without_the_extra_the_reason_has_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    optional_formats.is_extra_installed.cache_clear()
    monkeypatch.setattr(optional_formats, "find_spec", lambda _: None)
    try:
        text = reason(dng(quarters(640, 480)))
        assert text == 'a camera\'s RAW: to read such, pip install "siglip-search[raw]"'
        assert optional_formats.missing_extra(b"a/B.NEF") == "raw"
        assert optional_formats.missing_extra(b"a.jxl") == "jxl"
        assert optional_formats.missing_extra(b"a.jpg") is None
        # Only LibRaw can tell that this is none.
        assert "[raw]" in reason(encoded(quarters(), "TIFF"), name=b"a.dng")
    finally:
        optional_formats.is_extra_installed.cache_clear()
    monkeypatch.undo()
    assert optional_formats.missing_extra(b"a.nef") is None
