"""Pictures as the sequences with which terminals show them."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.render.sixel import sixel_sequence
from siglip_search.render.terminal import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL import Image

    from siglip_search.render.terminal import CellSize


# As the specification limits them: https://sw.kovidgoyal.net/kitty/graphics-protocol/
_KITTY_CHUNK_BYTES: Final = 4096
_OPAQUE: Final = 128
_CUBE_STEPS: Final = np.array([0, 95, 135, 175, 215, 255])
"""The levels of xterm's cube of 6 x 6 x 6 colours, which begins at colour 16."""


def pixel_size(protocol: Protocol, columns: int, lines: int, cell: CellSize) -> tuple[int, int]:
    """Return how many pixels, in width and height, fill so many cells of a terminal.

    Args:
        protocol: How they are shown.
        columns: Cells in width, > 0.
        lines: Cells in height, > 0.
        cell: Size of a cell.
    """
    if protocol is Protocol.BLOCKS:
        return columns, 2 * lines
    return columns * cell.width, lines * cell.height


def image_sequence(
    image: Image.Image, protocol: Protocol, *, columns: int, lines: int, true_colour: bool = True
) -> bytes:
    """Return what shows a picture below the cursor, and leaves that at the line behind it.

    The terminal makes room by scrolling if need be. The cursor must be in the first column.

    Args:
        image: Mode "RGB" or "RGBA", of the size that `pixel_size` says.
        protocol: How to show it; half-blocks are text, of which more may follow anywhere.
        columns: Cells in width, > 0.
        lines: Cells in height, > 0.
        true_colour: Whether half-blocks may have any colour, or xterm's 256 only.
    """
    match protocol:
        case Protocol.BLOCKS:
            return b"".join(line + b"\n" for line in _half_blocks(image, true_colour=true_colour))
        case Protocol.KITTY:
            sequence = _kitty(image, columns, lines)
        case Protocol.ITERM2:
            sequence = _iterm2(image, columns, lines)
        case Protocol.SIXEL:
            sequence = sixel_sequence(image)
    # Terminals do not agree on where a picture leaves the cursor. So the room is made first, and
    # the cursor remembered: DECSC and DECRC (ESC 7, ESC 8) are understood by all of them.
    return b"%b\x1b[%dA\x1b7%b\x1b8\x1b[%dB\r" % (b"\n" * lines, lines, sequence, lines)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()


def _kitty(image: Image.Image, columns: int, lines: int) -> bytes:
    # a=T: transmit and show; f=100: PNG; C=1: the cursor stays; q=2: the terminal is silent, as
    # its answers would be taken for typing.
    keys = b"a=T,f=100,c=%d,r=%d,C=1,q=2," % (columns, lines)
    data = base64.standard_b64encode(_png(image))
    parts: list[bytes] = []
    for start in range(0, len(data), _KITTY_CHUNK_BYTES):
        end = start + _KITTY_CHUNK_BYTES
        parts.append(b"\x1b_G%bm=%d;%b\x1b\\" % (keys, end < len(data), data[start:end]))
        keys = b"q=2,"
    return b"".join(parts)


def _iterm2(image: Image.Image, columns: int, lines: int) -> bytes:
    # https://iterm2.com/documentation-images.html; a number without a unit counts cells.
    png = _png(image)
    return b"\x1b]1337;File=inline=1;size=%d;width=%d;height=%d;preserveAspectRatio=0:%b\x07" % (
        len(png),
        columns,
        lines,
        base64.standard_b64encode(png),
    )


def _half_blocks(image: Image.Image, *, true_colour: bool) -> Iterator[bytes]:
    """Yield lines of text: the upper half of each cell is a pixel, and so is the lower one."""
    pixels = np.asarray(image.convert("RGBA")).astype(np.int64)
    for upper, lower in zip(pixels[0::2], pixels[1::2], strict=True):
        line: list[str] = []
        former: list[str] = []
        for above, below in zip(upper, lower, strict=True):
            character, colours = _half_block(above, below, true_colour=true_colour)
            if colours != former:
                line.append(f"\x1b[{';'.join(['0', *colours])}m")
                former = colours
            line.append(character)
        # Nothing may be drawn in these colours behind the picture.
        line.append("\x1b[0m" if former else "")
        yield "".join(line).encode()


def _half_block(
    above: NDArray[np.int64], below: NDArray[np.int64], *, true_colour: bool
) -> tuple[str, list[str]]:
    """Return a character for two pixels, with the parameters of its colours (SGR)."""
    ink = _colour(above, true_colour=true_colour) if above[3] >= _OPAQUE else None
    paper = _colour(below, true_colour=true_colour) if below[3] >= _OPAQUE else None
    if ink and paper:
        return "\N{UPPER HALF BLOCK}", [f"38;{ink}", f"48;{paper}"]
    if ink:
        return "\N{UPPER HALF BLOCK}", [f"38;{ink}"]
    if paper:
        return "\N{LOWER HALF BLOCK}", [f"38;{paper}"]
    return " ", []


def _colour(pixel: NDArray[np.int64], *, true_colour: bool) -> str:
    if true_colour:
        red, green, blue = pixel[:3]
        return f"2;{red};{green};{blue}"
    red, green, blue = (int(np.abs(_CUBE_STEPS - value).argmin()) for value in pixel[:3])
    return f"5;{16 + 36 * red + 6 * green + blue}"
