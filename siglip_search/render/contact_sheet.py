"""Answers as one picture: thumbnails in rows under each question, with captions beneath them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from siglip_index.durable_files import write_durably
from siglip_search.photos.thumbnails import thumbnails
from siglip_search.render.caption_font import CaptionFont

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

GENERATOR: Final = "siglip-search contact sheet"
"""Stands at the beginning of each sheet, by which it is known again."""

TILE: Final = 168
CAPTION: Final = 22
NAME: Final = 18
HEADING: Final = 34
MARGIN: Final = 14
MAX_TILES: Final = 1200
"""Most thumbnails on a drawn sheet: with these it has 45 megapixels."""

_PAPER: Final = (250, 250, 248)
_INK: Final = (34, 34, 34)
_FAINT: Final = (120, 120, 120)
_EMPTY: Final = (232, 232, 228)
_TITLE_SIZE, _CAPTION_SIZE, _NAME_SIZE = 19, 14, 12


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture with a few words beneath it.

    Attributes:
        path: Absolute path, as os.fsdecode gives it.
        caption: Short: the probability, say.
        name: Of the picture, in printable characters; "" to leave it out.
        details: What else is told of the picture, in printable characters, where there is room.
    """

    path: str
    caption: str
    name: str = ""
    details: tuple[str, ...] = ()


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
) -> int:
    """Draw the rows and write them to a PNG file; a former one is replaced once it is whole.

    Args:
        rows: From top to bottom; of all together, the first `MAX_TILES` tiles are drawn.
        path: Where to write, such as sheet.png.
        title: Stands above everything.
        columns: Thumbnails side by side, > 0; further ones go below them.

    Returns:
        How many tiles were drawn.

    Raises:
        OSError: The file cannot be written.
        WorkerError: The decoding processes cannot be started.
    """
    rows = _limited(rows)
    paths = [tile.path for row in rows for tile in row.tiles]
    with closing(thumbnails(paths, (TILE, TILE))) as pictures:
        sheet = _drawn(rows, pictures, title, columns)
    facts = PngInfo()
    facts.add_text("Software", GENERATOR)
    write_durably(path, lambda file: sheet.save(file, "PNG", pnginfo=facts))
    return len(paths)


def _drawn(
    rows: Sequence[SheetRow], pictures: Iterator[Image.Image | None], title: str, columns: int
) -> Image.Image:
    width = MARGIN + columns * (TILE + MARGIN)
    height = MARGIN + HEADING + sum(_height(row, columns) for row in rows)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = CaptionFont(_TITLE_SIZE), CaptionFont(_CAPTION_SIZE)
    tiny = CaptionFont(_NAME_SIZE)
    large.draw(draw, (MARGIN, MARGIN), title, _FAINT, width - 2 * MARGIN)
    top = MARGIN + HEADING
    for row in rows:
        large.draw(draw, (MARGIN, top + 6), row.heading, _INK, width - 2 * MARGIN)
        if not row.tiles:
            small.draw(draw, (MARGIN, top + HEADING), "nothing matches", _FAINT, width)
        for place, tile in enumerate(row.tiles):
            line, column = divmod(place, columns)
            left = MARGIN + column * (TILE + MARGIN)
            upper = top + HEADING + line * _line_height(row)
            _paste(sheet, next(pictures), left, upper)
            small.draw(draw, (left + 2, upper + TILE + 3), tile.caption, _INK, TILE - 2)
            tiny.draw(draw, (left + 2, upper + TILE + CAPTION), tile.name, _FAINT, TILE - 2)
        top += _height(row, columns)
    return sheet


def _limited(rows: Sequence[SheetRow]) -> list[SheetRow]:
    limited, room = [], MAX_TILES
    for row in rows:
        limited.append(SheetRow(row.heading, row.tiles[:room]))
        room -= len(limited[-1].tiles)
    return limited


def _height(row: SheetRow, columns: int) -> int:
    lines = -(-len(row.tiles) // columns)
    return HEADING + (lines * _line_height(row) if lines else CAPTION + MARGIN)


def _line_height(row: SheetRow) -> int:
    named = any(tile.name for tile in row.tiles)
    return TILE + CAPTION + (NAME if named else 0) + MARGIN


def _paste(sheet: Image.Image, picture: Image.Image | None, left: int, top: int) -> None:
    ImageDraw.Draw(sheet).rectangle((left, top, left + TILE - 1, top + TILE - 1), _EMPTY)
    if picture is None:
        return  # gone or changed since it was indexed: its tile stays empty
    offset = (left + (TILE - picture.width) // 2, top + (TILE - picture.height) // 2)
    sheet.paste(picture, offset)
