"""Groups in which every two are alike: no chain leads from one thing to another."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Item = TypeVar("Item", bound=int)


def cliques(
    ranked: Sequence[Item],
    candidates: Iterable[tuple[Item, Item]],
    are_alike: Callable[[Item, Item], bool],
    *,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> list[list[Item]]:
    """Return groups of items, best first, in which every two are alike; nothing stands twice.

    The best item that is in no group yet begins one and takes in, best first, those of its
    candidates that are like it and like everything in the group. So A, B and C with A like B and B
    like C, but not A like C, never come together.

    Args:
        ranked: All items, best first.
        candidates: Pairs that may be alike; others are not asked about unless they meet in a group.
        are_alike: Tells of two items; must be symmetric. It is asked about each pair at most once.
        on_progress: Called with how many items have been dealt with.

    Returns:
        Groups of two and more, in the order of their best items.
    """
    rank = {item: place for place, item in enumerate(ranked)}
    neighbours: defaultdict[Item, set[Item]] = defaultdict(set)
    for first, second in candidates:
        if first != second:
            neighbours[first].add(second)
            neighbours[second].add(first)
    verdicts: dict[tuple[Item, Item], bool] = {}

    def alike(first: Item, second: Item) -> bool:
        pair = (first, second) if rank[first] < rank[second] else (second, first)
        if pair not in verdicts:
            verdicts[pair] = are_alike(*pair)
        return verdicts[pair]

    taken: set[Item] = set()
    groups = []
    for done, best in enumerate(ranked, start=1):
        if best not in taken:
            group = [best]
            for other in sorted(neighbours[best] - taken, key=rank.__getitem__):
                if all(alike(member, other) for member in group):
                    group.append(other)
            if len(group) > 1:
                taken.update(group)
                groups.append(group)
        on_progress(done)
    return groups
