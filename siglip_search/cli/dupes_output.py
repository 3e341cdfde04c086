"""Groups of duplicates, and the plan made of them, as rows, JSON, CSV or paths."""

from __future__ import annotations

import csv
import io
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from siglip_search.cli.console import count, print_json, print_path, say, shown
from siglip_search.search.near_duplicates import RECOLOURED_ABOVE, WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from siglip_index.records import Companion
    from siglip_search.engine.duplicate_files import KnownPicture
    from siglip_search.engine.duplicate_plan import PlanRow
    from siglip_search.engine.duplicates import DuplicateGroup, GroupMember

_TITLES: Final = {
    "exact": "the same bytes",
    "near": "the same photograph",
    "burst": "taken in a row",
}

# A picture that is shown by turning the other one to the left was itself turned to the right.
_TURNED: Final = {
    Image.Transpose.FLIP_LEFT_RIGHT: "mirrored",
    Image.Transpose.FLIP_TOP_BOTTOM: "mirrored and turned 180°",
    Image.Transpose.ROTATE_180: "turned 180°",
    Image.Transpose.ROTATE_90: "turned 90° right",
    Image.Transpose.ROTATE_270: "turned 90° left",
    Image.Transpose.TRANSPOSE: "mirrored and turned 90°",
    Image.Transpose.TRANSVERSE: "mirrored and turned 90°",
}
_RELATION: Final = ("likeness", "turned", "recoloured", "best_in_it", "it_in_best")

_COLUMNS: Final = (
    *("group", "kind", "place", "path", "width", "height", "format", "size_bytes"),
    *("taken_at", "camera", *_RELATION),
)
_PLAN_COLUMNS: Final = ("group", "action", "path", "reason", "size_bytes")


def print_groups(
    groups: Sequence[DuplicateGroup], *, as_json: bool = False, as_csv: bool = False
) -> None:
    """Print groups to stdout, and how many there are to stderr.

    Args:
        groups: As they were found.
        as_json: One array, an object for each group.
        as_csv: A row for each file.
    """
    if as_json:
        print_json([_group_object(number, group) for number, group in enumerate(groups, start=1)])
    elif as_csv:
        _print_table(_COLUMNS, _csv_rows(groups))
    else:
        for number, group in enumerate(groups, start=1):
            _print_group(number, group)
        _say_how_many(groups)


def print_plan(
    rows: Sequence[PlanRow],
    *,
    paths: bool = False,
    null: bool = False,
    as_json: bool = False,
    as_csv: bool = False,
) -> None:
    """Print a plan to stdout, and what it amounts to to stderr.

    Args:
        rows: As `plan_moves` gives them.
        paths: Only the paths that would be moved.
        null: Likewise, each ended by a NUL byte.
        as_json: One array, an object for each file.
        as_csv: A row for each file.
    """
    moved = [row for row in rows if row.action == "move"]
    if paths or null:
        for row in moved:
            print_path(os.fsdecode(row.path), end=b"\0" if null else b"\n")
    elif as_json:
        print_json([_plan_object(row) for row in rows])
    elif as_csv:
        _print_table(_PLAN_COLUMNS, map(_plan_object, rows))
    else:
        for row in rows:
            print(f"{row.action}  {shown(row.path)}  ({row.reason})")
        if moved:
            size = _size(sum(row.size_bytes for row in moved))
            say(f"{count(len(moved), 'file')} would be moved, {size}; nothing was")


def _print_group(number: int, group: DuplicateGroup) -> None:
    files = sum(len(member.picture.files) for member in group.members)
    number_of = (
        count(files, "file") if group.kind == "exact" else count(len(group.members), "picture")
    )
    print(f"{number}. {_TITLES[group.kind]}: {number_of}")
    for place, member in enumerate(group.members):
        mark = "*" if place == 0 and group.kind != "burst" else " "
        first, *copies = member.picture.files
        beside = f"  [{shown(_kinds(first.companions))}]" if first.companions else ""
        print(f"  {mark} {shown(first.path)}  {_described(member)}{beside}")
        for copy in copies:
            print(f"    {shown(copy.path)}  the same bytes")


