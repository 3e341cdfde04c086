"""Thumbnails in the terminal: strips of pictures side by side, with a caption beneath each."""

from __future__ import annotations

import time
import unicodedata
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from PIL import Image, ImageDraw

from siglip_search.photos.thumbnails import thumbnails
from siglip_search.render.terminal import Protocol
from siglip_search.render.terminal_image import image_sequence, pixel_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from siglip_search.render.contact_sheet import Tile
    from siglip_search.render.terminal import Terminal

# A half-block is a large pixel: with fewer of them nothing is recognised.
_PICTURE_COLUMNS: Final = 22
_BLOCKS_COLUMNS: Final = 26
_HEIGHT_BY_WIDTH: Final = 3 / 4
_LINES_KEPT: Final = 2
"""For the prompt, so that the first strip does not scroll away."""

TIME_LIMIT_SECONDS: Final = 10.0

_FAINT: Final = (128, 128, 128, 255)


class Grid(NamedTuple):
    """How many thumbnails a screen holds, and of which size.

    Attributes:
        across: Thumbnails side by side, > 0.
        down: Strips that a screen holds, > 0.
        columns: Width of a thumbnail in cells, without the gap behind it.
        lines: Height of a thumbnail in cells, without its caption.
    """

    across: int
    down: int
    columns: int
    lines: int


def grid(terminal: Terminal) -> Grid:
    """Return how thumbnails are laid out on a terminal."""
    wanted = _BLOCKS_COLUMNS if terminal.protocol is Protocol.BLOCKS else _PICTURE_COLUMNS
    across = max(1, (terminal.columns + 1) // (wanted + 1))
    columns = max(1, (terminal.columns + 1) // across - 1)
    width, height = pixel_size(terminal.protocol, columns, 1, terminal.cell)
    lines = max(1, min(round(width * _HEIGHT_BY_WIDTH / height), terminal.lines - _LINES_KEPT - 1))
    down = max(1, (terminal.lines - _LINES_KEPT) // (lines + 1))
    return Grid(across, down, columns, lines)


def previews(
    tiles: Sequence[Tile], terminal: Terminal, *, seconds: float = TIME_LIMIT_SECONDS
) -> Iterator[bytes]:
    """Yield strips for the terminal, of the first tiles as far as one screen holds them.

    The cursor must be in the first column, and is there again after each strip. A picture that is
    gone or damaged is a crossed frame.

    Args:
        tiles: Best first.
        terminal: Where they are shown.
        seconds: When so much time has passed, no further strip is begun, and what is not decoded
            by then is a crossed frame.

    Raises:
        WorkerError: The decoding processes cannot be started.
    """
    deadline = time.monotonic() + seconds
    layout = grid(terminal)
    tiles = tiles[: layout.across * layout.down]
    size = pixel_size(terminal.protocol, layout.columns, layout.lines, terminal.cell)
    paths = [tile.path for tile in tiles]
    with closing(thumbnails(paths, size, seconds=seconds)) as pictures:
        for start in range(0, len(tiles), layout.across):
            if time.monotonic() > deadline:
                return
            some = tiles[start : start + layout.across]
            yield _strip([(tile, next(pictures)) for tile in some], terminal, layout)


def fitted(text: str, columns: int) -> str:
    """Return text in just so many cells of a terminal: cut with an ellipsis, or padded."""
    if _cells(text) > columns:
        kept = ""
        for character in text:
            if _cells(kept + character) > columns - 1:
                break
            kept += character
        text = f"{kept}…"
    return text + " " * (columns - _cells(text))


def _strip(
    tiles: Sequence[tuple[Tile, Image.Image | None]], terminal: Terminal, layout: Grid
) -> bytes:
    columns = len(tiles) * (layout.columns + 1) - 1
    picture = Image.new(
        "RGBA", pixel_size(terminal.protocol, columns, layout.lines, terminal.cell), (0, 0, 0, 0)
    )
    size = pixel_size(terminal.protocol, layout.columns, layout.lines, terminal.cell)
    step, _ = pixel_size(terminal.protocol, layout.columns + 1, 1, terminal.cell)
    for place, (_, found) in enumerate(tiles):
        thumbnail = found or _crossed_frame(size)
        # At the bottom, next to its caption.
        picture.paste(thumbnail, (place * step, size[1] - thumbnail.height))
    sequence = image_sequence(
        picture,
        terminal.protocol,
        columns=columns,
        lines=layout.lines,
        true_colour=terminal.true_colour,
    )
    captions = [fitted(f"{tile.caption} {tile.name}".strip(), layout.columns) for tile, _ in tiles]
    return sequence + " ".join(captions).rstrip().encode(errors="replace") + b"\n"


def _crossed_frame(size: tuple[int, int]) -> Image.Image:
    frame = Image.new("RGBA", size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(frame)
    corner = (size[0] - 1, size[1] - 1)
    draw.rectangle((0, 0, *corner), outline=_FAINT)
    draw.line((0, 0, *corner), _FAINT)
    draw.line((0, corner[1], corner[0], 0), _FAINT)
    return frame


def _cells(text: str) -> int:
    """Return how many cells text takes: East Asian characters take two, accents none."""
    return sum(
        0
        if unicodedata.combining(character) or unicodedata.category(character) in {"Cf", "Mn"}
        else 2
        if unicodedata.east_asian_width(character) in {"W", "F"}
        else 1
        for character in text
    )
