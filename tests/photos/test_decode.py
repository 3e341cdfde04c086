from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pillow_heif
import pytest
from photos.drawn_pictures import (
    STORED_AS,
    difference,
    encoded,
    quarters,
)
from photos.written_metadata import xmp_packet
from PIL import ExifTags, Image, ImageFile

from siglip_search.errors import NotAPictureError, UnreadablePictureError
from siglip_search.photos.decode import DecodedPicture, DecodeLimits, decode
from siglip_search.photos.fingerprint import TryAgainError

if TYPE_CHECKING:
    from pathlib import Path

pillow_heif.register_heif_opener()


def decoded(file: io.BytesIO | bytes, **options: Any) -> DecodedPicture:
    file = io.BytesIO(file) if isinstance(file, bytes) else file
    return decode(file, limits=options.pop("limits", DecodeLimits()), **options)


def reason(file: io.BytesIO | bytes, **options: Any) -> str:
    with pytest.raises(UnreadablePictureError) as caught:
        decoded(file, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 200
    return text


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and has one byte of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


# Formats


@pytest.mark.parametrize(
    ("picture_format", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 4),
        ("PNG", {}, 0),
        ("GIF", {}, 1),
        ("BMP", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("AVIF", {"quality": 95}, 4),
        ("HEIF", {"quality": 95}, 4),
        ("JPEG2000", {}, 1),
        ("PPM", {}, 0),
        ("TGA", {}, 0),
        ("QOI", {}, 0),
        ("ICO", {"sizes": [(96, 64)]}, 0),
        ("PCX", {}, 0),
        ("SGI", {}, 0),
        ("DDS", {}, 0),
        ("ICNS", {}, None),
    ],
)
def test_format_is_decoded(
    picture_format: str, options: dict[str, Any], tolerance: float | None
) -> None:
    picture = quarters() if tolerance is not None else quarters(128, 128)
    found = decoded(encoded(picture, picture_format, **options))
    assert found.facts.format == picture_format
    assert found.image.mode == "RGB"
    if tolerance is not None:
        assert (found.facts.width, found.facts.height) == (96, 64)
        assert difference(found.image, picture) <= tolerance


def test_multi_picture_jpeg_gives_its_first_picture() -> None:
    other = Image.new("RGB", (96, 64))
    found = decoded(encoded(quarters(), "MPO", save_all=True, append_images=[other], quality=95))
    assert found.facts.format == "MPO"
    assert difference(found.image, quarters()) < 4


@pytest.mark.parametrize("picture_format", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "HEIF"])
def test_first_frame_of_several_is_taken(picture_format: str) -> None:
    other = Image.new("RGB", (96, 64), (0, 0, 0))
    file = encoded(quarters(), picture_format, save_all=True, append_images=[other, other])
    assert difference(decoded(file).image, quarters()) < 8


# Upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF", "AVIF", "MPO"])
def test_every_orientation_comes_out_upright(picture_format: str, orientation: int) -> None:
    turn = STORED_AS[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    found = decoded(encoded(stored, picture_format, exif=exif.tobytes()))
    assert (found.facts.width, found.facts.height) == (96, 64)
    assert difference(found.image, quarters()) < 8


@pytest.mark.parametrize("exif", [b"", "empty"])
def test_avif_that_its_boxes_do_not_turn_is_upright_whatever_xmp_says(exif: bytes | str) -> None:
    packet = xmp_packet('tiff:Orientation="6"')
    content = Image.Exif().tobytes() if exif == "empty" else exif
    found = decoded(encoded(quarters(), "AVIF", quality=95, xmp=packet, exif=content))
    assert found.image.size == (found.facts.width, found.facts.height) == (96, 64)
    assert difference(found.image, quarters()) < 8


@pytest.mark.parametrize("orientation", [1, 6])
def test_draft_of_a_turned_jpeg_is_upright_and_reports_the_original_size(orientation: int) -> None:
    upright = quarters(1600, 1200)
    turn = STORED_AS[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    found = decoded(encoded(stored, "JPEG", exif=exif.tobytes()), min_side=300)
    assert (found.facts.width, found.facts.height) == (1600, 1200)
    assert found.image.size == (400, 300)
    assert difference(found.image, quarters(400, 300)) < 4


@pytest.mark.parametrize(
    ("size", "min_side", "expected"),
    [
        ((1600, 1200), 300, (400, 300)),
        ((1600, 1200), 301, (800, 600)),
        ((1600, 1200), 100, (200, 150)),
        ((1600, 1200), 1201, (1600, 1200)),
        ((1600, 1200), None, (1600, 1200)),
        ((3200, 120), 60, (1600, 60)),
    ],
)
def test_draft_keeps_both_sides_at_least_as_long_as_asked(
    size: tuple[int, int], min_side: int | None, expected: tuple[int, int]
) -> None:
    assert decoded(encoded(quarters(*size), "JPEG"), min_side=min_side).image.size == expected


def test_draft_looks_the_same_as_the_whole() -> None:
    noise = np.random.default_rng(7).integers(0, 256, (30, 40, 3), np.uint8)
    picture = Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC)
    file = encoded(picture, "JPEG", quality=92)
    whole, draft = (
        np.asarray(decoded(file, min_side=side).image.resize((224, 224)), np.float64).ravel()
        for side in (None, 448)
    )
    cosine = whole @ draft / np.linalg.norm(whole) / np.linalg.norm(draft)
    assert cosine > 0.9999


def test_heif_is_decoded_whole_and_never_as_its_embedded_thumbnail() -> None:
    file = encoded(quarters(640, 480), "HEIF", thumbnails=[128])
    assert decoded(file, min_side=64).image.size == (640, 480)


# Modes


def test_palette_is_expanded() -> None:
    picture = quarters().quantize(4)
    assert difference(decoded(encoded(picture, "PNG")).image, quarters()) < 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_on_white(mode: str) -> None:
    picture = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 2, 2))
    file = (
        encoded(picture.quantize(4), "PNG")
        if mode == "PA"
        else encoded(picture.convert(mode), "PNG")
    )
    found = decoded(file).image
    assert found.getpixel((0, 0)) == (0, 0, 0)
    assert found.getpixel((3, 0)) == (255, 255, 255)


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    picture = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
    assert decoded(encoded(picture, "PNG")).image.getpixel((0, 0)) == (255, 127, 127)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_transparent_colour_is_laid_on_white(mode: str) -> None:
    picture = Image.new("L", (2, 1), 200)
    picture.putpixel((0, 0), 10)
    if mode == "P":
        picture = picture.quantize(2)
        key: Any = picture.getpixel((0, 0))
    else:
        picture = picture.convert(mode)
        key = picture.getpixel((0, 0))
    found = decoded(encoded(picture, "PNG", transparency=key)).image
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert np.allclose(found.getpixel((1, 0)), 200, atol=2)


@pytest.mark.parametrize("picture_format", ["GIF", "WEBP"])
def test_transparent_animation_is_laid_on_white(picture_format: str) -> None:
    first = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    first.paste((0, 0, 200, 255), (0, 0, 4, 8))
    second = Image.new("RGBA", (8, 8), (0, 255, 0, 100))
    options = {"save_all": True, "append_images": [second]}
    if picture_format == "WEBP":
        options["lossless"] = True
    found = decoded(encoded(first, picture_format, **options)).image
    assert found.getpixel((6, 4)) == (255, 255, 255)
    assert found.getpixel((1, 4)) == (0, 0, 200)


def test_one_bit_picture_is_black_and_white() -> None:
    picture = quarters().convert("L").point(lambda grey: 255 * (grey > 100), "1")
    found = decoded(encoded(picture, "PNG")).image
    assert set(
        found.getdata() if not hasattr(found, "get_flattened_data") else found.get_flattened_data()
    ) == {(0, 0, 0), (255, 255, 255)}


