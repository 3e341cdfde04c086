"""Decoders of what terminals are sent, written after the specifications and for tests alone."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

FRAME = re.compile(
    rb"(?P<room>(?:\r?\n)*)\x1b\[(?P<up>\d+)A\x1b7(?P<picture>.*)\x1b8\x1b\[(?P<down>\d+)B\r",
    re.DOTALL,
)

_SIXEL = re.compile(rb"\x1bP(?P<parameters>[\d;]*)q(?P<data>.*?)\x1b\\", re.DOTALL)
_SIXEL_TOKEN = re.compile(
    rb'"(?P<raster>[\d;]+)'
    rb"|\#(?P<register>\d+)(?:;2;(?P<red>\d+);(?P<green>\d+);(?P<blue>\d+))?"
    rb"|(?:!(?P<count>\d+))?(?P<sixel>[?-~])"
    rb"|(?P<control>[$-])"
)
_KITTY = re.compile(rb"\x1b_G(?P<keys>[^;]*);(?P<data>[^\x1b]*)\x1b\\")
_ITERM2 = re.compile(rb"\x1b\]1337;File=(?P<arguments>[^:]*):(?P<data>[^\x07]*)\x07")
_BLOCK = re.compile(r"\x1b\[(?P<sgr>[\d;]*)m|(?P<character>.)")


def decode_sixel(sequence: bytes) -> Image.Image:
    """Return the pixels as "RGBA": what is not drawn is transparent."""
    found = _SIXEL.fullmatch(sequence)
    assert found, sequence[:80]
    # P2 = 1: pixels that are not drawn keep their colour.
    assert found["parameters"].split(b";")[1] == b"1"
    palette: dict[int, tuple[int, int, int]] = {}
    pixels = np.zeros((0, 0, 4), dtype=np.uint8)
    register, left, top, position = 0, 0, 0, 0
    data = found["data"]
    while position < len(data):
        token = _SIXEL_TOKEN.match(data, position)
        assert token, data[position : position + 40]
        position = token.end()
        if token["raster"]:
            _, _, width, height = map(int, token["raster"].split(b";"))
            pixels = np.zeros((height, width, 4), dtype=np.uint8)
        elif token["register"]:
            register = int(token["register"])
            if token["red"]:
                percent = (int(token[name]) for name in ("red", "green", "blue"))
                palette[register] = tuple(round(value * 255 / 100) for value in percent)  # type: ignore[assignment]
        elif token["control"] == b"$":
            left = 0
        elif token["control"] == b"-":
            left, top = 0, top + 6
        else:
            bits = token["sixel"][0] - 63
            count = int(token["count"] or 1)
            for row in range(6):
                if bits >> row & 1:
                    assert top + row < pixels.shape[0]
                    pixels[top + row, left : left + count] = (*palette[register], 255)
            left += count
            assert left <= pixels.shape[1]
    return Image.fromarray(pixels)


def decode_kitty(sequence: bytes) -> tuple[Image.Image, dict[str, str]]:
    """Return the picture and the keys of its first chunk."""
    chunks = list(_KITTY.finditer(sequence))
    assert b"".join(chunk[0] for chunk in chunks) == sequence
    keys = [dict(pair.split("=") for pair in chunk["keys"].decode().split(",")) for chunk in chunks]
    assert all(len(chunk["data"]) <= 4096 for chunk in chunks)
    assert all(len(chunk["data"]) % 4 == 0 for chunk in chunks)
    assert [key["m"] for key in keys] == ["1"] * (len(keys) - 1) + ["0"]
    # Without it the terminal's answers would be taken for typing.
    assert all(key["q"] == "2" for key in keys)
    data = base64.b64decode(b"".join(chunk["data"] for chunk in chunks), validate=True)
    assert keys[0]["f"] == "100"
    return Image.open(io.BytesIO(data), formats=["PNG"]), keys[0]


def decode_iterm2(sequence: bytes) -> tuple[Image.Image, dict[str, str]]:
    """Return the picture and its arguments."""
    found = _ITERM2.fullmatch(sequence)
    assert found, sequence[:80]
    arguments = dict(pair.split("=") for pair in found["arguments"].decode().split(";"))
    data = base64.b64decode(found["data"], validate=True)
    assert int(arguments["size"]) == len(data)
    return Image.open(io.BytesIO(data), formats=["PNG"]), arguments


def decode_blocks(text: str) -> Image.Image:
    """Return half-blocks as pixels in "RGBA": two for each character, one above the other."""
    clear = (0, 0, 0, 0)
    lines = re.split(r"\r?\n", text)
    assert lines.pop() == ""
    rows: list[list[tuple[int, ...]]] = []
    for line in lines:
        upper: list[tuple[int, ...]] = []
        lower: list[tuple[int, ...]] = []
        ink = paper = clear
        for token in _BLOCK.finditer(line):
            if token["character"] is None:
                ink, paper = _colours(token["sgr"], ink, paper)
                continue
            above, below = {"▀": (ink, paper), "▄": (paper, ink), " ": (paper, paper)}[
                token["character"]
            ]
            upper.append(above)
            lower.append(below)
        assert (ink, paper) == (clear, clear)  # nothing of it is left for what follows
        rows += [upper, lower]
    return Image.fromarray(np.array(rows, dtype=np.uint8))


def _colours(
    sgr: str, ink: tuple[int, ...], paper: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    numbers = [int(number or 0) for number in sgr.split(";")]
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            ink = paper = (0, 0, 0, 0)
            continue
        assert code in {38, 48}
        if numbers.pop(0) == 2:
            colour = (*(numbers.pop(0) for _ in range(3)), 255)
        else:
            colour = (*_cube_colour(numbers.pop(0)), 255)
        ink, paper = (colour, paper) if code == 38 else (ink, colour)
    return ink, paper


def _cube_colour(index: int) -> tuple[int, int, int]:
    levels = (0, 95, 135, 175, 215, 255)
    assert 16 <= index < 232
    red, rest = divmod(index - 16, 36)
    return levels[red], levels[rest // 6], levels[rest % 6]
