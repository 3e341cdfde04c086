"""What would be kept and what moved away, file by file. Nothing is moved: people do that."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from siglip_search.photos.cloud_placeholder import is_online_only

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from siglip_index.records import CompanionKind
    from siglip_search.engine.duplicate_files import PictureFile
    from siglip_search.engine.duplicates import DuplicateGroup

_LOOK_FIRST = "other tones, turned, or more of the scene: look first"

_OWN: Final[dict[CompanionKind, str]] = {"raw": "a RAW", "live-video": "a film"}
"""Sidecars go with their picture; these are photographs and films by themselves."""

PlanAction = Literal["keep", "move", "skip"]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """What would become of one file.

    Attributes:
        action: "skip": it is left alone for the reason given.
        path: Absolute.
        reason: In a few words.
        group: Number of its group in the report, from 1.
        size_bytes: As it is on disk now; 0 where it is not there.
    """

    action: PlanAction
    path: bytes
    reason: str
    group: int
    size_bytes: int = 0


def plan_moves(
    groups: Iterable[DuplicateGroup], doubtful: Mapping[int, str] = MappingProxyType({})
) -> list[PlanRow]:
    """Return what would be kept and moved, group by group; bursts are left alone.

    Moved is only what adds nothing to the one that is kept: the same bytes, or the same photograph
    smaller, more compressed or cropped. An edit in other colours, or turned, may be somebody's
    work, and of a RAW and a developed picture both are kept; one with a RAW or a film that the one
    to keep has not stays too. Every file is looked at now: one that changed since it was indexed,
    or is another name of a file that is kept, is not moved, and where the one to keep is not there,
    or has its bytes in the cloud only, nothing is.

    Args:
        groups: As `find_duplicates` reports them.
        doubtful: By photo id, why a picture had better stay, as `doubtful_copies` found it.
    """
    rows: list[PlanRow] = []
    for number, group in enumerate(groups, start=1):
        if group.kind != "burst":
            rows += _planned(number, group, doubtful)
    return rows


def _planned(number: int, group: DuplicateGroup, doubtful: Mapping[int, str]) -> list[PlanRow]:
    files = [
        (file, member, "the same bytes" if place else "shows the same")
        for member in group.members
        for place, file in enumerate(member.picture.files)
    ]
    best = files[0][0]
    wrong = _what_is_wrong(best)
    if wrong is not None:
        reason = f"the one to keep {wrong}" if len(files) > 1 else wrong
        return [PlanRow("skip", file.path, reason, number) for file, _, _ in files]
    kept = [best]
    rows = [PlanRow("keep", best.path, "the best", number, _size(best.path))]
    other_kind_kept = False
    for file, member, reason in files[1:]:
        like, doubt = member.likeness, doubtful.get(member.picture.photo_id)
        wrong = _what_is_wrong(file)
        if wrong is None and any(_are_one_file(file, other) for other in kept):
            wrong = "is another name of a file that is kept"
        if wrong is not None:
            rows.append(PlanRow("skip", file.path, wrong, number))
        elif file.is_raw != best.is_raw and not other_kind_kept:
            other_kind_kept = True
            kept.append(file)
            why = "the RAW" if file.is_raw else "developed from the RAW"
            rows.append(PlanRow("keep", file.path, why, number, _size(file.path)))
        elif like is not None and not like.second_adds_nothing:
            rows.append(PlanRow("skip", file.path, _LOOK_FIRST, number))
        elif doubt is not None:
            rows.append(PlanRow("skip", file.path, doubt, number))
        elif own := _own_companions(file, best):
            rows.append(PlanRow("skip", file.path, f"has {own} of its own", number))
        else:
            rows.append(PlanRow("move", file.path, reason, number, _size(file.path)))
            rows += _companions(file, kept, number)
    return rows


def _companions(file: PictureFile, kept: Iterable[PictureFile], number: int) -> list[PlanRow]:
    staying = {companion.path for one in kept for companion in one.companions} | file.shared
    return [
        PlanRow("move", companion.path, "belongs to it", number, _size(companion.path))
        for companion in file.companions
        if companion.path not in staying and os.path.lexists(companion.path)
    ]


def _own_companions(file: PictureFile, best: PictureFile) -> str:
    """Return in words which RAW or film a file has that the one to keep has not; empty if none.

    The library knows no content of them: of the same size they are taken for the same.
    """
    own = {
        companion.kind
        for companion in file.companions
        if not any(
            other.kind == companion.kind and other.fingerprint.size == companion.fingerprint.size
            for other in best.companions
        )
    }
    return " and ".join(_OWN[kind] for kind in sorted(own & _OWN.keys()))


def _what_is_wrong(file: PictureFile) -> str | None:
    """Return why a file is not what was indexed, or takes no room; None where nothing is wrong."""
    try:
        status = os.lstat(file.path)
    except OSError:
        return "is not there"
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        return "changed since it was indexed"
    if is_online_only(file.path, status):
        return "has its bytes in the cloud only"
    return None


def _are_one_file(first: PictureFile, second: PictureFile) -> bool:
    # Hard links, and a folder that is mounted twice: moving one would move both.
    try:
        return os.path.samefile(first.path, second.path)
    except OSError:
        return True


def _size(path: bytes) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
