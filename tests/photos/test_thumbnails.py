from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from photos.drawn_pictures import difference, quarters
from PIL import ExifTags, Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.thumbnails import thumbnail

if TYPE_CHECKING:
    from pathlib import Path


def test_thumbnail_fits_the_box_and_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = quarters(1200, 800).transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    small = thumbnail(os.fsencode(tmp_path / "a.jpg"), (120, 120), DecodeLimits())
    assert difference(small, quarters(120, 80)) < 6


def test_thumbnail_is_never_enlarged(tmp_path: Path) -> None:
    quarters(30, 20).save(tmp_path / "a.png")
    path = os.fsencode(tmp_path / "a.png")
    assert thumbnail(path, (120, 120), DecodeLimits()).size == (30, 20)


def test_missing_and_broken_pictures_raise(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        thumbnail(os.fsencode(tmp_path / "a.png"), (10, 10), DecodeLimits())
    (tmp_path / "b.png").write_text("text")
    with pytest.raises(UnreadablePictureError):
        thumbnail(os.fsencode(tmp_path / "b.png"), (10, 10), DecodeLimits())
