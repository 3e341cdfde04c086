"""Which root a typed path means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from siglip_index.records import Root
from siglip_search.engine.roots import (
    Target,
    _root_at,
    changed_patterns,
    find_targets,
    root_called,
    scan_rules,
)
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from pathlib import Path


def test_paths_mean_roots_parts_of_them_or_new_ones(tmp_path: Path) -> None:
    inner = tmp_path / "known" / "2024"
    inner.mkdir(parents=True)
    new = tmp_path / "new"
    new.mkdir()
    known = Root(1, bytes(tmp_path / "known"), None)
    away = Root(2, bytes(tmp_path / "away"), None)
    roots = [away, known]
    assert find_targets([inner, new, tmp_path / "away"], roots) == [
        Target(away.path, b"", away),
        Target(known.path, b"2024", known),
        Target(bytes(new), b"", None),
    ]
    assert find_targets([inner, tmp_path / "known"], roots) == [Target(known.path, b"", known)]
    with pytest.raises(PathError, match="there is no file"):
        find_targets([tmp_path / "KNOWN" / "none"], roots)


def test_a_root_that_is_away_is_known_in_any_spelling_where_drives_know_none(
    tmp_path: Path,
) -> None:
    away = Root(1, bytes(tmp_path / "Away" / "Été"), None)
    typed = bytes(tmp_path / "AWAY" / "e\u0301te\u0301")
    assert _root_at(typed, [away], names_fold=True) == away
    assert _root_at(typed, [away], names_fold=False) is None
    twin = Root(2, bytes(tmp_path / "away" / "été"), None)
    assert _root_at(typed, [away, twin], names_fold=True) is None


def test_the_folders_there_are_stand_in_the_hint(tmp_path: Path) -> None:
    with pytest.raises(PathError) as caught:
        root_called(tmp_path, [Root(1, b"/a", None), Root(2, b"/b", None)])
    assert caught.value.hint == "The indexed folders are: /a, /b"


def test_patterns_of_the_run_come_after_those_of_the_root() -> None:
    root = Root(1, b"/a", None, exclude=("*.gif",))
    assert scan_rules(root, exclude=("!a.gif",), hidden=True).exclude == ("*.gif", "!a.gif")
    assert scan_rules(None, exclude=(), hidden=True).hidden


def test_a_pattern_added_again_comes_last() -> None:
    assert changed_patterns(("a", "b"), ["a", "c", "a"], remove=False) == ("b", "a", "c")
    assert changed_patterns(("a", "b"), ["a"], remove=True) == ("b",)
    with pytest.raises(PathError):
        changed_patterns(("a",), ["b"], remove=True)
