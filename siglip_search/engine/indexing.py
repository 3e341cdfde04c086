"""One run of `index`: scan, plan, embed, commit."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from siglip_search.engine.cheaper_choices import (
    LONG_RUN_SECONDS,
    Choice,
    RunCost,
    cheaper_choices,
)
from siglip_search.engine.chosen_model import space_of
from siglip_search.engine.kept_towers import NewTowers
from siglip_search.engine.machine_state import available_memory, read_machine
from siglip_search.engine.memory_share import share_memory
from siglip_search.engine.roots import find_targets, refuse_to_hide
from siglip_search.engine.snapshots_amid_run import SnapshotsAmidRun
from siglip_search.engine.survey import Survey, SurveyRules, is_no_picture, survey_targets
from siglip_search.errors import DeviceError, ModelError
from siglip_search.ingest.bookkeeping import count_without_reading, record_without_reading
from siglip_search.ingest.metadata_pass import read_metadata_again
from siglip_search.ingest.newest import only_newest
from siglip_search.ingest.pace import Pace, PacePolicy
from siglip_search.ingest.pipeline import Pipeline
from siglip_search.ingest.plan import Plan, RootPlan
from siglip_search.photos.decode import DecodeLimits

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from siglip_index.protocol import Store
    from siglip_search.engine.kept_towers import Towers
    from siglip_search.engine.roots import Target
    from siglip_search.ingest.pace import Decision, OnBattery
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
        choices: What would be quicker, where the run takes an hour or more.
    """

    pictures: int
    seconds: float
    switching_to: str | None = None
    choices: tuple[Choice, ...] = ()


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
        download_cloud: Read also what only the cloud has, which downloads it.
        newest: Read so many files at most, the newest, and leave the others for the next run; None
            for all.
        on_battery: What to do while the machine runs on its battery; see `PacePolicy`.
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False
    retry_failed: bool = False
    max_pixels: int = DecodeLimits().max_pixels
    max_seconds: float = DecodeLimits().max_seconds
    jobs: int = 1
    device: Device = "cpu"
    download_cloud: bool = False
    newest: int | None = None
    on_battery: OnBattery = "slow"


