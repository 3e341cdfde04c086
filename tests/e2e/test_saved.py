"""Saved searches and their albums, through the installed commands."""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine

WORDS = ("--min-probability", "0.0", "-n", "5")


def links(album: Path) -> set[str]:
    return {name for name in os.listdir(album) if not name.startswith(".")}


@pytest.fixture
def library(cli: CommandLine, pictures: Path) -> CommandLine:
    cli.index(pictures)
    return cli


def test_a_saved_search_finds_what_its_question_finds(library: CommandLine) -> None:
    asked = ("a red ball", "--not", "a boat", "--min-probability", "0", "-n", "4")
    found = library.paths(*asked)
    assert len(found) == 4
    said = library("save", "balls", *asked)
    assert "saved as 'balls'" in said.stderr
    assert said.stdout == b""
    again = library("query", "-0", "--saved", "balls")
    assert [os.fsdecode(path) for path in again.stdout.split(b"\0") if path] == found
    fewer = library("query", "--paths", "--saved", "balls", "-n", "2")
    assert fewer.text.splitlines() == found[:2]
    (listed,) = library("saved", "--json").json["searches"]
    assert (listed["name"], listed["question"]["words"]) == ("balls", "a red ball")
    assert "a red ball" in library("saved").text
    library("saved", "remove", "balls")
    assert "no search is saved as 'balls'" in library("query", "--saved", "balls", expect=2).stderr


@pytest.mark.slow
def test_what_cannot_be_saved_is_one_line(library: CommandLine, tmp_path: Path) -> None:
    library("save", "one", "a ball")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    for arguments, words in [
        (("save", "one", "a boat"), "saved as 'one' already"),
        (("save", " ", "a boat"), "no name"),
        (("save", "two"), "WORDS"),
        (("save", "two", "--like", "-"), "standard input"),
        (("save", "two", "a boat", "--album", tmp_path / "full"), "holds files already"),
        (("query", "--saved", "two"), "no search is saved as 'two'"),
        (("query", "--saved", "one", "a boat"), "--saved"),
        (("saved", "remove", "two"), "no search is saved as 'two'"),
    ]:
        assert words in library(*arguments, expect=2).stderr, arguments
    library("save", "one", "a boat", "--replace")
    (listed,) = library("saved", "list", "--json").json["searches"]
    assert listed["question"]["words"] == "a boat"


def test_an_album_follows_the_library(library: CommandLine, pictures: Path, tmp_path: Path) -> None:
    album = tmp_path / "album"
    library("save", "all", "a drawing", "--min-probability", "0", "--album", album)
    names = {path.name for path in pictures.iterdir()}
    assert links(album) == names
    gone = min(pictures.iterdir())
    gone.unlink()
    shutil.copy(min(pictures.iterdir()), pictures / "copy.jpg")
    library.index()
    assert links(album) == names - {gone.name}
    assert "11 pictures" in library("saved", "albums").text
    # The links are no pictures of their own.
    library.index(tmp_path)
    assert len(library.paths("a drawing", *WORDS)) == 5
    assert library.status()["pictures"] == 11


def test_an_album_whose_drive_is_away_is_not_made_elsewhere(
    library: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    album = drive / "album"
    library("save", "all", "a drawing", "--min-probability", "0", "--album", album)
    drive.rename(tmp_path / "away")
    assert "is not there" in library("index", "--json").stderr
    assert not drive.exists()
    drive.mkdir()  # where it appears
    library("index")
    assert os.listdir(drive) == []
    # It is made again when somebody asks.
    library("saved", "albums")
    assert links(album) == {path.name for path in pictures.iterdir()}


def test_an_album_is_of_one_search_and_no_indexed_folder(
    library: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    album = tmp_path / "album"
    library("save", "one", "a drawing", "--album", album)
    library("save", "one", "a ball", "--album", album, "--replace")
    (tmp_path / "shortcut").symlink_to(album, target_is_directory=True)
    for typed in (album, tmp_path / "shortcut"):
        said = library("save", "two", "a boat", "--album", typed, expect=2).stderr
        assert "is the album of the search 'one'" in said
    pictures.rename(tmp_path / "away")
    pictures.mkdir()  # empty, as where a drive is missing
    said = library("save", "two", "a boat", "--album", pictures, expect=2).stderr
    assert "the indexed folder" in said
    assert os.listdir(pictures) == []


@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_watch_keeps_albums(library: CommandLine, pictures: Path, tmp_path: Path) -> None:
    album = tmp_path / "album"
    library("save", "all", "a drawing", "--min-probability", "0", "--album", album)
    gone = min(pictures.iterdir())
    daemon = library.start("watch", "--quiet")
    try:
        time.sleep(1)
        gone.unlink()
        deadline = time.monotonic() + 60
        while gone.name in links(album) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert gone.name not in links(album)
    finally:
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=60)
    assert "Traceback" not in errors
