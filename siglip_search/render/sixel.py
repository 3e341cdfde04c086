"""Pictures in DEC's sixel format (VT330/VT340 programmer reference, chapter 14).

A sixel is a column of six pixels of one colour, written as one character. No small library with
wheels everywhere writes them, and Pillow does not, so this does: Pillow chooses the colours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

MAX_COLOURS: Final = 255
"""A VT340 has 16 colour registers, today's terminals have 256 or more."""

_BAND: Final = 6
_NOTHING_SET: Final = ord("?")
_SHORT_RUN: Final = 3
"""So many characters are no longer than their number and one of them."""

_OPAQUE: Final = 128
"""Pixels of less alpha than this are left as the terminal's background."""


def sixel_sequence(image: Image.Image, *, colours: int = MAX_COLOURS) -> bytes:
    """Return the escape sequence that draws a picture at the cursor, pixel by pixel.

    Args:
        image: Mode "RGB" or "RGBA". What is transparent stays as it was on the screen.
        colours: At most so many different ones, in [2, 255].
    """
    opaque = _opaque(image)
    quantized = image.convert("RGB").quantize(colours, dither=Image.Dither.FLOYDSTEINBERG)
    # 0 is for what is not drawn.
    registers = np.where(opaque, np.asarray(quantized).astype(np.int16) + 1, 0)
    used = np.unique(registers[registers > 0])
    palette = np.asarray(quantized.getpalette(), dtype=np.float64).reshape(-1, 3)
    # P1 = 0: what a pixel's proportions are is said by the raster attributes. P2 = 1: pixels that
    # are not drawn keep their colour.
    parts = [b'\x1bP0;1;0q"1;1;%d;%d' % image.size]
    for register in used:
        red, green, blue = np.rint(palette[register - 1] * (100 / 255)).astype(int)
        parts.append(b"#%d;2;%d;%d;%d" % (register, red, green, blue))
    # "-" is a graphics newline. None behind the last band, where it could scroll the screen.
    parts.append(b"-".join(_bands(registers)))
    parts.append(b"\x1b\\")
    return b"".join(parts)


def _opaque(image: Image.Image) -> NDArray[np.bool_]:
    if image.mode != "RGBA":
        return np.ones((image.height, image.width), dtype=np.bool_)
    return np.asarray(image.getchannel("A")) >= _OPAQUE


def _bands(registers: NDArray[np.int16]) -> Iterator[bytes]:
    """Yield each six lines of pixels, the colours one after the other."""
    columns = np.arange(registers.shape[1])
    for top in range(0, len(registers), _BAND):
        band = registers[top : top + _BAND]
        used, places = np.unique(band, return_inverse=True)
        sixels = np.zeros((len(used), len(columns)), dtype=np.uint8)
        for line, line_places in enumerate(places.reshape(band.shape)):
            sixels[line_places, columns] |= 1 << line
        # "$" goes back to the left edge of the band.
        yield b"$".join(
            b"#%d%b" % (register, runs)
            for register, runs in zip(used.tolist(), _run_lengths(sixels), strict=True)
            if register
        )


def _run_lengths(sixels: NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield the characters of a band in each colour; nothing for what is empty at its end."""
    # A line's first place begins a run, whatever the line before it ended with.
    begins = np.ones(sixels.shape, dtype=np.bool_)
    begins[:, 1:] = sixels[:, 1:] != sixels[:, :-1]
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=sixels.size).tolist()
    values = sixels.ravel()[starts].tolist()
    first = 0
    for count in begins.sum(axis=1).tolist():
        last = first + count - (values[first + count - 1] == 0)
        yield b"".join(map(_run, values[first:last], lengths[first:last]))
        first += count


def _run(sixel: int, length: int) -> bytes:
    if length > _SHORT_RUN:
        return b"!%d%c" % (length, sixel + _NOTHING_SET)
    return bytes((sixel + _NOTHING_SET,)) * length
