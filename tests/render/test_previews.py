"""Strips of thumbnails: laid out to fit the terminal, and read back from what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from render.decoded_pictures import (
    FRAME,
    decode_blocks,
    decode_iterm2,
    decode_kitty,
    decode_sixel,
)

from siglip_search.render.contact_sheet import Tile
from siglip_search.render.previews import fitted, grid, previews
from siglip_search.render.terminal import CellSize, Protocol, Terminal

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}


def terminal(protocol: Protocol, columns: int = 66, lines: int = 30) -> Terminal:
    return Terminal(protocol, columns, lines, CellSize(8, 16), true_colour=True)


@pytest.fixture
def tiles(tmp_path: Path) -> list[Tile]:
    made = []
    for place, name in enumerate(COLOURS, start=1):
        Image.new("RGB", (300, 300), name).save(tmp_path / f"{name}.png")
        made.append(Tile(str(tmp_path / f"{name}.png"), f"{place} 90.0%", f"{name}.png"))
    return made


def decoded(strip: bytes, protocol: Protocol) -> tuple[Image.Image, str]:
    """Return the picture of a strip, and the captions below it."""
    if protocol is Protocol.BLOCKS:
        picture, _, captions = strip.decode().removesuffix("\n").rpartition("\n")
        return decode_blocks(picture + "\n"), captions
    framed = FRAME.match(strip)
    assert framed
    captions = strip[framed.end() :].decode().removesuffix("\n")
    match protocol:
        case Protocol.KITTY:
            return decode_kitty(framed["picture"])[0], captions
        case Protocol.ITERM2:
            return decode_iterm2(framed["picture"])[0], captions
        case _:
            return decode_sixel(framed["picture"]), captions


@pytest.mark.parametrize("protocol", Protocol)
def test_thumbnails_stand_side_by_side_above_their_captions(
    protocol: Protocol, tiles: list[Tile]
) -> None:
    where = terminal(protocol, columns=80)
    layout = grid(where)
    assert layout.across == 3
    (strip,) = previews(tiles, where)
    picture, captions = decoded(strip, protocol)
    pixels = np.asarray(picture.convert("RGBA"))
    cell_width = 1 if protocol is Protocol.BLOCKS else 8
    for place, colour in enumerate(COLOURS.values()):
        left = place * (layout.columns + 1)
        assert tuple(pixels[-1, left * cell_width]) == (*colour, 255)
        # The gap between two of them is the terminal's own background.
        if place:
            assert pixels[-1, left * cell_width - 1, 3] == 0
        assert captions[left:].startswith(f"{place + 1} 90.0% {tiles[place].name}"[:9])


def test_one_screen_is_filled_and_no_more(tiles: list[Tile]) -> None:
    where = terminal(Protocol.BLOCKS, columns=80, lines=24)
    layout = grid(where)
    strips = list(previews(tiles * 10, where))
    assert len(strips) == layout.down
    assert sum(strip.count(b"\n") for strip in strips) <= 24 - 2


def test_picture_that_is_gone_or_damaged_is_a_crossed_frame(
    tmp_path: Path, tiles: list[Tile]
) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff\xe0 no more")
    bad = [Tile(str(tmp_path / "gone.png"), "1 90.0%"), Tile(str(damaged), "2 90.0%")]
    (strip,) = previews([*bad, tiles[2]], terminal(Protocol.KITTY, columns=80))
    picture, captions = decoded(strip, Protocol.KITTY)
    pixels = np.asarray(picture)
    assert tuple(pixels[0, 0]) == tuple(pixels[-1, 0]) == (128, 128, 128, 255)
    assert captions.split() == ["1", "90.0%", "2", "90.0%", "3", "90.0%", "blue.png"]


def test_when_time_is_up_no_further_strip_is_begun(tiles: list[Tile]) -> None:
    assert list(previews(tiles, terminal(Protocol.SIXEL), seconds=-1)) == []


@given(
    st.sampled_from(Protocol), st.integers(1, 500), st.integers(1, 300), st.integers(1, 100),
    st.integers(1, 200),
)  # fmt: skip
def test_layout_fits_any_terminal(
    protocol: Protocol, columns: int, lines: int, cell_width: int, cell_height: int
) -> None:
    layout = grid(Terminal(protocol, columns, lines, CellSize(cell_width, cell_height), True))
    assert min(layout) > 0
    assert layout.across * (layout.columns + 1) - 1 <= columns
    assert layout.lines + 1 <= max(2, lines)


@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40), st.integers(1, 30))
def test_captions_never_take_more_than_their_room(text: str, columns: int) -> None:
    cut = fitted(text, columns)
    assert len(cut.rstrip()) <= columns
    assert cut.rstrip().removesuffix("…") in text


def test_wide_letters_take_two_cells() -> None:
    assert fitted("日本語", 8) == "日本語  "
    assert fitted("日本語", 5) == "日本…"
    assert fitted("日本語", 4) == "日… "
    assert fitted("e\N{COMBINING ACUTE ACCENT}t", 3) == "e\N{COMBINING ACUTE ACCENT}t "
