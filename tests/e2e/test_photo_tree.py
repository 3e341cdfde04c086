"""A generated tree with everything that lies about among pictures, against its own truth.

scripts/check_photo_tree.py does the same with 20,000 files.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from installed_command import CommandLine

from siglip_index import open_store
from siglip_search.engine.explain import explain
from siglip_search.engine.indexing import IndexOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

FILES, SEED = 650, 20_261_121


@dataclass
class Indexed:
    """What the commands said, one after the other.

    Attributes:
        truth: Of the tree (scripts/photo_tree/truth.py).
        root: Where the tree was.
        moved: Where it is since then.
        first, again, after_move: Reports of three runs.
        status: Before the move.
        rows, rows_after_move: What the library exports.
        results: Paths that a query for anything shows, before the move.
    """

    truth: Any
    root: Path
    moved: Path
    first: Any
    status: Any
    rows: Any
    results: list[str]
    again: Any
    after_move: Any
    rows_after_move: Any
    cli: CommandLine


@pytest.fixture(scope="module")
def comparing() -> Iterator[Any]:
    """The module that compares a truth with what was found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        from photo_tree import comparison

        yield comparison


@pytest.fixture(scope="module")
def indexed(comparing: Any, tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    from make_photo_tree import PICTURES, make

    folder = tmp_path_factory.mktemp("tree")
    truth = make(folder, files=FILES, seed=SEED)
    cli = CommandLine(folder / "library")
    root = folder / PICTURES
    first = cli.index(root)
    status = cli("status", "--failed", "--json").json
    rows = exported(cli)
    results = cli.paths("anything", "--min-probability", "0", "-n", str(2 * FILES))
    again = cli.index(root)
    moved = root.rename(folder / "moved here")
    cli("roots", "relocate", root, moved)
    after_move = cli.index()
    return Indexed(
        truth, root, moved, first, status, rows, results, again, after_move, exported(cli), cli
    )


def exported(cli: CommandLine) -> list[Any]:
    lines = cli("export", "--to", "jsonl", "--no-vectors", "-").text.splitlines()
    return [json.loads(line) for line in lines]


def test_truth_has_every_file_of_the_tree(indexed: Indexed) -> None:
    folder = os.fsencode(indexed.moved)
    there = {
        os.fsdecode(os.path.relpath(os.path.join(place, name), folder)).replace(os.sep, "/")
        for place, folders, names in os.walk(folder)
        for name in [
            *names,
            *(name for name in folders if os.path.islink(os.path.join(place, name))),
        ]
    }
    told = {file.path for file in indexed.truth.files}
    assert len(told) == len(indexed.truth.files) == FILES
    # The one behind a link, and the one in a folder that may not be listed.
    elsewhere = {"Links/out of the tree/there.jpg", "Special/locked/inside.jpg"}
    assert told - elsewhere == there - {"Links/out of the tree"}


def test_every_count_and_failure_of_the_first_run_is_the_truths(
    indexed: Indexed, comparing: Any
) -> None:
    comparison = comparing.Comparison()
    comparing.compare_first_run(comparison, indexed.truth, indexed.first, str(indexed.root))
    assert comparison.differences == []
    locked = any(file.path.startswith("Special/locked/") for file in indexed.truth.files)
    folders = [warning.partition(": ")[0] for warning in indexed.first["warnings"]]
    assert folders == ([str(indexed.root / "Special" / "locked")] if locked else [])


def test_every_count_and_failure_of_the_status_is_the_truths(
    indexed: Indexed, comparing: Any
) -> None:
    comparison = comparing.Comparison()
    comparing.compare_status(comparison, indexed.truth, indexed.status, str(indexed.root))
    assert comparison.differences == []


def test_library_knows_of_every_picture_what_the_truth_says(
    indexed: Indexed, comparing: Any
) -> None:
    comparison = comparing.Comparison()
    comparing.compare_library(comparison, indexed.truth, indexed.rows, str(indexed.root))
    assert comparison.differences == []
    compared = {what: truth for what, truth, _ in comparison.counts}
    assert compared["library: facts"] > FILES


def test_explanation_of_each_file_is_the_truths(indexed: Indexed) -> None:
    rules = {
        "companion": {"companion"},
        "online-only": {"online-only"},
        "ignored": {"name", "content", "not-regular", "missing-extra", "stub"},
        "failed": {"known-failure"},
        "left-out": {"hidden", "default", "ignore-file"},
    }
    wrong = []
    with open_store(indexed.cli.library, writable=False) as store:
        for file in indexed.truth.seen_with():
            if file.fate == "unseen":
                continue
            found = explain(store, indexed.moved / file.path, (), IndexOptions())
            is_there = file.fate in {"picture", "companion"}
            if found.taken != is_there or found.rule not in rules.get(file.fate, {found.rule}):
                wrong.append((file.path, file.fate, found.rule))
        only_online = {os.fsdecode(path) for path in store.online_only()}
    assert wrong == []
    # A stub stands under the name of what it stands for.
    stub = re.compile(r"(\.nextcloud|\.owncloud)$|(?<=/)\.(?=[^/]*\.icloud$)|\.icloud$")
    expected = {
        str(indexed.moved / stub.sub("", path)) for path in indexed.truth.paths("online-only")
    }
    assert only_online == expected


def test_each_content_is_one_result_and_no_companion_is_one(indexed: Indexed) -> None:
    below = len(str(indexed.root)) + 1
    results = [path[below:].replace(os.sep, "/") for path in indexed.results]
    pictures = {
        file.path: file.content for file in indexed.truth.seen_with() if file.fate == "picture"
    }
    assert set(results) <= set(pictures)
    contents = [pictures[path] for path in results]
    assert len(set(contents)) == len(contents)
    assert set(contents) == set(pictures.values())


def test_second_run_finds_everything_unchanged(indexed: Indexed, comparing: Any) -> None:
    comparison = comparing.Comparison()
    comparing.compare_later_run(comparison, "again", indexed.truth, indexed.again)
    assert comparison.differences == []


def test_moved_tree_is_the_same_library_without_an_embedding(
    indexed: Indexed, comparing: Any
) -> None:
    comparison = comparing.Comparison()
    comparing.compare_later_run(comparison, "moved", indexed.truth, indexed.after_move)
    comparing.compare_library(
        comparison, indexed.truth, indexed.rows_after_move, str(indexed.moved)
    )
    assert comparison.differences == []
    indexed.cli.verify()


def test_tree_has_each_kind_of_file(indexed: Indexed) -> None:
    fates = {file.fate for file in indexed.truth.files}
    assert fates >= {"picture", "companion", "ignored", "failed", "left-out", "online-only"}
    kinds = {file.detail for file in indexed.truth.files if file.fate == "companion"}
    assert kinds == {"raw", "live-video", "sidecar"}
    totals = indexed.truth.totals(frozenset({"raw", "jxl"}))
    assert totals.copies > 10
    if sys.platform == "linux":
        assert any("marked" in path for path in indexed.truth.paths("online-only"))