def _described(member: GroupMember) -> str:
    facts, size = member.picture.facts, _size(member.picture.files[0].size_bytes)
    parts = [f"{facts.width} x {facts.height} {facts.format}, {size}"]
    if member.likeness is not None:
        if member.likeness.turn is not None:
            parts.append(_TURNED[member.likeness.turn])
        if member.likeness.recoloured > RECOLOURED_ABOVE:
            parts.append("other tones")
        if member.likeness.in_second < WHOLE:
            parts.append(f"{member.likeness.in_second:.0%} of the best one's area")
        if member.likeness.in_first < WHOLE:
            parts.append(f"{member.likeness.in_first:.0%} of its area is in the best one")
        parts.append(f"likeness {member.likeness.score:.2f}")
    return ", ".join(parts)


def _kinds(companions: Iterable[Companion]) -> str:
    kinds = {os.path.splitext(os.fsdecode(one.path))[1][1:].upper() for one in companions}
    return " ".join(f"+{kind}" for kind in sorted(kinds))


def _say_how_many(groups: Sequence[DuplicateGroup]) -> None:
    copies = [group for group in groups if group.kind != "burst"]
    if copies:
        spare = sum(
            file.size_bytes
            for group in copies
            for place, member in enumerate(group.members)
            for row, file in enumerate(member.picture.files)
            if place or row
        )
        say(f"{count(len(copies), 'group')} of copies, {_size(spare)} beside the best ones")
    if len(copies) < len(groups):
        say(f"{count(len(groups) - len(copies), 'burst')}")


def _group_object(number: int, group: DuplicateGroup) -> dict[str, Any]:
    return {
        "group": number,
        "kind": group.kind,
        "pictures": [_picture_object(member) for member in group.members],
    }


def _picture_object(member: GroupMember) -> dict[str, Any]:
    picture, (first, *copies) = member.picture, member.picture.files
    return {
        "path": os.fsdecode(first.path),
        "copies": [os.fsdecode(copy.path) for copy in copies],
        "companions": [os.fsdecode(one.path) for one in first.companions],
        "content_hash": picture.content_hash.hex(),
        "size_bytes": first.size_bytes,
        **_facts(picture),
        **_relation(member),
    }


def _facts(picture: KnownPicture) -> dict[str, Any]:
    names = ("width", "height", "format", "taken_at", "camera")
    return {name: getattr(picture.facts, name) for name in names}


def _relation(member: GroupMember) -> dict[str, Any]:
    like = member.likeness
    if like is None:
        return dict.fromkeys(_RELATION)
    return {
        "likeness": round(like.score, 4),
        "turned": None if like.turn is None else _TURNED[like.turn],
        "recoloured": round(like.recoloured, 2),
        "best_in_it": round(like.in_second, 4),
        "it_in_best": round(like.in_first, 4),
    }


def _csv_rows(groups: Sequence[DuplicateGroup]) -> Iterable[dict[str, Any]]:
    for number, group in enumerate(groups, start=1):
        place = 0
        for member in group.members:
            for file in member.picture.files:
                place += 1
                yield {
                    "group": number,
                    "kind": group.kind,
                    "place": place,
                    "path": os.fsdecode(file.path),
                    "size_bytes": file.size_bytes,
                    **_facts(member.picture),
                    **_relation(member),
                }


def _plan_object(row: PlanRow) -> dict[str, Any]:
    return {
        "group": row.group,
        "action": row.action,
        "path": os.fsdecode(row.path),
        "reason": row.reason,
        "size_bytes": row.size_bytes,
    }


def _print_table(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    # A path that is not text is written as its very bytes.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _size(number: int) -> str:
    """Return a number of bytes as people say it."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
