"""The contact sheet shows what was found, and an empty tile for what has gone since."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from siglip_search.render.contact_sheet import (
    HEADING,
    MARGIN,
    TILE,
    SheetRow,
    Tile,
    save_contact_sheet,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_pictures_stand_in_their_tiles_in_their_order(tmp_path: Path) -> None:
    rows = []
    for name in ("red", "blue"):
        Image.new("RGB", (400, 400), name).save(tmp_path / f"{name}.png")
        rows.append(Tile(str(tmp_path / f"{name}.png"), "90%"))
    sheet_path = tmp_path / "sheet.png"
    save_contact_sheet([SheetRow("what", rows)], sheet_path, title="a title")
    with Image.open(sheet_path) as sheet:
        middle = MARGIN + HEADING + HEADING + TILE // 2
        assert sheet.getpixel((MARGIN + TILE // 2, middle)) == (255, 0, 0)
        assert sheet.getpixel((2 * MARGIN + TILE + TILE // 2, middle)) == (0, 0, 255)


def test_picture_that_is_gone_leaves_its_tile_empty(tmp_path: Path) -> None:
    sheet_path = tmp_path / "sheet.png"
    rows = [SheetRow("what", [Tile(str(tmp_path / "gone.png"), "90%")]), SheetRow("nothing", [])]
    save_contact_sheet(rows, sheet_path, title="a title")
    assert sheet_path.stat().st_size > 0
