"""The option --preview: thumbnails in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siglip_search.render.contact_sheet import Tile
    from siglip_search.render.terminal import CellSize, Protocol, Terminal

F = TypeVar("F", bound="Callable[..., Any]")

CHOICES: Final = ("auto", "none", "kitty", "iterm2", "sixel", "blocks")

_META: Final = "siglip_search.preview"


def preview_option(command: F) -> F:
    """Add --preview to a command; `chosen_preview` returns what was chosen."""
    return click.option(
        "--preview",
        type=click.Choice(CHOICES),
        envvar="SIGLIP_SEARCH_PREVIEW",
        expose_value=False,
        callback=_remember,
        help="Thumbnails in the terminal. auto asks the terminal and takes the best that it "
        "shows, half-blocks if nothing better.  [default: where the terminal says unasked that "
        "it shows pictures, else none]",
    )(command)


def chosen_preview(context: click.Context) -> str | None:
    """Return one of `CHOICES`, or None where neither the option nor the environment chose."""
    choice: str | None = context.meta.get(_META)
    return choice


def print_previews(tiles: Sequence[Tile], choice: str | None) -> None:
    """Show thumbnails on the terminal; nothing where stdout is none, or shows no pictures.

    Args:
        tiles: Best first; so many as a screen holds are shown.
        choice: One of `CHOICES`, or None where nothing was chosen.
    """
    terminal = _terminal(choice) if tiles else None
    if terminal is None:
        return
    # Here: it needs the imaging library, for which a query in a pipe must not wait.
    from siglip_search.render.previews import previews

    sys.stdout.flush()
    for strip in previews(tiles, terminal):
        _send(strip)


def _send(strip: bytes) -> None:
    """Write a strip to the terminal, and leave this as it was also after Ctrl-C."""
    # Not buffered: what waits in a buffer would be written when all is over.
    screen: Any = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)
    left = memoryview(strip)
    try:
        while left:
            left = left[screen.write(left) or 0 :]
    except BaseException:
        # ST ends a picture that has begun, SGR 0 the colours of half-blocks.
        with suppress(OSError):
            screen.write(b"\x1b\\\x1b[0m\n")
        raise


def _remember(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[_META] = value


def _terminal(choice: str | None) -> Terminal | None:
    """Return what pictures are shown on, None for nothing."""
    if choice == "none" or not sys.stdout.isatty():
        return None
    from siglip_search.render.terminal import Terminal, is_dumb, shows_true_colour

    if is_dumb(os.environ):
        return None
    protocol, cell = _protocol_and_cell(choice)
    if protocol is None:
        return None
    columns, lines = shutil.get_terminal_size()
    return Terminal(protocol, columns, lines, cell, shows_true_colour(os.environ))


def _protocol_and_cell(choice: str | None) -> tuple[Protocol | None, CellSize]:
    from siglip_search.render.terminal import USUAL_CELL, Protocol, stated_protocol
    from siglip_search.render.terminal_answers import Answers, ask_terminal, stated_cell

    protocol = stated_protocol(os.environ) if choice in {None, "auto"} else Protocol(choice)
    screen = sys.stdout.fileno()
    cell = stated_cell(screen)
    answers = Answers()
    # Unasked, nothing is sent to the terminal: not every one answers, and somebody may type.
    if choice is not None and (protocol is None or (cell is None and protocol == "sixel")):
        try:
            keyboard = sys.stdin.fileno()
        except (AttributeError, OSError, ValueError):
            keyboard = screen  # closed, or not there at all
        answers = ask_terminal(os.environ, keyboard=keyboard, screen=screen)
    if protocol is None:
        protocol = answers.protocol
    if protocol is None and choice == "auto" and _writes_blocks():
        protocol = Protocol.BLOCKS
    return protocol, answers.cell or cell or USUAL_CELL


def _writes_blocks() -> bool:
    return sys.stdout.encoding.lower().replace("-", "") == "utf8"
