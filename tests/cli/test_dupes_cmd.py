"""`dupes` as a user runs it: rows, JSON, CSV, plans for other programs, and exit statuses."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from installed_command import CommandLine
from PIL import Image

from siglip_search import demo
from siglip_search.cli import command_line
from siglip_search.engine.thumbnail_cache import thumbnail_cache_file

if TYPE_CHECKING:
    from click.testing import Result

NAMES_ARE_TEXT = os.name == "nt" or sys.platform == "darwin"
NO_TEXT = "copy.jpg" if NAMES_ARE_TEXT else os.fsdecode(b"caf\xe9.jpg")


def drawing(name: str) -> Path:
    (path,) = demo.gallery_directory().rglob(name)
    return path


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A library with a drawing, a smaller one of it, a copy of another, and a burst."""
    place = tmp_path_factory.mktemp("dupes")
    command = CommandLine(place / "library")
    folder = place / "pictures"
    folder.mkdir()
    shutil.copy(drawing("DSC00092.jpg"), folder / "a.jpg")
    shutil.copy(drawing("DSC00092.jpg"), folder / NO_TEXT)
    with Image.open(drawing("IMG_0685.jpg")) as image:
        image.save(folder / "whole.jpg", quality=92)
        image.resize((200, 150)).save(folder / "small.jpg")
    with Image.open(drawing("P0001234.jpg")) as image:
        for second in (1, 2):
            exif = Image.Exif()
            exif[271], exif[272] = "Maker", "Camera 1"
            exif.get_ifd(34665)[36867] = f"2024:06:01 10:00:0{second}"
            image.save(folder / f"burst-{second}.jpg", quality=80 + second, exif=exif)
    command.index(folder)
    return command


def here(command: CommandLine, *options: str, expect: int = 0) -> Result:
    """Run the command in this process, which is quicker."""
    done = CliRunner().invoke(command_line, ["dupes", "--library", str(command.library), *options])
    assert done.exit_code == expect, done.output
    return done


def test_installed_command_shows_groups_and_makes_plans(command: CommandLine) -> None:
    folder = command.library.parent / "pictures"
    rows = command("dupes")
    assert rows.text.count("the same photograph") == 1
    assert "* " + str(folder / "whole.jpg") in rows.text
    assert "200 x 150" in rows.text
    assert "2 groups of copies" in rows.stderr
    assert "1 burst" in rows.stderr
    assert "--thorough" not in rows.stderr
    moved = [path for path in command("dupes", "--plan", "-0").stdout.split(b"\0") if path]
    assert len(moved) == 2
    assert all(os.path.exists(path) for path in moved)
    assert len(list(folder.iterdir())) == 6


def test_everything_is_shown_in_every_form(command: CommandLine) -> None:
    groups = json.loads(here(command, "--json").stdout)
    assert [group["kind"] for group in groups] == ["near", "exact", "burst"]
    near, exact, burst = (group["pictures"] for group in groups)
    assert [Path(picture["path"]).name for picture in near] == ["whole.jpg", "small.jpg"]
    assert near[0]["likeness"] is None
    assert 0.9 <= near[1]["likeness"] <= 1.0
    assert near[1]["turned"] is None
    assert len(exact) == 1
    both = {Path(path).name for path in (exact[0]["path"], *exact[0]["copies"])}
    assert both == {"a.jpg", NO_TEXT}
    assert [Path(frame["path"]).name for frame in burst] == ["burst-1.jpg", "burst-2.jpg"]
    assert all(frame["camera"] == "Maker Camera 1" for frame in burst)

    text = here(command, "--csv").stdout_bytes.decode(errors="surrogateescape")
    table = list(csv.DictReader(io.StringIO(text)))
    assert len(table) == 6
    assert [row["kind"] for row in table] == ["near"] * 2 + ["exact"] * 2 + ["burst"] * 2
    assert [row["place"] for row in table] == ["1", "2"] * 3
    assert all(os.path.exists(row["path"]) for row in table)

    plan = here(command, "--plan")
    assert sorted(line.split()[0] for line in plan.stdout.splitlines()) == [
        *("keep", "keep", "move", "move")
    ]
    assert "burst" not in plan.stdout.replace(str(command.library.parent), "")
    assert "nothing was" in plan.stderr
    rows = json.loads(here(command, "--plan", "--json").stdout)
    moved = [row["path"] for row in rows if row["action"] == "move"]
    assert (
        moved
        == here(command, "--plan", "--paths")
        .stdout_bytes.decode(errors="surrogateescape")
        .splitlines()
    )
    assert "--thorough" in here(command, "--quick").stderr


def test_only_some_kinds_and_pictures_are_looked_at(command: CommandLine) -> None:
    kinds = [
        group["kind"] for group in json.loads(here(command, "--kind", "burst", "--json").stdout)
    ]
    assert kinds == ["burst"]
    nothing = here(command, "--type", "png", expect=1)
    assert nothing.stdout == ""
    assert "no duplicates among 0 pictures" in nothing.stderr
    assert json.loads(here(command, "--type", "png", "--json", expect=1).stdout) == []
    none = here(command, "--kind", "burst", "--plan", expect=1)
    assert "nothing would be moved" in none.stderr
    assert here(command, "--kind", "burst", "--burst-gap", "0.5", expect=1).stdout == ""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_interrupted_run_says_so_in_one_line_and_keeps_what_it_read(tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "library")
    folder = tmp_path / "pictures"
    shutil.copytree(demo.gallery_directory(), folder)
    command.index(folder)
    cache = thumbnail_cache_file()
    running = command.start("dupes")
    while not cache.exists():
        time.sleep(0.01)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert (running.returncode, stderr.strip()) == (130, "interrupted")
    with sqlite3.connect(cache) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    command("dupes", expect=None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--json", "--csv"), "Choose one"),
        (("--paths",), "--plan"),
        (("--kind", "alike"), "'exact', 'near', 'burst'"),
        (("--after", "whenever"), "--after"),
    ],
)
def test_options_that_contradict_one_another_are_refused(
    tmp_path: Path, options: tuple[str, ...], expected: str
) -> None:
    command = CommandLine(tmp_path / "library")
    done = CliRunner().invoke(command_line, ["dupes", "--library", str(command.library), *options])
    assert done.exit_code in {1, 2}  # some errors are for the caller to print
    assert expected in f"{done.stderr} {done.exception}"


def test_library_that_is_not_there_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    done = CommandLine(tmp_path / "library")("dupes", expect=2)
    assert "index" in done.stderr.lower()
    assert not (tmp_path / "library").exists()
