"""Compare what the library knows with what the disk shows; touch neither."""

from __future__ import annotations

import posixpath
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siglip_index.locations import relative_to
from siglip_search.ingest.same_file import SameFile, same_time
from siglip_search.photos.name_folding import folded
from siglip_search.photos.optional_formats import waits_no_more
from siglip_search.photos.scan_result import Part

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from siglip_index.records import Companion, Fingerprint, KnownFile, Root
    from siglip_search.photos.scan import ScanResult, SeenFile


@dataclass(frozen=True, slots=True)
class Plan:
    """What one root's scan means for the library; every seen file stands in one list.

    Attributes:
        added: New paths that have to be read, newest first.
        changed: Known paths whose size or time changed, newest first.
        moved: A vanished path and the new one that is the same file (device, inode, size, mtime),
            or its name in another case or normalisation (size, mtime).
        returned: Known paths that had vanished and are back untouched; nothing to read.
        unchanged: Known paths with nothing to do.
        unembedded: Unchanged paths whose content has no vector in this space yet, newest first.
        failed: Known paths that could not be read and have not changed since.
        refreshed: Files of which only the record is stale: another device number after a restart,
            a time or inode number as another file system keeps it, or a bad picture that is back.
        removed: Known paths that are gone.
        unreachable: Known paths that cannot be seen now but may be there still.
        stacked: Known pictures that belong to another one now: a RAW that has got its JPEG.
        companions: Known files with what belongs to them now, where that is not as recorded.
        stale_metadata: Photos whose sidecars are other ones than when their metadata were read.
        online_only: Cloud placeholders of which nothing is known.
        without_extra: Paths that cannot be read before an extra is installed, by the extra; those
            that were read before are not among them.
        root_seen: Whether the root showed anything, so that what is not listed is not there.
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
    stacked: list[KnownFile] = field(default_factory=list)
    companions: list[tuple[KnownFile, tuple[Companion, ...]]] = field(default_factory=list)
    stale_metadata: set[int] = field(default_factory=set)
    online_only: list[SeenFile] = field(default_factory=list)
    without_extra: dict[str, list[bytes]] = field(default_factory=dict)
    root_seen: bool = False

    def to_read(self) -> Iterator[SeenFile]:
        """Yield the files that have to be opened."""
        yield from self.added
        yield from self.changed
        yield from self.unembedded

    def paths_seen(self) -> Iterator[bytes]:
        """Yield the paths at which a picture was seen, whatever is to be done with it."""
        for seen in self.to_read():
            yield seen.path
        for known in self.unchanged:
            yield known.path
        for _, seen in (*self.moved, *self.returned):
            yield seen.path


@dataclass(frozen=True, slots=True)
class RootPlan:
    """One root with what is to be done below it.

    Attributes:
        parts: What of the root was looked at.
    """

    root: Root
    plan: Plan
    parts: tuple[Part, ...] = (Part(),)


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
    plan = Plan(root_seen=scan.entries_at_root > 0)
    known_by_path = {
        file.path: file
        for file in known
        if not within or relative_to(file.path, within) is not None
    }
    same_file = SameFile(known_by_path, [*scan.files, *scan.online_only])
    seen_paths: set[bytes] = set()
    for seen in scan.files:
        seen_paths.add(seen.path)
        before = known_by_path.get(seen.path)
        if before is not None and same_file(before, seen):
            _compare_companions(plan, before, seen)
        if before is None:
            plan.added.append(seen)
        elif not same_file(before, seen):
            plan.changed.append(seen)
        elif before.failure is not None and not retry_failed and not waits_no_more(before.failure):
            plan.failed.append(before)
            if not before.present or _is_stale(before, seen):
                plan.refreshed.append((before, seen))
        elif before.photo_id is None:
            plan.changed.append(seen)
        elif embedded is not None and before.photo_id not in embedded:
            plan.unembedded.append(seen)
        elif not before.present:
            plan.returned.append((before, seen))
        else:
            plan.unchanged.append(before)
            if _is_stale(before, seen):
                plan.refreshed.append((before, seen))
    _keep_unopened(plan, scan, known_by_path, seen_paths, same_file)
    _judge_missing(
        plan,
        [file for path, file in known_by_path.items() if path not in seen_paths],
        scan,
        renumbered=_device_renumbering(known_by_path, scan, same_file),
    )
    _find_stacked(plan, scan)
    missing = [
        file
        for file in known_by_path.values()
        if file.path not in seen_paths
        and file.photo_id is not None
        and (embedded is None or file.photo_id in embedded)
    ]
    _find_moves(plan, missing)
    _find_respelled(plan, missing, same_file)
    _set_placeholders_aside(plan, scan)
    for before, seen in plan.moved:
        _compare_companions(plan, before, seen)
    changed = {seen.path for seen in plan.changed}
    for before in (*plan.removed, *plan.stacked, *filter(None, map(known_by_path.get, changed))):
        if before.photo_id is not None and _sidecars(before.companions):
            plan.stale_metadata.add(before.photo_id)
    for files in (plan.added, plan.changed, plan.unembedded):
        files.sort(key=lambda seen: seen.fingerprint.mtime_ns, reverse=True)
    return plan


def _is_stale(before: KnownFile, seen: SeenFile) -> bool:
    return before.device != seen.device or before.fingerprint != seen.fingerprint


def _compare_companions(plan: Plan, before: KnownFile, seen: SeenFile) -> None:
    """Note what became of the companions of a file that is itself as it was."""
    if before.path == seen.path and before.companions != seen.companions:
        plan.companions.append((before, seen.companions))
    if before.photo_id is None:
        return
    was, now = _sidecars(before.companions), _sidecars(seen.companions)
    # While a file was away its sidecars did not count: those of copies, or none, did.
    is_back = not before.present and bool(was or now)
    elsewhere = before.device is not None and before.device != seen.device
    if (
        is_back
        or len(was) != len(now)
        or any(
            old.size != new.size or not same_time(old.mtime_ns, new.mtime_ns, elsewhere=elsewhere)
            for old, new in zip(was, now, strict=True)
        )
    ):
        plan.stale_metadata.add(before.photo_id)


def _sidecars(companions: Iterable[Companion]) -> list[Fingerprint]:
    return [companion.fingerprint for companion in companions if companion.kind == "sidecar"]


def _keep_unopened(
    plan: Plan,
    scan: ScanResult,
    known_by_path: dict[bytes, KnownFile],
    seen_paths: set[bytes],
    same_file: SameFile,
) -> None:
    """Sort in what is there and must not, or cannot, be opened; what was known of it holds on.

    A placeholder whose size or time is another one has changed in the cloud: the library answers
    with the content that it knows until the file is downloaded.
    """
    for seen in scan.online_only:
        if seen.path in seen_paths:
            continue
        seen_paths.add(seen.path)
        before = known_by_path.get(seen.path)
        if before is None:
            plan.added.append(seen)  # for now: it may be the new name of a known picture
        elif not _keep_as_it_was(plan, before):
            if before.photo_id is not None and same_file(before, seen):
                plan.returned.append((before, seen))
            else:
                plan.online_only.append(seen)
    for extra, paths in scan.without_extra.items():
        for path in paths:
            seen_paths.add(path)
            before = known_by_path.get(path)
            if before is None or not _keep_as_it_was(plan, before):
                plan.without_extra.setdefault(extra, []).append(path)


def _keep_as_it_was(plan: Plan, before: KnownFile) -> bool:
    if not before.present or (before.photo_id is None and before.failure is None):
        return False
    (plan.unchanged if before.photo_id is not None else plan.failed).append(before)
    return True


def _set_placeholders_aside(plan: Plan, scan: ScanResult) -> None:
    """Take the placeholders, which are not to be read, from the pictures that are."""
    if not scan.online_only:
        return
    paths = {seen.path for seen in scan.online_only} - {seen.path for seen in scan.files}
    plan.online_only.extend(seen for seen in plan.added if seen.path in paths)
    plan.added[:] = [seen for seen in plan.added if seen.path not in paths]


def _find_stacked(plan: Plan, scan: ScanResult) -> None:
    """Tell the pictures that belong to another one now from those that are gone."""
    companions = {companion.path for seen in scan.files for companion in seen.companions}
    if not companions:
        return
    for files in (plan.removed, plan.unreachable):
        plan.stacked.extend(file for file in files if file.path in companions)
        files[:] = [file for file in files if file.path not in companions]


def _device_renumbering(
    known_by_path: dict[bytes, KnownFile], scan: ScanResult, same_file: SameFile
) -> dict[int, Counter[int]]:
    """Return, for each recorded device number, the numbers under which its files are seen now.

    A number is the kernel's and may change with every restart; the files on it tell which it is.
    """
    numbers: dict[int, Counter[int]] = {}
    for seen in scan.files:
        before = known_by_path.get(seen.path)
        if before is None or before.device is None or not same_file(before, seen):
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
    _forget_moved(plan)


def _find_respelled(plan: Plan, missing: Iterable[KnownFile], same_file: SameFile) -> None:
    """Turn added paths into moves where a missing one was the same name, spelled otherwise.

    The criterion is that of an unchanged file: one name, one size and one time. Here the name is
    taken as a file system takes it that knows no case, or normalises names. Files that stand
    there in two spellings are two files, and not for this to judge.
    """
    moved_away = {before.id for before, _ in plan.moved}
    candidates: dict[bytes, list[KnownFile]] = {}
    for file in missing:
        if file.id not in moved_away:
            candidates.setdefault(folded(file.path), []).append(file)
    if not candidates:
        return
    newcomers = Counter(folded(seen.path) for seen in plan.added)
    for seen in plan.added:
        name = folded(seen.path)
        match candidates.get(name):
            case [before] if newcomers[name] == 1 and same_file(before, seen):
                plan.moved.append((before, seen))
    arrived = {seen.path for _, seen in plan.moved}
    plan.added[:] = [seen for seen in plan.added if seen.path not in arrived]
    _forget_moved(plan)


def _forget_moved(plan: Plan) -> None:
    moved_away = {before.id for before, _ in plan.moved}
    plan.removed[:] = [file for file in plan.removed if file.id not in moved_away]
    plan.unreachable[:] = [file for file in plan.unreachable if file.id not in moved_away]
