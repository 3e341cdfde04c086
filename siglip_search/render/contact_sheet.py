"""Answers as one picture: a row a question, with a caption beneath each thumbnail."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.thumbnails import thumbnail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TILE = 168
CAPTION = 22
HEADING = 34
MARGIN = 14

_PAPER = (250, 250, 248)
_INK = (34, 34, 34)
_FAINT = (120, 120, 120)
_EMPTY = (232, 232, 228)


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture with a few words beneath it.

    Attributes:
        path: Absolute path, as os.fsdecode gives it.
        caption: Short: the probability, say.
    """

    path: str
    caption: str


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A question and its answer.

    Attributes:
        heading: What was asked.
        tiles: Best first; none when nothing matched.
    """

    heading: str
    tiles: Sequence[Tile]


def save_contact_sheet(
    rows: Sequence[SheetRow], path: Path, *, title: str, columns: int = 6
) -> None:
    """Draw the rows and write them to a file, whose suffix names the format.

    Args:
        rows: From top to bottom.
        path: Where to write, such as sheet.png.
        title: Stands above everything.
        columns: Thumbnails a row, > 0; further hits are left out.

    Raises:
        OSError: The file cannot be written.
    """
    width = MARGIN + columns * (TILE + MARGIN)
    height = MARGIN + HEADING + sum(_height(row) for row in rows)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(19), ImageFont.load_default(14)
    draw.text((MARGIN, MARGIN), title, _FAINT, large)
    top = MARGIN + HEADING
    for row in rows:
        draw.text((MARGIN, top + 6), row.heading, _INK, large)
        if not row.tiles:
            draw.text((MARGIN, top + HEADING), "nothing matches", _FAINT, small)
        for column, tile in enumerate(row.tiles[:columns]):
            left = MARGIN + column * (TILE + MARGIN)
            _paste(sheet, tile.path, left, top + HEADING)
            draw.text((left + 2, top + HEADING + TILE + 3), tile.caption, _INK, small)
        top += _height(row)
    sheet.save(path)


def _height(row: SheetRow) -> int:
    return HEADING + (TILE if row.tiles else 0) + CAPTION + MARGIN


def _paste(sheet: Image.Image, path: str, left: int, top: int) -> None:
    ImageDraw.Draw(sheet).rectangle((left, top, left + TILE - 1, top + TILE - 1), _EMPTY)
    try:
        picture = thumbnail(os.fsencode(path), (TILE, TILE), DecodeLimits())
    except (UnreadablePictureError, OSError):
        return  # gone or changed since it was indexed: its tile stays empty
    offset = (left + (TILE - picture.width) // 2, top + (TILE - picture.height) // 2)
    sheet.paste(picture, offset)
