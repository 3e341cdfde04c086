"""The perceptual hash is ImageHash's, and turning a picture turns it in a known way."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from siglip_search.search.perceptual_hash import (
    HASH_BITS,
    TURNS,
    hash_bits,
    low_frequencies,
    turned_hashes,
    unturned_description,
)

# str(imagehash.phash(picture(seed))) of ImageHash 4.3.2 with SciPy and Pillow of November 2026, for
# the seeds 0 to 7.
IMAGEHASH = (
    "c0a7ecd64252ecba",
    "8bb89da0c4b67e98",
    "e00f4be69332a37c",
    "874f7762f5c06d08",
    "d4ce515df1e1425c",
    "d1ca7898f882f4cb",
    "dd31d94cc748a81f",
    "a44b73c51ce9de24",
)


def picture(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((240, 180), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("seed", "expected"), list(enumerate(IMAGEHASH)))
def test_hash_is_what_imagehash_computes(seed: int, expected: str) -> None:
    bits = hash_bits(low_frequencies(picture(seed)))
    assert np.packbits(bits).tobytes().hex() == expected


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_hashes_of_turned_pictures_are_had_without_turning_them(
    turn: Image.Transpose | None,
) -> None:
    image = picture(3)
    expected = hash_bits(low_frequencies(image if turn is None else image.transpose(turn)))
    computed = turned_hashes(low_frequencies(image))[TURNS.index(turn)]
    # A coefficient that lies on the median may fall on either side of it.
    assert (computed != expected).sum() <= 2
    others = np.delete(turned_hashes(low_frequencies(image)), TURNS.index(turn), axis=0)
    assert (others != expected).sum(axis=1).min() > HASH_BITS // 8


@pytest.mark.parametrize("turn", TURNS[1:], ids=str)
def test_description_is_the_same_however_a_picture_is_turned(turn: Image.Transpose) -> None:
    image = picture(5)
    upright = unturned_description(low_frequencies(image))
    turned = unturned_description(low_frequencies(image.transpose(turn)))
    assert upright @ turned == pytest.approx(1.0, abs=1e-3)
    assert upright @ unturned_description(low_frequencies(picture(6))) < 0.97


def test_picture_of_one_brightness_has_no_description() -> None:
    grey = Image.new("RGB", (50, 40), (90, 90, 90))
    assert not unturned_description(low_frequencies(grey)).any()
