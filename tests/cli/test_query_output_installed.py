"""Output of the installed command on a real library, end to end."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from installed_command import COMMAND, CommandLine

from siglip_search import demo

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schema" / "query.schema.json"
ASK = ("query", "-n", "3", "--min-probability", "0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "pictures"
    folder.mkdir()
    for number, picture in enumerate(sorted(demo.gallery_directory().rglob("*.jpg"))[:6]):
        shutil.copy(picture, folder / f"{number}.jpg")
    return folder


@pytest.fixture(scope="module")
def cli(pictures: Path) -> CommandLine:
    command = CommandLine(pictures.parent / "library")
    command.index(pictures)
    return command


def asked(cli: CommandLine, *options: str) -> str:
    return cli(*ASK, *options, "a dog").text


def test_real_answers_keep_to_the_schema(cli: CommandLine) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    answer = json.loads(asked(cli, "--json"))
    assert len(answer) == 3
    jsonschema.validate(answer, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_forms_agree(cli: CommandLine) -> None:
    hits = json.loads(asked(cli, "--json"))
    assert asked(cli, "--format", "{cosine:.4f}\\t{path}").splitlines() == [
        f"{hit['cosine']:.4f}\t{hit['path']}" for hit in hits
    ]
    _, *rows = (line.split("\t") for line in asked(cli, "--tsv").splitlines())
    assert [row[1] for row in rows] == [hit["path"] for hit in hits]


def test_everything_at_once(cli: CommandLine, pictures: Path, tmp_path: Path) -> None:
    sheet, copies = tmp_path / "sheet.html", tmp_path / "found"
    options = ("--paths", "--sheet", str(sheet), "--copy-to", str(copies))
    done = cli(*ASK, *options, "a dog")
    paths = [Path(line) for line in done.text.splitlines()]
    assert {path.name: path.read_bytes() for path in paths} == {
        path.name: path.read_bytes() for path in copies.iterdir()
    }
    assert sheet.read_text(encoding="utf-8").count("data:image/jpeg") == 3
    assert "3 copied" in done.stderr
    assert "3 there already" in cli(*ASK, *options, "a dog").stderr
    assert len(os.listdir(pictures)) == 6


def test_folder_that_is_not_indexed_is_named(
    cli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    elsewhere = cli("query", "--under", str(tmp_path / "typo"), "a dog", expect=1).stderr
    assert "no picture meets the filters" in elsewhere
    assert f"{tmp_path / 'typo'} is in no indexed folder" in elsewhere
    for known in (pictures, pictures / "2019", pictures.parent):
        found = cli("query", "--under", str(known), "--after", "2100", "a dog", expect=1)
        assert "no indexed folder" not in found.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--format", "{path.__class__}"], "asks for 'path.__class__'"),
        (["--sheet", "sheet.pdf"], "must end in .png or .html"),
        (["--copy-to", str(SCHEMA)], "is no folder"),
        (["--json", "--preview", "sixel"], "does not go with --json"),
    ],
)
def test_bad_options_get_one_line_and_status_2(
    tmp_path: Path, options: Sequence[str], complaint: str
) -> None:
    # There is no library: whoever searched before looking would say that.
    refused = CommandLine(tmp_path / "library")("query", *options, "a dog", expect=2)
    assert refused.stdout == b""
    assert complaint in refused.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_person_at_a_terminal_sees_thumbnails(cli: CommandLine) -> None:
    from render.controlling_terminal import run_with_terminal
    from render.decoded_pictures import FRAME, decode_kitty

    outcome = run_with_terminal(
        [str(COMMAND), *ASK, "a dog"],
        environment={**cli.environment(), "TERM": "xterm-kitty", "TMUX": "", "STY": ""},
        size=(80, 40, 800, 800),
    )
    assert outcome.status == 0, outcome.stderr
    (framed,) = FRAME.finditer(outcome.screen)
    assert decode_kitty(framed["picture"])[0].width == 800
    assert outcome.modes_kept
