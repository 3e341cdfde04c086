"""The other commands: demo, status, model, verify, paths, purge."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from installed_command import COMMAND
from PIL import Image

from siglip_search import demo

if TYPE_CHECKING:
    from installed_command import CommandLine


def test_demo_shows_matches_and_an_honest_nothing(cli: CommandLine, tmp_path: Path) -> None:
    shown = cli("demo", tmp_path / "demo")
    assert "120 pictures added" in shown.text
    assert "nothing matches" in shown.text
    assert "drawings, not photographs" in shown.stderr
    with Image.open(tmp_path / "demo" / "contact-sheet.png") as sheet:
        assert sheet.width > 600
    # The user's own library is not touched, and what is said to type next works.
    assert not cli.library.exists()
    next_line = next(
        line for line in shown.text.splitlines() if "siglip-search query --lib" in line
    )
    library = next_line.split("--library ")[1].split()[0]
    assert cli("query", "--library", library, "--min-probability", "0", "banana").text


@pytest.mark.slow
def test_demo_without_a_folder_leaves_only_the_sheet(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    shown = cli("demo")
    sheet = Path(shown.text.split("Everything at a glance: ")[1].splitlines()[0])
    assert [path.name for path in sheet.parent.iterdir()] == ["contact-sheet.png"]
    kept = cli("demo", "--keep")
    sheet = Path(kept.text.split("Everything at a glance: ")[1].splitlines()[0])
    assert {path.name for path in sheet.parent.iterdir()} == {
        "contact-sheet.png",
        "library",
        "pictures",
    }


def test_status_of_a_library_that_does_not_exist_is_zeros(cli: CommandLine) -> None:
    status = cli.status()
    assert (status["pictures"], status["files"], status["failed"]) == (0, 0, 0)
    assert (status["model"], status["roots"]) == (None, [])
    assert "none yet" in cli("status").text


def test_status_of_a_library(indexed_gallery: CommandLine) -> None:
    status = indexed_gallery.status()
    assert (status["pictures"], status["files"], status["failed"]) == (120, 120, 0)
    assert status["model"] == "demo"
    assert len(status["roots"]) == 1


def test_facts_of_the_gallery_are_read_as_they_were_written(indexed_gallery: CommandLine) -> None:
    truth = json.loads((demo.gallery_directory() / "gallery.json").read_text(encoding="utf-8"))
    hits = indexed_gallery("query", "--json", "-n", "200", "--min-probability", "0", "x").json
    found = {Path(hit["path"]).name: hit for hit in hits}
    assert len(found) == 120
    for picture in truth["pictures"]:
        hit = found[Path(picture["file"]).name]
        assert hit["taken_at"] == picture["taken"], picture
        assert hit["camera"] == picture["camera"], picture
    turned = [picture for picture in truth["pictures"] if picture["orientation"] == 6]
    assert len(turned) == 1
    with Image.open(demo.gallery_directory() / turned[0]["file"]) as stored:
        hit = found[Path(turned[0]["file"]).name]
        assert (hit["width"], hit["height"]) == (stored.height, stored.width)


def test_models_are_listed_added_used_and_removed(
    cli: CommandLine, pictures: Path, tiny_model: Path
) -> None:
    before = {model["name"]: model for model in cli("model", "list", "--json").json}
    assert before["demo"]["installed"]
    assert not before["siglip-base-patch16-384"]["installed"]
    cli("model", "add", tiny_model)
    added = {model["name"]: model for model in cli("model", "list", "--json").json}
    (name,) = set(added) - set(before)
    assert cli("index", "--model", name, "--json", pictures).json["added"] == 12
    assert cli.status()["model"] == name
    assert "is taken" in cli("model", "add", tiny_model, expect=2).stderr.replace(
        "already", "is taken"
    )
    cli("model", "add", "--replace", tiny_model)
    cli("model", "remove", "--force", name)
    gone = cli("query", "dog", expect=2)
    assert name in gone.stderr


def test_missing_model_is_named_with_the_way_to_get_it(cli: CommandLine, pictures: Path) -> None:
    refused = cli("index", "--model", "siglip-base-patch16-384", pictures, expect=2)
    assert "siglip-search model pull siglip-base-patch16-384" in refused.stderr


def test_database_of_a_newer_version_is_not_touched(cli: CommandLine, pictures: Path) -> None:
    cli.index(pictures)
    (database,) = cli.library.glob("*.sqlite3")
    with sqlite3.connect(database) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute(f"PRAGMA user_version = {version + 1000}")
    connection.close()
    for command in (["query", "dog"], ["status"], ["index", str(pictures)], ["verify"]):
        refused = cli(*command, expect=None)
        assert refused.status in {1, 2}
        assert "newer" in refused.stderr + refused.text


def test_database_that_is_garbage_is_an_error_with_a_way_out(
    cli: CommandLine, pictures: Path
) -> None:
    cli.index(pictures)
    (database,) = cli.library.glob("*.sqlite3")
    database.write_bytes(os.urandom(20_000))
    refused = cli("query", "dog", expect=2)
    assert len(refused.stderr.strip().splitlines()) == 2
    assert cli("verify", expect=None).status in {1, 2}


def test_paths_names_every_place(cli: CommandLine) -> None:
    places = cli("paths", "--json").json
    assert places["library"] == str(cli.library)
    assert set(places) >= {"library", "models", "settings"}
    assert str(cli.library) in cli("paths").text


def test_purge_removes_what_we_wrote_and_nothing_else(
    cli: CommandLine, pictures: Path, tiny_model: Path
) -> None:
    cli.index(pictures)
    cli("model", "add", tiny_model)
    stranger = cli.library / "somebody-elses.txt"
    stranger.write_text("keep me")
    asked = cli("purge", expect=130)  # nobody answers
    assert "Delete all of this?" in asked.stderr
    assert cli.status()["pictures"] == 12
    cli("purge", "--yes")
    assert [path.name for path in cli.library.iterdir()] == ["somebody-elses.txt"]
    assert cli.status()["pictures"] == 0
    assert not Path(cli("paths", "--json").json["models"]).exists()
    assert len(list(pictures.iterdir())) == 12
    assert "nothing to delete" in cli("purge", "--yes").text


def test_library_and_pictures_on_a_read_only_medium_can_be_asked(
    indexed_gallery: CommandLine, tmp_path: Path
) -> None:
    frozen = tmp_path / "frozen"
    shutil.copytree(indexed_gallery.library, frozen)
    for path in [frozen, *frozen.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        found = indexed_gallery(
            "query", "--library", frozen, "--paths", "--min-probability", "0", "a dog"
        )
        assert len(found.text.splitlines()) == 10
    finally:
        for path in [frozen, *frozen.rglob("*")]:
            path.chmod(0o755)


def test_nothing_is_left_in_the_home_and_nothing_is_reported(
    cli: CommandLine, pictures: Path, isolated_home: Path
) -> None:
    # ONNX Runtime would keep a device id in the user's cache and send events to its maker.
    cli.index(pictures)
    cli.paths("a dog")
    assert [path for path in isolated_home.rglob("*") if path.is_file()] == []


def test_demo_that_cannot_be_laid_out_says_where(cli: CommandLine, pictures: Path) -> None:
    refused = cli("demo", pictures / "picture-00.jpg" / "x", expect=2)
    assert "cannot be laid out" in refused.stderr


@pytest.mark.skipif(os.name == "nt", reason="names a shell's device")
def test_output_that_cannot_be_written_is_an_error_not_a_traceback(
    indexed_gallery: CommandLine,
) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [COMMAND, "status", "--json"],
            env=indexed_gallery.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2
    assert b"the output cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr


def test_terminal_that_knows_ascii_only_gets_escapes(cli: CommandLine, pictures: Path) -> None:
    (pictures / "picture-00.jpg").rename(pictures / "\u65e5.jpg")
    cli.index(pictures)
    for form in ([], ["--csv"]):
        done = subprocess.run(
            [COMMAND, "query", "-n", "50", "--min-probability", "0", *form, "x"],
            env={**cli.environment(), "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=True,
        )
        assert b"Traceback" not in done.stderr
        assert len(done.stdout.splitlines()) >= 12
