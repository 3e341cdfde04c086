"""A tree's truth against what the commands said and the library holds."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from photo_tree.truth import Truth

# Degrees are written as seconds of arc with denominators of a float's making.
_RELATIVE_TOLERANCE = 1e-6

_NAMED_AT_MOST = 5


@dataclass(slots=True)
class Comparison:
    """What was compared.

    Attributes:
        counts: What is counted, truth, found.
        differences: One line for each thing that is not as the truth says.
    """

    counts: list[tuple[str, int, int]] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def count(self, what: str, truth: int, found: int) -> None:
        """Compare two numbers."""
        self.counts.append((what, truth, found))
        if truth != found:
            self.differences.append(f"{what}: {found:,} instead of {truth:,}")

    def same_paths(self, what: str, truth: Iterable[str], found: Iterable[str]) -> None:
        """Compare two sets of paths."""
        missing, extra = set(truth) - set(found), set(found) - set(truth)
        for kind, paths in (("missing", missing), ("too many", extra)):
            if paths:
                named = ", ".join(map(ascii, sorted(paths)[:_NAMED_AT_MOST]))
                self.differences.append(f"{what}: {len(paths):,} {kind}: {named}")

    def table(self) -> str:
        """Return the counts as a table for people."""
        width = max(len(what) for what, _, _ in self.counts)
        lines = [f"{'':{width}}  {'truth':>8}  {'found':>8}"]
        lines += [
            f"{what:{width}}  {truth:8,}  {found:8,}{'' if truth == found else '  <--'}"
            for what, truth, found in self.counts
        ]
        return "\n".join(lines)


def compare_first_run(
    comparison: Comparison, truth: Truth, report: Mapping[str, Any], root: str
) -> None:
    """Compare `index --json` of a new library."""
    totals = asdict(truth.totals())
    missing_extras = totals.pop("missing_extras")
    for extra in sorted({*missing_extras, *report["missing_extras"]}):
        found = report["missing_extras"].get(extra, 0)
        comparison.count(f"index: needs {extra}", missing_extras.get(extra, 0), found)
    for name, number in totals.items():
        comparison.count(f"index: {name}", number, report[name])
    for name in ("changed", "moved", "unchanged", "removed", "pending", "unreachable"):
        comparison.count(f"index: {name}", 0, report[name])
    comparison.count("index: seen", truth.seen(), report["seen"])
    _compare_failures(comparison, "index", truth, report["failures"], root)


def compare_later_run(
    comparison: Comparison, what: str, truth: Truth, report: Mapping[str, Any]
) -> None:
    """Compare `index --json` of a library that has everything already."""
    totals = truth.totals()
    for name, number in (
        ("unchanged", totals.added),
        ("failed", totals.failed),
        ("ignored", totals.ignored),
        ("online_only", totals.online_only),
        ("companions", totals.companions),
        ("embedded", 0),
        *((name, 0) for name in ("added", "changed", "moved", "copies", "removed", "pending")),
    ):
        comparison.count(f"{what}: {name}", number, report[name])


def compare_status(
    comparison: Comparison, truth: Truth, status: Mapping[str, Any], root: str
) -> None:
    """Compare `status --failed --json`."""
    totals = truth.totals()
    for name, number in (
        ("pictures", totals.embedded),
        ("files", totals.added),
        ("failed", totals.failed),
        ("online_only", totals.online_only),
        ("vanished", 0),
    ):
        comparison.count(f"status: {name}", number, status[name])
    vectors = sum(space["vectors"] for space in status["spaces"])
    comparison.count("status: vectors", totals.embedded, vectors)
    _compare_failures(comparison, "status", truth, status["failures"], root)


def compare_library(
    comparison: Comparison, truth: Truth, rows: Sequence[Mapping[str, Any]], root: str
) -> None:
    """Compare the rows of `export --to jsonl`: names, copies, companions and facts."""
    expected: dict[str, set[str]] = defaultdict(set)
    companions: dict[str, set[str]] = defaultdict(set)
    facts: dict[str, dict[str, Any]] = {}
    for file in truth.seen_with():
        if file.fate == "picture" and file.content is not None:
            expected[file.content].add(file.path)
            if file.facts:
                facts[file.path] = file.facts
        if file.fate == "companion":
            for path in file.of:
                companions[path].add(file.path)
    found = {row["content_hash"]: [_below(root, path) for path in row["paths"]] for row in rows}
    comparison.count("library: pictures", len(expected), len(rows))
    comparison.same_paths(
        "files of pictures",
        (path for paths in expected.values() for path in paths),
        (path for paths in found.values() for path in paths),
    )
    groups = {frozenset(paths) for paths in found.values()}
    torn = [paths for paths in expected.values() if frozenset(paths) not in groups]
    comparison.count("library: copies that are not together", 0, len(torn))
    told, wrong = 0, 0
    for row in rows:
        paths = [_below(root, path) for path in row["paths"]]
        comparison.same_paths(
            f"what belongs to {paths[0]!a}",
            {companion for path in paths for companion in companions[path]},
            (_below(root, path) for path in row["companions"]),
        )
        for path in paths:
            told += len(facts.get(path, ()))
            for name, value in facts.get(path, {}).items():
                if not _equal(value, row[name]):
                    wrong += 1
                    comparison.differences.append(f"{path!a}: {name} {row[name]!r}, not {value!r}")
    comparison.count("library: facts", told, told - wrong)


def _compare_failures(
    comparison: Comparison,
    what: str,
    truth: Truth,
    failures: Sequence[Mapping[str, str]],
    root: str,
) -> None:
    found = {_below(root, failure["path"]): failure["reason"] for failure in failures}
    comparison.same_paths(f"{what}: failures", truth.paths("failed"), found)
    for file in truth.seen_with():
        if file.fate == "failed" and file.detail not in found.get(file.path, file.detail):
            said = found[file.path]
            comparison.differences.append(f"{file.path!a}: {said!r} says nothing of {file.detail}")


def _below(root: str, path: str) -> str:
    return path.removeprefix(root).lstrip(os.sep).replace(os.sep, "/")


def _equal(truth: Any, found: Any) -> bool:
    if isinstance(truth, float) and isinstance(found, int | float):
        return math.isclose(truth, found, rel_tol=_RELATIVE_TOLERANCE)
    return bool(truth == found)
