"""Maps over pictures, looked at again as pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from siglip_search.render.heatmap import draw_heatmap

GREY = (128, 128, 128)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def drawn(differences: list[list[float]], region: tuple[float, ...] = WHOLE) -> np.ndarray:
    picture = Image.new("RGB", (400, 200), GREY)
    sheet = draw_heatmap(picture, np.array(differences), region, ("a caption",))  # type: ignore[arg-type]
    assert sheet.mode == "RGB"
    assert sheet.width == 400
    assert sheet.height > 200
    return np.asarray(sheet).astype(int)


def test_what_raises_is_orange_and_what_lowers_is_blue() -> None:
    pixels = drawn([[2.0, 0.0, 0.0, -1.0]])
    left, middle, right = pixels[100, 20], pixels[100, 200], pixels[100, 380]
    assert left[0] > left[1] > left[2]
    assert right[2] > right[1] > right[0]
    assert tuple(middle) == GREY
    # Half as strong, half as opaque.
    assert abs(left - GREY).max() > 1.5 * abs(right - GREY).max()


def test_beside_the_region_it_is_dark_and_the_cells_are_inside() -> None:
    pixels = drawn([[1.0]], region=(0.25, 0.0, 0.75, 1.0))
    assert pixels[100, 50].max() < 64
    assert pixels[100, 350].max() < 64
    inside = pixels[100, 200]
    assert inside[0] > 180 > inside[2]


def test_without_any_difference_the_picture_stays_as_it_is() -> None:
    pixels = drawn([[0.0, 0.0], [0.0, 0.0]])
    assert (pixels[:200] == 128).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 768), (768, 2)])
def test_a_strip_of_a_picture_is_drawn(size: tuple[int, int]) -> None:
    region = (0.4, 0.0, 0.6, 1.0)
    sheet = draw_heatmap(Image.new("RGB", size), np.ones((3, 3)), region, ("dog", "by occlusion"))
    assert sheet.width >= size[0]
    assert sheet.height > size[1]


def test_a_long_caption_and_foreign_letters_do_no_harm() -> None:
    picture = Image.new("RGB", (40, 40), GREY)
    sheet = draw_heatmap(picture, np.ones((2, 2)), WHOLE, ("狗在沙滩上 " * 80,))
    assert sheet.width == 320
