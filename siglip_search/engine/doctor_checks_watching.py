"""Linux's limits of inotify, against the folders that a watcher would have to follow.

inotify(7): a watch is needed for each folder, an instance for each indexed folder (as
`photos/watch_events.py` does it); both limits hold for all processes of a user together. What this
user's processes have taken already shows in /proc/PID/fdinfo.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from siglip_search.engine.doctor_finding import Finding
from siglip_search.photos.watch_mounts import polling_reason
from siglip_search.photos.watch_rules import WatchRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from siglip_search.engine.doctor_finding import Subject

LIMITS_FILE = "/etc/sysctl.d/60-siglip-search.conf"
_MOST_FOLDERS = 200_000
_COUNTING_SECONDS = 10.0
# What is proposed, and its double, and that one's, where it is not enough.
_USUAL_WATCHES = 524_288
_USUAL_INSTANCES = 1024
_USUAL_QUEUE = 16_384
_NEARLY = 0.8


def look_at_inotify(subject: Subject) -> Iterator[Finding]:
    """Compare each limit with what is in use and what following the folders would take."""
    limits = subject.processes / "sys" / "fs" / "inotify"
    if sys.platform != "linux" or not limits.is_dir():
        return
    roots = [facts.root.path for facts in (subject.library.roots if subject.library else ())]
    folders, all_counted = count_folders(roots, hidden=subject.settings.hidden)
    used_instances, used_watches = taken(subject.processes, but=subject.watcher_pid)
    at_least = "" if all_counted else "at least "
    yield _finding(
        "max_user_watches",
        limits,
        folders + used_watches,
        f"{at_least}{folders:,} folders to follow, {used_watches:,} watches in use by others",
        _USUAL_WATCHES,
    )
    yield _finding(
        "max_user_instances",
        limits,
        len(roots) + used_instances,
        f"{len(roots):,} indexed folders, {used_instances:,} instances in use by others",
        _USUAL_INSTANCES,
    )
    queue = _number(limits / "max_queued_events")
    name = "inotify max_queued_events"
    if queue is not None and queue < _USUAL_QUEUE:
        what = f"{queue:,} events wait at most: copying many files at once leads to whole rescans"
        yield Finding(name, "note", what, raising("max_queued_events", _USUAL_QUEUE))
    else:
        yield Finding(name, "good", f"{queue:,}" if queue is not None else "the system says none")


def count_folders(
    roots: Sequence[bytes],
    *,
    hidden: bool = False,
    most: int = _MOST_FOLDERS,
    limit_seconds: float = _COUNTING_SECONDS,
) -> tuple[int, bool]:
    """Return how many folders a watcher follows in these roots, and whether all were counted.

    It follows no links, and leaves out what `WatchRules` does and roots that it polls.

    Args:
        roots: Absolute paths.
        hidden: Take hidden folders as well.
        most: Counting stops there.
        limit_seconds: Counting stops then.
    """
    until = time.monotonic() + limit_seconds
    count = 0
    for root in map(os.path.realpath, roots):
        if not os.path.isdir(root) or polling_reason(root) is not None:
            continue
        rules = WatchRules(root, hidden=hidden)
        waiting = [root]
        while waiting:
            if count >= most or time.monotonic() > until:
                return count, False
            count += 1
            waiting += filter(rules.takes_folder, _subfolders(waiting.pop()))
    return count, True


def taken(processes: Path, *, but: int | None = None) -> tuple[int, int]:
    """Return how many instances and watches this user's processes have.

    Args:
        processes: Where Linux shows its processes; those of others tell nothing and are left out.
        but: Process that is not counted, a watcher's that runs already.
    """
    instances = watches = 0
    for process in _listed(processes):
        if not process.name.isdigit() or int(process.name) == but:
            continue
        for descriptor in _listed(process / "fd"):
            try:
                is_instance = os.readlink(descriptor) == "anon_inode:inotify"
            except OSError:
                continue
            if is_instance:
                instances += 1
                told = _text(process / "fdinfo" / descriptor.name)
                watches += sum(line.startswith("inotify ") for line in told.splitlines())
    return instances, watches


def raising(limit: str, value: int) -> str:
    """Return the command that raises a limit now and for good."""
    return (
        f"echo fs.inotify.{limit}={value} | sudo tee -a {LIMITS_FILE} && "
        f"sudo sysctl -p {LIMITS_FILE}"
    )


def _finding(limit: str, folder: Path, needed: int, why: str, usual: int) -> Finding:
    name = f"inotify {limit}"
    allowed = _number(folder / limit)
    if allowed is None:
        return Finding(name, "good", f"the system says none; {why}")
    enough = usual
    while enough * _NEARLY < needed:
        enough *= 2
    if needed > allowed:
        what = f"{allowed:,} are allowed, too few, so that a watcher has to poll: {why}"
        return Finding(name, "bad", what, raising(limit, enough))
    if needed > _NEARLY * allowed:
        what = f"{allowed:,} are allowed, hardly enough for a watcher: {why}"
        return Finding(name, "note", what, raising(limit, enough))
    return Finding(name, "good", f"{allowed:,} are allowed; {why}")


def _subfolders(folder: bytes) -> list[bytes]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    try:
        return int(_text(file))
    except ValueError:
        return None
