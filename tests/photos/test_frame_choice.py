from __future__ import annotations

import io
from typing import Any

import numpy as np
import pillow_heif
import pytest
from photos.drawn_pictures import difference, encoded, quarters
from photos.drawn_raws import Directory, rgb_directory, tiff
from PIL import Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodedPicture, DecodeLimits, decode
from siglip_search.photos.thumbnails import thumbnail

pillow_heif.register_heif_opener()

BLACK, CLEAR = Image.new("RGB", (96, 64)), Image.new("RGBA", (96, 64), (255, 0, 0, 0))


def decoded(file: io.BytesIO, **options: Any) -> DecodedPicture:
    return decode(file, limits=options.pop("limits", DecodeLimits()), **options)


def pages(*directories: Directory) -> io.BytesIO:
    return io.BytesIO(tiff(*directories))


# Pages of a TIFF


def test_first_page_is_the_picture() -> None:
    other = Image.new("RGB", (300, 300), "red")
    found = decoded(pages(rgb_directory(quarters()), rgb_directory(other)))
    assert difference(found.image, quarters()) == 0


def test_page_that_says_it_is_a_thumbnail_is_passed_over() -> None:
    small = Image.new("RGB", (24, 16), "red")
    found = decoded(
        pages(
            rgb_directory(small, subfile=1),
            rgb_directory(quarters()),
            rgb_directory(Image.new("RGB", (500, 500))),
        )
    )
    assert difference(found.image, quarters()) == 0
    assert (found.facts.width, found.facts.height) == (96, 64)


def test_thumbnail_that_does_not_say_so_is_known_by_its_proportions() -> None:
    found = decoded(pages(rgb_directory(quarters(25, 17)), rgb_directory(quarters(150, 102))))
    assert found.image.size == (150, 102)


def test_thumbnail_with_the_picture_out_of_reach_is_refused() -> None:
    first = rgb_directory(quarters(24, 16), subfile=1)
    first.children = [rgb_directory(quarters())]
    with pytest.raises(UnreadablePictureError, match="only its thumbnail can be read"):
        decoded(pages(first))


def test_smaller_versions_behind_the_picture_are_no_matter() -> None:
    first = rgb_directory(quarters())
    first.children = [rgb_directory(quarters(48, 32), subfile=1)]
    found = decoded(pages(first, rgb_directory(quarters(24, 16), subfile=1)))
    assert found.image.size == (96, 64)


def test_limit_of_pixels_is_that_of_the_chosen_page() -> None:
    file = pages(rgb_directory(quarters(24, 16), subfile=1), rgb_directory(quarters()))
    with pytest.raises(UnreadablePictureError, match="96 x 64 pixels is more"):
        decoded(file, limits=DecodeLimits(max_pixels=6_000))


# Frames of an animation


@pytest.mark.parametrize("picture_format", ["GIF", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize("blank", [BLACK, CLEAR], ids=["black", "clear"])
def test_blank_first_frames_are_passed_over(picture_format: str, blank: Image.Image) -> None:
    if blank is CLEAR and picture_format == "AVIF":
        pytest.skip("AVIF keeps transparency of a sequence in a second one")
    drawn = quarters().convert(blank.mode)
    file = encoded(blank, picture_format, save_all=True, append_images=[drawn, drawn], duration=100)
    assert difference(decoded(file).image, quarters()) < 12


@pytest.mark.parametrize("picture_format", ["GIF", "WEBP", "PNG"])
def test_animation_that_shows_nothing_is_its_first_frame(picture_format: str) -> None:
    red = Image.new("RGB", (96, 64), (250, 0, 0))
    file = encoded(red, picture_format, save_all=True, append_images=[BLACK], duration=100)
    assert decoded(file).image.getpixel((1, 1))[0] > 200


def test_damage_behind_a_blank_frame_leaves_that_frame() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8))
    whole = encoded(BLACK, "WEBP", save_all=True, append_images=[noise], lossless=True).getvalue()
    file = io.BytesIO(whole)
    file.getbuffer()[-2_000:-1_000] = bytes(1_000)
    assert decoded(file).image.size == (96, 64)


def test_heif_of_several_images_is_its_primary_one() -> None:
    other = Image.new("RGB", (96, 64), "red")
    for primary in (0, 1, 2):
        images = [other, other, other]
        images[primary] = quarters()
        file = encoded(
            images[0], "HEIF", save_all=True, append_images=images[1:], primary_index=primary
        )
        assert difference(decoded(file).image, quarters()) < 8


# Extreme shapes


@pytest.mark.parametrize("size", [(20_000, 200), (200, 20_000), (100_000, 1), (1, 100_000), (1, 1)])
@pytest.mark.parametrize("picture_format", ["PNG", "TIFF", "JPEG"])
def test_extreme_shapes(size: tuple[int, int], picture_format: str, tmp_path: Any) -> None:
    if picture_format == "JPEG" and max(size) > 65_500:
        size = (65_500, 1) if size[0] > 1 else (1, 65_500)
    file = encoded(quarters(*size), picture_format)
    for min_side in (None, 64, 448):
        found = decoded(file, min_side=min_side)
        assert (found.facts.width, found.facts.height) == size
        assert min(found.image.size) >= min(*size, min_side or 10**9)
    path = tmp_path / "a"
    path.write_bytes(file.getvalue())
    small = thumbnail(str(path).encode(), (120, 120), DecodeLimits())
    assert max(small.size) <= 120
    assert min(small.size) >= 1