@pytest.mark.parametrize("picture_format", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(picture_format: str) -> None:
    # Pillow writes CMYK JPEGs as Adobe does: inverted.
    found = decoded(encoded(quarters().convert("CMYK"), picture_format)).image
    assert difference(found, quarters()) < 8


def test_ycbcr_and_lab_become_rgb() -> None:
    file = encoded(quarters().convert("YCbCr"), "TIFF")
    assert difference(decoded(file).image, quarters()) < 4
    lab = Image.new("LAB", (2, 2), (255, 128, 128))
    found = decoded(encoded(lab, "TIFF")).image
    assert np.allclose(found.getpixel((0, 0)), 255, atol=4)


@pytest.mark.parametrize("top", [255, 4095, 65535])
@pytest.mark.parametrize("picture_format", ["PNG", "TIFF", "PPM"])
def test_deep_greyscale_is_scaled_to_what_it_uses(picture_format: str, top: int) -> None:
    ramp = np.linspace(0, top, 256).round().astype(np.uint16).reshape(16, 16)
    found = np.asarray(decoded(encoded(Image.fromarray(ramp), picture_format)).image)
    expected = np.arange(256).reshape(16, 16, 1)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_big_endian_16_bit_greyscale_is_the_same() -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(">u2").reshape(16, 16)
    file = io.BytesIO(b"P5 16 16 65535\n" + ramp.tobytes())
    found = np.asarray(decoded(file).image)[..., 0]
    assert np.array_equal(found, np.arange(256).reshape(16, 16))


def test_32_bit_and_signed_greyscale_is_stretched() -> None:
    signed = np.linspace(-1000, 1000, 256).astype(np.int32).reshape(16, 16)
    found = np.asarray(decoded(encoded(Image.fromarray(signed), "TIFF")).image)[..., 0]
    assert (found.min(), found.max()) == (0, 255)
    assert np.all(np.diff(found.ravel().astype(int)) >= 0)


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (0.0, 255.0), (-3e38, 3e38), (5.0, 5000.0)])
def test_floating_point_is_scaled_by_its_range(low_high: tuple[float, float]) -> None:
    values = np.linspace(*low_high, 256).astype(np.float32).reshape(16, 16)
    found = np.asarray(decoded(encoded(Image.fromarray(values), "TIFF")).image)[..., 0]
    assert np.abs(found.astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


def test_not_numbers_are_black_and_a_picture_of_nothing_else_is_refused() -> None:
    values = np.array([[np.nan, 1.0, np.inf, 0.0]], np.float32)
    found = np.asarray(decoded(encoded(Image.fromarray(values), "TIFF")).image)[..., 0]
    assert found.tolist() == [[0, 255, 255, 0]]
    nothing = Image.fromarray(np.full((2, 2), np.nan, np.float32))
    assert "none of its pixels is a number" in reason(encoded(nothing, "TIFF"))


@pytest.mark.parametrize("value", [0, 9])
def test_flat_deep_picture_does_not_divide_by_zero(value: int) -> None:
    for mode in ("I", "F"):
        picture = Image.new(mode, (3, 3), value)
        assert decoded(encoded(picture, "TIFF")).image.size == (3, 3)


# Facts


def test_facts_come_from_the_exif_data() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Canon"
    exif[ExifTags.Base.Model] = "Canon EOS 5D"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2019:05:01 12:30:05"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {1: "N", 2: (52.0, 30.0, 0.0), 3: "W", 4: (13.0, 15.0, 0.0)}
    )
    for picture_format in ("JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"):
        facts = decoded(encoded(quarters(), picture_format, exif=exif.tobytes())).facts
        assert facts.format == picture_format
        assert facts.camera == "Canon EOS 5D"
        assert facts.taken_at == "2019-05-01T12:30:05"
        assert (facts.latitude, facts.longitude) == (52.5, -13.25)


