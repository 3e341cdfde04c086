"""Pixels against the references': Transformers' PIL processor and open_clip's transforms."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.towers.preprocess import Preprocessor, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from siglip_search.models.spec import Resample

pytestmark = pytest.mark.reference

SIZES = [(1, 1), (1, 500), (3, 2), (383, 385), (384, 384), (4000, 30), (333, 7), (640, 427)]
HALF = (0.5, 0.5, 0.5)
FILTERS: dict[Resample, int] = {"bicubic": 3, "bilinear": 2}

# One step of float32 at the largest values there are, 1 for SigLIP and 2.2 for CLIP, twice.
SIGLIP_TOLERANCE = 1.3e-7
CLIP_TOLERANCE = 5e-7


@pytest.fixture(autouse=True)
def _references_may_warn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Return soft shapes under grain, other ones for each size."""
    width, height = size
    chance = np.random.default_rng(width * 1000 + height)
    coarse = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    grain = chance.integers(-20, 21, (height, width, 3))
    pixels = np.clip(np.asarray(smooth).astype(int) + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def transformers_processor(size: tuple[int, int], resample: Resample) -> Any:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    processor = SiglipImageProcessorPil(
        size={"height": size[0], "width": size[1]},
        resample=FILTERS[resample],
        image_mean=list(HALF),
        image_std=list(HALF),
    )
    return lambda image: processor(image, return_tensors="np")["pixel_values"][0]


def open_clip_transform(size: int | tuple[int, int], **facts: Any) -> Any:
    from open_clip.transform import image_transform

    transform = image_transform(size, is_train=False, **facts)
    return lambda image: transform(image).numpy()


def worst(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


@pytest.mark.parametrize("target", [(384, 384), (48, 64)])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_siglips_pixels_are_those_of_both_references(
    mode: str, resample: Resample, target: tuple[int, int]
) -> None:
    preprocessor = Preprocessor(target, "squash", resample)
    references = (
        transformers_processor(target, resample),
        open_clip_transform(
            target, mean=HALF, std=HALF, resize_mode="squash", interpolation=resample
        ),
    )
    for size in SIZES:
        image = picture(size, mode)
        ours = normalise(preprocessor(image)[None], mean=HALF, std=HALF)[0]
        for reference in references:
            assert worst(ours, reference(image)) <= SIGLIP_TOLERANCE, size


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@pytest.mark.parametrize("target", [256, 33])
def test_mobileclips_pixels_are_those_of_open_clip(
    target: int, resample: Resample, mode: str
) -> None:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    mean, std = OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    preprocessor = Preprocessor((target, target), "shortest-side-crop", resample)
    reference = open_clip_transform(
        target, mean=mean, std=std, resize_mode="shortest", interpolation=resample
    )
    for size in SIZES:
        image = picture(size, mode)
        ours = normalise(preprocessor(image)[None], mean=mean, std=std)[0]
        assert worst(ours, reference(image)) <= CLIP_TOLERANCE, size


@pytest.mark.parametrize("offset", [(0, 1), (1, 0)])
def test_a_crop_that_is_off_by_one_pixel_would_be_seen(offset: tuple[int, int]) -> None:
    # A control for the comparison above.
    image = picture((640, 427)) if offset[0] else picture((427, 640))
    shifted = image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, offset[0], 0, 1, offset[1])
    )
    preprocessor = Preprocessor((256, 256), "shortest-side-crop", "bilinear")
    ours = normalise(preprocessor(shifted)[None], mean=HALF, std=HALF)[0]
    reference = open_clip_transform(
        256, mean=HALF, std=HALF, resize_mode="shortest", interpolation="bilinear"
    )
    assert worst(ours, reference(image)) > 0.01


