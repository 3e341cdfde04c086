from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from photos.drawn_pictures import difference, quarters
from PIL import ExifTags, Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.thumbnails import thumbnail, thumbnails

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


def test_many_come_in_their_order_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    paths = []
    for number in range(30):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (60, 30 + number), (number, 0, 0)).save(paths[-1])
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_text("text")
    found = list(thumbnails(paths, (20, 20)))
    assert [place for place, picture in enumerate(found) if picture is None] == [3, 4]
    for place, picture in enumerate(found):
        if picture is not None:
            assert max(picture.size) == 20
            assert picture.getpixel((5, 5)) == (place, 0, 0)


def test_a_picture_that_has_become_a_trap_costs_its_own_thumbnail_only(tmp_path: Path) -> None:
    # One bit a pixel in the file, and three bytes in memory: 675 MB.
    Image.new("1", (15_000, 15_000)).save(tmp_path / "trap.png")
    quarters(300, 200).save(tmp_path / "a.png")
    paths = [str(tmp_path / name) for name in ("trap.png", "a.png")]
    limits = DecodeLimits(max_memory_bytes=300 << 20)
    trap, picture = thumbnails(paths, (30, 30), limits=limits)
    assert picture is not None
    assert trap is None or os.name == "nt" or sys.platform == "darwin"


def test_when_time_is_up_what_is_not_done_is_left_out(tmp_path: Path) -> None:
    quarters(300, 200).save(tmp_path / "a.png")
    assert list(thumbnails([str(tmp_path / "a.png")] * 3, (30, 30), seconds=0)) == [None] * 3


def test_decoding_is_done_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("it was decoded in this process")

    quarters(300, 200).save(tmp_path / "a.jpg")
    monkeypatch.setattr(Image.Image, "load", refuse)
    (picture,) = thumbnails([str(tmp_path / "a.jpg")], (30, 30))
    assert picture is not None
    assert picture.size == (30, 20)
