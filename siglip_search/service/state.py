"""What a running daemon says of itself; `status` shows it, `--prometheus` measures by it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Doing = Literal[
    "starting", "idle", "scanning", "embedding", "tagging", "paused", "aside", "waiting"
]
DOINGS: tuple[Doing, ...] = get_args(Doing)


@dataclass(frozen=True, slots=True)
class FolderState:
    """A folder that is followed.

    Attributes:
        path: Absolute; bytes that are not text stand in it as os.fsdecode leaves them.
        how: "events", "polling" or "away".
        why: Cause of polling or absence, one line; empty where there is none.
    """

    path: str
    how: str
    why: str


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Everything that a running daemon tells of itself.

    Attributes:
        pid: Its process.
        version: Of the program.
        started_at: Seconds since the epoch.
        library: Folder of its library, as os.fsdecode leaves it.
        model: Name of the model that answers; None before there is one.
        device: Where the picture tower runs; None while it is not loaded.
        precision: Of the picture tower; None while it is not loaded.
        doing: "starting", "idle", "scanning", "embedding", "tagging", "paused" (battery, heat,
            disk), "aside" (another command writes) or "waiting" (for another writer, or after an
            error).
        why: Cause of a pause or wait, one line; None where there is none.
        queue: Places waiting to be looked at, and pictures left in the run.
        done: Pictures of the run in progress that are done, or labels embedded; 0 when idle.
        total: Pictures of the run in progress, or labels; 0 when idle.
        pictures_per_second: Of the run in progress; None when idle or not known yet.
        seconds_left: Of the run in progress; None when idle or not known yet.
        last_event_at: When the watcher last reported something, seconds since the epoch.
        last_commit_at: When a batch was last committed, seconds since the epoch.
        embedded: Pictures embedded since the start.
        failed: Files recorded as unreadable since the start.
        looks: Runs over places that the watcher reported, since the start.
        folders: What is followed.
        last_warnings: The newest, one line each.
        queries: Answered since the start.
        towers_warm: Whether a question or a picture finds its tower loaded.
        memory_bytes: Resident, of the daemon alone; None where the system does not tell.
    """

    pid: int
    version: str
    started_at: float
    library: str
    model: str | None
    device: str | None
    precision: str | None
    doing: Doing
    why: str | None
    queue: int
    done: int
    total: int
    pictures_per_second: float | None
    seconds_left: float | None
    last_event_at: float | None
    last_commit_at: float | None
    embedded: int
    failed: int
    looks: int
    folders: tuple[FolderState, ...]
    last_warnings: tuple[str, ...]
    queries: int
    towers_warm: bool
    memory_bytes: int | None


def state_object(state: ServiceState) -> dict[str, Any]:
    """Return a state as JSON knows it."""
    return asdict(state)


def state_from_object(value: dict[str, Any]) -> ServiceState:
    """Return the state that `state_object` made this of.

    Raises:
        ValueError: Something is missing in it, or has another shape.
    """
    try:
        known = {field.name: value[field.name] for field in fields(ServiceState)}
        known["folders"] = tuple(FolderState(**folder) for folder in known["folders"])
        known["last_warnings"] = tuple(known["last_warnings"])
        return ServiceState(**known)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no state of a daemon: {error}") from error
