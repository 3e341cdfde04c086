"""One run of `index`: scan, plan, embed, commit."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from siglip_index.locations import join
from siglip_index.records import Root
from siglip_search.engine.chosen_model import space_of
from siglip_search.engine.roots import Target, find_targets, refuse_to_hide
from siglip_search.engine.substitutes import substitutes_on_cpu
from siglip_search.ingest.bookkeeping import count_without_reading, record_without_reading
from siglip_search.ingest.pipeline import Pipeline
from siglip_search.ingest.plan import Plan, RootPlan, plan_changes
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.scan import ScanResult, ScanRules, scan
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from siglip_index.protocol import Store
    from siglip_index.records import KnownFile
    from siglip_search.ingest.report import Committed, IngestReport, Progress
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Device

# Decoding a JPEG takes about so long for each byte of the file, on one core; only the estimate uses
# it. 65 ms for one of 12 megapixels and 3.7 MB.
DECODE_SECONDS_PER_BYTE = 18e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is about to do.

    Attributes:
        pictures: Files to read.
        seconds: About how long it will take, wall clock.
        switching_to: Name of the model when known pictures are embedded again with another one.
    """

    pictures: int
    seconds: float
    switching_to: str | None = None


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How to index; see the command's help for each.

    Attributes:
        exclude: Patterns as in .gitignore.
        hidden: Take hidden files and folders as well.
        retry_failed: Read known bad pictures again.
        max_pixels: Largest picture that is opened, in pixels, > 0.
        max_seconds: Longest time for decoding one picture, > 0.
        jobs: Pictures worked on at the same time, >= 1.
        device: Where the picture tower runs.
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    retry_failed: bool = False
    max_pixels: int = DecodeLimits().max_pixels
    max_seconds: float = DecodeLimits().max_seconds
    jobs: int = 1
    device: Device = "cpu"


@dataclass(frozen=True, slots=True)
class IndexListener:
    """Who wants to know what; each is called in the thread that runs the index."""

    on_scanned: Callable[[int], None] = lambda _: None
    on_estimate: Callable[[Estimate], None] = lambda _: None
    on_progress: Callable[[Progress], None] = lambda _: None
    on_commit: Callable[[Committed], None] = lambda _: None


@dataclass(slots=True)
class _Survey:
    """What scanning and planning found out."""

    plans: list[RootPlan] = field(default_factory=list)
    ignored: int = 0
    warnings: list[str] = field(default_factory=list)


