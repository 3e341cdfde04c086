"""Edits of a picture are recognised; pictures that differ in one place are not taken for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageDraw

from siglip_search import demo
from siglip_search.search.near_duplicates import Thumbnail, Thumbnailer, likeness

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

GALLERY = demo.gallery_directory()
PICTURES = ("IMG_0685.jpg", "DSC00092.jpg", "P0002695.jpg")

# Each is found in at least so many of the three pictures; docs/duplicates.md has the shares.
CERTAIN = (
    "resized to a half",
    "recompressed, quality 30",
    "cropped 5% at one side",
    "cropped 5% at each side",
    "straightened by 2 degrees",
    "brighter by 15%",
    "contrast up by 40%",
    "warmer",
    "black and white",
    "sepia",
    "mirrored",
    "turned by 90 degrees",
    "turned by 180 degrees",
    "turned by 270 degrees",
    "turned by 90, cropped 5%",
)


def opened(name: str) -> Image.Image:
    (path,) = GALLERY.rglob(name)
    with Image.open(path) as image:
        return image.convert("RGB")


def thumbnail(image: Image.Image) -> Thumbnail:
    return Thumbnail(Thumbnailer()(image).tobytes())


@pytest.mark.parametrize("edit", CERTAIN)
@pytest.mark.parametrize(
    "name", [PICTURES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in PICTURES[1:])]
)
def test_an_edit_is_recognised_in_either_direction(
    duplicate_material: ModuleType, name: str, edit: str
) -> None:
    image = opened(name)
    one, other = thumbnail(image), thumbnail(duplicate_material.EDITS[edit](image))
    assert likeness(one, other) is not None
    assert likeness(other, one) is not None


def test_likeness_says_what_was_done(duplicate_material: ModuleType) -> None:
    image = opened(PICTURES[0])
    original = thumbnail(image)
    same = likeness(original, original)
    assert same is not None
    assert same.score == 1.0
    assert same.second_adds_nothing
    turned = likeness(original, thumbnail(image.transpose(Image.Transpose.ROTATE_90)))
    assert turned is not None
    assert turned.turn is Image.Transpose.ROTATE_270
    assert not turned.second_adds_nothing
    crop = thumbnail(duplicate_material.EDITS["cropped 10% at each side"](image))
    cropped, widened = likeness(original, crop), likeness(crop, original)
    assert cropped is not None
    assert widened is not None
    assert cropped.in_second == pytest.approx(0.64, abs=0.03)
    assert cropped.second_adds_nothing
    assert not widened.second_adds_nothing
    grey = likeness(original, thumbnail(image.convert("L")))
    assert grey is not None
    assert grey.recoloured > 6
    assert not grey.second_adds_nothing


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_drawings_of_the_gallery_are_all_different(every: int) -> None:
    files = sorted(GALLERY.rglob("*.*"))
    pictures = [path for path in files if path.suffix in {".jpg", ".png", ".webp"}][::every]
    thumbnails = [thumbnail(opened(path.name)) for path in pictures]
    assert len(thumbnails) > 80 // every
    alike = [
        (pictures[first].name, pictures[second].name)
        for first in range(len(thumbnails))
        for second in range(first)
        if likeness(thumbnails[first], thumbnails[second]) is not None
    ]
    assert alike == []


def test_screenshots_with_other_words_are_different(duplicate_material: ModuleType) -> None:
    drawn = [duplicate_material.conversation(seed) for seed in range(3)]
    screens = [thumbnail(screen) for screen in drawn]
    for first in range(3):
        for second in range(first):
            assert likeness(screens[first], screens[second]) is None
    for seed, screen in enumerate(drawn):
        changed = duplicate_material.with_another_message(screen, seed)
        assert likeness(screens[seed], thumbnail(changed)) is None


def test_frames_with_another_face_are_different(duplicate_material: ModuleType) -> None:
    for seed, name in enumerate(PICTURES):
        one, other = duplicate_material.burst_frames(opened(name), seed, 0.2)
        assert likeness(thumbnail(one), thumbnail(other)) is None


def test_somebody_who_came_in_makes_another_picture(duplicate_material: ModuleType) -> None:
    for seed, name in enumerate(PICTURES):
        scene = opened(name)
        changed = duplicate_material.with_something(scene, seed, 0.12)
        assert likeness(thumbnail(scene), thumbnail(changed)) is None


def test_thing_of_another_colour_and_the_same_brightness_is_another_thing() -> None:
    scene = Image.new("RGB", (300, 200), (120, 150, 120))
    pen = ImageDraw.Draw(scene)
    for x in range(0, 300, 40):
        pen.rectangle((x, 120, x + 20, 190), fill=(60, 80, 60))
    red, blue = scene.copy(), scene.copy()
    ImageDraw.Draw(red).ellipse((120, 30, 190, 100), fill=(200, 30, 30))
    # 0.299 R + 0.587 G + 0.114 B is 80.8 in both.
    ImageDraw.Draw(blue).ellipse((120, 30, 190, 100), fill=(40, 70, 244))
    assert likeness(thumbnail(red), thumbnail(blue)) is None


def test_only_bright_thing_of_a_dark_picture_may_not_have_any_colour() -> None:
    random = np.random.default_rng(4)
    night = Image.new("RGB", (320, 240), (6, 6, 8))
    pen = ImageDraw.Draw(night)
    for x, y in random.integers(5, 225, (90, 2)).tolist():
        pen.ellipse((x, y, x + 3, y + 3), fill=(90, 90, 100))
    pictures = []
    for fill in ((140, 150, 60), (198, 112, 95)):  # of one brightness
        picture = night.copy()
        ImageDraw.Draw(picture).ellipse((230, 60, 270, 110), fill=fill)
        pictures.append(thumbnail(picture))
    assert likeness(*pictures) is None


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_of_pictures_that_show_nothing_nothing_is_said(shade: int) -> None:
    blank = Image.new("RGB", (200, 100), (shade, shade, shade))
    noisy = np.asarray(blank, dtype=np.int16)
    noisy = noisy + np.random.default_rng(0).integers(-3, 4, noisy.shape)
    other = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    assert likeness(thumbnail(blank), thumbnail(blank)) is None
    assert likeness(thumbnail(blank), thumbnail(other)) is None


def test_where_something_speaks_against_it_only_what_did_not_move_is_believed(
    duplicate_material: ModuleType,
) -> None:
    image = opened(PICTURES[0])
    crop = thumbnail(duplicate_material.EDITS["cropped 5% at each side"](image))
    smaller = thumbnail(duplicate_material.EDITS["resized to a half"](image))
    assert likeness(thumbnail(image), crop, strict=True) is None
    assert likeness(thumbnail(image), smaller, strict=True) is not None


@pytest.mark.shared_data
def test_two_views_of_a_stereo_pair_are_two_photographs(shared_data: Path) -> None:
    views = []
    for side in ("left", "right"):
        with Image.open(shared_data / "photos" / "skimage" / f"motorcycle_{side}.png") as image:
            views.append(thumbnail(image.convert("RGB")))
    assert likeness(*views) is None


def test_what_is_no_thumbnail_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="identify"):
        Thumbnail(b"nothing of the kind")
    larger = tmp_path / "larger.jpg"
    opened(PICTURES[0]).save(larger)
    with pytest.raises(OSError, match="pixels"):
        Thumbnail(larger.read_bytes())
