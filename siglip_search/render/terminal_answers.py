"""What a terminal says of itself when it is asked, within a time limit.

The questions are written to the terminal, and the answers come as if somebody had typed them. So
the terminal is in raw mode meanwhile, the last question is one that every terminal answers (DA1),
and nothing is asked when somebody is typing already.
"""

from __future__ import annotations

import os
import re
import select
import struct
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_search.render.terminal import CellSize, Protocol, is_dumb, is_multiplexer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A local terminal answers in milliseconds, one behind a satellite in less than this.
TIME_LIMIT_SECONDS: Final = 1.0

# A picture of one pixel, which is not shown: https://sw.kovidgoyal.net/kitty/graphics-protocol/
_IS_KITTY: Final = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
# ctlseqs: XTVERSION, the size of a cell in pixels, and DA1.
_NAME: Final = b"\x1b[>q"
_CELL: Final = b"\x1b[16t"
_DEVICE_ATTRIBUTES: Final = b"\x1b[c"

_KITTY_ANSWER: Final = re.compile(rb"\x1b_Gi=31;OK\x1b\\")
_NAME_ANSWER: Final = re.compile(rb"\x1bP>\|([^\x1b]*)\x1b\\")
_CELL_ANSWER: Final = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")
_ATTRIBUTES_ANSWER: Final = re.compile(rb"\x1b\[\?([\d;]*)c")
_SIXEL_ATTRIBUTE: Final = b"4"
_ITERM2_NAMES: Final = (b"iterm2", b"wezterm", b"mintty")
_MAX_ANSWER_BYTES: Final = 4096
_MAX_CELL: Final = CellSize(100, 200)
"""Beyond this somebody is joking, and thumbnails would be huge."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a terminal said.

    Attributes:
        protocol: The best way in which it shows real pictures; None if it shows none.
        cell: Size of a cell; None if it did not tell.
    """

    protocol: Protocol | None = None
    cell: CellSize | None = None


def ask_terminal(
    environment: Mapping[str, str],
    *,
    keyboard: int,
    screen: int,
    seconds: float = TIME_LIMIT_SECONDS,
) -> Answers:
    """Ask a terminal what it shows.

    Nothing is asked, and nothing known, where both are not the same terminal, somebody is typing,
    this process is in the background, or on Windows.

    Args:
        environment: As `os.environ`.
        keyboard: File descriptor on which the answers arrive: of stdin.
        screen: File descriptor to which the questions are written: of stdout.
        seconds: How long to wait for all answers together.
    """
    if is_dumb(environment) or environment.get("TERM") == "linux":
        return Answers()
    questions = _NAME + _CELL + _DEVICE_ATTRIBUTES
    # tmux takes what kitty is asked for the title of its pane (tmux issue 4637), and the Terminal
    # of macOS prints it.
    if not is_multiplexer(environment) and environment.get("TERM_PROGRAM") != "Apple_Terminal":
        questions = _IS_KITTY + questions
    try:
        return understood(_answered(questions, keyboard, screen, seconds))
    except OSError:
        return Answers()  # it has gone


def stated_cell(screen: int) -> CellSize | None:
    """Return the size of a cell as the system knows it; many terminals do not tell it.

    Args:
        screen: File descriptor of the terminal.
    """
    if os.name == "nt":
        return None
    import fcntl
    import termios

    try:
        size = fcntl.ioctl(screen, termios.TIOCGWINSZ, bytes(8))
    except OSError:
        return None
    lines, columns, width, height = struct.unpack("4H", size)
    return _sound_cell(width // columns, height // lines) if columns and lines else None


def understood(said: bytes) -> Answers:
    """Return what the answers mean, with whatever else arrived between them."""
    cell = _CELL_ANSWER.search(said)
    height, width = map(int, cell.groups()) if cell else (0, 0)
    return Answers(_protocol(said), _sound_cell(width, height))


def _sound_cell(width: int, height: int) -> CellSize | None:
    is_sound = 0 < width <= _MAX_CELL.width and 0 < height <= _MAX_CELL.height
    return CellSize(width, height) if is_sound else None


def _protocol(said: bytes) -> Protocol | None:
    name = _NAME_ANSWER.search(said)
    # WezTerm answers like kitty, but shows what iTerm2 shows more faithfully.
    if name and name[1].lower().startswith(_ITERM2_NAMES):
        return Protocol.ITERM2
    if _KITTY_ANSWER.search(said):
        return Protocol.KITTY
    attributes = _ATTRIBUTES_ANSWER.search(said)
    # The first number is the terminal's class, not an attribute.
    if attributes and _SIXEL_ATTRIBUTE in attributes[1].split(b";")[1:]:
        return Protocol.SIXEL
    return None


def _answered(questions: bytes, keyboard: int, screen: int, seconds: float) -> bytes:
    """Return everything that arrives up to the answer to the last question, or in the time.

    Raises:
        OSError: The terminal has gone.
    """
    if os.name == "nt" or not _is_ours(keyboard, screen):
        return b""
    said = b""
    deadline = time.monotonic() + seconds
    with _raw_mode(keyboard):
        if _arrives(keyboard, 0):
            return b""  # somebody is typing: it would be lost to the shell
        os.write(screen, questions)
        while (
            not _ATTRIBUTES_ANSWER.search(said)
            and len(said) < _MAX_ANSWER_BYTES
            and _arrives(keyboard, deadline - time.monotonic())
        ):
            read = os.read(keyboard, 1024)
            if not read:
                break  # hung up
            said += read
    return said


def _is_ours(keyboard: int, screen: int) -> bool:
    """Tell whether both are one terminal, and we are who it listens to.

    A process in the background that changes a terminal's mode is stopped by the system.
    """
    try:
        return (
            os.isatty(keyboard)
            and os.isatty(screen)
            and os.ttyname(keyboard) == os.ttyname(screen)
            and os.tcgetpgrp(keyboard) == os.getpgrp()
        )
    except OSError:
        return False


def _arrives(keyboard: int, seconds: float) -> bool:
    return bool(select.select([keyboard], [], [], max(0.0, seconds))[0])


@contextmanager
def _raw_mode(keyboard: int) -> Iterator[None]:
    """Hand over each byte at once and show none; Ctrl-C goes on to interrupt."""
    import termios

    former = termios.tcgetattr(keyboard)
    changed = [*former]
    changed[3] = former[3] & ~(termios.ICANON | termios.ECHO)
    changed[6] = [*former[6]]
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    try:
        # Now, and not after what was typed: that is left for the shell.
        termios.tcsetattr(keyboard, termios.TCSANOW, changed)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, former)
