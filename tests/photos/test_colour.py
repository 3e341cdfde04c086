"""Colours, compared with LittleCMS where Pillow gives it, and with published values elsewhere."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
import pytest
from photos.drawn_pictures import difference, encoded, quarters
from PIL import ExifTags, Image, ImageCms

from siglip_search.photos.cicp import Cicp, stated_cicp
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.photos.icc_profiles import adobe_rgb_profile, cicp_profile

pillow_heif.register_heif_opener()

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LINEAR_SRGB = cicp_profile(1, 8)
DISPLAY_P3 = cicp_profile(12, 13)
BT_2020 = cicp_profile(9, 1)


def image_of(file: io.BytesIO) -> Image.Image:
    return decode(file, limits=DecodeLimits()).image


def by_little_cms(image: Image.Image, profile: bytes) -> Image.Image:
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.ImageCmsProfile(io.BytesIO(SRGB)),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert converted is not None
    return converted


def grey_profile() -> bytes:
    """A profile of greys at gamma 1: much darker numbers than sRGB's for the same light."""
    curve = struct.pack(">4sII", b"curv", 0, 0)
    white = struct.pack(">4sI3i", b"XYZ ", 0, 63190, 65536, 54061)
    tags = [(b"wtpt", white), (b"kTRC", curve)]
    place = 128 + 4 + 12 * len(tags)
    table = b"".join(
        struct.pack(">4sII", name, place + sum(len(c) for _, c in tags[:n]), len(content))
        for n, (name, content) in enumerate(tags)
    )
    body = struct.pack(">I", len(tags)) + table + b"".join(content for _, content in tags)
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x3I48x",
        *(128 + len(body), b"\0" * 4, 0x02100000, b"mntr", b"GRAY", b"XYZ ", b"acsp"),
        *(63190, 65536, 54061),
    )
    return header + body


def with_chunk(png: bytes, kind: bytes, data: bytes) -> io.BytesIO:
    """A PNG with one more chunk behind its header."""
    body = kind + data
    chunk = struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return io.BytesIO(png[:33] + chunk + png[33:])


# Profiles


