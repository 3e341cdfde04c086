"""How the command line words things."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.cli.console import count, duration, print_json, shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59, "59 s"),
        (89, "89 s"),
        (600, "10 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_time_spans_are_said_as_people_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers_agree_with_their_nouns() -> None:
    assert count(1, "picture") == "1 picture"
    assert count(0, "picture") == "0 pictures"
    assert count(12_345, "copy", "copies") == "12,345 copies"


@given(st.binary(max_size=60))
def test_any_path_is_one_harmless_line(path: bytes) -> None:
    assert shown(path).isprintable()


def test_readable_text_is_shown_as_it_is() -> None:
    assert shown("Übung/日本 \N{BICYCLE}.jpg") == "Übung/日本 \N{BICYCLE}.jpg"


@pytest.mark.skipif(os.name == "nt", reason="paths are not bytes there")
def test_json_gives_back_the_very_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": b"/a/\xff\n.jpg", "folder": Path("/a")})
    printed = capsys.readouterr().out
    assert printed.isascii()
    found = json.loads(printed)
    assert os.fsencode(found["path"]) == b"/a/\xff\n.jpg"
    assert found["folder"] == "/a"
