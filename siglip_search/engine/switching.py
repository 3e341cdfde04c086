"""Changing a library's model: the old one answers until the new one has embedded every picture."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from siglip_index.errors import StoreError
from siglip_search.engine.chosen_model import (
    all_installed,
    bundled_models,
    embed_something,
    space_of,
)
from siglip_search.engine.indexing import embed_known_pictures, index_paths
from siglip_search.engine.tagging import tag_new
from siglip_search.errors import DeviceError, ModelError
from siglip_search.settings import models_directory
from siglip_search.towers.devices import is_compiled, refuse_missing_device
from siglip_search.towers.text import TextTower

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Sequence

    from siglip_index.local_store import LocalStore
    from siglip_index.protocol import Store
    from siglip_index.records import Space
    from siglip_search.engine.chosen_model import IndexingModels
    from siglip_search.engine.indexing import IndexListener, IndexOptions
    from siglip_search.engine.kept_towers import Towers
    from siglip_search.ingest.report import IngestReport
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Device


@dataclass(frozen=True, slots=True)
class ModelSwitch:
    """What choosing a model for a library has led to.

    Attributes:
        model: Name of the model that answers now.
        coming: Name of the one that takes over when it is ready; None when none is to.
        pictures: How many pictures the library shows.
        left: How many of them the chosen model has not embedded; they cannot be found by the
            one that answers now if it is the chosen one.
    """

    model: str
    coming: str | None
    pictures: int
    left: int


def choose_model(
    store: Store, spec: ModelSpec, *, now: bool = False, device: Device = "cpu"
) -> ModelSwitch:
    """Let a library use a model: at once where it can, else as soon as `index` has done its part.

    A choice that is still being carried out is replaced; choosing the model that answers cancels
    it.

    Args:
        store: Opened for writing.
        spec: The model.
        now: Let it answer at once, even if pictures are missing that it has not embedded.
        device: Where towers are tried that are compiled for an NPU.

    Raises:
        ModelError: Its towers do not work.
    """
    space = space_of(spec)
    if space != store.active_space():
        embed_something(spec, device=device)  # a model that cannot answer must not take over
    with store.write() as writer:
        writer.ensure_space(space)
    visible = _visible_photos(store)
    left = len(visible - store.photos_in_space(space.key))
    active = store.active_space()
    assert active is not None
    with store.write() as writer:
        if active.key == space.key:
            writer.prepare_space(None)
        elif now or not left:
            writer.prepare_space(None)
            writer.activate_space(space.key)
        else:
            writer.prepare_space(space.key)
    active, coming = store.active_space(), store.coming_space()
    assert active is not None
    return ModelSwitch(active.model, coming.model if coming else None, len(visible), left)


def index_and_switch(
    store: Store,
    models: IndexingModels,
    paths: Sequence[str | os.PathLike[str]],
    options: IndexOptions,
    *,
    stop: threading.Event,
    listener: IndexListener,
    towers: Towers | None = None,
) -> IngestReport:
    """Bring the library up to date, then go on with the change of model if there is one.

    New pictures are embedded with the answering model first, so that they are found at once. Where
    a picture tower cannot be opened, nothing has begun: a change of model is not remembered, and a
    library that was empty stays empty.

    Args:
        store: Opened for writing.
        models: Whose vectors to make.
        paths: Folders or pictures.
        options: How to index.
        stop: When set, computed vectors are committed and the run returns.
        listener: Who wants to know.
        towers: Where picture towers come from; None for new ones.

    Raises:
        PathError: A path does not exist.
        StoreError, ModelError, DeviceError, WorkerError: The run could not be completed; what was
            committed stays.
    """
    started = time.monotonic()
    refuse_missing_device(options.device)  # also where no tower would be opened
    roots_before, spaces_before = store.roots(), store.spaces()
    try:
        report = index_paths(
            store, models.first, paths, options, stop=stop, listener=listener, towers=towers
        )
    except (DeviceError, ModelError):
        if not roots_before:
            _empty_again(store, spaces_before)
        raise
    active = store.active_space()
    if models.coming is not None and active is not None:
        coming = space_of(models.coming)
        if models.answering is None:
            report.warnings.append(
                f"the model that made this library, {active.model}, is not on this machine (in "
                f"that version): new pictures are found once {models.coming.name} has taken over"
            )

        def begin() -> None:
            with store.write() as writer:
                writer.ensure_space(coming)
                writer.prepare_space(coming.key)

        if stop.is_set():
            begin()
        else:
            again = embed_known_pictures(
                store,
                models.coming,
                options,
                stop=stop,
                listener=listener,
                towers=towers,
                on_opened=begin,
            )
            report.embedded += again.embedded
            report.failed += again.failed
            report.unchanged -= again.failed  # the first pass took them for good
            report.failures += again.failures
            report.warnings += again.warnings
            report.stopped = again.stopped
        _switch_if_complete(store, models.coming, report, options.device)
    answering = models.coming if report.switched else models.answering
    if answering is not None:
        report.tagged = tag_new(
            store,
            answering,
            stop=stop,
            device=options.device,
            on_progress=listener.on_tagging,
            on_warning=report.warnings.append,
        )
        report.stopped = stop.is_set()
    active = store.active_space()
    report.model = active.model if active else None
    if models.lost is not None:
        report.warnings.append(
            f"{models.lost} was to take over, and is not on this machine (in that version): get "
            f"it again, or `siglip-search model use {report.model}` forgets about it"
        )
    report.seconds = time.monotonic() - started
    return report


def _empty_again(store: Store, spaces_before: Sequence[Space]) -> None:
    """Take back what a first run has noted before it failed, unless it has committed pictures."""
    roots, spaces = store.roots(), store.spaces()
    if any(True for root in roots for _ in store.files(root.id)):
        return
    with store.write() as writer:
        for root in roots:
            writer.drop_root(root.id)
        for key in {space.key for space in spaces} - {space.key for space in spaces_before}:
            writer.drop_space(key)


def _switch_if_complete(
    store: Store, spec: ModelSpec, report: IngestReport, device: Device
) -> None:
    left = len(_visible_photos(store) - store.photos_in_space(spec.space_key))
    if not left:
        # Its other half has worked, but can it be asked? On the processor, as questions are, unless
        # that cannot do it.
        asked_on = device if is_compiled(spec.text_path) else "cpu"
        TextTower(spec, device=asked_on).embed(["a picture"])
        with store.write() as writer:
            writer.activate_space(spec.space_key)
        report.switched = True
        return
    report.switching_to, report.left_to_switch = spec.name, left
    if not report.stopped:
        active = store.active_space()
        assert active is not None
        report.warnings.append(
            f"{left:,} pictures could not be embedded with {spec.name}: {active.model} goes on "
            f"answering; `siglip-search model use {spec.name} --now` does without them"
        )


@dataclass(frozen=True, slots=True)
class Removal:
    """What `model remove` will do.

    Attributes:
        files: Delete the model's files.
        dropped: Keys of the spaces that go, with their vectors.
        renamed: Spaces that another installed model makes as well, under its name.
    """

    files: bool
    dropped: tuple[str, ...]
    renamed: tuple[Space, ...]


def plan_removal(name: str, store: Store | None, *, force: bool = False) -> Removal:
    """Decide what is deleted with a model; nothing is changed.

    Args:
        name: The model.
        store: The library; None where there is none.
        force: Delete the files also of the model that the library answers with; its vectors stay.

    Raises:
        ModelError: The library answers with it, and nothing else can ask about its vectors.
    """
    installed = {spec.name: spec for spec in all_installed()}
    heirs = {spec.space_key: spec.name for spec in installed.values() if spec.name != name}
    active = store.active_space() if store else None
    named = [space for space in (store.spaces() if store else ()) if space.model == name]
    renamed = tuple(replace(space, model=heirs[space.key]) for space in named if space.key in heirs)
    orphaned = [space for space in named if space.key not in heirs]
    answers = active in orphaned and store is not None and store.photos_in_space(active.key)
    if answers and not force:
        raise ModelError(
            f"the library answers with the model {name!r}",
            hint="`siglip-search model use OTHER` switches first; --force deletes it all the same, "
            "and questions fail until it is there again.",
        )
    dropped = tuple(space.key for space in orphaned if not (answers and space == active))
    # Of what comes with the program only the vectors can go, and of a folder that was deleted by
    # hand as well; where there are none either, `remove_model` says what is wrong.
    broken = (models_directory() / name).is_dir()
    has_files = name not in bundled_models() and (name in installed or broken)
    return Removal(has_files or not (dropped or renamed), dropped, renamed)


def remove_vectors(store: LocalStore, removal: Removal) -> int:
    """Carry out the library's part of a removal; return how many vectors were deleted.

    Args:
        store: Opened for writing.
        removal: As it was planned.
    """
    with store.write() as writer:
        for space in removal.renamed:
            writer.ensure_space(space)
        vectors = sum(writer.drop_space(key) for key in removal.dropped)
    if vectors:
        # Without the room to write the database anew, what comes uses the room that was freed.
        with suppress(StoreError):
            store.compact()
    return vectors


def _visible_photos(store: Store) -> set[int]:
    return {
        file.photo_id
        for root in store.roots()
        for file in store.files(root.id)
        if file.present and file.photo_id is not None
    }