@dataclass(frozen=True, slots=True)
class IndexListener:
    """Who wants to know what; each is called in the thread that runs the index."""

    on_scanned: Callable[[int], None] = lambda _: None
    on_estimate: Callable[[Estimate], None] = lambda _: None
    on_progress: Callable[[Progress], None] = lambda _: None
    on_commit: Callable[[Committed], None] = lambda _: None
    on_pace: Callable[[Decision], None] = lambda _: None
    on_tagging: Callable[[Progress], None] = lambda _: None


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
    towers: Towers | None = None,
) -> IngestReport:
    """Bring the library up to date with these paths, or with all its roots if there are none.

    Args:
        store: Opened for writing.
        spec: The model to embed with.
        paths: Folders or pictures.
        options: How to index.
        stop: When set, computed vectors are committed and the run returns.
        listener: Who wants to know.
        towers: Where the picture tower comes from; None for a new one.

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
            if target.root is None and not is_no_picture(target):
                writer.ensure_root(target.path, None)
    # Once more: a new root may have absorbed known ones.
    survey = _survey(store, spec, find_targets(paths, store.roots()), options, stop, listener)
    report = carry_out(
        store, spec, survey, options, stop=stop, listener=listener, towers=towers or NewTowers()
    )
    report.metadata_read = read_metadata_again(
        store,
        survey.plans,
        decode_limits(options),
        jobs=options.jobs,
        stop=stop,
        on_progress=listener.on_progress,
    )
    report.ignored += survey.ignored
    report.companions += survey.companions  # less the RAWs in a damaged picture's stead
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
    towers: Towers | None = None,
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
        towers: Where the picture tower comes from; None for a new one.
        on_opened: Called once the tower is open, or if none is needed. When it returns, the store
            must know the model's space.

    Raises:
        StoreError, ModelError, DeviceError, WorkerError: As in `Pipeline.run`.
    """
    targets = find_targets((), store.roots())
    survey = _survey(store, spec, targets, options, stop, listener)
    survey.plans = [
        RootPlan(root_plan.root, Plan(unembedded=root_plan.plan.unembedded))
        for root_plan in survey.plans
    ]
    report = carry_out(
        store,
        spec,
        survey,
        options,
        stop=stop,
        listener=listener,
        towers=towers or NewTowers(),
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
    survey = _survey(store, spec, targets, options, stop, listener)
    report = count_without_reading(survey.plans)
    report.ignored += survey.ignored
    report.warnings = survey.warnings
    report.companions = survey.companions
    report.stopped = stop.is_set()
    for root_plan in survey.plans:
        report.added += len(root_plan.plan.added)
        report.changed += len(root_plan.plan.changed)
        report.unchanged += len(root_plan.plan.unembedded)
    report.seconds = time.monotonic() - started
    return report


def _survey(
    store: Store | None,
    spec: ModelSpec,
    targets: Sequence[Target],
    options: IndexOptions,
    stop: threading.Event,
    listener: IndexListener,
) -> Survey:
    rules = survey_rules(options)
    return survey_targets(
        store, spec.space_key, targets, rules, stop=stop, on_scanned=listener.on_scanned
    )


def survey_rules(options: IndexOptions, *, by_name: bool = True) -> SurveyRules:
    """Return what a run takes and leaves out.

    Args:
        options: How to index.
        by_name: See `SurveyRules`.
    """
    return SurveyRules(
        exclude=options.exclude,
        hidden=options.hidden,
        download_cloud=options.download_cloud,
        retry_failed=options.retry_failed,
        by_name=by_name,
    )


def carry_out(
    store: Store,
    spec: ModelSpec,
    survey: Survey,
    options: IndexOptions,
    *,
    stop: threading.Event,
    listener: IndexListener,
    towers: Towers,
    on_opened: Callable[[], None] = lambda: None,
    switching_to: str | None = None,
) -> IngestReport:
    """Do what a survey found to be done, but for metadata that have to be read again.

    Args:
        store: Opened for writing.
        spec: The model to embed with; the store knows its space once `on_opened` was called.
        survey: What is to be done.
        options: How to index.
        stop: When set, computed vectors are committed and the run returns.
        listener: Who wants to know.
        towers: Where the tower comes from; it is only opened if there is something to embed.
        on_opened: Called once it is open, or if none is needed.
        switching_to: Name of the model when known pictures are embedded again with it.

    Raises:
        StoreError, ModelError, DeviceError, WorkerError: As in `Pipeline.run`.
    """
    plans, left_out = survey.plans, 0
    if options.newest is not None:
        plans, left_out = only_newest(plans, options.newest)
    sizes = [seen.fingerprint.size for root_plan in plans for seen in root_plan.plan.to_read()]
    report = record_without_reading(store, plans)
    report.pending += left_out
    if not sizes:
        on_opened()
        return report
    tower = towers.open(spec, options.device, report.warnings.append)
    on_opened()
    if not stop.is_set():  # it may have been while a large tower was loading
        per_picture = towers.seconds_per_picture(spec, tower)
        cost = RunCost(
            pictures=len(sizes),
            reading_seconds=sum(sizes) * DECODE_SECONDS_PER_BYTE / options.jobs,
            embedding_seconds=len(sizes) * per_picture / options.jobs,
            seconds_per_picture=per_picture,
        )
        choices: tuple[Choice, ...] = ()
        if cost.seconds >= LONG_RUN_SECONDS and switching_to is None:
            is_first = not store.photos_in_space(space_of(spec).key)
            choices = cheaper_choices(spec, cost, is_first=is_first)
        listener.on_estimate(Estimate(len(sizes), cost.seconds, switching_to, choices))
    limits = decode_limits(options)
    share = share_memory(min(options.jobs, len(sizes)), available_memory(), limits)
    pool = towers.decoders(
        tower.preprocessor,
        workers=share.decode_workers,
        limits=replace(limits, shared_memory_bytes=share.shared_bytes),
    )
    pace = Pace(
        PacePolicy(options.on_battery, jobs=options.jobs, unbounded=sys.maxsize),
        read_machine,
        on_change=listener.on_pace,
    )
    snapshots = SnapshotsAmidRun(store)

    def on_commit(committed: Committed) -> None:
        listener.on_commit(committed)
        snapshots.after_commit()

    pipeline = Pipeline(
        store,
        space_of(spec),
        tower,
        pool,
        report,
        decode_workers=share.decode_workers,
        embed_threads=share.embed_threads,
        stop=stop,
        pace=pace,
        on_commit=on_commit,
        on_progress=listener.on_progress,
    )
    try:
        return pipeline.run(plans)
    except (ModelError, DeviceError):
        towers.unload()  # the device may work again in a new session
        raise


def decode_limits(options: IndexOptions) -> DecodeLimits:
    """Return what one picture may cost."""
    return DecodeLimits(
        max_pixels=options.max_pixels,
        max_seconds=options.max_seconds,
        download_cloud=options.download_cloud,
    )
