"""`siglip-search tag` in this very process: forms of output and mistakes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING

import click
import pytest

from siglip_index import open_store
from siglip_index.errors import LibraryMissingError
from siglip_search import demo, open_library
from siglip_search.cli.labels_file import read_labels_file
from siglip_search.cli.tag_cmd import tag
from siglip_search.errors import PathError, QueryError
from siglip_search.search.vocabulary import default_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

GALLERY = demo.gallery_directory()


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library and its pictures: read only."""
    folder = tmp_path_factory.mktemp("indexed")
    for place in ("beach", "snow", "forest"):
        shutil.copytree(GALLERY / place, folder / "pictures" / place)
    with open_library(folder / "library", model="demo") as library:
        library.index([folder / "pictures"])
    return folder


@pytest.fixture
def library(indexed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(indexed / "library", tmp_path / "library")


@pytest.fixture
def run(library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command; return exit status, stdout and stderr."""
    monkeypatch.setenv("SIGLIP_SEARCH_LIBRARY", str(library))

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = tag.main(list(map(str, arguments)), standalone_mode=False)
        output = capsys.readouterr()
        return code or 0, output.out, output.err

    return run


@pytest.fixture
def places(tmp_path: Path) -> Path:
    file = tmp_path / "places.txt"
    file.write_text("# places\nbeach\nsnow\n\nforest\n", encoding="utf-8")
    return file


def test_pictures_are_compared_once_and_counts_are_shown(run: Run, places: Path) -> None:
    code, out, err = run("--labels", places, "--min-probability", "0.5")
    assert code == 0
    first, cut, most = out.splitlines()
    assert first.startswith(f"27 pictures compared with 3 labels of {places}: ")
    assert "probability of 50% by the model's own measure, not calibrated" in cut
    assert most.startswith("most: ")
    assert "drawings" in err  # the demo model's notice
    code, out, _ = run()
    assert out.startswith("0 pictures compared with 3 labels")
    assert run("--again")[1].startswith("27 pictures compared with 3 labels")


def test_the_list_tells_counts_labels_and_cut(run: Run, places: Path) -> None:
    assert run("--list")[0] == 1
    assert "no labels are chosen" in run("--list")[2]
    run("--labels", places, "--min-probability", "0.5")
    code, out, err = run("--list")
    assert code == 0
    counts = {line.split("  ", 1)[1]: int(line.split()[0]) for line in out.splitlines()}
    assert set(counts) == {"beach", "snow", "forest"}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert str(places) in err
    code, out, _ = run("--list", "--json")
    summary = json.loads(out)
    assert {row["label"]: row["pictures"] for row in summary["counts"]} == counts
    assert (summary["labels"], summary["scale"], summary["untagged"]) == (3, "model", 0)


def test_json_tells_what_a_run_did(run: Run, places: Path) -> None:
    _, out, err = run("--labels", places, "--min-probability", "0.5", "--json")
    told = json.loads(out)
    assert (told["compared"], told["left"], told["labels"]) == (27, 0, 3)
    assert told["tags"] == sum(row["pictures"] for row in told["counts"])
    assert (told["scale"], told["min_probability"], told["calibration"]) == ("model", 0.5, None)
    assert err == ""


def test_without_labels_the_list_of_the_program_is_taken(run: Run, places: Path) -> None:
    _, out, _ = run("--min-probability", "0.6")
    assert "labels of the program's list: " in out
    run("--labels", places)
    assert "of the program's list" in run("--default-labels")[1]


def test_a_cut_alone_keeps_the_labels(run: Run, places: Path) -> None:
    run("--labels", places, "--min-probability", "0.5")
    _, out, _ = run("--min-probability", "0.9")
    assert out.startswith(f"27 pictures compared with 3 labels of {places}")
    assert "90%" in out


def test_clearing_is_said_and_done(run: Run, places: Path) -> None:
    run("--labels", places, "--min-probability", "0.5")
    assert "all tags are deleted" in run("--clear")[2]
    assert run("--list")[:2] == (1, "")


def test_the_printed_labels_are_a_list_that_can_be_given(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("--print-labels")
    assert out == default_text()
    file = tmp_path / "mine.txt"
    file.write_text(out + "my dog Rex\n", encoding="utf-8")
    assert read_labels_file(str(file))[1][-1] == "my dog Rex"


def test_an_export_goes_to_a_file_or_to_the_output(
    run: Run, places: Path, tmp_path: Path, library: Path
) -> None:
    run("--labels", places, "--min-probability", "0.5")
    target = tmp_path / "tags.json"
    code, _, err = run("--export", target)
    rows = json.loads(target.read_text())
    assert code == 0
    assert f"tags of {len(rows)} pictures written to {target}" in err
    assert {tag["label"] for row in rows for tag in row["tags"]} == {"beach", "snow", "forest"}
    assert json.loads(run("--export", "-")[1]) == rows
    with pytest.raises(PathError, match="exists already"):
        run("--export", target)
    run("--export", target, "--force", "--under", json.loads(target.read_text())[0]["paths"][0])
    assert len(json.loads(target.read_text())) == 1
    with pytest.raises(PathError, match="a file of the library itself"):
        run("--export", library / "library.sqlite3", "--force")


def test_sidecars_are_counted_then_written_then_left_alone(
    run: Run, places: Path, tmp_path: Path, library: Path
) -> None:
    pictures = shutil.copytree(GALLERY / "beach", tmp_path / "own")
    shutil.rmtree(library)
    with open_library(library, model="demo") as opened:
        opened.index([pictures])
    run("--labels", places, "--min-probability", "0.5")
    with open_store(library, writable=False) as store:
        space = store.active_space()
        assert space is not None
        tagged = len(store.tags(space.key, store.photos_in_space(space.key)))
    assert run("--sidecars", "--dry-run")[1] == f"{tagged} sidecars would be written\n"
    assert not list(pictures.glob("*.xmp"))
    assert run("--sidecars")[:2] == (0, f"{tagged} sidecars written\n")
    assert len(list(pictures.glob("*.xmp"))) == tagged
    code, out, _ = run("--sidecars")
    assert code == 0
    assert out.splitlines() == [
        "0 sidecars written",
        f"{tagged} pictures left alone: there is a sidecar already, which is never overwritten",
    ]
    told = json.loads(run("--sidecars", "--json")[1])
    assert (told["written"], told["existing"], told["refused"]) == (0, tagged, [])


def test_a_folder_that_is_away_is_named_and_the_status_says_so(
    run: Run, places: Path, tmp_path: Path, library: Path
) -> None:
    pictures = shutil.copytree(GALLERY / "beach", tmp_path / "own")
    shutil.rmtree(library)
    with open_library(library, model="demo") as opened:
        opened.index([pictures])
    run("--labels", places, "--min-probability", "0.5")
    pictures.rename(tmp_path / "elsewhere")
    code, out, err = run("--sidecars")
    assert (code, out) == (2, "0 sidecars written\n")
    assert f"  {pictures}: No such file or directory" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--list", "--clear"),
        ("--list", "--again"),
        ("--export", "x", "--sidecars"),
        ("--labels", "x", "--default-labels"),
        ("--min-calibrated", "0.5", "--min-probability", "0.5"),
        ("--dry-run",),
        ("--under", "x"),
        ("--force",),
        ("--sidecar-names", "stem"),
        ("--json", "--clear"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        run(*arguments)


@pytest.mark.parametrize("cut", ["0", "1.5", "-1", "x"])
def test_a_cut_is_a_probability(run: Run, cut: str) -> None:
    with pytest.raises(click.BadParameter):
        run("--min-probability", cut)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such device")
def test_a_labels_file_without_end_is_refused(run: Run) -> None:
    with pytest.raises(PathError, match="/dev/zero is longer than 4,000,000 bytes"):
        run("--labels", "/dev/zero")


def test_mistakes_in_a_labels_file_are_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(PathError, match="cannot be read"):
        run("--labels", tmp_path / "missing.txt")
    file = tmp_path / "labels.txt"
    file.write_bytes(b"dog\nk\xe4tzchen\n")
    with pytest.raises(PathError, match="is no UTF-8 text"):
        run("--labels", file)
    file.write_text("dog\nDog\n")
    with pytest.raises(QueryError, match=r"labels\.txt, line 2, is 'Dog'"):
        run("--labels", file)
    with pytest.raises(PathError):
        run("--labels", os.fspath(tmp_path))


def test_where_there_is_no_library_tagging_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGLIP_SEARCH_LIBRARY", str(tmp_path / "nowhere"))
    for arguments in ([], ["--list"], ["--clear"], ["--sidecars"], ["--export", "-"]):
        with pytest.raises(LibraryMissingError):
            tag.main(arguments, standalone_mode=False)
    assert not (tmp_path / "nowhere").exists()