def stored(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def levels(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the 8-bit levels, shape (height, width, 3), that normalised pixels came from."""
    return np.rint((values * 0.5 + 0.5) * 255).astype(np.int64).transpose(1, 2, 0)


def transparent(mode: str) -> Image.Image:
    image = picture((200, 150), mode[:-1])
    image.putalpha(picture((150, 200), "L").resize((200, 150)))
    assert image.mode == mode
    return image


FILES: dict[str, Any] = {
    "greyscale": lambda: stored(picture((200, 150), "L"), "PNG"),
    "one bit": lambda: stored(picture((200, 150), "1"), "PNG"),
    "palette": lambda: stored(picture((200, 150), "P"), "PNG"),
    "palette, one colour transparent": lambda: stored(
        picture((200, 150), "P"), "PNG", transparency=7
    ),
    "palette, all translucent": lambda: stored(
        picture((200, 150), "P"), "PNG", transparency=bytes(range(256))
    ),
    "greyscale and alpha": lambda: stored(transparent("LA"), "PNG"),
    "colour and alpha": lambda: stored(transparent("RGBA"), "PNG"),
    "colour and alpha, WebP": lambda: stored(
        transparent("RGBA"), "WEBP", lossless=True, exact=True
    ),
    "one transparent colour": lambda: stored(
        picture((200, 150)), "PNG", transparency=picture((200, 150)).getpixel((3, 3))
    ),
    "CMYK, JPEG": lambda: stored(picture((200, 150), "CMYK"), "JPEG"),
    "CMYK, TIFF": lambda: stored(picture((200, 150), "CMYK"), "TIFF"),
    "YCbCr, TIFF": lambda: stored(picture((200, 150), "YCbCr"), "TIFF"),
    "16 bits, of which 8 are used": lambda: stored(
        Image.fromarray(np.asarray(picture((200, 150), "L")).astype(np.uint16)), "PNG"
    ),
}


def through_our_decoder(file: io.BytesIO) -> NDArray[np.uint8]:
    image = decode(file, limits=DecodeLimits()).image
    file.seek(0)
    return Preprocessor((64, 64), "squash", "bicubic")(image)


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_mode_are_what_transformers_makes_of_them(name: str) -> None:
    file = FILES[name]()
    ours = through_our_decoder(file)
    theirs = levels(transformers_processor((64, 64), "bicubic")(Image.open(file)))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "at_least", "at_most"),
    [
        ("greyscale", 0, 0),
        ("CMYK, JPEG", 0, 1),  # resized in CMYK, rounded there, then converted
        ("YCbCr, TIFF", 0, 3),
        ("palette", 10, 255),  # resized without a filter, as numbers of a palette must be
        ("one bit", 100, 255),
        ("colour and alpha", 100, 255),  # what lies under the transparency comes to light
        ("greyscale and alpha", 100, 255),
    ],
)
def test_open_clip_differs_where_it_resizes_before_it_converts(
    name: str, at_least: int, at_most: int
) -> None:
    file = FILES[name]()
    ours = through_our_decoder(file).astype(np.int64)
    theirs = levels(
        open_clip_transform(64, mean=HALF, std=HALF, resize_mode="squash", interpolation="bicubic")(
            Image.open(file)
        )
    )
    assert at_least <= np.abs(ours - theirs).max() <= at_most


@pytest.mark.parametrize("bits", [12, 16])
def test_greyscale_of_more_than_8_bits_is_white_for_the_references_and_a_picture_for_us(
    bits: int,
) -> None:
    grey = picture((200, 150), "L")
    deep = np.asarray(grey).astype(np.uint16) << (bits - 8)
    file = stored(Image.fromarray(deep), "PNG")
    ours = through_our_decoder(file)
    theirs = levels(transformers_processor((64, 64), "bicubic")(Image.open(file)))
    as_8_bit = levels(transformers_processor((64, 64), "bicubic")(grey))
    assert np.array_equal(ours, as_8_bit)
    assert (theirs == 255).mean() > 0.9


def test_greyscale_in_floating_point_is_black_for_the_references_and_a_picture_for_us() -> None:
    grey = picture((200, 150), "L")
    file = stored(Image.fromarray(np.asarray(grey).astype(np.float32) / 255), "TIFF")
    ours = through_our_decoder(file)
    theirs = levels(transformers_processor((64, 64), "bicubic")(Image.open(file)))
    as_8_bit = levels(transformers_processor((64, 64), "bicubic")(grey))
    assert np.abs(ours - as_8_bit).max() <= 1
    assert theirs.max() <= 1
