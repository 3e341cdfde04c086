from __future__ import annotations

import json
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_search.engine import album_folder
from siglip_search.engine.album_folder import (
    MANIFEST,
    AlbumReport,
    fill_album,
    make_album,
    require_album,
    without_prefix,
)
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from pathlib import Path


def filled(album: Path, pictures: list[str]) -> AlbumReport:
    make_album(album)
    return fill_album(album, pictures)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("beach.jpg", "Beach.JPG", "dog.png"):
            path = tmp_path / folder / name
            path.write_text(f"{folder} {name}")
            found.append(str(path))
    return found


def shown(album: Path) -> dict[str, str]:
    return {
        name: (album / name).read_text() for name in os.listdir(album) if not name.startswith(".")
    }


def test_an_album_shows_every_picture_once_whatever_they_are_called(
    tmp_path: Path, pictures: list[str]
) -> None:
    album = tmp_path / "album"
    report = filled(album, pictures)
    assert (report.pictures, report.added, report.removed, report.refused) == (6, 6, 0, 0)
    assert sorted(shown(album).values()) == sorted(
        f"{folder} {name}" for folder in "ab" for name in ("beach.jpg", "Beach.JPG", "dog.png")
    )
    assert "beach-2.jpg" in {name.casefold() for name in shown(album)}
    again = filled(album, pictures)
    assert (again.pictures, again.added, again.removed) == (6, 0, 0)


def test_what_matches_no_more_goes_and_nothing_else(tmp_path: Path, pictures: list[str]) -> None:
    album = tmp_path / "album"
    filled(album, pictures)
    (album / "notes.txt").write_text("the user's own")
    own = album / "dog.png"
    own.unlink()
    own.write_text("the user's own picture")
    report = filled(album, pictures[:1])
    assert (report.pictures, report.added) == (1, 0)
    assert set(shown(album)) == {"beach.jpg", "notes.txt", "dog.png"}
    assert own.read_text() == "the user's own picture"
    assert all(os.path.exists(path) for path in pictures)


def test_a_vanished_picture_leaves_no_dead_link(tmp_path: Path, pictures: list[str]) -> None:
    album = tmp_path / "album"
    filled(album, pictures)
    os.unlink(pictures[0])
    filled(album, pictures)
    assert all(os.path.exists(album / name) for name in os.listdir(album))
    assert len(shown(album)) == 5


