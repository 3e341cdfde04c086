"""What a run of `index` tells its listener, as JSON, and back."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from siglip_search.engine.cheaper_choices import Choice
from siglip_search.engine.indexing import Estimate, IndexListener
from siglip_search.ingest.pace import Decision
from siglip_search.ingest.report import Committed, Failure, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

# Only the newest of these matters.
SUPERSEDED = frozenset({"scanned", "progress", "tagging"})


def listener_for(on_event: Callable[[dict[str, Any]], None]) -> IndexListener:
    """Return a listener that passes on everything as an object that JSON knows."""
    return IndexListener(
        on_scanned=lambda files: on_event({"event": "scanned", "files": files}),
        on_estimate=lambda estimate: on_event({"event": "estimate", **asdict(estimate)}),
        on_progress=lambda progress: on_event({"event": "progress", **asdict(progress)}),
        on_commit=lambda committed: on_event(_committed_object(committed)),
        on_pace=lambda decision: on_event({"event": "pace", **asdict(decision)}),
        on_tagging=lambda progress: on_event({"event": "tagging", **asdict(progress)}),
    )


def tell(event: dict[str, Any], listener: IndexListener) -> None:
    """Tell a listener what an event says; one of a kind that is not known is passed over.

    Raises:
        ValueError: It is of a known kind and another shape.
    """
    facts = {name: fact for name, fact in event.items() if name != "event"}
    try:
        match event.get("event"):
            case "scanned":
                listener.on_scanned(facts["files"])
            case "estimate":
                choices = tuple(Choice(**choice) for choice in facts.pop("choices"))
                listener.on_estimate(Estimate(**facts, choices=choices))
            case "progress":
                listener.on_progress(Progress(**facts))
            case "committed":
                listener.on_commit(_committed(facts))
            case "pace":
                listener.on_pace(Decision(**facts))
            case "tagging":
                listener.on_tagging(Progress(**facts))
    except (KeyError, TypeError) as error:
        raise ValueError(f"no event of a run: {error}") from error


def _committed_object(committed: Committed) -> dict[str, Any]:
    facts = asdict(committed)
    for failure in facts["failures"]:
        failure["path"] = os.fsdecode(failure["path"])
    return {"event": "committed", **facts, "paths": list(map(os.fsdecode, committed.paths))}


def _committed(facts: dict[str, Any]) -> Committed:
    failures = tuple(
        Failure(**{**failure, "path": os.fsencode(failure["path"])})
        for failure in facts["failures"]
    )
    return Committed(tuple(map(os.fsencode, facts["paths"])), failures, facts["embedded"])
