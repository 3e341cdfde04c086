"""The contact sheet shows what was found, and an empty tile for what has gone since."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageChops

from siglip_search.render import contact_sheet
from siglip_search.render.caption_font import CaptionFont
from siglip_search.render.contact_sheet import (
    CAPTION,
    HEADING,
    MARGIN,
    NAME,
    TILE,
    SheetRow,
    Tile,
    save_contact_sheet,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FIRST_ROW = MARGIN + HEADING + HEADING


@pytest.fixture
def tiles(tmp_path: Path) -> list[Tile]:
    made = []
    for name in ("red", "blue", "lime"):
        Image.new("RGB", (400, 400), name).save(tmp_path / f"{name}.png")
        made.append(Tile(str(tmp_path / f"{name}.png"), "90%"))
    return made


def sheet(rows: Sequence[SheetRow], path: Path, **options: int) -> Image.Image:
    save_contact_sheet(rows, path, title="a title", **options)
    with Image.open(path) as image:
        image.load()
    return image


def test_pictures_stand_in_their_tiles_in_their_order(tmp_path: Path, tiles: list[Tile]) -> None:
    drawn = sheet([SheetRow("what", tiles)], tmp_path / "sheet.png")
    middle = FIRST_ROW + TILE // 2
    assert drawn.getpixel((MARGIN + TILE // 2, middle)) == (255, 0, 0)
    assert drawn.getpixel((2 * MARGIN + TILE + TILE // 2, middle)) == (0, 0, 255)


def test_more_than_a_row_go_below(tmp_path: Path, tiles: list[Tile]) -> None:
    named = [Tile(tile.path, tile.caption, "a name") for tile in tiles]
    drawn = sheet([SheetRow("what", named)], tmp_path / "sheet.png", columns=2)
    below = FIRST_ROW + TILE + CAPTION + NAME + MARGIN + TILE // 2
    assert drawn.getpixel((MARGIN + TILE // 2, below)) == (0, 255, 0)
    assert drawn.width == MARGIN + 2 * (TILE + MARGIN)
    assert drawn.height == FIRST_ROW + 2 * (TILE + CAPTION + NAME + MARGIN)


def test_picture_that_is_gone_leaves_its_tile_empty(tmp_path: Path) -> None:
    rows = [SheetRow("what", [Tile(str(tmp_path / "gone.png"), "90%")]), SheetRow("nothing", [])]
    drawn = sheet(rows, tmp_path / "sheet.png")
    assert drawn.getpixel((MARGIN + TILE // 2, FIRST_ROW + TILE // 2)) == (232, 232, 228)


def test_very_many_are_cut_off(
    tmp_path: Path, tiles: list[Tile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "MAX_TILES", 4)
    path = tmp_path / "sheet.png"
    rows = [SheetRow("one", tiles), SheetRow("two", tiles)]
    assert save_contact_sheet(rows, path, title="", columns=3) == 4


def test_long_captions_keep_within_their_tile(tmp_path: Path, tiles: list[Tile]) -> None:
    path = tmp_path / "sheet.png"
    long = Tile(tiles[0].path, "W" * 200, "a very long name " * 20)
    one = sheet([SheetRow("x", [long, tiles[1]])], path)
    two = sheet([SheetRow("x", [Tile(long.path, "W", "a"), tiles[1]])], path)
    beside = (MARGIN + TILE, FIRST_ROW, one.width, one.height)
    assert ImageChops.difference(one.crop(beside), two.crop(beside)).getbbox() is None


@pytest.mark.parametrize("text", ["Übung 日本語 😀", "\ud800", "a\N{COMBINING ACUTE ACCENT}", ""])
def test_any_text_is_drawn_somehow(text: str) -> None:
    from PIL import ImageDraw

    canvas = Image.new("RGB", (100, 20), "white")
    CaptionFont(14).draw(ImageDraw.Draw(canvas), (0, 0), text, (0, 0, 0), 90)
    assert (canvas.getextrema() != ((255, 255),) * 3) == bool(text)
