"""One run of `index`: scan, plan, embed, commit."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from siglip_index.records import Root
from siglip_search.engine.chosen_model import space_of
from siglip_search.engine.roots import Target, find_targets, refuse_to_hide
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

# Decoding a JPEG takes about so long for each byte of the file, on one core; only the estimate uses
# it. 65 ms for one of 12 megapixels and 3.7 MB.
DECODE_SECONDS_PER_BYTE = 18e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is about to do.

    Attributes:
        pictures: Files to read.
        seconds: About how long it will take, wall clock.
    """

    pictures: int
    seconds: float


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
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    retry_failed: bool = False
    max_pixels: int = DecodeLimits().max_pixels
    max_seconds: float = DecodeLimits().max_seconds
    jobs: int = 1


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
        spec: The model to embed with; its space becomes the active one when the run completes.
        paths: Folders or pictures.
        options: How to index.
        stop: When set, computed vectors are committed and the run returns.
        listener: Who wants to know.

    Raises:
        PathError: A path does not exist.
        StoreError, ModelError, WorkerError: As in `Pipeline.run`.
    """
    started = time.monotonic()
    space = space_of(spec)
    targets = find_targets(paths, store.roots())
    if not options.hidden:
        refuse_to_hide(targets, store.roots())
    with store.write() as writer:
        writer.ensure_space(space)
        for target in targets:
            # A root that cannot be reached keeps the device number under which it was known.
            if target.root is None:
                writer.ensure_root(target.path, None)
    survey = _survey(store, space.key, find_targets(paths, store.roots()), options, stop, listener)
    report = _carry_out(store, spec, survey, options, stop=stop, listener=listener)
    report.ignored += survey.ignored
    report.warnings.extend(survey.warnings)
    active = store.active_space()
    if not report.stopped and active is not None and active != space:
        missing = _visible_photos(store) - store.photos_in_space(space.key)
        if missing:
            report.warnings.append(
                f"{len(missing):,} pictures are not embedded with {spec.name} yet: {active.model} "
                f"goes on answering; `siglip-search index --model {spec.name}` does the rest"
            )
        else:
            with store.write() as writer:
                writer.activate_space(space.key)
    report.seconds = time.monotonic() - started
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
        name = os.fsdecode(target.path)
        if not os.path.exists(target.path):
            if _is_deleted_picture(target.path, known):
                survey.plans.append(RootPlan(root, Plan(removed=known)))
                continue
            survey.warnings.append(
                f"{name} is not there (unmounted?): its {len(known):,} files are kept"
            )
            survey.plans.append(RootPlan(root, Plan(unreachable=known)))
            continue
        scanned = scan(
            target.path,
            rules,
            within=target.within,
            should_stop=stop.is_set,
            on_progress=listener.on_scanned,
        )
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
        survey.warnings.extend(_warnings(name, scanned, plan))
        survey.plans.append(RootPlan(root, plan))
    return survey


def _visible_photos(store: Store) -> set[int]:
    return {
        file.photo_id
        for root in store.roots()
        for file in store.files(root.id)
        if file.present and file.photo_id is not None
    }


def _is_deleted_picture(path: bytes, known: Sequence[KnownFile]) -> bool:
    """Tell whether a root that was one picture is gone while its folder is still there."""
    try:
        device = os.stat(os.path.dirname(path)).st_dev
    except OSError:
        return False
    return [(file.path, file.device) for file in known] == [(b"", device)]


def _warnings(name: str, scanned: ScanResult, plan: Plan) -> list[str]:
    warnings = [
        f"{os.fsdecode(os.path.join(os.fsencode(name), path))}: {reason}"
        for path, reason in scanned.unreadable
    ]
    if plan.unreachable and scanned.entries_at_root == 0:
        warnings.append(
            f"{name} is empty (unmounted?): its {len(plan.unreachable):,} files are kept; "
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
) -> IngestReport:
    sizes = [
        seen.fingerprint.size for root_plan in survey.plans for seen in root_plan.plan.to_read()
    ]
    report = record_without_reading(store, survey.plans)
    if not sizes:
        return report
    tower = VisionTower(spec, threads=1)
    if not stop.is_set():  # it may have been while a large tower was loading
        cost = len(sizes) * _seconds_per_picture(tower, spec) + sum(sizes) * DECODE_SECONDS_PER_BYTE
        listener.on_estimate(Estimate(len(sizes), cost / options.jobs))
    limits = DecodeLimits(max_pixels=options.max_pixels, max_seconds=options.max_seconds)
    workers = min(options.jobs, len(sizes))
    pool = DecodePool(
        tower.preprocessor,
        workers=workers,
        limits=limits,
        min_side=2 * max(spec.vision.image_size),
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
