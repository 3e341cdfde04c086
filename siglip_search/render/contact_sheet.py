"""Hits as one picture: a row a query, with what the model said beneath each thumbnail."""

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

    from siglip_search.search.ranking import Hit

TILE = 168
CAPTION = 22
HEADING = 34
MARGIN = 14

_PAPER = (250, 250, 248)
_INK = (34, 34, 34)
_FAINT = (120, 120, 120)
_EMPTY = (232, 232, 228)


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A query and its hits.

    Attributes:
        query: What was asked.
        hits: Best first; none when nothing matched.
    """

    query: str
    hits: Sequence[Hit]


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
    row_height = HEADING + TILE + CAPTION
    sheet = Image.new("RGB", (width, MARGIN + HEADING + len(rows) * (row_height + MARGIN)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(19), ImageFont.load_default(14)
    draw.text((MARGIN, MARGIN), title, _FAINT, large)
    for index, row in enumerate(rows):
        top = MARGIN + HEADING + index * (row_height + MARGIN)
        draw.text((MARGIN, top + 6), row.query, _INK, large)
        if not row.hits:
            draw.text((MARGIN, top + HEADING + 10), "nothing matches", _FAINT, large)
        for column, hit in enumerate(row.hits[:columns]):
            left = MARGIN + column * (TILE + MARGIN)
            _paste(sheet, hit.path, left, top + HEADING)
            caption = f"{hit.cosine:.3f}" if hit.probability is None else f"{hit.probability:.0%}"
            draw.text((left + 2, top + HEADING + TILE + 3), caption, _INK, small)
    sheet.save(path)


def _paste(sheet: Image.Image, path: str, left: int, top: int) -> None:
    ImageDraw.Draw(sheet).rectangle((left, top, left + TILE - 1, top + TILE - 1), _EMPTY)
    try:
        picture = thumbnail(os.fsencode(path), (TILE, TILE), DecodeLimits())
    except (UnreadablePictureError, OSError):
        return  # gone or changed since it was indexed: its tile stays empty
    offset = (left + (TILE - picture.width) // 2, top + (TILE - picture.height) // 2)
    sheet.paste(picture, offset)
