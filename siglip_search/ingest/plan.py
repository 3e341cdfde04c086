"""Compare what the library knows with what the disk shows; touch neither."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siglip_index.locations import relative_to

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from siglip_index.records import Fingerprint, KnownFile, Root
    from siglip_search.photos.scan import ScanResult, SeenFile


@dataclass(frozen=True, slots=True)
class Plan:
    """What one root's scan means for the library; every seen file stands in one list.

    Attributes:
        added: New paths that have to be read, newest first.
        changed: Known paths whose size or time changed, newest first.
        moved: A vanished path and the new one that is the same file (device, inode, size, mtime).
        returned: Known paths that had vanished and are back untouched; nothing to read.
        unchanged: Known paths with nothing to do.
        unembedded: Unchanged paths whose content has no vector in this space yet, newest first.
        failed: Known paths that could not be read and have not changed since.
        refreshed: Files of which only the record is stale: another device number after a restart,
            or a bad picture that is back.
        removed: Known paths that are gone.
        unreachable: Known paths that cannot be seen now but may be there still.
    """

    added: list[SeenFile] = field(default_factory=list)
    changed: list[SeenFile] = field(default_factory=list)
    moved: list[tuple[KnownFile, SeenFile]] = field(default_factory=list)
    returned: list[tuple[KnownFile, SeenFile]] = field(default_factory=list)
    unchanged: list[KnownFile] = field(default_factory=list)
    unembedded: list[SeenFile] = field(default_factory=list)
    failed: list[KnownFile] = field(default_factory=list)
    refreshed: list[tuple[KnownFile, SeenFile]] = field(default_factory=list)
    removed: list[KnownFile] = field(default_factory=list)
    unreachable: list[KnownFile] = field(default_factory=list)

    def to_read(self) -> Iterator[SeenFile]:
        """Yield the files that have to be opened."""
        yield from self.added
        yield from self.changed
        yield from self.unembedded


@dataclass(frozen=True, slots=True)
class RootPlan:
    """One root with what is to be done below it."""

    root: Root
    plan: Plan


def plan_changes(
    known: Iterable[KnownFile],
    scan: ScanResult,
    *,
    embedded: Collection[int] | None = None,
    within: bytes = b"",
    retry_failed: bool = False,
) -> Plan:
    """Return what has to be done so that the library matches the scan.

    Args:
        known: Every file that the library remembers below the root.
        scan: What is on disk below the root (or below `within`).
        embedded: Ids of the photos that have a vector in the space; None when all have.
        within: Root-relative folder that was scanned; nothing outside it is judged.
        retry_failed: Read known bad pictures again.

    Returns:
        The plan. A file that is not seen counts as removed only when its folder, or the nearest
        one above it that still exists, lies on the device on which the file was; otherwise its
        drive is away and it is unreachable. Nothing is removed when the whole root is empty.
    """
    plan = Plan()
    known_by_path = {
        file.path: file
        for file in known
        if not within or relative_to(file.path, within) is not None
    }
    seen_paths: set[bytes] = set()
    for seen in scan.files:
        seen_paths.add(seen.path)
        before = known_by_path.get(seen.path)
        if before is None:
            plan.added.append(seen)
        elif before.fingerprint != seen.fingerprint:
            plan.changed.append(seen)
        elif before.failure is not None and not retry_failed:
            plan.failed.append(before)
            if not before.present:
                plan.refreshed.append((before, seen))
        elif before.photo_id is None:
            plan.changed.append(seen)
        elif embedded is not None and before.photo_id not in embedded:
            plan.unembedded.append(seen)
        elif not before.present:
            plan.returned.append((before, seen))
        else:
            plan.unchanged.append(before)
            if before.device != seen.device:
                plan.refreshed.append((before, seen))
    _judge_missing(
        plan,
        [file for path, file in known_by_path.items() if path not in seen_paths],
        scan,
        renumbered=_device_renumbering(known_by_path, scan),
    )
    _find_moves(
        plan,
        (
            file
            for file in known_by_path.values()
            if file.path not in seen_paths
            and file.photo_id is not None
            and (embedded is None or file.photo_id in embedded)
        ),
    )
    for files in (plan.added, plan.changed, plan.unembedded):
        files.sort(key=lambda seen: seen.fingerprint.mtime_ns, reverse=True)
    return plan


def _device_renumbering(
    known_by_path: dict[bytes, KnownFile], scan: ScanResult
) -> dict[int, Counter[int]]:
    """Return, for each recorded device number, the numbers under which its files are seen now.

    A number is the kernel's and may change with every restart; the files on it tell which it is.
    """
    numbers: dict[int, Counter[int]] = {}
    for seen in scan.files:
        before = known_by_path.get(seen.path)
        if before is None or before.device is None or before.fingerprint != seen.fingerprint:
            continue
        numbers.setdefault(before.device, Counter())[seen.device] += 1
    return numbers


def _judge_missing(
    plan: Plan,
    missing: list[KnownFile],
    scan: ScanResult,
    *,
    renumbered: dict[int, Counter[int]],
) -> None:
    unseen = {path for path, _ in scan.unreadable} | set(scan.dangling_links)
    for file in missing:
        if not file.present:
            continue
        if scan.entries_at_root == 0 or _has_ancestor_in(file.path, unseen):
            plan.unreachable.append(file)
            continue
        device_now = _device_of_nearest_folder(file.path, scan.devices)
        same_device = (
            file.device is None
            or device_now is None
            or device_now == file.device
            or renumbered.get(file.device, Counter())[device_now] > 0
        )
        (plan.removed if same_device else plan.unreachable).append(file)


def _has_ancestor_in(path: bytes, folders: set[bytes]) -> bool:
    while path:
        if path in folders:
            return True
        path = posixpath.dirname(path)
    return b"" in folders


def _device_of_nearest_folder(path: bytes, devices: dict[bytes, int]) -> int | None:
    while path:
        path = posixpath.dirname(path)
        if path in devices:
            return devices[path]
    return devices.get(b"")


def _find_moves(plan: Plan, missing: Iterable[KnownFile]) -> None:
    """Turn added paths into moves where device, inode, size and mtime are those of a missing one.

    All four together name one content: a rename keeps them and nothing else does. Files of the
    same identity twice (hard links) are left to the content hash.
    """
    candidates: dict[tuple[int | None, Fingerprint], list[KnownFile]] = {}
    for file in missing:
        if file.fingerprint.inode:
            candidates.setdefault((file.device, file.fingerprint), []).append(file)
    still_added = []
    for seen in plan.added:
        match candidates.get((seen.device, seen.fingerprint)):
            case [before]:
                plan.moved.append((before, seen))
                candidates.pop((seen.device, seen.fingerprint))
            case _:
                still_added.append(seen)
    plan.added[:] = still_added
    moved_away = {before.id for before, _ in plan.moved}
    plan.removed[:] = [file for file in plan.removed if file.id not in moved_away]
    plan.unreachable[:] = [file for file in plan.unreachable if file.id not in moved_away]
