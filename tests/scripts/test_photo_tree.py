"""The generator of photo trees tells the truth, and what compares with it notices a lie."""

from __future__ import annotations

import copy
import hashlib
import importlib
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

EXTRAS = frozenset({"raw", "jxl"})


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "tree"
    command = [sys.executable, SCRIPTS / "make_photo_tree.py", folder, "--files", "400"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "400 files in" in said
    return folder


def content_of(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def report_of(truth: Any, root: str) -> dict[str, Any]:
    """What `index --json` has to say."""
    totals = asdict(truth.totals())
    others = ("changed", "moved", "unchanged", "removed", "pending", "unreachable")
    failures = [
        {"path": f"{root}/{file.path}", "reason": file.detail}
        for file in truth.seen_with()
        if file.fate == "failed"
    ]
    return {**totals, **dict.fromkeys(others, 0), "seen": truth.seen(), "failures": failures}


def test_truth_is_read_as_it_was_written(
    made: Path, module: Callable[[str], Any], tmp_path: Path
) -> None:
    truth = module("photo_tree.truth").read_truth(made / "truth.json")
    assert len(truth.files) == 400
    truth.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (made / "truth.json").read_bytes()


def test_same_seed_makes_the_same_tree(
    made: Path, module: Callable[[str], Any], tmp_path: Path
) -> None:
    make = module("make_photo_tree").make
    again = make(tmp_path / "again", files=400, seed=1)
    truth = module("photo_tree.truth").read_truth(made / "truth.json")
    assert again == truth
    other = make(tmp_path / "other", files=400, seed=2)
    assert {file.content for file in other.files} != {file.content for file in truth.files}


def test_contents_are_those_of_the_files(made: Path, module: Callable[[str], Any]) -> None:
    truth = module("photo_tree.truth").read_truth(made / "truth.json")
    root = os.fsencode(made / "Pictures")
    for file in truth.files:
        if file.fate == "picture":
            content = content_of(os.path.join(root, os.fsencode(file.path)))
            assert file.content == hashlib.sha256(content).hexdigest()
    pictures = truth.paths("picture", EXTRAS) | truth.paths("online-only", EXTRAS)
    for file in truth.files:
        if file.fate == "companion":
            assert file.of
            assert set(file.of) <= pictures


def test_without_an_extra_its_pictures_are_not_expected(module: Callable[[str], Any]) -> None:
    truths = module("photo_tree.truth")
    truth = truths.Truth(
        seed=1,
        files=[
            truths.FileTruth("a.jpg", "picture", content="1"),
            truths.FileTruth("b.jpg", "picture", content="1"),
            truths.FileTruth("c.dng", "picture", content="2", needs="raw"),
            truths.FileTruth("d.jpg", "failed", "truncated"),
            truths.FileTruth("d.dng", "picture", content="3", needs="raw", of=("d.jpg",)),
        ],
    )
    whole = truth.totals(EXTRAS)
    assert (whole.added, whole.copies, whole.embedded, whole.failed) == (4, 1, 3, 1)
    assert whole.companions == 0
    bare = truth.totals(frozenset())
    assert (bare.added, bare.copies, bare.embedded, bare.ignored) == (2, 1, 1, 1)
    assert bare.companions == 1
    assert bare.missing_extras == {"raw": 1}


def test_every_lie_is_noticed(made: Path, module: Callable[[str], Any]) -> None:
    truth = module("photo_tree.truth").read_truth(made / "truth.json")
    comparing = module("photo_tree.comparison")

    def differences(report: dict[str, Any]) -> list[str]:
        comparison = comparing.Comparison()
        comparing.compare_first_run(comparison, truth, report, "/root")
        return list(comparison.differences)

    honest = report_of(truth, "/root")
    assert differences(honest) == []
    for name in honest:
        if isinstance(honest[name], int):
            assert differences({**honest, name: honest[name] + 1}), name
    assert differences({**honest, "missing_extras": {"other": 1}})
    shorter = copy.deepcopy(honest)
    left_out = shorter["failures"].pop()
    (said,) = differences(shorter)
    assert left_out["path"].removeprefix("/root/") in said
    wrong = copy.deepcopy(honest)
    next(f for f in wrong["failures"] if f["reason"] == "truncated")["reason"] = "no idea"
    assert "no idea" in differences(wrong)[0]


def test_wrong_facts_copies_and_companions_are_noticed(module: Callable[[str], Any]) -> None:
    truths, comparing = module("photo_tree.truth"), module("photo_tree.comparison")
    truth = truths.Truth(
        seed=1,
        files=[
            truths.FileTruth("a.jpg", "picture", content="1", facts={"rating": 3}),
            truths.FileTruth("b.jpg", "picture", content="1"),
            truths.FileTruth("a.xmp", "companion", "sidecar", of=("a.jpg",)),
        ],
    )
    root = os.path.join(os.sep, "root")
    places = {name: os.path.join(root, name) for name in ("a.jpg", "b.jpg", "a.xmp")}
    whole = {
        "content_hash": "x",
        "paths": [places["a.jpg"], places["b.jpg"]],
        "companions": [places["a.xmp"]],
        "rating": 3,
    }

    def differences(*rows: dict[str, Any]) -> str:
        comparison = comparing.Comparison()
        comparing.compare_library(comparison, truth, rows, root)
        return "\n".join(comparison.differences)

    assert differences(whole) == ""
    assert "rating 4, not 3" in differences({**whole, "rating": 4})
    assert "what belongs to 'a.jpg': 1 missing" in differences({**whole, "companions": []})
    assert "files of pictures: 1 missing: 'b.jpg'" in differences(
        {**whole, "paths": [places["a.jpg"]]}
    )
    torn = ({**whole, "paths": [places["a.jpg"]]}, {**whole, "content_hash": "y"})
    torn[1].update(paths=[places["b.jpg"]], companions=[])
    assert "copies that are not together: 1 instead of 0" in differences(*torn)


def test_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, SCRIPTS / "make_photo_tree.py", tmp_path]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "not empty" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