def available_cores() -> int:
    """Return how many cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def index_paths(
    store: Store,
    spec: ModelSpec,
    paths: Sequence[str | os.PathLike[str]],
    options: IndexOptions,
    *,
    stop: threading.Event,
    listener: IndexListener,
) -> IngestReport:
    """Bring the library up to date with these paths, or with all its roots if there are none.

    Args:
        store: Opened for writing.
        spec: The model to embed with.
        paths: Folders or pictures.
        options: How to index.
        stop: When set, computed vectors are committed and the run returns.
        listener: Who wants to know.

    Raises:
        PathError: A path does not exist.
        StoreError, ModelError, DeviceError, WorkerError: As in `Pipeline.run`.
    """
    started = time.monotonic()
    space = space_of(spec)
    targets = find_targets(paths, store.roots())
    if not options.hidden:
        refuse_to_hide(targets, store.roots())
    with store.write() as writer:
        writer.ensure_space(space)
        for target in targets:
            if target.root is None and not _is_no_picture(target):
                writer.ensure_root(target.path, None)
    # Once more: a new root may have absorbed known ones.
    survey = _survey(store, space.key, find_targets(paths, store.roots()), options, stop, listener)
    report = _carry_out(store, spec, survey, options, stop=stop, listener=listener)
    report.ignored += survey.ignored
    report.warnings.extend(survey.warnings)
    report.stopped = stop.is_set()
    report.seconds = time.monotonic() - started
    return report


def embed_known_pictures(
    store: Store,
    spec: ModelSpec,
    options: IndexOptions,
    *,
    stop: threading.Event,
    listener: IndexListener,
    on_opened: Callable[[], None] = lambda: None,
) -> IngestReport:
    """Embed, with another model, the pictures that the library knows and can read now.

    What is new, changed or gone on disk is left to `index_paths`.

    Args:
        store: Opened for writing.
        spec: The model.
        options: How the folders were indexed.
        stop: When set, computed vectors are committed and the run returns.
        listener: Who wants to know.
        on_opened: Called once the tower is open, or if none is needed. When it returns, the store
            must know the model's space.

    Raises:
        StoreError, ModelError, DeviceError, WorkerError: As in `Pipeline.run`.
    """
    targets = find_targets((), store.roots())
    survey = _survey(store, space_of(spec).key, targets, options, stop, listener)
    survey.plans = [
        RootPlan(root_plan.root, Plan(unembedded=root_plan.plan.unembedded))
        for root_plan in survey.plans
    ]
    report = _carry_out(
        store,
        spec,
        survey,
        options,
        stop=stop,
        listener=listener,
        on_opened=on_opened,
        switching_to=spec.name,
    )
    report.stopped = stop.is_set()
    return report


def plan_paths(
    store: Store | None,
    spec: ModelSpec,
    paths: Sequence[str | os.PathLike[str]],
    options: IndexOptions,
    *,
    stop: threading.Event,
    listener: IndexListener,
) -> IngestReport:
    """Return the counts that `index_paths` would reach if every picture could be read.

    Nothing is written; a store that does not exist yet is None. Contents are not read, so that
    copies count as added.
    """
    started = time.monotonic()
    targets = find_targets(paths, store.roots() if store else [])
    survey = _survey(store, space_of(spec).key, targets, options, stop, listener)
    report = count_without_reading(survey.plans)
    report.ignored, report.warnings = survey.ignored, survey.warnings
    report.stopped = stop.is_set()
    for root_plan in survey.plans:
        report.added += len(root_plan.plan.added)
        report.changed += len(root_plan.plan.changed)
        report.unchanged += len(root_plan.plan.unembedded)
    report.seconds = time.monotonic() - started
    return report


def _survey(
    store: Store | None,
    space_key: str,
    targets: Sequence[Target],
    options: IndexOptions,
    stop: threading.Event,
    listener: IndexListener,
) -> _Survey:
    survey = _Survey()
    rules = ScanRules(exclude=options.exclude, hidden=options.hidden)
    embedded = store.photos_in_space(space_key) if store else None
    for target in targets:
        root = target.root or Root(id=0, path=target.path, device=None)
        known = list(store.files(root.id)) if store and root.id else []
        if os.path.exists(target.path):
            scanned = scan(
                target.path,
                rules,
                within=target.within,
                should_stop=stop.is_set,
                on_progress=listener.on_scanned,
            )
        else:
            scanned = _scan_of_missing(target.path, known)
        if stop.is_set():
            return _Survey()  # half a scan proves nothing
        plan = plan_changes(
            known,
            scanned,
            embedded=embedded,
            within=target.within,
            retry_failed=options.retry_failed,
        )
        survey.ignored += scanned.ignored
        survey.warnings.extend(_warnings(target, scanned, plan))
        survey.plans.append(RootPlan(root, plan))
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


def _is_no_picture(target: Target) -> bool:
    """Tell whether the target is a single file that is none of our business."""
    return os.path.isfile(target.path) and scan(target.path, ScanRules()).ignored > 0


def _warnings(target: Target, scanned: ScanResult, plan: Plan) -> list[str]:
    name = os.fsdecode(target.path)
    warnings = [
        f"{os.fsdecode(join(target.path, path))}: {reason}" for path, reason in scanned.unreadable
    ]
    asked_for = join(target.path, target.within)
    if scanned.ignored and os.path.isfile(asked_for):
        warnings.append(f"{os.fsdecode(asked_for)} is not a picture: it is ignored")
    if plan.unreachable and scanned.entries_at_root == 0:
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


def _carry_out(
    store: Store,
    spec: ModelSpec,
    survey: _Survey,
    options: IndexOptions,
    *,
    stop: threading.Event,
    listener: IndexListener,
    on_opened: Callable[[], None] = lambda: None,
    switching_to: str | None = None,
) -> IngestReport:
    sizes = [
        seen.fingerprint.size for root_plan in survey.plans for seen in root_plan.plan.to_read()
    ]
    report = record_without_reading(store, survey.plans)
    if not sizes:
        on_opened()
        return report
    tower = VisionTower(
        spec,
        threads=1,
        device=options.device,
        substitutes=partial(substitutes_on_cpu, spec),
        on_notice=report.warnings.append,
    )
    on_opened()
    if not stop.is_set():  # it may have been while a large tower was loading
        cost = len(sizes) * _seconds_per_picture(tower, spec) + sum(sizes) * DECODE_SECONDS_PER_BYTE
        listener.on_estimate(Estimate(len(sizes), cost / options.jobs, switching_to))
    limits = DecodeLimits(max_pixels=options.max_pixels, max_seconds=options.max_seconds)
    workers = min(options.jobs, len(sizes))
    pool = DecodePool(
        tower.preprocessor,
        workers=workers,
        limits=limits,
        min_side=tower.preprocessor.min_side_px,
    )
    pipeline = Pipeline(
        store,
        space_of(spec),
        tower,
        pool,
        report,
        decode_workers=workers,
        embed_threads=options.jobs,
        stop=stop,
        on_commit=listener.on_commit,
        on_progress=listener.on_progress,
    )
    return pipeline.run(survey.plans)


def _seconds_per_picture(tower: VisionTower, spec: ModelSpec) -> float:
    height, width = spec.vision.image_size
    blank = np.zeros((1, height, width, 3), np.uint8)
    tower.embed(blank)  # the first run allocates and is not typical
    started = time.perf_counter()
    tower.embed(blank)
    return time.perf_counter() - started
