"""`siglip-search classify`: labels in, one line a picture out, exit statuses as grep's."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from siglip_search import demo

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine

GALLERY = demo.gallery_directory()
STAR = GALLERY / "beach/DSC00235.heic"
FISH = GALLERY / "beach/DSC00439.jpg"
DEMO = ("--model", "demo")


def test_each_picture_has_its_line_and_none_of_these_is_said(cli: CommandLine) -> None:
    done = cli("classify", *DEMO, "--labels", "star, dog,camel", STAR, FISH)
    first, second = done.text.splitlines()
    assert first.startswith(f"{STAR}: star ")
    assert first.endswith("%")
    assert second.startswith(f"{FISH}: none of these (best: ")
    assert done.stderr == "A demonstration on drawings, not photographs.\n"
    assert not cli.library.exists()


def test_exit_status_is_1_when_no_label_fits_any_picture(cli: CommandLine) -> None:
    done = cli("classify", *DEMO, "--labels", "camel,owl", STAR, FISH, expect=1)
    assert done.text.count("none of these") == 2


def test_json_holds_every_score_best_first(cli: CommandLine) -> None:
    pictures = cli("classify", *DEMO, "--json", "--labels", "camel,owl,star", STAR, FISH).json
    assert [picture["path"] for picture in pictures] == [str(STAR), str(FISH)]
    assert [picture["none_of_these"] for picture in pictures] == [False, True]
    for picture in pictures:
        assert {score["label"] for score in picture["labels"]} == {"camel", "owl", "star"}
        cosines = [score["cosine"] for score in picture["labels"]]
        assert cosines == sorted(cosines, reverse=True)
        assert sum(score["forced_choice"] for score in picture["labels"]) == pytest.approx(1)
    best = pictures[0]["labels"][0]
    assert (best["label"], best["matches"]) == ("star", True)
    assert best["probability"] > 0.9


def test_bad_pictures_are_named_and_the_others_go_on(cli: CommandLine, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(FISH.read_bytes()[:400])
    missing = tmp_path / "missing.jpg"
    pictures = (broken, STAR, missing, FISH)
    done = cli("classify", *DEMO, "--json", "--labels", "star,fish", *pictures, expect=2)
    assert [picture["path"] for picture in done.json] == [str(STAR), str(FISH)]
    first, second = done.stderr.splitlines()
    assert first.startswith(f"siglip-search: {broken}: ")
    assert second == f"siglip-search: {missing}: no such file"


def test_a_mistake_is_told_with_a_hint_before_any_picture_is_read(cli: CommandLine) -> None:
    done = cli("classify", *DEMO, "--labels", "dog", STAR, GALLERY, expect=2)
    assert done.stdout == b""
    assert "is a folder" in done.stderr
    assert "*.jpg" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no text")
def test_paths_and_labels_cannot_steer_the_terminal_and_survive_json(
    cli: CommandLine, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\x1b[31m.jpg"
    shutil.copy(FISH, path)
    done = cli("classify", *DEMO, "--labels", "fish\x1b[31m", "--min-probability", "0", path)
    assert b"\x1b" not in done.stdout
    (picture,) = cli("classify", *DEMO, "--json", "--labels", "fish", path).json
    assert os.fsencode(picture["path"]) == path


def test_model_is_the_one_asked_for_the_librarys_or_the_settings(
    cli: CommandLine, indexed_gallery: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("classify", "--labels", "star", STAR)
    nobody = cli(*arguments, expect=2)
    assert "no model has been chosen yet" in nobody.stderr
    assert "model pull" in nobody.stderr
    assert "star" in indexed_gallery(*arguments).text
    monkeypatch.setenv("SIGLIP_SEARCH_MODEL", "demo")
    assert "star" in cli(*arguments).text


@pytest.mark.skipif(sys.platform == "win32", reason="signals as of POSIX")
def test_lines_come_as_pictures_are_done_and_ctrl_c_ends_at_once(cli: CommandLine) -> None:
    # Far more pictures than are done before the first line has been read.
    process = cli.start("classify", *DEMO, "--labels", "dog", *[STAR, FISH] * 2000)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(str(STAR))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
