"""Pictures become pixels, and pixels become what a tower reads."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from siglip_search.towers.preprocess import Preprocessor, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = [(1, 1), (1, 500), (333, 7), (64, 48), (48, 64), (97, 101), (256, 257), (640, 427)]


def picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    width, height = size
    generator = np.random.default_rng(width * 1000 + height)
    coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    noise = generator.integers(-20, 21, (height, width, 3))
    pixels = np.clip(np.asarray(smooth).astype(int) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("size", SIZES)
def test_squash_is_pillows_bicubic_resize_of_rgb(size: tuple[int, int]) -> None:
    # Transformers' PIL SigLIP processor: convert, resize to (height, width), no crop.
    image = picture(size)
    expected = np.array(image.convert("RGB").resize((64, 48), resample=3))
    pixels = Preprocessor((48, 64), "squash", "bicubic")(image)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "I;16", "YCbCr"])
def test_other_modes_are_converted_before_they_are_resized(mode: str) -> None:
    image = picture((90, 70)).convert("L").convert(mode) if mode == "I;16" else None
    image = image or picture((90, 70), mode)
    expected = np.array(image.convert("RGB").resize((48, 48), resample=2))
    assert np.array_equal(Preprocessor((48, 48), "squash", "bilinear")(image), expected)


def crop_reference(image: Image.Image, target: int) -> NDArray[np.uint8]:
    """torchvision's Resize(target) and CenterCrop(target), written from its documentation."""
    width, height = image.size
    short, long = sorted((width, height))
    new_long = int(target * long / short)
    new_width, new_height = (target, new_long) if width == short else (new_long, target)
    pixels = np.array(image.resize((new_width, new_height), resample=2))
    top = round((new_height - target) / 2.0)
    left = round((new_width - target) / 2.0)
    return pixels[top : top + target, left : left + target]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", [48, 33])
def test_the_shortest_side_is_resized_and_the_middle_is_cut_out(
    size: tuple[int, int], target: int
) -> None:
    image = picture(size)
    pixels = Preprocessor((target, target), "shortest-side-crop", "bilinear")(image)
    assert pixels.shape == (target, target, 3)
    assert np.array_equal(pixels, crop_reference(image, target))


def test_the_filter_matters() -> None:
    image = picture((640, 427))
    bilinear = Preprocessor((48, 48), "squash", "bilinear")(image)
    bicubic = Preprocessor((48, 48), "squash", "bicubic")(image)
    assert not np.array_equal(bilinear, bicubic)


def test_the_picture_itself_is_left_alone() -> None:
    image = picture((48, 48))
    before = image.tobytes()
    Preprocessor((48, 48), "squash", "bicubic")(image)
    assert image.tobytes() == before


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
)
def test_normalising_equals_its_formula(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    every = np.arange(256, dtype=np.uint8)
    pixels = np.stack([every, every[::-1], np.roll(every, 7)], axis=-1).reshape(1, 16, 16, 3)
    pixels = np.concatenate([pixels, pixels[:, ::-1]])
    values = normalise(pixels, mean=mean, std=std)
    expected = (pixels.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert values.shape == (2, 3, 16, 16)
    assert np.abs(values - expected.transpose(0, 3, 1, 2)).max() < 1e-6


def test_normalising_nothing_gives_nothing() -> None:
    pixels = np.empty((0, 8, 8, 3), dtype=np.uint8)
    assert normalise(pixels, mean=(0.5,) * 3, std=(0.5,) * 3).shape == (0, 3, 8, 8)


def test_a_preprocessor_can_be_sent_to_another_process() -> None:
    preprocessor = Preprocessor((48, 48), "squash", "bicubic")
    assert pickle.loads(pickle.dumps(preprocessor)) == preprocessor


def test_a_decoding_worker_loads_pillow_and_numpy_only() -> None:
    code = (
        "import pickle, sys\n"
        "pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "heavy = {'onnxruntime', 'sentencepiece', 'huggingface_hub', 'faiss', 'rich', 'click',\n"
        "         'sqlite_utils', 'pillow_heif'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    pickled = pickle.dumps(Preprocessor((48, 48), "squash", "bicubic")).hex()
    done = subprocess.run(
        [sys.executable, "-c", code, pickled], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
