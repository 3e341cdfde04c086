"""What is on disk and what it means for the library, before anything is done about it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from siglip_index.locations import join
from siglip_index.records import Root
from siglip_search.engine.relocation import root_state
from siglip_search.engine.roots import scan_rules
from siglip_search.ingest.plan import RootPlan, plan_changes
from siglip_search.ingest.raws_in_stead import with_raws_in_stead
from siglip_search.photos.optional_formats import install_line, raw_available
from siglip_search.photos.scan import ScanResult, ScanRules, SeenFile, scan, scan_parts
from siglip_search.photos.volumes import MountedVolumes

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from siglip_index.protocol import Store
    from siglip_index.records import KnownFile
    from siglip_search.engine.roots import Target
    from siglip_search.ingest.plan import Plan


@dataclass(frozen=True, slots=True)
class SurveyRules:
    """What a survey takes and leaves out.

    Attributes:
        exclude: Patterns as in .gitignore.
        hidden: Take hidden files and folders as well.
        download_cloud: Take also what only the cloud has.
        retry_failed: Take known bad pictures again.
        by_name: Somebody named the targets, and wants to know where one of them is none.
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    download_cloud: bool = False
    retry_failed: bool = False
    by_name: bool = True


@dataclass(slots=True)
class Survey:
    """What scanning and planning found out.

    Attributes:
        plans: What is to be done, one for each root.
        ignored: Files that are no pictures.
        companions: Files that belong to a picture.
        warnings: One line each about what was not looked at, and why.
    """

    plans: list[RootPlan] = field(default_factory=list)
    ignored: int = 0
    companions: int = 0
    warnings: list[str] = field(default_factory=list)


def survey_targets(
    store: Store | None,
    space_key: str,
    targets: Sequence[Target],
    rules: SurveyRules,
    *,
    stop: threading.Event,
    on_scanned: Callable[[int], None],
) -> Survey:
    """Scan the targets and plan what has to be done.

    Args:
        store: The library; None when there is none yet.
        space_key: The embedding space that every picture shall have a vector in.
        targets: Where to look. Those of one root make one plan, so that what moved from one to
            another is seen; none may lie in another one, but for what is gone.
        rules: What to take.
        stop: When set, the survey ends, empty.
        on_scanned: Called with the number of files found so far.
    """
    survey = Survey()
    by_root: dict[bytes, list[Target]] = {}
    for target in targets:
        by_root.setdefault(target.path, []).append(target)
    volumes = MountedVolumes()
    for parts in by_root.values():
        looked_at = _look(store, parts, rules, volumes, stop=stop, on_scanned=on_scanned)
        if stop.is_set():
            return Survey()  # half a scan proves nothing
        known, scanned = looked_at.known, looked_at.scanned
        plan = plan_changes(
            known,
            scanned,
            embedded=store.photos_in_space(space_key, among=_photos(known)) if store else None,
            retry_failed=rules.retry_failed,
        )
        survey.ignored += scanned.ignored
        survey.companions += scanned.companions
        survey.warnings.extend(_warnings(parts, looked_at, plan, by_name=rules.by_name))
        root = parts[0].root or Root(id=0, path=parts[0].path, device=None)
        survey.plans.append(RootPlan(root, plan, tuple(target.part for target in parts)))
    return survey


@dataclass(frozen=True, slots=True)
class _LookedAt:
    """What is known of some parts of a root, and what is there.

    Attributes:
        known: What the library remembers of these parts.
        scanned: What is on disk in them.
        displaced: Whether the root's path shows another volume, of which nothing is said.
    """

    known: list[KnownFile]
    scanned: ScanResult
    displaced: bool


def _look(
    store: Store | None,
    parts: Sequence[Target],
    rules: SurveyRules,
    volumes: MountedVolumes,
    *,
    stop: threading.Event,
    on_scanned: Callable[[int], None],
) -> _LookedAt:
    """Look at some parts of one root.

    That something is not there proves as little here as in a look at the whole root: the plan
    compares with the folders above it, which are looked at as well.
    """
    path, root = parts[0].path, parts[0].root
    known: list[KnownFile] = []
    displaced = False
    if store is not None and root is not None:
        displaced = root_state(store, root, volumes) == "another volume"
        files = {
            file.id: file
            for target in parts
            for file in store.files(root.id, target.within, subfolders=target.subfolders)
        }
        known = list(files.values())
    if displaced:
        return _LookedAt(known, ScanResult(), displaced)
    if not os.path.exists(path):
        return _LookedAt(known, _scan_of_missing(path, known), displaced)
    scanned = scan_parts(
        path,
        scan_rules(
            root,
            exclude=rules.exclude,
            hidden=rules.hidden,
            download_cloud=rules.download_cloud,
        ),
        sorted(target.part for target in parts if not target.is_gone),
        should_stop=stop.is_set,
        on_progress=on_scanned,
    )
    scanned = _without_companions_alone(scanned)
    if raw_available():
        scanned = with_raws_in_stead(scanned, known, path, download_cloud=rules.download_cloud)
    return _LookedAt(known, _as_known_beside(scanned, parts, known), displaced)