# Refusals


def test_empty_file() -> None:
    assert reason(b"") == "the file is empty"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"just some text, long enough to look at", "not a picture"),
        (os.urandom(7) + bytes(500), "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "markup"),
        (b"%PDF-1.7 ...", "a PDF document, not a picture"),
        (b"\0\0\0\x20ftypmp42\0\0\0\0mp42isom", "a video, not a picture"),
    ],
)
def test_what_is_no_picture(content: bytes, words: str) -> None:
    with pytest.raises(NotAPictureError, match=words):
        decoded(content)


def test_postscript_is_never_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        pytest.fail("another program was started")

    monkeypatch.setattr("subprocess.Popen", forbidden)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert reason(eps) == "a PostScript program, which is not run"


@pytest.mark.parametrize("picture_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "HEIF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_picture_is_refused_with_a_reason(picture_format: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), picture_format).getvalue()
    text = reason(whole[: int(len(whole) * share)])
    assert picture_format in text or text == "not a picture"


def test_truncated_jpeg_is_called_that_even_if_the_process_accepts_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = encoded(quarters(640, 480), "JPEG", quality=95).getvalue()
    assert reason(whole[: len(whole) // 2]) == "truncated JPEG"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_bomb_is_refused_by_its_header() -> None:
    assert reason(png_header(60_000, 60_000)) == (
        "60000 x 60000 pixels is more than the limit of 250,000,000 (--max-pixels)"
    )


def test_limit_of_pixels_is_the_callers() -> None:
    file = encoded(quarters(100, 100), "PNG")
    assert decoded(file, limits=DecodeLimits(max_pixels=10_000)).image.size == (100, 100)
    assert "limit of 9,999" in reason(file, limits=DecodeLimits(max_pixels=9_999))


def test_pillows_own_limit_is_neither_kept_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decoded(encoded(quarters(), "PNG")).image.size == (96, 64)
    assert Image.MAX_IMAGE_PIXELS == 100
    reason(b"nothing")
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pillows_warnings_do_not_reach_the_user() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 3
    file = encoded(quarters(), "JPEG", exif=exif)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decoded(file)
        reason(b"\x89PNG\r\n\x1a\n broken")
    assert caught == []


def test_file_stays_open_for_its_owner() -> None:
    file = encoded(quarters(), "PNG")
    decoded(file)
    assert not file.closed
    # Pillow's plugin for this format closes the file itself.
    ftex = io.BytesIO(b"FTEX" + struct.pack("<iiiiiiii", 1, 4, 4, 1, 1, 0, 40, 8) + bytes(64))
    with pytest.raises(UnreadablePictureError):
        decoded(ftex, limits=DecodeLimits(max_pixels=1))
    assert not ftex.closed


def test_failing_disk_says_nothing_about_the_picture() -> None:
    class FailingFile(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100:
                raise OSError(5, "Input/output error")
            return super().read(size)

    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    file = FailingFile(encoded(Image.fromarray(noise), "JPEG").getvalue())
    with pytest.raises(TryAgainError, match="cannot be read: Input/output error"):
        decoded(file)


def test_too_little_memory_is_told_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", fail)
    assert reason(encoded(quarters(), "JPEG")) == "needs more than 2 GiB of memory"


def test_threads_may_decode_at_the_same_time() -> None:
    file = encoded(quarters(400, 300), "PNG").getvalue()
    sizes: list[tuple[int, int]] = []
    limits = Image.MAX_IMAGE_PIXELS
    threads = [
        threading.Thread(target=lambda: sizes.append(decoded(file).image.size)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [(400, 300)] * 8
    assert limits == Image.MAX_IMAGE_PIXELS


def test_real_files_are_decoded_too(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        assert difference(decode(file, limits=DecodeLimits()).image, quarters()) == 0
        assert not file.closed
