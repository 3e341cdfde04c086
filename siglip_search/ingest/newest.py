"""A part of the plans now, the rest with the next run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_search.ingest.plan import RootPlan
    from siglip_search.photos.scan import SeenFile


def only_newest(plans: Sequence[RootPlan], most: int) -> tuple[list[RootPlan], int]:
    """Return the plans with the newest files to read of all roots together, and what is left out.

    Args:
        plans: Of every root.
        most: How many files may be read, > 0.

    Returns:
        The plans, and the number of files left for the next run.
    """
    times = sorted(
        (_age(seen) for root_plan in plans for seen in root_plan.plan.to_read()), reverse=True
    )
    if len(times) <= most:
        return list(plans), 0
    oldest = times[most - 1]
    room = times[:most].count(oldest)
    kept = []
    for root_plan in plans:
        lists = []
        for files in (root_plan.plan.added, root_plan.plan.changed, root_plan.plan.unembedded):
            chosen = [seen for seen in files if _age(seen) > oldest]
            # Of several with the very time at which the line is drawn, the first ones.
            at_the_line = [seen for seen in files if _age(seen) == oldest][:room]
            room -= len(at_the_line)
            lists.append(chosen + at_the_line)
        added, changed, unembedded = lists
        plan = replace(root_plan.plan, added=added, changed=changed, unembedded=unembedded)
        kept.append(replace(root_plan, plan=plan))
    return kept, len(times) - most


def _age(seen: SeenFile) -> int:
    return seen.fingerprint.mtime_ns
