"""Pictures for terminals, read back by decoders of their own."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from render.decoded_pictures import (
    FRAME,
    decode_blocks,
    decode_iterm2,
    decode_kitty,
    decode_sixel,
)

from siglip_search.render import terminal_image
from siglip_search.render.sixel import sixel_sequence
from siglip_search.render.terminal import CellSize, Protocol
from siglip_search.render.terminal_image import image_sequence, pixel_size

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Colours in whole percent, as sixel states them, are read back exactly.
PERCENT = [round(value * 255 / 100) for value in range(0, 101, 5)]


@st.composite
def pictures(draw: st.DrawFn, *, even: bool = False) -> Image.Image:
    """Small pictures of a few colours, some pixels of which are transparent."""
    width = draw(st.integers(1, 40))
    height = draw(st.integers(1, 10)) * 2 if even else draw(st.integers(1, 20))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    palette = random.choice(PERCENT, size=(draw(st.integers(1, 12)), 3))
    pixels = palette[random.integers(0, len(palette), (height, width))]
    alpha = random.choice([0, 255], (height, width, 1), p=[0.2, 0.8])
    return Image.fromarray(np.concatenate([pixels * (alpha > 0), alpha], axis=2).astype(np.uint8))


def photograph(width: int, height: int) -> Image.Image:
    """Return something with thousands of colours."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [across, down, (1 + np.sin(9 * across * down)) / 2]
    return Image.fromarray((np.stack(waves, axis=2) * 255).astype(np.uint8))


def as_array(image: Image.Image) -> NDArray[np.int16]:
    return np.asarray(image.convert("RGBA")).astype(np.int16)


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_sixels_of_few_colours_are_read_back_exactly(picture: Image.Image) -> None:
    assert np.array_equal(as_array(decode_sixel(sixel_sequence(picture))), as_array(picture))


def test_sixels_of_many_colours_come_close() -> None:
    picture = photograph(120, 67)
    difference = as_array(decode_sixel(sixel_sequence(picture))) - as_array(picture)
    assert np.abs(difference).mean() < 6
    assert not difference[..., 3].any()


def test_sixels_take_no_more_registers_than_they_may() -> None:
    sequence = sixel_sequence(photograph(90, 60), colours=16)
    assert len(decode_sixel(sequence).getcolors() or ()) <= 16


def test_nothing_but_transparency_draws_nothing() -> None:
    picture = Image.new("RGBA", (7, 13), (0, 0, 0, 0))
    assert np.array_equal(as_array(decode_sixel(sixel_sequence(picture))), as_array(picture))


@pytest.mark.skipif(shutil.which("sixel2png") is None, reason="libsixel's sixel2png is not here")
def test_libsixel_reads_the_same(tmp_path: Path) -> None:
    sequence = sixel_sequence(photograph(120, 67))
    (tmp_path / "a.six").write_bytes(sequence)
    subprocess.run(
        ["sixel2png", "-i", tmp_path / "a.six", "-o", tmp_path / "a.png"],
        check=True,
        capture_output=True,
    )
    with Image.open(tmp_path / "a.png") as decoded:
        # It rounds percents in its own way.
        difference = as_array(decoded) - as_array(decode_sixel(sequence))
    assert np.abs(difference).max() <= 2


@settings(max_examples=40, deadline=None)
@given(pictures(), st.integers(1, 30), st.integers(1, 9))
def test_kitty_gets_the_very_pixels(picture: Image.Image, columns: int, lines: int) -> None:
    framed = FRAME.fullmatch(image_sequence(picture, Protocol.KITTY, columns=columns, lines=lines))
    assert framed
    decoded, keys = decode_kitty(framed["picture"])
    assert np.array_equal(as_array(decoded), as_array(picture))
    assert (keys["a"], keys["c"], keys["r"], keys["C"]) == ("T", str(columns), str(lines), "1")


def test_large_pictures_go_to_kitty_in_chunks() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (90, 160, 3)).astype(np.uint8)
    framed = FRAME.fullmatch(
        image_sequence(Image.fromarray(noise), Protocol.KITTY, columns=20, lines=5)
    )
    assert framed
    assert framed["picture"].count(b"\x1b_G") > 5
    decoded, _ = decode_kitty(framed["picture"])
    assert np.array_equal(np.asarray(decoded), noise)


def test_last_chunk_is_the_last_one_also_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal_image, "_KITTY_CHUNK_BYTES", 4)  # by which base64 divides
    picture = Image.new("RGB", (3, 2), "red")
    framed = FRAME.fullmatch(image_sequence(picture, Protocol.KITTY, columns=1, lines=1))
    assert framed
    assert as_array(decode_kitty(framed["picture"])[0]).shape == (2, 3, 4)


@settings(max_examples=40, deadline=None)
@given(pictures(), st.integers(1, 30), st.integers(1, 9))
def test_iterm2_gets_the_very_pixels(picture: Image.Image, columns: int, lines: int) -> None:
    framed = FRAME.fullmatch(image_sequence(picture, Protocol.ITERM2, columns=columns, lines=lines))
    assert framed
    decoded, arguments = decode_iterm2(framed["picture"])
    assert np.array_equal(as_array(decoded), as_array(picture))
    assert arguments["inline"] == "1"
    assert (arguments["width"], arguments["height"]) == (str(columns), str(lines))


@settings(max_examples=60, deadline=None)
@given(pictures(even=True))
def test_half_blocks_are_the_very_pixels(picture: Image.Image) -> None:
    written = image_sequence(
        picture, Protocol.BLOCKS, columns=picture.width, lines=picture.height // 2
    )
    assert np.array_equal(as_array(decode_blocks(written.decode())), as_array(picture))


def test_half_blocks_of_256_colours_come_close() -> None:
    picture = photograph(60, 40)
    written = image_sequence(picture, Protocol.BLOCKS, columns=60, lines=20, true_colour=False)
    assert b";2;" not in written
    assert np.abs(as_array(decode_blocks(written.decode())) - as_array(picture)).max() <= 48


@pytest.mark.parametrize("protocol", [Protocol.KITTY, Protocol.ITERM2, Protocol.SIXEL])
def test_room_is_made_first_and_the_cursor_goes_below(protocol: Protocol) -> None:
    framed = FRAME.fullmatch(image_sequence(photograph(60, 48), protocol, columns=6, lines=3))
    assert framed
    assert framed["room"] == b"\n" * 3
    assert framed["up"] == framed["down"] == b"3"


def test_pixels_fill_the_cells() -> None:
    cell = CellSize(9, 18)
    assert pixel_size(Protocol.SIXEL, 20, 7, cell) == (180, 126)
    assert pixel_size(Protocol.BLOCKS, 20, 7, cell) == (20, 14)
