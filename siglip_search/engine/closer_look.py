"""Copies that a plan would move are read once more, larger: do they differ in small things?"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from siglip_search.engine.picture_thumbnails import read_thumbnails
from siglip_search.search.closer_look import CLOSE_SIDE, close_side, same_in_detail
from siglip_search.search.near_duplicates import Thumbnailer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from siglip_search.engine.duplicate_files import KnownPicture
    from siglip_search.engine.duplicates import DuplicateGroup
    from siglip_search.photos.decode import DecodeLimits

DIFFERS: Final = "differs in small things: look first"


def doubtful_copies(
    groups: Iterable[DuplicateGroup],
    *,
    limits: DecodeLimits,
    jobs: int,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[int, str]:
    """Return, by photo id, why a copy that adds nothing to the best one had better stay.

    Of each group of edited copies the best picture and those that a plan would move are read and
    compared at up to 512 x 512 pixels, as far as the smaller one shows as much.

    Args:
        groups: As `find_duplicates` reports them.
        limits: What one picture may cost.
        jobs: Pictures read at a time, >= 1.
        on_progress: Called with how many of how many pictures were read.

    Raises:
        WorkerError: The decoding processes cannot be started.
    """
    sets = [pictures for group in groups if len(pictures := _to_compare(group)) > 1]
    total = sum(map(len, sets))
    doubtful: dict[int, str] = {}
    if not total:
        return doubtful
    in_order = [picture for pictures in sets for picture in pictures]
    outcomes = read_thumbnails(in_order, Thumbnailer(CLOSE_SIDE), limits=limits, jobs=jobs)
    done = 0
    with closing(outcomes):
        for best, *copies in sets:
            _, of_best = next(outcomes)
            on_progress(done := done + 1, total)
            for copy in copies:
                _, of_copy = next(outcomes)
                why = _difference(best, of_best, copy, of_copy)
                if why is not None:
                    doubtful[copy.photo_id] = why
                on_progress(done := done + 1, total)
    return doubtful


def _to_compare(group: DuplicateGroup) -> list[KnownPicture]:
    """Return the best picture of a group and the copies that would be moved for it."""
    best, *others = group.members
    copies = [
        member.picture
        for member in others
        if member.likeness is not None and member.likeness.second_adds_nothing
    ]
    return [best.picture, *copies]


def _difference(
    best: KnownPicture, of_best: bytes | str, copy: KnownPicture, of_copy: bytes | str
) -> str | None:
    if isinstance(of_best, str):
        return f"the one to keep cannot be compared: {of_best}"
    if isinstance(of_copy, str):
        return f"cannot be compared: {of_copy}"
    sides = (best.facts.width, best.facts.height, copy.facts.width, copy.facts.height)
    return None if same_in_detail(of_best, of_copy, close_side(*sides)) else DIFFERS
