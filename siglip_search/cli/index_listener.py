"""What a run of `index` says while it goes on, whether here or in the daemon."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from siglip_search.cli.console import count, duration, print_json, say
from siglip_search.engine.indexing import Estimate, IndexListener

if TYPE_CHECKING:
    from siglip_search.cli.progress import ProgressLine
    from siglip_search.ingest.pace import Decision
    from siglip_search.ingest.report import Committed

# Shorter runs are over before anyone has read the estimate.
LONG_RUN_SECONDS = 20.0


def telling_listener(line: ProgressLine, *, json_events: bool) -> IndexListener:
    """Return a listener that tells whoever typed the command.

    Args:
        line: Where progress is shown.
        json_events: Print a JSON line after each batch.
    """
    listener = IndexListener(
        on_scanned=line.scanned,
        on_estimate=_tell_estimate,
        on_progress=line.progress,
        on_pace=partial(_tell_pace, line),
        on_tagging=line.tagging,
    )
    return dataclasses.replace(listener, on_commit=_print_event) if json_events else listener


def _tell_estimate(estimate: Estimate) -> None:
    pictures = count(estimate.pictures, "picture")
    if estimate.switching_to is not None:
        say(
            f"switching to {estimate.switching_to}: {pictures} to embed again, about "
            f"{duration(max(estimate.seconds, 1.0))}; Ctrl-C stops, and the next run goes on"
        )
    elif estimate.seconds >= LONG_RUN_SECONDS:
        say(
            f"{pictures} to read, about {duration(estimate.seconds)}; Ctrl-C stops, and the next "
            "run goes on"
        )
    if estimate.choices:
        say("The newest come first, and are found while it runs. Quicker would be:")
    for choice in estimate.choices:
        remark = f" ({choice.remark})" if choice.remark else ""
        say(f"  {choice.how}: about {duration(choice.seconds)}{remark}")


def _tell_pace(line: ProgressLine, decision: Decision) -> None:
    """Say why the run slows down, waits, or goes on."""
    charge = decision.battery_percent
    battery = "on battery" if charge is None else f"on battery ({charge:.0f}%)"
    if decision.cause is None:
        line.held_back(None)
        say("going on at full speed")
        return
    line.held_back("slow" if decision.at_once else "paused")
    match decision.cause, bool(decision.at_once):
        case "heat", True:
            say(f"hot: {count(decision.at_once, 'picture')} at a time until it has cooled down")
        case "heat", False:
            say("too hot: paused until it has cooled down")
        case _, True:
            say(
                f"{battery}: {count(decision.at_once, 'picture')} at a time; "
                "--on-battery run goes on at full speed"
            )
        case _, False:
            say(f"{battery}: paused until a charger is connected; --on-battery run goes on")


def _print_event(committed: Committed) -> None:
    print_json({"event": "committed", **dataclasses.asdict(committed)})
