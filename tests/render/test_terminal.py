"""What the environment says of a terminal."""

from __future__ import annotations

import sys

import pytest

from siglip_search.render.terminal import (
    Protocol,
    is_dumb,
    is_multiplexer,
    shows_links,
    shows_true_colour,
    stated_protocol,
)

XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, Protocol.KITTY),
        ({**XTERM, "KITTY_WINDOW_ID": "1"}, Protocol.KITTY),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, Protocol.KITTY),
        ({**XTERM, "KONSOLE_VERSION": "220401"}, Protocol.KITTY),
        ({**XTERM, "KONSOLE_VERSION": "211200"}, None),
        ({**XTERM, "TERM_PROGRAM": "iTerm.app"}, Protocol.ITERM2),
        ({**XTERM, "LC_TERMINAL": "iTerm2"}, Protocol.ITERM2),
        ({**XTERM, "TERM_PROGRAM": "WezTerm"}, Protocol.ITERM2),
        ({"TERM": "foot"}, Protocol.SIXEL),
        ({"TERM": "foot-extra"}, Protocol.SIXEL),
        ({"TERM": "football"}, None),
        ({"TERM": "mlterm-256color"}, Protocol.SIXEL),
        (XTERM, None),
        ({**XTERM, "TERM_PROGRAM": "Apple_Terminal"}, None),
    ],
)
def test_terminals_state_what_they_show(
    environment: dict[str, str], protocol: Protocol | None
) -> None:
    assert stated_protocol(environment) is protocol


@pytest.mark.parametrize(
    "inner",
    [
        {"TERM": "tmux-256color"},
        {"TERM": "screen"},
        {"TERM": "xterm-kitty", "TMUX": "/tmp/tmux,1,0"},
        {"TERM": "xterm", "STY": "1.pts"},
        {"TERM": "dumb"},
    ],
)
def test_what_a_multiplexer_inherits_says_nothing(inner: dict[str, str]) -> None:
    outer = {"KITTY_WINDOW_ID": "1", "TERM_PROGRAM": "WezTerm", "LC_TERMINAL": "iTerm2"}
    assert stated_protocol({**outer, **inner}) is None
    assert is_multiplexer(inner) or is_dumb(inner)


def test_any_colour_is_written_only_where_it_is_understood() -> None:
    assert shows_true_colour({**XTERM, "COLORTERM": "truecolor"})
    assert shows_true_colour({**XTERM, "WT_SESSION": "1"})
    assert not shows_true_colour(XTERM)


@pytest.mark.skipif(sys.platform == "win32", reason="other terminals there")
def test_links_are_left_out_where_they_would_be_printed() -> None:
    assert shows_links(XTERM)
    assert not shows_links({"TERM": "dumb"})
    assert not shows_links({"TERM": "linux"})
    assert not shows_links({})
    assert not shows_links({**XTERM, "INSIDE_EMACS": "29.1,comint"})
