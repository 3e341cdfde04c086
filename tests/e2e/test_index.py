"""`siglip-search index` on folders as they are: good, bad, moved, gone and back."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from siglip_search import demo

if TYPE_CHECKING:
    from installed_command import CommandLine

PARTS = ("added", "changed", "moved", "unchanged", "failed", "ignored")


def adds_up(report: Any) -> bool:
    return bool(report["seen"] == sum(report[part] for part in PARTS))


def test_every_picture_of_the_gallery_is_added_once_and_then_unchanged(
    cli: CommandLine, tmp_path: Path
) -> None:
    shutil.copytree(demo.gallery_directory(), tmp_path / "gallery")
    files = [path for path in (tmp_path / "gallery").rglob("*") if path.is_file()]
    first = cli.index(tmp_path / "gallery")
    assert adds_up(first)
    assert first["seen"] == len(files)
    assert first["ignored"] == 1  # gallery.json
    assert first["added"] == len(files) - 1 == first["embedded"]
    assert first["failures"] == []
    second = cli.index(tmp_path / "gallery")
    assert adds_up(second)
    assert (second["unchanged"], second["embedded"]) == (len(files) - 1, 0)
    cli.verify()


def test_without_paths_every_known_folder_is_looked_at_again(
    cli: CommandLine, pictures: Path
) -> None:
    cli.index(pictures)
    (pictures / "picture-00.jpg").unlink()
    again = cli("index", "--json").json
    assert (again["removed"], again["unchanged"]) == (1, 11)


def test_copies_and_moves_cost_no_embedding(cli: CommandLine, pictures: Path) -> None:
    cli.index(pictures)
    shutil.copy(pictures / "picture-00.jpg", pictures / "copy.jpg")
    (pictures / "sub").mkdir()
    (pictures / "picture-01.jpg").rename(pictures / "sub" / "moved.jpg")
    # A move that changes inode and time can only be told by its content.
    shutil.copy(pictures / "picture-02.jpg", pictures / "sub" / "rewritten.jpg")
    (pictures / "picture-02.jpg").unlink()
    report = cli.index(pictures)
    assert adds_up(report)
    assert (report["added"], report["copies"], report["moved"]) == (1, 1, 2)
    assert report["embedded"] == 0
    assert cli.status()["pictures"] == 12
    assert cli.status()["files"] == 13
    cli.verify()


def test_copies_that_are_new_together_are_embedded_once(cli: CommandLine, pictures: Path) -> None:
    for number in range(5):
        shutil.copy(pictures / "picture-00.jpg", pictures / f"copy-{number}.jpg")
    report = cli.index(pictures)
    assert (report["added"], report["copies"], report["embedded"]) == (17, 5, 12)


def test_changed_content_replaces_the_old(cli: CommandLine, pictures: Path) -> None:
    cli.index(pictures)
    shutil.copy(pictures / "picture-01.jpg", pictures / "other.bin")
    Image.new("RGB", (64, 64), "red").save(pictures / "picture-00.jpg")
    report = cli.index(pictures)
    assert (report["changed"], report["embedded"], report["ignored"]) == (1, 1, 1)
    assert cli.status()["pictures"] == 12
    cli.verify()


def test_vanished_picture_leaves_the_results_and_comes_back_for_nothing(
    cli: CommandLine, pictures: Path
) -> None:
    cli.index(pictures)
    everything = cli.paths("thing", "--min-probability", "0", "-n", "50")
    assert len(everything) == 12
    hidden = pictures.parent / "elsewhere.jpg"
    (pictures / "picture-03.jpg").rename(hidden)
    assert cli.index(pictures)["removed"] == 1
    assert len(cli.paths("thing", "--min-probability", "0", "-n", "50")) == 11
    assert cli.status()["vanished"] == 1
    hidden.rename(pictures / "picture-03.jpg")
    report = cli.index(pictures)
    assert (report["added"], report["embedded"]) == (1, 0)
    assert sorted(cli.paths("thing", "--min-probability", "0", "-n", "50")) == sorted(everything)
    cli.verify()


def test_pruned_pictures_are_gone_for_good(cli: CommandLine, pictures: Path) -> None:
    cli.index(pictures)
    (pictures / "picture-03.jpg").unlink()
    cli.index(pictures)
    assert cli("prune").text == "0 pictures deleted from the library\n"
    assert cli("prune", "--days", "0").text == "1 picture deleted from the library\n"
    assert cli.status()["vanished"] == 0
    cli.verify()


def test_missing_or_empty_root_removes_nothing_and_says_so(
    cli: CommandLine, pictures: Path
) -> None:
    cli.index(pictures)
    away = pictures.rename(pictures.parent / "away")
    missing = cli.index(pictures)
    assert (missing["removed"], missing["unreachable"]) == (0, 12)
    assert "unmounted" in missing["warnings"][0]
    pictures.mkdir()
    empty = cli.index(pictures)
    assert (empty["removed"], empty["unreachable"]) == (0, 12)
    assert "empty" in empty["warnings"][0]
    assert cli.status()["files"] == 12
    pictures.rmdir()
    away.rename(pictures)
    assert cli.index(pictures)["unchanged"] == 12


def test_forgotten_folder_leaves_the_library(cli: CommandLine, pictures: Path) -> None:
    cli.index(pictures)
    assert "12 pictures deleted" in cli("forget", pictures).text
    assert cli.status()["roots"] == []
    refused = cli("forget", pictures, expect=2)
    assert "not an indexed folder" in refused.stderr
    cli.verify()


@pytest.mark.slow
def test_larger_folder_takes_the_smaller_one_in(cli: CommandLine, pictures: Path) -> None:
    (pictures / "sub").mkdir()
    for name in ("picture-00.jpg", "picture-01.jpg"):
        (pictures / name).rename(pictures / "sub" / name)
    cli.index(pictures / "sub", pictures / "picture-02.jpg")
    assert len(cli.status()["roots"]) == 2
    report = cli.index(pictures)
    assert cli.status()["roots"] == [str(pictures)]
    assert (report["unchanged"], report["added"], report["embedded"]) == (3, 9, 9)
    cli.verify()


def test_part_of_a_known_folder_can_be_looked_at_alone(cli: CommandLine, pictures: Path) -> None:
    (pictures / "sub").mkdir()
    (pictures / "picture-00.jpg").rename(pictures / "sub" / "a.jpg")
    cli.index(pictures)
    (pictures / "sub" / "a.jpg").unlink()
    (pictures / "sub" / "b.txt").write_text("x")
    (pictures / "picture-01.jpg").unlink()
    report = cli.index(pictures / "sub")
    assert (report["removed"], report["seen"]) == (1, 1)
    assert cli.status()["roots"] == [str(pictures)]
    assert cli.status()["files"] == 11


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header states a size that its data does not have."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_bad_pictures_are_recorded_with_their_reason_and_stop_nothing(
    cli: CommandLine, pictures: Path
) -> None:
    whole = (pictures / "picture-00.jpg").read_bytes()
    (pictures / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "text.jpg").write_text("not a picture at all")
    (pictures / "empty.png").touch()
    (pictures / "bomb.png").write_bytes(png_claiming(60_000, 60_000))
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n")
    report = cli.index(pictures)
    assert adds_up(report)
    assert (report["added"], report["failed"], report["ignored"]) == (12, 4, 2)
    reasons = {Path(failure["path"]).name: failure["reason"] for failure in report["failures"]}
    assert "truncated" in reasons["truncated.jpg"].lower()
    assert "not a picture" in reasons["text.jpg"]
    assert "empty" in reasons["empty.png"]
    assert "pixels" in reasons["bomb.png"]
    assert "--max-pixels" in reasons["bomb.png"]
    assert cli.status()["failed"] == 4
    assert "bomb.png" in cli("status", "--failed").text
    # They are not read again until they change, and a strict run says so.
    again = cli.index(pictures, "--strict", expect=1)
    assert (again["failed"], again["unchanged"], again["embedded"]) == (4, 12, 0)
    (pictures / "truncated.jpg").write_bytes(whole)
    mended = cli.index(pictures)
    assert (mended["failed"], mended["changed"], mended["embedded"]) == (3, 1, 0)
    cli.verify()


def test_picture_above_the_pixel_limit_can_be_let_in_later(
    cli: CommandLine, pictures: Path
) -> None:
    small = cli.index(pictures, "--max-pixels", "100")
    assert small["failed"] == 12
    assert cli.index(pictures, "--retry-failed")["changed"] == 12


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_with_the_name_of_a_picture_is_not_opened(cli: CommandLine, pictures: Path) -> None:
    os.mkfifo(pictures / "pipe.jpg")
    report = cli.index(pictures)
    assert (report["added"], report["ignored"]) == (12, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes")
def test_any_name_survives(cli: CommandLine, pictures: Path) -> None:
    folder = os.fsencode(pictures)
    names = [b"new\nline.jpg", b"latin1-\xe9.jpg", b"tab\there.jpg", "日本 \U0001f6b2.jpg".encode()]
    for number, name in enumerate(names):
        (pictures / f"picture-{number:02}.jpg").rename(os.fsdecode(folder + b"/" + name))
    cli.index(pictures)
    found = {os.fsencode(path) for path in cli.paths("x", "--min-probability", "0", "-n", "50")}
    assert {folder + b"/" + name for name in names} <= found
    table = cli("query", "--min-probability", "0", "-n", "50", "x")
    assert len(table.stdout.splitlines()) == 12  # a newline in a name makes no new line
    assert cli.index(pictures)["unchanged"] == 12
    objects = cli("query", "--json", "--min-probability", "0", "-n", "50", "x").json
    assert {os.fsencode(hit["path"]) for hit in objects} == found


def test_hidden_and_excluded_files_are_left_out(cli: CommandLine, pictures: Path) -> None:
    shutil.copy(pictures / "picture-00.jpg", pictures / ".hidden.jpg")
    (pictures / "private").mkdir()
    (pictures / "picture-01.jpg").rename(pictures / "private" / "a.jpg")
    (pictures / ".siglipignore").write_text("private/\n")
    report = cli.index(pictures, "--exclude", "picture-0[2-4].jpg")
    assert report["added"] == 8


def test_symlinks_in_a_circle_are_walked_once(cli: CommandLine, pictures: Path) -> None:
    (pictures / "loop").symlink_to(pictures, target_is_directory=True)
    assert cli.index(pictures)["added"] == 12


def test_dry_run_counts_and_writes_nothing(cli: CommandLine, pictures: Path) -> None:
    report = cli.index("--dry-run", pictures)
    assert (report["added"], report["embedded"]) == (12, 0)
    assert not cli.library.exists()


def test_folder_that_does_not_exist_is_an_error(cli: CommandLine, tmp_path: Path) -> None:
    refused = cli("index", "--model", "demo", tmp_path / "nowhere", expect=2)
    assert "there is no file or folder" in refused.stderr
    assert "nowhere" in refused.stderr


def test_without_a_model_the_line_that_gets_one_is_shown(cli: CommandLine, pictures: Path) -> None:
    refused = cli("index", pictures, expect=2)
    assert "siglip-search model pull siglip-base-patch16-384" in refused.stderr
    assert "--model demo" in refused.stderr
    assert not cli.library.exists()


def test_events_are_lines_and_the_last_one_is_the_report(cli: CommandLine, pictures: Path) -> None:
    lines = cli("index", "--model", "demo", "--json-events", pictures).text.splitlines()
    *batches, last = map(json.loads, lines)
    assert {event["event"] for event in batches} == {"committed"}
    assert sum(len(event["paths"]) for event in batches) == 12
    assert last["event"] == "finished"
    assert adds_up(last)


def test_summary_for_people_says_what_was_done(cli: CommandLine, pictures: Path) -> None:
    (pictures / "bad.jpg").write_text("bad")
    done = cli("index", "--model", "demo", pictures)
    assert "12 pictures added" in done.text
    assert "1 file could not be read" in done.text
    assert "bad.jpg: not a picture" in done.text
    assert done.stderr == ""


def test_touched_pictures_are_no_copies_of_themselves(cli: CommandLine, pictures: Path) -> None:
    cli.index(pictures)
    for picture in pictures.iterdir():
        os.utime(picture, (1, 1))
    report = cli.index(pictures)
    assert (report["changed"], report["copies"], report["embedded"]) == (12, 0, 0)


def test_single_picture_that_was_deleted_leaves_the_results(
    cli: CommandLine, pictures: Path
) -> None:
    cli.index(pictures / "picture-00.jpg", pictures / "picture-01.jpg")
    (pictures / "picture-00.jpg").unlink()
    assert cli("index", "--json").json["removed"] == 1
    assert cli("index", "--json").json["removed"] == 0  # it was gone already
    assert cli.status()["files"] == 1


@pytest.mark.parametrize("command", ["index", "forget"])
def test_empty_path_does_nothing(cli: CommandLine, command: str) -> None:
    options = ["--model", "demo"] if command == "index" else []
    assert "a path is empty" in cli(command, *options, "", expect=2).stderr
    assert "a path is empty" in cli("status", "--library", "", expect=2).stderr


def test_home_of_nobody_is_no_place(cli: CommandLine) -> None:
    refused = cli("index", "--model", "demo", "~nosuchuser/x", expect=2)
    assert "~nosuchuser" in refused.stderr


@pytest.mark.slow
def test_hidden_folder_that_was_indexed_by_name_is_not_swallowed(
    cli: CommandLine, pictures: Path
) -> None:
    (pictures / ".private").mkdir()
    (pictures / "picture-00.jpg").rename(pictures / ".private" / "a.jpg")
    assert cli.index(pictures / ".private")["added"] == 1
    assert "--hidden" in cli("index", pictures, expect=2).stderr
    assert cli.status()["files"] == 1
    assert cli.index("--hidden", pictures)["added"] == 11
    assert cli.status()["files"] == 12


def test_file_that_is_no_picture_gets_one_clear_line(cli: CommandLine, pictures: Path) -> None:
    notes = pictures / "notes.txt"
    notes.write_text("no picture")
    report = cli.index(notes, pictures / "picture-00.jpg")
    assert (report["added"], report["ignored"]) == (1, 1)
    assert report["warnings"] == [f"{notes} is not a picture: it is ignored"]
    assert cli.status()["roots"] == [str(pictures / "picture-00.jpg")]
