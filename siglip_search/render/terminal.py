"""What the terminal in front of us can show, as far as the environment says.

Terminals state themselves in different variables, and none of them is sure: some travel through
ssh, and all of them into tmux, which shows no pictures that it was not built for.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Protocol(StrEnum):
    """The ways in which terminals take pictures."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    SIXEL = "sixel"
    BLOCKS = "blocks"


class CellSize(NamedTuple):
    """Size of a terminal's character cell in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal that shows pictures.

    Attributes:
        protocol: How it shows them.
        columns: Its width in cells, > 0.
        lines: Its height in cells, > 0.
        cell: Size of a cell; guessed where the terminal does not tell.
        true_colour: Whether text may have any colour, or xterm's 256 only.
    """

    protocol: Protocol
    columns: int
    lines: int
    cell: CellSize
    true_colour: bool


# Neither width nor height is ever far from this, and most terminals scale what they are given.
USUAL_CELL: Final = CellSize(9, 18)

# Values of TERM_PROGRAM, lower case, and what their programs show unasked.
_PROGRAMS: Final[Mapping[str, Protocol]] = {
    "ghostty": Protocol.KITTY,
    "iterm.app": Protocol.ITERM2,
    "mintty": Protocol.ITERM2,
    "rio": Protocol.ITERM2,
    "wezterm": Protocol.ITERM2,
}
_TERMS: Final[Mapping[str, Protocol]] = {
    "contour": Protocol.SIXEL,
    "foot": Protocol.SIXEL,
    "mlterm": Protocol.SIXEL,
    "xterm-ghostty": Protocol.KITTY,
    "xterm-kitty": Protocol.KITTY,
    "yaft": Protocol.SIXEL,
}
_KONSOLE_WITH_PICTURES: Final = 220400


def is_dumb(environment: Mapping[str, str]) -> bool:
    """Tell whether a terminal says that it obeys no sequences at all."""
    if environment.get("TERM") == "dumb":
        return True
    return os.name != "nt" and not environment.get("TERM")


def is_multiplexer(environment: Mapping[str, str]) -> bool:
    """Tell whether tmux or screen stands between us and the terminal."""
    term = environment.get("TERM", "")
    return bool(environment.get("TMUX") or environment.get("STY")) or term.startswith(
        ("tmux", "screen")
    )


def stated_protocol(environment: Mapping[str, str]) -> Protocol | None:
    """Return how the terminal shows real pictures, if the environment says that it does.

    Args:
        environment: As `os.environ`.
    """
    # What is set in a terminal is inherited by a tmux in it, which is another one.
    if is_dumb(environment) or is_multiplexer(environment):
        return None
    program = _PROGRAMS.get(environment.get("TERM_PROGRAM", "").lower())
    if program:
        return program
    # "foot-extra", "mlterm-256color"
    term = environment.get("TERM", "")
    for name, protocol in _TERMS.items():
        if re.fullmatch(rf"{name}(-.*)?", term):
            return protocol
    if environment.get("KITTY_WINDOW_ID"):
        return Protocol.KITTY
    # Unlike TERM_PROGRAM this one comes along through ssh.
    if environment.get("LC_TERMINAL") == "iTerm2" or environment.get("WEZTERM_EXECUTABLE"):
        return Protocol.ITERM2
    konsole = environment.get("KONSOLE_VERSION", "")
    if konsole.isdecimal() and int(konsole) >= _KONSOLE_WITH_PICTURES:
        return Protocol.KITTY
    return None


def shows_true_colour(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment says that text may have any colour."""
    if environment.get("COLORTERM", "").lower() in {"truecolor", "24bit"}:
        return True
    # Windows Terminal sets no COLORTERM, nor do these.
    return bool(environment.get("WT_SESSION")) or environment.get("TERM", "").endswith("-direct")


def shows_links(environment: Mapping[str, str]) -> bool:
    """Tell whether OSC 8 may be written: terminals that do not know it pass over it.

    Those that would print it are left out: the consoles of Linux and of old Windows, and Emacs.
    """
    if is_dumb(environment) or environment.get("TERM") == "linux":
        return False
    if environment.get("INSIDE_EMACS"):
        return False
    return os.name != "nt" or bool(environment.get("WT_SESSION") or environment.get("TERM_PROGRAM"))
