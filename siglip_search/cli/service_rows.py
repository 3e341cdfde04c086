"""What `status` says of a running daemon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from siglip_search.cli.console import count, duration, shown
from siglip_search.service.client import DaemonUnavailableError, connect

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.service.state import ServiceState


def state_of_daemon(directory: Path) -> ServiceState | None:
    """Return what the daemon of a library says of itself; None where none answers."""
    daemon = connect(directory)
    if daemon is None:
        return None
    try:
        return daemon.state()
    except DaemonUnavailableError:
        return None


def service_rows(state: ServiceState) -> list[tuple[str, str]]:
    """Return the name and the value of each line."""
    now = time.time()
    doing = state.doing if state.why is None else f"{state.doing}: {shown(state.why)}"
    rows = [
        (
            "service",
            f"{doing} (process {state.pid}, version {state.version}, "
            f"for {duration(now - state.started_at)})",
        )
    ]
    if state.total:
        rows.append(("run", _run(state)))
    if state.queue:
        rows.append(("queue", f"{state.queue:,} waiting"))
    towers = "loaded" if state.towers_warm else "not loaded, until they are needed"
    where = " ".join(filter(None, (state.device, state.precision)))
    rows.append(("towers", f"{towers} ({where})" if where else towers))
    rows.append(
        (
            "so far",
            f"{count(state.embedded, 'picture')} embedded, {state.failed:,} failed, "
            f"{count(state.queries, 'query', 'queries')} answered",
        )
    )
    if state.last_event_at is not None:
        rows.append(("change", f"{duration(now - state.last_event_at)} ago"))
    if state.last_commit_at is not None:
        rows.append(("commit", f"{duration(now - state.last_commit_at)} ago"))
    if state.memory_bytes is not None:
        rows.append(("memory", f"{state.memory_bytes / 1e6:,.0f} MB"))
    for folder in state.folders:
        why = f" ({shown(folder.why)})" if folder.why else ""
        rows.append(("followed", f"{shown(folder.path)}  {folder.how}{why}"))
    rows += [("warning", shown(warning)) for warning in state.last_warnings]
    return rows


def _run(state: ServiceState) -> str:
    said = f"{state.done:,} of {count(state.total, 'picture')}"
    if state.pictures_per_second is not None:
        said += f", {state.pictures_per_second:.1f} pictures/s"
    if state.seconds_left is not None:
        said += f", about {duration(state.seconds_left)} left"
    return said
