"""From a file of any mode to the pixels of the tower, as docs/preprocessing.md states it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.towers.preprocess import Preprocessor, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE = (40, 30)
HALF = (0.5, 0.5, 0.5)


def grain(seed: int, channels: int = 3) -> NDArray[np.uint8]:
    shape = (SIZE[1], SIZE[0], channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def seen_by_the_tower(file: io.BytesIO) -> NDArray[np.uint8]:
    image = decode(file, limits=DecodeLimits()).image
    return Preprocessor((16, 24), "squash", "bicubic")(image)


def resized(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(rgb).resize((24, 16), Image.Resampling.BICUBIC))


def on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The formula: alpha * colour + (1 - alpha) * white, to the nearest level."""
    share = alpha.astype(np.float64)[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def test_transparency_is_laid_on_white_before_the_picture_is_resized() -> None:
    rgb, alpha = grain(1), grain(2)[..., 0]
    file = stored(Image.fromarray(np.dstack([rgb, alpha])))
    difference = seen_by_the_tower(file).astype(int) - resized(on_white(rgb, alpha))
    assert np.abs(difference).max() <= 1


def test_what_lies_under_full_transparency_is_never_seen() -> None:
    pixels = np.dstack([grain(3), np.zeros(SIZE[::-1], np.uint8)])
    assert (seen_by_the_tower(stored(Image.fromarray(pixels))) == 255).all()


def test_greyscale_with_alpha_is_laid_on_white() -> None:
    grey, alpha = grain(4)[..., 0], grain(5)[..., 0]
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    expected = resized(on_white(np.repeat(grey[..., None], 3, axis=2), alpha))
    assert np.abs(seen_by_the_tower(stored(image)).astype(int) - expected).max() <= 1


def test_a_palette_gives_its_colours_before_the_picture_is_resized() -> None:
    image = Image.fromarray(grain(6)).quantize(16)
    expected = resized(np.asarray(image.convert("RGB")))
    assert np.array_equal(seen_by_the_tower(stored(image)), expected)


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.fromarray(grain(7)).quantize(4)
    colours = np.asarray(image.convert("RGB")).copy()
    colours[np.asarray(image) == 2] = 255
    file = stored(image, transparency=2)
    assert np.array_equal(seen_by_the_tower(file), resized(colours))


def test_one_bit_becomes_grey_when_it_is_resized() -> None:
    bits = grain(8)[..., 0] > 127
    black_and_white = np.repeat(bits[..., None] * np.uint8(255), 3, axis=2)
    found = seen_by_the_tower(stored(Image.fromarray(bits)))
    assert np.array_equal(found, resized(black_and_white))
    assert len(np.unique(found)) > 2


@pytest.mark.parametrize("bits", [9, 12, 16])
def test_greyscale_of_more_than_8_bits_keeps_its_highest_ones(bits: int) -> None:
    grey = grain(9)[..., 0].copy()
    grey[0, 0] = 255
    deep = grey.astype(np.uint16) << (bits - 8)
    expected = resized(np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(seen_by_the_tower(stored(Image.fromarray(deep))), expected)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_four_inks_become_colours_without_a_profile(kind: str) -> None:
    inks = Image.frombytes("CMYK", SIZE, grain(10, channels=4).tobytes())
    file = stored(inks, kind)
    with Image.open(file) as image:
        # Pillow's rule: each ink takes its share of the light, black takes its share of the rest.
        values = 255 - np.asarray(image).astype(np.float64)
    file.seek(0)
    light = np.rint(values[..., :3] * values[..., 3:] / 255).astype(np.uint8)
    assert np.abs(seen_by_the_tower(file).astype(int) - resized(light)).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2), (383, 385), (4000, 30)])
@pytest.mark.parametrize("resize", ["squash", "shortest-side-crop"])
def test_pictures_of_every_shape_become_full_finite_inputs(
    size: tuple[int, int], resize: Any
) -> None:
    level = 77
    pixels = Preprocessor((64, 64), resize, "bilinear")(Image.new("L", size, level))
    values = normalise(pixels[None], mean=HALF, std=HALF)
    assert values.shape == (1, 3, 64, 64)
    # A plain picture stays plain: no border is made up, whatever is cut or stretched.
    assert np.allclose(values, (level / 255 - 0.5) / 0.5, atol=1e-6)
