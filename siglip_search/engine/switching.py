"""Changing a library's model: the old one answers until the new one has embedded every picture."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_index.errors import StoreError
from siglip_search.engine.chosen_model import all_installed, bundled_models, space_of
from siglip_search.engine.indexing import embed_known_pictures, index_paths
from siglip_search.errors import ModelError
from siglip_search.models.files import remove_model
from siglip_search.settings import models_directory

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Sequence

    from siglip_index.local_store import LocalStore
    from siglip_index.protocol import Store
    from siglip_search.engine.chosen_model import IndexingModels
    from siglip_search.engine.indexing import IndexListener, IndexOptions
    from siglip_search.ingest.report import IngestReport
    from siglip_search.models.spec import ModelSpec


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


def choose_model(store: Store, spec: ModelSpec, *, now: bool = False) -> ModelSwitch:
    """Let a library use a model: at once where it can, else as soon as `index` has done its part.

    A choice that is still being carried out is replaced; choosing the model that answers cancels
    it.

    Args:
        store: Opened for writing.
        spec: The model.
        now: Let it answer at once, even if pictures are missing that it has not embedded.
    """
    space = space_of(spec)
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
) -> IngestReport:
    """Bring the library up to date, then go on with the change of model if there is one.

    New pictures are embedded with the answering model first, so that they are found at once.

    Args:
        store: Opened for writing.
        models: Whose vectors to make.
        paths: Folders or pictures.
        options: How to index.
        stop: When set, computed vectors are committed and the run returns.
        listener: Who wants to know.

    Raises:
        PathError: A path does not exist.
        StoreError, ModelError, WorkerError: The run could not be completed; what was committed
            stays.
    """
    started = time.monotonic()
    report = index_paths(store, models.first, paths, options, stop=stop, listener=listener)
    active = store.active_space()
    if models.coming is not None and active is not None:
        coming = space_of(models.coming)
        if models.answering is None:
            report.warnings.append(
                f"the model {active.model} is not on this machine: new pictures are found once "
                f"{models.coming.name} has taken over"
            )
        with store.write() as writer:
            writer.ensure_space(coming)
            writer.prepare_space(coming.key)
        if not stop.is_set():
            again = embed_known_pictures(
                store, models.coming, options, stop=stop, listener=listener
            )
            report.embedded += again.embedded
            report.failed += again.failed
            report.unchanged -= again.failed  # the first pass took them for good
            report.failures += again.failures
            report.stopped = again.stopped
        _switch_if_complete(store, models.coming, report)
    active = store.active_space()
    report.model = active.model if active else None
    report.seconds = time.monotonic() - started
    return report


def _switch_if_complete(store: Store, spec: ModelSpec, report: IngestReport) -> None:
    left = len(_visible_photos(store) - store.photos_in_space(spec.space_key))
    if not left:
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


def delete_model(name: str, store: LocalStore | None, *, force: bool = False) -> int:
    """Delete a model's vectors, unless the library answers with them, and its files.

    Of a model that comes with the program only the vectors go.

    Args:
        name: The model.
        store: The library, opened for writing; None where there is none.
        force: Delete the files also of the model that the library answers with; its vectors stay.

    Returns:
        How many vectors were deleted.

    Raises:
        UnknownModelError: It is not installed.
        ModelError: The library answers with it, it is a part of the program without vectors here,
            or its files cannot be deleted.
    """
    installed = {spec.name: spec for spec in all_installed()}
    active = store.active_space() if store else None
    if (
        active is not None
        and active.model == name
        and name in installed
        and installed[name].space_key == active.key
        and not force
    ):
        raise ModelError(
            f"the library answers with the model {name!r}",
            hint="`siglip-search model use OTHER` switches first; --force deletes it all the same, "
            "and questions fail until it is there again.",
        )
    shared = {spec.space_key for spec in installed.values() if spec.name != name}
    doomed = [
        space.key
        for space in (store.spaces() if store else ())
        if space.model == name and space != active and space.key not in shared
    ]
    if not doomed or name not in bundled_models():
        # First, for it may refuse: vectors without a model do no harm, only the reverse would.
        remove_model(name, models_directory())
    if store is None or not doomed:
        return 0
    with store.write() as writer:
        vectors = sum(writer.drop_space(key) for key in doomed)
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
