"""What a thumbnail does not show is seen at four times its size; edits stay the same picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.search.closer_look import CLOSE_SIDE, close_side, same_in_detail
from siglip_search.search.near_duplicates import Thumbnail, Thumbnailer, likeness

if TYPE_CHECKING:
    from types import ModuleType

    from PIL import Image

LOSSY = (
    "resized to a half",
    "recompressed, quality 30",
    "cropped 5% at one side",
    "cropped 5% at each side",
)


def close(image: Image.Image) -> bytes:
    return Thumbnailer(CLOSE_SIDE)(image).tobytes()


def coarse(image: Image.Image) -> Thumbnail:
    return Thumbnail(Thumbnailer()(image).tobytes())


@pytest.mark.parametrize("seed", range(3))
def test_form_with_another_number_is_another_picture(
    duplicate_material: ModuleType, seed: int
) -> None:
    one = duplicate_material.form(seed, "2026-004711")
    other = duplicate_material.form(seed, "2026-004717")
    like = likeness(coarse(one), coarse(other))
    assert like is not None
    assert like.second_adds_nothing  # So a closer look is needed.
    assert not same_in_detail(close(one), close(other), CLOSE_SIDE)


@pytest.mark.parametrize("edit", LOSSY)
def test_poorer_and_cropped_copies_are_the_same(duplicate_material: ModuleType, edit: str) -> None:
    for image in (duplicate_material.form(1, "2026-004711"), duplicate_material.conversation(1)):
        edited = duplicate_material.EDITS[edit](image)
        side = close_side(*image.size, *edited.size)
        assert same_in_detail(close(image), close(edited), side)


def test_small_face_that_changed_makes_another_picture(duplicate_material: ModuleType) -> None:
    scene = duplicate_material.form(2, "2026-004711")
    one, other = duplicate_material.burst_frames(scene, 3, 0.04)
    assert not same_in_detail(close(one), close(other), CLOSE_SIDE)


@given(st.lists(st.integers(1, 20_000), min_size=1))
def test_no_picture_is_enlarged_but_to_a_thumbnail(sides: list[int]) -> None:
    side = close_side(*sides)
    assert side in (128, 256, 512)
    assert side <= max(min(sides), 128)
    assert 2 * side > min(*sides, 1023)


def test_what_is_no_close_thumbnail_is_refused(duplicate_material: ModuleType) -> None:
    page = duplicate_material.form(0, "1")
    with pytest.raises(OSError, match="128"):
        same_in_detail(close(page), Thumbnailer()(page).tobytes(), CLOSE_SIDE)