def _photos(known: Sequence[KnownFile]) -> set[int]:
    return {file.photo_id for file in known if file.photo_id is not None}


def _without_companions_alone(scanned: ScanResult) -> ScanResult:
    """Leave out files that were met twice: by themselves, and where their folder was listed."""
    seen: dict[bytes, SeenFile] = {}
    for file in scanned.files:
        seen.setdefault(file.path, file)
    companions = {item.path for file in scanned.files for item in file.companions}
    if len(seen) == len(scanned.files) and companions.isdisjoint(seen):
        return scanned
    return replace(scanned, files=[file for path, file in seen.items() if path not in companions])


def _as_known_beside(
    scanned: ScanResult, parts: Sequence[Target], known: Sequence[KnownFile]
) -> ScanResult:
    """Let a picture that was asked for alone keep what belongs to it: nobody looked beside it."""
    looked_at = {target.within for target in parts}
    alone = {
        file.path
        for file in scanned.files
        if file.path in looked_at and file.path and os.path.dirname(file.path) not in looked_at
    }
    if not alone:
        return scanned
    before = {file.path: file.companions for file in known}
    return replace(
        scanned,
        files=[
            replace(file, companions=before.get(file.path, ())) if file.path in alone else file
            for file in scanned.files
        ],
    )


def _scan_of_missing(path: bytes, known: Sequence[KnownFile]) -> ScanResult:
    """Return a scan that saw nothing below a root that is not there.

    A folder may be unmounted, so it counts as empty. Of a root that was one picture the folder that
    it lay in still tells whether its drive is there.
    """
    nothing = ScanResult(
        files=[], ignored=0, unreadable=[], dangling_links=[], devices={}, entries_at_root=0
    )
    if [file.path for file in known] != [b""]:
        return nothing
    try:
        device = os.stat(os.path.dirname(path)).st_dev
    except OSError:
        return nothing
    return replace(nothing, devices={b"": device}, entries_at_root=1)


def is_no_picture(target: Target) -> bool:
    """Tell whether the target is a single file that is none of our business."""
    if not os.path.isfile(target.path):
        return False
    found = scan(target.path, ScanRules())
    return not found.files and not found.online_only


def _warnings(
    parts: Sequence[Target], looked_at: _LookedAt, plan: Plan, *, by_name: bool
) -> list[str]:
    root, scanned = parts[0].path, looked_at.scanned
    name = os.fsdecode(root)
    warnings = [
        f"{os.fsdecode(join(root, path))}: {reason}"
        for path, reason in dict.fromkeys(scanned.unreadable)
    ]
    if by_name:
        found = {file.path for file in (*scanned.files, *scanned.online_only)} | set(
            scanned.devices
        )
        for target in parts:
            if target.within not in found:
                warnings += _about_asked_for(join(root, target.within), scanned, plan)
    if looked_at.displaced:
        warnings.append(
            f"{name} is on another drive now, which holds none of its pictures: its"
            f" {len(plan.unreachable):,} files are kept; `siglip-search roots relocate` says where"
            " they are"
        )
    elif plan.unreachable and scanned.entries_at_root == 0:
        state = "empty" if os.path.exists(root) else "not there"
        warnings.append(
            f"{name} is {state} (unmounted?): its {len(plan.unreachable):,} files are kept; "
            f"`siglip-search forget` removes them"
        )
    elif plan.unreachable:
        warnings.append(
            f"{name}: {len(plan.unreachable):,} files are on a drive or in a folder that cannot "
            "be seen now: they are kept"
        )
    return warnings


def _about_asked_for(path: bytes, scanned: ScanResult, plan: Plan) -> list[str]:
    """Return what whoever has named a path wants to know where no picture was found there."""
    name = os.fsdecode(path)
    warnings = []
    if scanned.left_out:
        warnings.append(
            f"{name} is left out by a rule; `siglip-search index --explain"
            f" {shlex.quote(name)}` says by which"
        )
    if os.path.isfile(path):
        if scanned.ignored:
            warnings.append(f"{name} is not a picture: it is ignored")
        warnings += [
            f"{name} is ignored: to read such, {install_line(extra)}"
            for extra in plan.without_extra
        ]
    return warnings
