"""The Python API: one library of pictures, opened once, searched many times."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from siglip_index import open_store
from siglip_index.errors import LibraryMissingError
from siglip_search.engine.answering import Answering
from siglip_search.engine.chosen_model import model_called, model_for_searching, models_for_indexing
from siglip_search.search.question import Question, checked
from siglip_search.settings import Settings, load_settings, models_directory
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from siglip_index.local_store import LocalStore
    from siglip_index.records import Root, VerifyReport, Where
    from siglip_search.engine.chosen_model import IndexingModels
    from siglip_search.engine.indexed_folders import IndexedFolders
    from siglip_search.engine.indexing import IndexListener, IndexOptions
    from siglip_search.engine.kept_towers import Towers
    from siglip_search.engine.library_status import LibraryStatus
    from siglip_search.engine.saved_searches import SavedSearches
    from siglip_search.engine.switching import ModelSwitch
    from siglip_search.ingest.report import IngestReport
    from siglip_search.search.ranking import Answer, Hit

DAY_SECONDS = 24 * 60 * 60


class Library:
    """A library of pictures on this machine.

    Nothing is opened before it is needed; a library that does not exist is empty. An instance may
    be used by several threads. It holds the writer's lock only while it indexes or prunes.

    Args:
        settings: Where it lies and how it works.
        model: Name of the model to use; None for the library's own.
        one_shot: Tune for a single query in a fresh process, rather than for many.
    """

    def __init__(
        self, settings: Settings, *, model: str | None = None, one_shot: bool = False
    ) -> None:
        self._settings = settings
        self._requested_model = model
        self._one_shot = one_shot
        self._reader: LocalStore | None = None
        self._answering: Answering | None = None
        self._opening = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """The folder of the library."""
        return self._settings.library

    def close(self) -> None:
        """Release every file; the library may be used again afterwards."""
        with self._opening:
            if self._reader is not None:
                self._reader.close()
            self._reader = None
            self._answering = None

    def index(
        self,
        paths: Sequence[str | os.PathLike[str]] = (),
        *,
        options: IndexOptions | None = None,
        stop: threading.Event | None = None,
        listener: IndexListener | None = None,
        dry_run: bool = False,
        towers: Towers | None = None,
    ) -> IngestReport:
        """Bring the library up to date with folders, or with all known ones if none is given.

        Args:
            paths: Folders or pictures.
            options: How to index; from the settings when None.
            stop: When set, computed vectors are committed and the run returns.
            listener: Who wants to know about progress and commits.
            dry_run: Only count what would be done.
            towers: Where picture towers come from; None for new ones.

        Raises:
            PathError: A path does not exist.
            NoModelError: No model was chosen.
            LibraryBusyError: Another process is writing.
            StoreError, ModelError, DeviceError, WorkerError: The run could not be completed;
                what was committed stays.
        """
        from siglip_search.engine.indexing import IndexListener, plan_paths
        from siglip_search.engine.relocation import RootPlaces
        from siglip_search.engine.switching import index_and_switch

        options = options or self.index_options()
        stop = stop or threading.Event()
        listener = listener or IndexListener()
        # Before the store is opened: a run without a model leaves no empty library behind.
        models = self.models_for_indexing()
        if dry_run:
            reader = self._store_if_any()
            return plan_paths(reader, models.first, paths, options, stop=stop, listener=listener)
        with open_store(self.directory, writable=True) as store:
            # Before anything is looked for where it no longer is.
            relocations = RootPlaces(store, self.directory).recognise()
            report = index_and_switch(
                store, models, paths, options, stop=stop, listener=listener, towers=towers
            )
            RootPlaces(store, self.directory).remember()
            report.warnings[:0] = map(str, relocations)
            if report.stopped:
                # Whoever stopped it wants to leave now; the next start replays what is missing.
                store.close(write_snapshot=False)
            return report

    def index_options(self) -> IndexOptions:
        """Return how the settings say to index."""
        from siglip_search.engine.indexing import IndexOptions, available_cores

        return IndexOptions(
            exclude=self._settings.exclude,
            hidden=self._settings.hidden,
            download_cloud=self._settings.download_cloud,
            max_pixels=self._settings.max_pixels,
            max_seconds=self._settings.max_seconds,
            jobs=self._settings.jobs or available_cores(),
            device=self._settings.device,
            on_battery=self._settings.on_battery,
        )

    def models_for_indexing(self) -> IndexingModels:
        """Return the models that `index` would embed with.

        Raises:
            NoModelError: None was chosen.
            UnknownModelError: It is not installed.
            AnotherVersionError: It is installed in another version; `use_model` agrees to that.
        """
        store = self._store_if_any()
        active = store.active_space() if store else None
        coming = store.coming_space() if store else None
        return models_for_indexing(self._requested_model, active, coming, self._settings.model)

    def use_model(self, name: str, *, now: bool = False) -> ModelSwitch:
        """Let this library use an installed model from now on, or once `index` has prepared it.

        Args:
            name: The model.
            now: Do not wait until every picture is embedded with it.

        Raises:
            UnknownModelError: It is not installed.
            LibraryBusyError: Another process is writing.
        """
        from siglip_search.engine.switching import choose_model

        spec = model_called(name)
        with open_store(self.directory, writable=True) as store:
            return choose_model(store, spec, now=now, device=self._settings.device)

    def remove_model(self, name: str, *, force: bool = False) -> int:
        """Delete a model's files and its vectors in this library; return how many vectors.

        Args:
            name: The model.
            force: Delete the files also of the model that this library answers with; its vectors
                stay.

        Raises:
            UnknownModelError: It is not installed.
            ModelError: This library answers with it, or its files cannot be deleted.
            LibraryBusyError: Another process is writing.
        """
        from siglip_search.engine.switching import plan_removal, remove_vectors
        from siglip_search.models.files import remove_model

        removal = plan_removal(name, self._store_if_any(), force=force)
        # The files first, which takes no room: a disk that is full can be relieved in this way.
        if removal.files:
            remove_model(name, models_directory())
        if not removal.dropped and not removal.renamed:
            return 0
        with open_store(self.directory, writable=True) as store:
            return remove_vectors(store, removal)

    def search(
        self,
        question: Question | str,
        *,
        top_k: int | None = None,
        min_probability: float | None = None,
        where: Where | None = None,
    ) -> list[Hit]:
        """Return the pictures that answer a question, best first; an empty list if none does.

        Args:
            question: What is in the picture, in words or with all that a `Question` can say.
            top_k: At most so many hits, > 0; the question's own number, 10, when None.
            min_probability: Smallest match probability of a hit, in [0, 1]; what the question
                says when None, and else the usual cut.
            where: Which pictures may be returned; what the question says when None.

        Raises:
            QueryError: The question asks for nothing, contradicts itself, or a number is out of
                its range.
            PathError: A picture of the question cannot be read.
            LibraryMissingError: Nothing has been indexed yet.
            ModelError: The library's model is not installed.
            DeviceError: The device was asked for by name and cannot be used, or fails.
        """
        answer = self.answer(question, top_k=top_k, min_probability=min_probability, where=where)
        return list(answer.hits)

    def answer(
        self,
        question: Question | str,
        *,
        top_k: int | None = None,
        min_probability: float | None = None,
        where: Where | None = None,
    ) -> Answer:
        """Return what `search` does, with the cut, and how near the best refused picture came."""
        if isinstance(question, str):
            question = Question(words=question)
        given: dict[str, Any] = {
            "top_k": top_k,
            "min_probability": min_probability,
            "where": where,
        }
        given = {name: value for name, value in given.items() if value is not None}
        # Before the library is opened: what cannot be asked costs nothing.
        question = checked(replace(question, **given))
        return self.answering().answer(question)

    def answering(self) -> Answering:
        """Return the model that answers questions about this library, with the library's state.

        It is kept, with its towers, until another model takes over or the library is closed.

        Raises:
            LibraryMissingError: Nothing has been indexed yet.
            ModelError: The library's model is not installed.
        """
        store = self._store_if_any()
        active = store.active_space() if store else None
        if store is None or active is None:
            raise LibraryMissingError(
                f"there is no picture in the library {self.directory} yet",
                hint="Index a folder first: siglip-search index ~/Pictures",
            )
        with self._opening:
            # Reading the model's facts again for each question would cost more than the search.
            kept = self._answering
            if kept is None or kept.spec.space_key != active.key or kept.store is not store:
                kept = self._answering = Answering(
                    model_for_searching(self._requested_model, active),
                    store,
                    self._settings,
                    one_shot=self._one_shot,
                )
            return kept

    def notice(self) -> str | None:
        """Return what has to be said wherever the active model's results are shown."""
        return self._answering.spec.notice if self._answering else None

    def status(self) -> LibraryStatus:
        """Return what is in the library; zeros where none exists yet."""
        from siglip_search.engine.library_status import status_of

        return status_of(self.directory, self._store_if_any())

    def generation(self) -> int | None:
        """Return a number that grows with every change of the library; None where none exists."""
        store = self._store_if_any()
        return store.generation() if store else None

    def verify(self, *, repair: bool = False) -> VerifyReport:
        """Check every vector, photo, file and snapshot against one another.

        Raises:
            LibraryMissingError: There is no library.
            LibraryBusyError: A repair was asked for while another process is writing.
        """
        from siglip_index.verify import verify

        return verify(self.directory, repair=repair)

    def prune(self, *, days: float = 30.0) -> int:
        """Delete the vectors of pictures whose last file vanished at least so many days ago.

        Returns:
            How many pictures were deleted.
        """
        import time

        if self._store_if_any() is None:
            return 0
        with open_store(self.directory, writable=True) as store, store.write() as writer:
            return writer.prune(time.time() - days * DAY_SECONDS)

    def forget(self, root: Root) -> int:
        """Forget an indexed folder and, at once, the pictures that only it held.

        Returns:
            How many pictures were deleted.
        """
        with open_store(self.directory, writable=True) as store, store.write() as writer:
            return writer.drop_root(root.id)

    def folders(self) -> IndexedFolders:
        """Return what can be asked and said about the indexed folders."""
        from siglip_search.engine.indexed_folders import IndexedFolders

        return IndexedFolders(self.directory, self._store_if_any())

    def saved_searches(self) -> SavedSearches:
        """Return the questions that the library keeps under names."""
        from siglip_search.engine.saved_searches import SavedSearches

        return SavedSearches(self.directory, self._store_if_any())

    def roots(self) -> list[Root]:
        """Return the indexed folders."""
        store = self._store_if_any()
        return store.roots() if store else []

    def _store_if_any(self) -> LocalStore | None:
        with self._opening:
            if self._reader is None:
                try:
                    self._reader = open_store(self.directory, writable=False)
                except LibraryMissingError:
                    return None
            return self._reader


def open_library(
    directory: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    one_shot: bool = False,
) -> Library:
    """Open the library in a folder, or the user's usual one.

    Args:
        directory: Folder of the library; None for the one that the settings name.
        model: Name of the model to use; None for the library's own.
        one_shot: Tune for a single query in a fresh process, rather than for many.

    Raises:
        SettingsError: The settings file cannot be understood.

    Example:
        >>> from siglip_search import open_library
        >>> with open_library() as library:  # doctest: +SKIP
        ...     for hit in library.search("red bicycle", top_k=20):
        ...         print(hit.probability, hit.path)
    """
    settings = load_settings()
    if directory is not None:
        settings = replace(settings, library=absolute_path(directory))
    return Library(settings, model=model, one_shot=one_shot)
