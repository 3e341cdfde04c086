"""`siglip-search query --explain` in this very process, on a picture whose truth is planted."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import click
import pytest
from PIL import Image, ImageDraw

from siglip_search import open_library
from siglip_search.cli.query_cmd import query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with one picture: a red circle on the left, a blue square on the right."""
    folder, directory = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("library")
    picture = Image.new("RGB", (480, 320), (235, 235, 230))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((40, 80, 200, 240), (210, 30, 30))
    draw.rectangle((290, 90, 440, 240), (30, 60, 210))
    picture.save(folder / "pair.png")
    with open_library(directory, model="demo") as library:
        library.index([folder])
    return directory


@pytest.fixture
def run(library: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; return exit status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        words = ["--library", str(library), "--min-probability", "0", *arguments]
        status = query.main(words, standalone_mode=False)
        return status, *capsys.readouterr()

    return run


def test_rows_stand_below_the_hit_and_the_method_is_told_apart(run: Run) -> None:
    status, out, err = run("--explain", "a red circle")
    assert status == 0
    hit, words, picture = out.splitlines()
    assert hit.endswith("pair.png")
    assert words.split()[0] == "words"
    assert words.split()[1:7:2] == ["a", "red", "circle"]
    assert "left" in picture
    assert "by attention" in picture
    assert "do not add up to the score" in err
    assert "exact" in err


def test_json_holds_an_explanation_for_the_hits_that_have_one(run: Run) -> None:
    _, out, err = run("--json", "--explain", "--explain-by", "occlusion", "a blue square")
    (hit,) = json.loads(out)
    patches = hit["explanation"]["patches"]
    assert patches["method"] == "occlusion"
    assert len(patches["differences"]) == patches["rows"]
    strongest = max(range(8), key=lambda column: max(row[column] for row in patches["differences"]))
    assert strongest >= 4
    assert "explaining" not in err
    _, out, _ = run("--json", "a blue square")
    assert "explanation" not in json.loads(out)[0]


def test_maps_come_with_every_form_of_output(run: Run, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    status, out, _ = run("--paths", "--heatmaps", str(maps), "a red circle")
    assert status == 0
    assert out.endswith("pair.png\n")
    with Image.open(maps / "001-pair.png") as drawn:
        drawn.load()
        assert drawn.width == 480


def test_contradictions_are_found_before_anything_is_asked(run: Run) -> None:
    with pytest.raises(click.UsageError, match="--explain goes with rows"):
        run("--csv", "--explain", "dog")


def test_nothing_found_leaves_nothing_to_explain(run: Run) -> None:
    status, out, err = run("--explain", "--min-probability", "1", "penguin")
    assert (status, out) == (1, "")
    assert "nothing matches" in err
    assert "words:" not in err


def test_a_terminal_sees_how_far_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    _, out, _ = run("--explain", "--preview", "none", "a red circle")
    assert "words" in out
    assert "explaining" in terminal.getvalue()
