"""What a person at a terminal sees of an answer: thumbnails, links, and no garbage."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

from render.controlling_terminal import (
    DEVICE_ATTRIBUTES,
    Outcome,
    run_with_terminal,
    shown_text,
)
from render.decoded_pictures import FRAME, decode_blocks, decode_kitty, decode_sixel

if TYPE_CHECKING:
    from pathlib import Path

SHOW = """
import os
import sys
import click
from siglip_search.render import terminal_answers
from siglip_search.cli.output_options import chosen_output, output_options
from siglip_search.cli.query_output import show_answer
from siglip_search.search.ranking import Answer, Hit

# A test on a busy machine answers late.
terminal_answers.ask_terminal.__kwdefaults__["seconds"] = float(os.environ["PATIENCE"])
paths = sys.argv.pop(1).split(",")
hits = [
    Hit(rank, path, 0.5, 0.1, (), rank, 64, 48, "PNG", None, None)
    for rank, path in enumerate(paths, start=1)
]

@click.command()
@output_options
@click.pass_context
def command(context):
    answer = Answer(tuple(hits), more=True)
    context.exit(show_answer(answer, "a cat", chosen_output(context)))

command()
"""
PLAIN = {
    "TERM": "xterm-256color",
    "COLORTERM": "truecolor",
    "TMUX": "",
    "STY": "",
    "TERM_PROGRAM": "",
    "LC_TERMINAL": "",
    "PYTHONUTF8": "1",
    "PATIENCE": "60",
}
SIXEL_YES = b"\x1b[?62;4c"
SIXEL_NO = b"\x1b[?62c"


@pytest.fixture
def paths(tmp_path: Path) -> str:
    for name in ("red", "lime"):
        Image.new("RGB", (64, 48), name).save(tmp_path / f"{name}.png")
    return ",".join(str(tmp_path / name) for name in ("red.png", "gone.png", "lime.png"))


def show(paths: str, *options: str, said: bytes = b"", **environment: str) -> Outcome:
    outcome = run_with_terminal(
        [sys.executable, "-c", SHOW, paths, *options],
        environment={**PLAIN, **environment},
        answers={DEVICE_ATTRIBUTES: said},
        size=(80, 40, 800, 800),
    )
    assert outcome.status == 0, outcome.stderr
    assert outcome.modes_kept
    assert outcome.unread == b""
    return outcome


def test_unasked_nothing_is_sent_but_rows_with_links(paths: str) -> None:
    outcome = show(paths)
    assert DEVICE_ATTRIBUTES not in outcome.screen
    first, *_ = paths.split(",")
    links = re.findall(
        rb"\x1b\]8;;file://[^/]*([^\x1b]+)\x1b\\([^\x1b]+)\x1b\]8;;\x1b\\", outcome.screen
    )
    assert [text.decode() for _, text in links] == paths.split(",")
    assert shown_text(outcome.screen).splitlines()[0] == f" 50.0%  {first}"
    assert "more match: --offset 3 shows the next" in outcome.stderr


@pytest.mark.parametrize(
    "form",
    ["--hyperlink=never", "--paths", "-0", "--json", "--nl", "--csv", "--tsv", "--format={path}"],
)
def test_no_name_of_a_file_steers_the_terminal(tmp_path: Path, form: str) -> None:
    name = "a\x1b]0;owned\x07\x1b[31m\u202egpj\n.jpg"
    (tmp_path / name).touch()
    outcome = show(str(tmp_path / name), form)
    for sign in (b"\x1b", b"\x07", "\u202e".encode()):
        assert sign not in outcome.screen
    assert b"owned" in outcome.screen


def test_kitty_that_says_so_gets_its_pictures_unasked(paths: str) -> None:
    outcome = show(paths, TERM="xterm-kitty")
    assert DEVICE_ATTRIBUTES not in outcome.screen
    (framed,) = FRAME.finditer(outcome.screen)
    pixels = np.asarray(decode_kitty(framed["picture"])[0])
    assert tuple(pixels[-1, 0]) == (255, 0, 0, 255)
    # Cells of 10 pixels: 800 in 80 columns. Three thumbnails of 26 cells, with gaps.
    assert pixels.shape[1] == 800


def test_terminal_that_answers_gets_sixels(paths: str) -> None:
    outcome = show(paths, "--preview", "auto", said=SIXEL_YES)
    (framed,) = FRAME.finditer(outcome.screen)
    pixels = np.asarray(decode_sixel(framed["picture"]))
    assert tuple(pixels[-1, 0]) == (255, 0, 0, 255)
    captions = shown_text(outcome.screen).splitlines()[-1]
    assert re.split("  +", captions) == ["1 50.0% red.png", "2 50.0% gone.png", "3 50.0% lime.png"]


def test_terminal_without_pictures_gets_half_blocks_when_asked(paths: str) -> None:
    outcome = show(paths, "--preview", "auto", said=SIXEL_NO)
    *_, tail = outcome.screen.partition(DEVICE_ATTRIBUTES)
    picture, _, _ = tail.decode().removesuffix("\r\n").rpartition("\r\n")
    pixels = np.asarray(decode_blocks(picture + "\r\n"))
    assert tuple(pixels[-1, 0]) == (255, 0, 0, 255)
    assert tuple(pixels[-1, -1, :3]) == (0, 255, 0)


def test_terminal_that_is_silent_gets_half_blocks_all_the_same(paths: str) -> None:
    outcome = run_with_terminal(
        [sys.executable, "-c", SHOW, paths, "--preview", "auto"],
        environment={**PLAIN, "PATIENCE": "0.5"},
    )
    assert outcome.status == 0
    assert "▀" in outcome.screen.decode()
    assert outcome.seconds < 20


@pytest.mark.parametrize("options", [["--preview", "none"], ["--paths"], ["--json"]])
def test_no_pictures_where_none_are_wanted(paths: str, options: list[str]) -> None:
    outcome = show(paths, *options, TERM="xterm-kitty")
    assert b"\x1b_G" not in outcome.screen


@pytest.mark.parametrize("preview", ["auto", "kitty", "blocks"])
def test_dumb_terminal_gets_text_alone(paths: str, preview: str) -> None:
    outcome = show(paths, "--preview", preview, TERM="dumb")
    assert b"\x1b" not in outcome.screen


def test_blocks_keep_to_256_colours_where_there_are_no_more(paths: str) -> None:
    outcome = show(paths, "--preview", "blocks", COLORTERM="")
    assert b"38;5;" in outcome.screen
    assert b"38;2;" not in outcome.screen


def test_ctrl_c_amid_a_picture_ends_the_picture(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    screen, other_end = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SHOW, str(tmp_path / "noise.png"), "--preview=kitty"],
        stdin=other_end,
        stdout=other_end,
        stderr=subprocess.PIPE,
        env={**os.environ, **PLAIN},
    ) as process:
        os.close(other_end)
        said = b""
        while b"\x1b_G" not in said:
            said += os.read(screen, 64)
        time.sleep(0.5)  # nobody reads, and it waits with a picture half written
        process.send_signal(signal.SIGINT)
        with suppress(OSError):
            while part := os.read(screen, 65536):
                said += part
        assert process.wait() != 0
    os.close(screen)
    last = said.rpartition(b"\x1b_G")[2]
    assert last.partition(b"\x1b\\")[2] in {b"\x1b[0m\r\n", b"\x1b[0m\r\n\r\n"}
