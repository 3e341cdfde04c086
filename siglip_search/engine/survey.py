"""What is on disk and what it means for the library, before anything is done about it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from siglip_index.locations import join
from siglip_index.records import Root
from siglip_search.engine.relocation import root_state
from siglip_search.engine.roots import scan_rules
from siglip_search.ingest.plan import RootPlan, plan_changes
from siglip_search.ingest.raws_in_stead import with_raws_in_stead
from siglip_search.photos.optional_formats import install_line, raw_available
from siglip_search.photos.scan import ScanResult, ScanRules, scan
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
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    download_cloud: bool = False
    retry_failed: bool = False


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
        targets: Where to look.
        rules: What to take.
        stop: When set, the survey ends, empty.
        on_scanned: Called with the number of files found so far.
    """
    survey = Survey()
    embedded = store.photos_in_space(space_key) if store else None
    volumes = MountedVolumes()
    for target in targets:
        root = target.root or Root(id=0, path=target.path, device=None)
        known = list(store.files(root.id)) if store and root.id else []
        displaced = (
            store is not None
            and target.root is not None
            and root_state(store, root, volumes) == "another volume"
        )
        if os.path.exists(target.path) and not displaced:
            scanned = scan(
                target.path,
                scan_rules(
                    target.root,
                    exclude=rules.exclude,
                    hidden=rules.hidden,
                    download_cloud=rules.download_cloud,
                ),
                within=target.within,
                should_stop=stop.is_set,
                on_progress=on_scanned,
            )
            if raw_available():
                scanned = with_raws_in_stead(scanned, known)
        else:
            scanned = ScanResult() if displaced else _scan_of_missing(target.path, known)
        if stop.is_set():
            return Survey()  # half a scan proves nothing
        plan = plan_changes(
            known,
            scanned,
            embedded=embedded,
            within=target.within,
            retry_failed=rules.retry_failed,
        )
        survey.ignored += scanned.ignored
        survey.companions += scanned.companions
        survey.warnings.extend(_warnings(target, scanned, plan, displaced=displaced))
        survey.plans.append(RootPlan(root, plan, target.within))
    return survey


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


def _warnings(target: Target, scanned: ScanResult, plan: Plan, *, displaced: bool) -> list[str]:
    name = os.fsdecode(target.path)
    warnings = [
        f"{os.fsdecode(join(target.path, path))}: {reason}" for path, reason in scanned.unreadable
    ]
    asked_for = join(target.path, target.within)
    if os.path.isfile(asked_for):
        if scanned.ignored:
            warnings.append(f"{os.fsdecode(asked_for)} is not a picture: it is ignored")
        warnings += [
            f"{os.fsdecode(asked_for)} is ignored: to read such, {install_line(extra)}"
            for extra in plan.without_extra
        ]
    if displaced:
        warnings.append(
            f"{name} is on another drive now, which holds none of its pictures: its"
            f" {len(plan.unreachable):,} files are kept; `siglip-search roots relocate` says where"
            " they are"
        )
    elif plan.unreachable and scanned.entries_at_root == 0:
        state = "empty" if os.path.exists(target.path) else "not there"
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
