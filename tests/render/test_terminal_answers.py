"""Asking a terminal: real pseudo-terminals that answer, do not answer, or say something else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from siglip_search.render.terminal import CellSize, Protocol
from siglip_search.render.terminal_answers import ask_terminal, understood

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")

if sys.platform != "win32":
    from render.controlling_terminal import DEVICE_ATTRIBUTES, Outcome, run_with_terminal

KITTY_YES = b"\x1b_Gi=31;OK\x1b\\"
SIXEL_YES = b"\x1b[?63;1;2;4;6c"
SIXEL_NO = b"\x1b[?1;2c"
XTERM = {"TERM": "xterm-256color", "TMUX": "", "STY": "", "TERM_PROGRAM": ""}

ASK = """
import json, os, sys
from siglip_search.render.terminal_answers import ask_terminal
answers = ask_terminal(os.environ, keyboard=0, screen=1, seconds=float(sys.argv[1]))
print(json.dumps([answers.protocol, answers.cell]), file=sys.stderr)
"""


def ask(
    answers: dict[bytes, bytes], *, seconds: float = 20, typed: bytes = b"", **environment: str
) -> tuple[Outcome, list[object]]:
    outcome = run_with_terminal(
        [sys.executable, "-c", ASK, str(seconds)],
        environment={**XTERM, **environment},
        answers=answers,
        typed=typed,
    )
    assert outcome.status == 0, outcome.stderr
    return outcome, json.loads(outcome.stderr)


@pytest.mark.parametrize(
    ("said", "understood_as"),
    [
        (KITTY_YES + SIXEL_NO, ["kitty", None]),
        (b"\x1b[6;20;10t" + SIXEL_YES, ["sixel", [10, 20]]),
        (b"\x1bP>|iTerm2 3.5.0\x1b\\" + SIXEL_YES, ["iterm2", None]),
        (b"\x1bP>|WezTerm 20240203\x1b\\" + KITTY_YES + SIXEL_YES, ["iterm2", None]),
        (SIXEL_NO, [None, None]),
        # VT132: the first number is a class, and no attribute.
        (b"\x1b[?4;6c", [None, None]),
    ],
)
def test_answers_decide(said: bytes, understood_as: list[object]) -> None:
    outcome, answers = ask({DEVICE_ATTRIBUTES: said})
    assert answers == understood_as
    assert outcome.modes_kept
    assert outcome.unread == b""
    # Echoed answers would stand on the screen.
    assert b"^[" not in outcome.screen


def test_terminal_that_does_not_answer_is_not_waited_for() -> None:
    outcome, answers = ask({}, seconds=0.3)
    assert answers == [None, None]
    assert outcome.seconds < 10
    assert outcome.modes_kept


def test_half_an_answer_is_none() -> None:
    outcome, answers = ask({DEVICE_ATTRIBUTES: b"\x1b[?63;1;2;4"}, seconds=0.3)
    assert answers == [None, None]
    assert outcome.modes_kept


def test_endless_talk_is_not_listened_to() -> None:
    _, answers = ask({DEVICE_ATTRIBUTES: b"x" * 4095 + b"\n"}, seconds=0.5)
    assert answers == [None, None]


def test_what_somebody_is_typing_is_left_for_the_shell() -> None:
    outcome, answers = ask({DEVICE_ATTRIBUTES: SIXEL_YES}, typed=b"ls -l")
    assert answers == [None, None]
    assert outcome.unread == b"ls -l"
    assert b"\x1b" not in outcome.screen


@pytest.mark.parametrize("term", ["dumb", "linux", ""])
def test_terminals_that_would_print_questions_are_not_asked(term: str) -> None:
    outcome, answers = ask({DEVICE_ATTRIBUTES: SIXEL_YES}, TERM=term)
    assert answers == [None, None]
    assert outcome.screen == b""


@pytest.mark.parametrize(
    "environment",
    [{"TMUX": "/tmp/tmux,1,0"}, {"TERM": "screen"}, {"TERM_PROGRAM": "Apple_Terminal"}],
)
def test_kittys_question_is_not_put_to_those_that_show_it(environment: dict[str, str]) -> None:
    outcome, answers = ask({DEVICE_ATTRIBUTES: SIXEL_YES}, **environment)
    assert answers == ["sixel", None]
    assert b"\x1b_G" not in outcome.screen


def test_interrupt_ends_the_waiting_and_keeps_the_modes() -> None:
    outcome = run_with_terminal(
        [sys.executable, "-c", ASK, "60"],
        environment=XTERM,
        interrupt_on=DEVICE_ATTRIBUTES,
    )
    assert outcome.status != 0
    assert "KeyboardInterrupt" in outcome.stderr
    assert outcome.seconds < 30
    assert outcome.modes_kept


def test_process_in_the_background_asks_nothing() -> None:
    # Of the session, but not the group that the terminal listens to: asking would stop it.
    background = """
import os, subprocess, sys
child = subprocess.run([sys.executable, "-c", *sys.argv[1:]], process_group=0, timeout=60)
sys.exit(child.returncode)
"""
    outcome = run_with_terminal(
        [sys.executable, "-c", background, ASK, "20"],
        environment=XTERM,
        answers={DEVICE_ATTRIBUTES: SIXEL_YES},
    )
    assert outcome.status == 0, outcome.stderr
    assert json.loads(outcome.stderr) == [None, None]
    assert outcome.screen == b""


def test_pipes_are_not_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, "20"],
        env={**os.environ, **XTERM},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b""
    assert json.loads(done.stderr) == [None, None]


def test_descriptors_that_are_closed_say_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    assert ask_terminal(XTERM, keyboard=read, screen=write).protocol is None


@given(st.binary(max_size=200))
def test_whatever_is_said_is_understood_or_passed_over(said: bytes) -> None:
    assume(b"c" not in said)  # which would end an answer
    assert understood(said + SIXEL_YES).protocol is not None


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_only_sound_sizes_of_cells_are_believed(width: int, height: int) -> None:
    cell = understood(b"\x1b[6;%d;%dt" % (height, width)).cell
    assert cell == (CellSize(width, height) if 0 < width <= 100 and 0 < height <= 200 else None)


def test_protocols_are_the_options_of_the_command_line() -> None:
    assert [*Protocol] == ["kitty", "iterm2", "sixel", "blocks"]