def test_where_symbolic_links_are_refused_hard_ones_are_made(
    tmp_path: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    album = tmp_path / "album"
    filled(album, pictures)
    assert len(shown(album)) == 6
    assert not any((album / name).is_symlink() for name in shown(album))
    # The last name of a picture is not taken away with the search that found it.
    os.unlink(pictures[5])
    filled(album, [])
    assert shown(album) == {"dog-2.png": "b dog.png"}


def test_a_run_that_was_killed_before_its_list_was_written_is_gone_on_with(
    tmp_path: Path, pictures: list[str]
) -> None:
    album = tmp_path / "album"
    filled(album, [])
    os.symlink(pictures[0], album / "beach.jpg")
    report = filled(album, pictures[:1])
    assert (report.pictures, report.added) == (1, 0)
    assert list(shown(album)) == ["beach.jpg"]


def test_an_album_is_left_out_when_folders_are_indexed(tmp_path: Path) -> None:
    filled(tmp_path / "album", [])
    assert (tmp_path / "album" / ".siglipignore").read_text().splitlines()[-1] == "*"


def test_a_folder_with_other_files_is_no_album(tmp_path: Path, pictures: list[str]) -> None:
    with pytest.raises(PathError, match="holds files already"):
        require_album(tmp_path / "a")
    with pytest.raises(PathError, match="cannot be read"):
        require_album(tmp_path / "a" / "dog.png")
    require_album(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    require_album(tmp_path / "empty")
    filled(tmp_path / "new", pictures)
    require_album(tmp_path / "new")


@pytest.mark.parametrize("text", ["", "[]", '{"links": 3}', "\0"])
def test_a_damaged_list_deletes_nothing(tmp_path: Path, pictures: list[str], text: str) -> None:
    album = tmp_path / "album"
    filled(album, pictures)
    (album / MANIFEST).write_text(text)
    with pytest.raises(OSError, match="cannot be read"):
        fill_album(album, [])
    assert len(shown(album)) == 6


def test_a_list_cannot_lead_out_of_the_album(tmp_path: Path, pictures: list[str]) -> None:
    album = tmp_path / "album"
    filled(album, [])
    outside = tmp_path / "outside.jpg"
    outside.symlink_to(pictures[0])
    (album / MANIFEST).write_text(json.dumps({"links": {"../outside.jpg": pictures[0]}}))
    filled(album, [])
    assert outside.is_symlink()


def test_links_stay_while_a_drive_is_away(tmp_path: Path, pictures: list[str]) -> None:
    album = tmp_path / "album"
    filled(album, pictures)
    (tmp_path / "b").rename(tmp_path / "away")
    assert fill_album(album, pictures).removed == 0
    (tmp_path / "away").rename(tmp_path / "b")
    assert len(shown(album)) == 6
    # What the search finds no more goes all the same.
    (tmp_path / "b").rename(tmp_path / "away")
    assert fill_album(album, pictures[:3]).removed == 3


def test_a_picture_in_the_album_is_no_link(tmp_path: Path, pictures: list[str]) -> None:
    album = tmp_path / "album"
    filled(album, pictures[:1])
    own = album / "own.jpg"
    own.write_text("the only copy")
    (tmp_path / "shortcut").symlink_to(album, target_is_directory=True)
    for name in (str(own), str(tmp_path / "shortcut" / "own.jpg")):
        assert fill_album(album, [name]).pictures == 0
        fill_album(album, [])
        assert own.read_text() == "the only copy"
    # Not even where a list says that it was made here.
    (album / MANIFEST).write_text(json.dumps({"links": {"own.jpg": str(own)}}))
    fill_album(album, [])
    assert own.read_text() == "the only copy"


def test_a_link_that_cannot_be_taken_away_is_not_forgotten(
    tmp_path: Path, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    album = tmp_path / "album"
    filled(album, pictures)

    def refuse(*_: object) -> None:
        raise PermissionError("in use by another program")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        report = fill_album(album, [])
    assert (report.pictures, report.removed) == (0, 0)
    assert fill_album(album, []).removed == 6
    assert not shown(album)


def test_an_album_that_does_not_change_is_not_written_to(
    tmp_path: Path, pictures: list[str]
) -> None:
    album = tmp_path / "album"
    filled(album, pictures)
    before = (album / MANIFEST).stat()
    assert filled(album, pictures).pictures == 6
    after = (album / MANIFEST).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_first_run_that_was_killed_leaves_an_album(tmp_path: Path, pictures: list[str]) -> None:
    stop = threading.Event()
    stop.set()
    make_album(tmp_path / "album")
    assert fill_album(tmp_path / "album", pictures, stop).pictures == 0
    require_album(tmp_path / "album")
    assert fill_album(tmp_path / "album", pictures).pictures == 6
    assert fill_album(tmp_path / "album", [], stop).removed == 0
    assert len(shown(tmp_path / "album")) == 6


def test_thousands_of_one_name_take_no_time(tmp_path: Path) -> None:
    target = tmp_path / "target.jpg"
    target.write_text("")
    names = []
    for number in range(4000):
        folder = tmp_path / "from" / str(number)
        folder.mkdir(parents=True)
        (folder / "image.jpg").symlink_to(target)
        names.append(str(folder / "image.jpg"))
    started = time.perf_counter()
    assert filled(tmp_path / "album", names).added == 4000
    # 8 s where each looks for a free name from the first number on.
    assert time.perf_counter() - started < 4
    shutil.rmtree(tmp_path / "from")


def test_no_indexed_folder_becomes_an_album(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for folder in (root, tmp_path):
        with pytest.raises(PathError, match="the indexed folder"):
            require_album(folder, [os.fsencode(root)])
    require_album(root / "album", [os.fsencode(root)])


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("\\\\?\\C:\\Pictures\\a.jpg", "C:\\Pictures\\a.jpg"),
        ("\\\\?\\UNC\\nas\\photos\\a.jpg", "\\\\nas\\photos\\a.jpg"),
        ("/pictures/a.jpg", "/pictures/a.jpg"),
    ],
)
def test_a_link_on_windows_is_known_again(target: str, path: str) -> None:
    assert without_prefix(target) == path


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text_are_linked_and_known_again(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    (tmp_path / "from" / name).write_text("odd")
    pictures = [str(tmp_path / "from" / name)]
    assert filled(tmp_path / "album", pictures).added == 1
    assert filled(tmp_path / "album", pictures).added == 0
    assert fill_album(tmp_path / "album", []).removed == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), unique=True), min_size=1, max_size=6))
def test_after_any_sequence_an_album_shows_the_last_answer(
    tmp_path_factory: pytest.TempPathFactory, answers: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("sequence")
    pictures = []
    for number in range(6):
        path = folder / str(number % 3) / f"{number // 2}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
        pictures.append(str(path))
    for answer in answers:
        filled(folder / "album", [pictures[number] for number in answer])
    assert sorted(shown(folder / "album").values()) == sorted(map(str, answers[-1]))
    assert album_folder._manifest(folder / "album").keys() == shown(folder / "album").keys()