@pytest.mark.parametrize(
    ("picture_format", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
        ("HEIF", {"quality": 100, "chroma": 444}),
    ],
)
@pytest.mark.parametrize("profile", [DISPLAY_P3, BT_2020, adobe_rgb_profile(), LINEAR_SRGB])
def test_wide_gamut_becomes_srgb(
    picture_format: str, options: dict[str, Any], profile: bytes
) -> None:
    picture = quarters().point(lambda value: 60 + value // 2)
    file = encoded(picture, picture_format, icc_profile=profile, **options)
    reference = by_little_cms(picture, profile)
    assert difference(reference, picture) > 3
    assert difference(image_of(file), reference) < 2


def test_profiles_are_those_of_the_standards() -> None:
    # CSS Color 4's examples: (0, 1, 0) of the one space as 8-bit sRGB, before clipping:
    # Display P3's green lies outside; half-way colours can be compared.
    p3 = np.array([0.5, 0.4, 0.3])
    linear = ((p3 + 0.055) / 1.055) ** 2.4
    to_srgb = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    light = to_srgb @ linear
    expected = np.rint(255 * (1.055 * light ** (1 / 2.4) - 0.055))
    colour = tuple(round(255 * value) for value in p3)
    found = by_little_cms(Image.new("RGB", (1, 1), colour), DISPLAY_P3).getpixel((0, 0))
    assert np.abs(np.array(found) - expected).max() <= 2
    for profile in (DISPLAY_P3, BT_2020, adobe_rgb_profile(), LINEAR_SRGB):
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
        assert opened.is_matrix_shaper
        white = by_little_cms(Image.new("RGB", (1, 1), (255, 255, 255)), profile)
        assert min(white.getpixel((0, 0))) >= 254


def test_srgb_profile_changes_not_one_level() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    picture = Image.fromarray(noise)
    file = encoded(picture, "PNG", icc_profile=SRGB)
    assert difference(image_of(file), picture) == 0


@pytest.mark.parametrize(
    "profile",
    [b"x", b"\0" * 200, SRGB[:300], SRGB[:128] + b"\xff" * 400, b"\0" * (9 * 1024**2)],
)
def test_damaged_profile_never_fails_a_picture(profile: bytes) -> None:
    for picture_format in ("PNG", "TIFF"):
        file = encoded(quarters(), picture_format, icc_profile=profile)
        assert difference(image_of(file), quarters()) == 0


def test_randomly_damaged_profiles_never_fail_a_picture() -> None:
    random = np.random.default_rng(3)
    picture = quarters(8, 6)
    for _ in range(100):
        profile = bytearray(adobe_rgb_profile()[:2000])
        for place in random.integers(0, len(profile), 8):
            profile[place] = random.integers(0, 256)
        assert image_of(encoded(picture, "PNG", icc_profile=bytes(profile))).size == (8, 6)


def test_profile_of_another_kind_of_picture_is_left_out() -> None:
    assert (
        difference(image_of(encoded(quarters(), "PNG", icc_profile=grey_profile())), quarters())
        == 0
    )
    grey = quarters().convert("L")
    found = image_of(encoded(grey, "PNG", icc_profile=DISPLAY_P3))
    assert difference(found, grey.convert("RGB")) == 0


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_profile_of_greys(mode: str) -> None:
    picture = Image.new(mode, (4, 4), 55 if mode == "L" else (55, 255))
    found = image_of(encoded(picture, "PNG", icc_profile=grey_profile()))
    # Light of 55/255 is this signal of sRGB.
    expected = round(255 * (1.055 * (55 / 255) ** (1 / 2.4) - 0.055))
    assert abs(found.getpixel((0, 0))[0] - expected) <= 1


def test_16_bit_grey_is_scaled_and_then_converted() -> None:
    picture = Image.fromarray(np.full((4, 4), 55 * 257, np.uint16))
    picture.putpixel((0, 0), 65535)
    found = image_of(encoded(picture, "PNG", icc_profile=grey_profile()))
    assert abs(found.getpixel((2, 2))[0] - 128) <= 3


def test_palette_and_transparency_go_through_the_profile_too() -> None:
    picture = quarters().point(lambda value: 60 + value // 2)
    reference = by_little_cms(picture, DISPLAY_P3)
    palette = encoded(picture.quantize(4), "PNG", icc_profile=DISPLAY_P3)
    assert difference(image_of(palette), reference) < 2
    translucent = picture.convert("RGBA")
    translucent.putpixel((0, 0), (9, 9, 9, 0))
    found = image_of(encoded(translucent, "PNG", icc_profile=DISPLAY_P3))
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert difference(found, reference) < 2


def test_cmyk_without_a_profile_is_pillows_formula() -> None:
    picture = Image.new("CMYK", (4, 4), (0, 200, 0, 0))
    assert image_of(encoded(picture, "TIFF")).getpixel((0, 0)) == (255, 55, 255)


def test_lab_tiff() -> None:
    picture = Image.new("LAB", (4, 4), (137, 128, 128))
    found = image_of(encoded(picture, "TIFF")).getpixel((0, 0))
    assert max(found) - min(found) <= 2
    assert 120 < found[0] < 140


def test_16_bit_colour_keeps_its_eight_highest_bits() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    row = struct.pack(">B6H", 0, 0x1234, 0xABCD, 0xFFFF, 0, 0x8000, 0x00FF)
    png = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")):
        body = kind + data
        png += struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    found = image_of(io.BytesIO(png))
    assert np.abs(np.asarray(found, int)[0] - [[0x12, 0xAB, 0xFF], [0, 0x80, 0]]).max() <= 1


# Cameras' Adobe RGB, which carries no profile


@pytest.mark.parametrize(
    ("space", "index", "applies"),
    [(0xFFFF, "R03", True), (0xFFFF, "R98", False), (1, "R98", False), (2, None, True)],
)
def test_adobe_rgb_of_cameras_is_known_by_its_exif_data(
    space: int, index: str | None, applies: bool
) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = space
    if index is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index}
    picture = quarters().point(lambda value: 60 + value // 2)
    file = encoded(picture, "JPEG", exif=exif.tobytes(), quality=95, subsampling=0)
    expected = by_little_cms(picture, adobe_rgb_profile()) if applies else picture
    assert difference(image_of(file), expected) < 1.5


# Colours named by number


def nclx(primaries: int, transfer: int) -> bytes:
    return struct.pack(">4sHHHB", b"nclx", primaries, transfer, 1, 0x80)


def renamed_colours(file: io.BytesIO, primaries: int, transfer: int) -> io.BytesIO:
    """Overwrite the numbers in every colr box, in place."""
    content = bytearray(file.getvalue())
    place = content.find(b"nclx")
    assert place > 0
    while place > 0:
        content[place + 4 : place + 8] = struct.pack(">HH", primaries, transfer)
        place = content.find(b"nclx", place + 4)
    return io.BytesIO(bytes(content))


@pytest.mark.parametrize("picture_format", ["AVIF", "HEIF"])
@pytest.mark.parametrize("numbers", [(12, 13), (9, 1), (9, 16), (9, 18)])
def test_numbers_of_heif_and_avif_are_applied(
    picture_format: str, numbers: tuple[int, int]
) -> None:
    picture = quarters().point(lambda value: 60 + value // 2)
    plain = encoded(picture, picture_format, quality=95)
    file = renamed_colours(plain, *numbers)
    assert stated_cicp(file, picture_format) == numbers
    file.seek(0)
    profile = cicp_profile(*numbers)
    assert profile is not None
    plain.seek(0)
    reference = by_little_cms(image_of(plain), profile)
    assert difference(image_of(file), reference) < 2


def test_numbers_of_png_are_applied() -> None:
    picture = quarters().point(lambda value: 60 + value // 2)
    file = with_chunk(encoded(picture, "PNG").getvalue(), b"cICP", bytes([12, 13, 0, 1]))
    assert stated_cicp(file, "PNG") == Cicp(12, 13)
    assert difference(image_of(file), by_little_cms(picture, DISPLAY_P3)) < 1


@pytest.mark.parametrize("numbers", [(1, 13), (1, 1), (2, 2), (0, 0), (12, 200), (77, 13)])
def test_numbers_without_a_profile(numbers: tuple[int, int]) -> None:
    # An unknown curve on known primaries is taken for sRGB's; what is like sRGB is left alone.
    assert (cicp_profile(*numbers) is None) == (numbers[0] != 12)


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_keeps_paper_light_and_whiter_than_white_apart(transfer: int) -> None:
    # BT.2408: white paper is a signal of 0.58 in PQ and of 0.75 in HLG.
    paper = {16: 0.58, 18: 0.75}[transfer]
    profile = cicp_profile(9, transfer)
    assert profile is not None
    signals = [0.3 * paper, paper, (1 + paper) / 2, 1.0]
    grey = Image.fromarray(np.array([[[round(255 * s)] * 3 for s in signals]], np.uint8))
    levels = np.asarray(by_little_cms(grey, profile))[0, :, 0].astype(int)
    assert (np.diff(levels) >= 0).all()
    assert levels[0] < 80
    assert 220 < levels[1] < 246
    assert levels[2] > levels[1] + 5


@pytest.mark.parametrize("picture_format", ["AVIF", "HEIF", "PNG"])
def test_damaged_descriptions_of_colour_are_nothing(picture_format: str) -> None:
    random = np.random.default_rng(5)
    whole = encoded(quarters(), picture_format).getvalue()
    for _ in range(300):
        content = bytearray(whole[: random.integers(0, len(whole))])
        for place in random.integers(0, min(len(content), 400) or 1, 5):
            if place < len(content):
                content[place] = random.integers(0, 256)
        found = stated_cicp(io.BytesIO(bytes(content)), picture_format)
        assert found is None or len(found) == 2
