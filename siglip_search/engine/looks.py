"""Bringing a library up to date with a few places, at the cost of these and not of the library."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from siglip_index.locations import join, relative_to
from siglip_search.engine.chosen_model import space_of
from siglip_search.engine.indexing import carry_out, decode_limits, survey_rules
from siglip_search.engine.roots import Target
from siglip_search.engine.survey import Survey, survey_targets
from siglip_search.engine.tagging import tag_new
from siglip_search.ingest.metadata_pass import read_metadata_again
from siglip_search.photos.ignore_files import IGNORE_FILE_NAME
from siglip_search.photos.metadata import METADATA_VERSION
from siglip_search.photos.name_folding import disk_spelling
from siglip_search.photos.settling import Look

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator, Sequence

    from siglip_index.protocol import Store
    from siglip_index.records import Root
    from siglip_search.engine.indexing import IndexListener, IndexOptions
    from siglip_search.engine.kept_towers import Towers
    from siglip_search.ingest.report import IngestReport
    from siglip_search.models.spec import ModelSpec


def look_at(
    store: Store,
    spec: ModelSpec,
    looks: Iterable[Look],
    options: IndexOptions,
    *,
    stop: threading.Event,
    listener: IndexListener,
    towers: Towers,
) -> IngestReport:
    """Bring the library up to date with what some places show.

    Afterwards it knows of them what a run over everything would have found there. A change of
    model is not gone on with.

    Args:
        store: Opened for writing.
        spec: The model to embed with.
        looks: Where to look; what lies in no root is passed over.
        options: How to index.
        stop: When set, computed vectors are committed and the run returns.
        listener: Who wants to know.
        towers: Where the picture tower comes from.

    Raises:
        StoreError, ModelError, DeviceError, WorkerError: As in `Pipeline.run`.
    """
    started = time.monotonic()
    space = space_of(spec)
    if space not in store.spaces():
        with store.write() as writer:
            writer.ensure_space(space)
    rules = survey_rules(options, by_name=False)

    def survey(looks: Iterable[Look]) -> Survey:
        targets = targets_of(looks, store.roots())
        return survey_targets(
            store, spec.space_key, targets, rules, stop=stop, on_scanned=listener.on_scanned
        )

    def do(survey: Survey) -> IngestReport:
        return carry_out(store, spec, survey, options, stop=stop, listener=listener, towers=towers)

    found = survey(looks)
    report = do(found)
    report.ignored += found.ignored
    report.companions += found.companions
    report.warnings.extend(found.warnings)
    photos = _photos_in(store, found)
    stale = store.photos_with_older_metadata(METADATA_VERSION, among=photos)
    if stale and not stop.is_set():
        # What a picture's metadata are depends on the sidecars of all its files.
        others = survey(_beside(store, stale, found))
        if others.plans:
            _add(report, do(others))
        report.metadata_read = read_metadata_again(
            store,
            [*found.plans, *others.plans],
            decode_limits(options),
            jobs=options.jobs,
            stop=stop,
            on_progress=listener.on_progress,
            among=stale,
        )
    if report.embedded:
        report.tagged = tag_new(
            store,
            spec,
            stop=stop,
            among=photos,
            device=options.device,
            # Other new pictures wait for the end of a look. Where a model has just taken over, a
            # run over all folders embeds the labels with it.
            embed_labels=False,
            on_warning=report.warnings.append,
        )
    report.stopped = stop.is_set()
    report.seconds = time.monotonic() - started
    return report


def _photos_in(store: Store, survey: Survey) -> set[int]:
    """Return the photos of what was looked at, and those whose sidecars are other ones now."""
    photos: set[int] = set()
    for root_plan in survey.plans:
        photos |= root_plan.plan.stale_metadata
        for part in root_plan.parts:
            files = store.files(root_plan.root.id, part.within, subfolders=part.subfolders)
            photos |= {file.photo_id for file in files if file.photo_id is not None}
    return photos


def _beside(store: Store, photos: Iterable[int], survey: Survey) -> list[Look]:
    """Return the files of photos that were not among what was looked at."""
    seen = {
        join(root_plan.root.path, path)
        for root_plan in survey.plans
        for path in root_plan.plan.paths_seen()
    }
    return [
        Look(path, subfolders=False)
        for photo in store.photos(sorted(photos))
        for path in photo.paths
        if path not in seen
    ]


def _add(report: IngestReport, more: IngestReport) -> None:
    """Add what became of other places; what was as it was there is not worth a count."""
    report.added += more.added
    report.changed += more.changed
    report.moved += more.moved
    report.removed += more.removed
    report.failed += len(more.failures)
    report.failures.extend(more.failures)
    report.embedded += more.embedded
    report.copies += more.copies
    report.pending += more.pending
    report.warnings.extend(more.warnings)


def targets_of(looks: Iterable[Look], roots: Sequence[Root]) -> list[Target]:
    """Return what has to be looked at, so that nothing is looked at twice.

    A look at a file is one at its folder, for what belongs to a picture lies beside it. What is not
    there is looked for in the nearest folder above it that is: whether that is still the one in
    which it was, or the mount point of a drive that is away, the scan will see.

    Args:
        looks: Where to look.
        roots: The indexed folders. What lies in none of them is passed over.
    """
    targets: dict[Target, None] = {}
    for look in dict.fromkeys(looks):
        for root in roots:
            targets.update(dict.fromkeys(_targets_in(root, look)))
    deep = {(item.path, item.within) for item in targets if item.subfolders and not item.is_gone}
    return [target for target in targets if not _is_covered(target, deep)]


def _is_covered(target: Target, deep: set[tuple[bytes, bytes]]) -> bool:
    """Tell whether a target lies in another one that takes in everything below."""
    if not target.subfolders and (target.path, target.within) in deep:
        return True
    return any((target.path, above) in deep for above in _folders_above(target.within))


def _folders_above(path: bytes) -> Iterator[bytes]:
    while path:
        path = os.path.dirname(path)
        yield path


def _targets_in(root: Root, look: Look) -> list[Target]:
    below = relative_to(look.path, root.path)
    if below is None:
        is_above = look.subfolders and relative_to(root.path, look.path) is not None
        return [Target(root.path, b"", root)] if is_above else []
    if os.path.basename(below) == IGNORE_FILE_NAME:
        # What it says holds for everything below its folder.
        return [Target(root.path, os.path.dirname(below), root)]
    spelled = relative_to(disk_spelling(join(root.path, below)), disk_spelling(root.path))
    if spelled is None or spelled == below:
        return _targets_at(root, below, subfolders=look.subfolders)
    # On a file system that takes any spelling the old one of a folder leads to the new one.
    former = Target(root.path, below, root, is_gone=True)
    return [*_targets_at(root, spelled, subfolders=look.subfolders), former]


def _targets_at(root: Root, within: bytes, *, subfolders: bool) -> list[Target]:
    """Return what a look at a root-relative path means, as it is on disk now."""
    folder = b""
    for name in filter(None, within.split(b"/")):
        path = join(folder, name) if folder else name
        beside = Target(root.path, folder, root, subfolders=False)
        try:
            status = os.stat(join(root.path, path))
        except (OSError, ValueError):
            # Also where it cannot be looked at: then the scan finds out why.
            return [beside, Target(root.path, path, root)]
        if not stat.S_ISDIR(status.st_mode):
            # It may have been a folder before.
            return [beside, Target(root.path, path, root, is_gone=True)]
        folder = path
    here = Target(root.path, folder, root, subfolders=subfolders)
    # Where a folder's name is that of a file, it may have been one that belonged to a picture.
    if b"." not in os.path.basename(folder):
        return [here]
    return [Target(root.path, os.path.dirname(folder), root, subfolders=False), here]
