"""Keeping a library up to date for a long time, run after run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from siglip_index import open_store
from siglip_index.database import DATABASE_NAME
from siglip_index.locations import relative_to
from siglip_search.engine.kept_towers import KeptTowers
from siglip_search.engine.library import Library
from siglip_search.engine.looks import look_at
from siglip_search.engine.relocation import RootPlaces
from siglip_search.ingest.report import IngestReport

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from types import TracebackType

    from siglip_index.records import Root
    from siglip_search.engine.indexing import IndexListener, IndexOptions
    from siglip_search.engine.relocation import Relocation
    from siglip_search.photos.settling import Look
    from siglip_search.settings import Settings


class Follower:
    """Keeps a library up to date, with a picture tower that stays open between the runs.

    Each run opens the library for writing and closes it afterwards, so that others can write in
    between. Used by one thread at a time, but for `roots`, `is_warm`,
    `ran_on` and `unload`.

    Args:
        settings: Where the library lies and how it works.
        model: Name of the model to embed with; None for the library's own.
    """

    def __init__(self, settings: Settings, *, model: str | None = None) -> None:
        self._library = Library(settings, model=model)
        self._towers = KeptTowers()
        self._snapshot_of: int | None = None  # the generation that was looked at last

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_warm(self) -> bool:
        """Whether a picture tower is open, or decoding processes wait."""
        return self._towers.is_warm

    @property
    def ran_on(self) -> tuple[str, str] | None:
        """Device and precision of the tower that is open, or was last; None before the first."""
        return self._towers.ran_on

    def roots(self) -> list[Root]:
        """Return the indexed folders; none where there is no library, or none any more."""
        self._close_if_gone()
        return self._library.roots()

    def index(
        self,
        paths: Sequence[str | os.PathLike[str] | bytes],
        *,
        options: IndexOptions | None = None,
        stop: threading.Event,
        listener: IndexListener,
    ) -> IngestReport:
        """Bring the library up to date with folders, or with all known ones if none is given.

        Args:
            paths: Folders or pictures.
            options: How to index; from the settings when None.
            stop: When set, computed vectors are committed and the run returns.
            listener: Who wants to know about progress and commits.

        Raises:
            PathError, NoModelError, LibraryBusyError, StoreError, ModelError, DeviceError,
            WorkerError: As `Library.index`.
        """
        return self._library.index(
            [os.fsdecode(path) for path in paths],
            options=options,
            stop=stop,
            listener=listener,
            towers=self._towers,
        )

    def look(
        self,
        looks: Sequence[Look],
        *,
        options: IndexOptions | None = None,
        stop: threading.Event,
        listener: IndexListener,
    ) -> IngestReport:
        """Bring the library up to date with what some places show.

        What is new, changed, moved or gone there is known afterwards as if everything had been
        indexed; nothing else is judged. It costs what these places hold, however large the library
        is. No snapshot is written; see `write_snapshot`.

        Args:
            looks: Where to look; what lies in no root is passed over.
            options: How to index; from the settings when None.
            stop: When set, computed vectors are committed and the run returns.
            listener: Who wants to know about progress and commits.

        Raises:
            LibraryBusyError: Another process is writing.
            StoreError, ModelError, DeviceError, WorkerError: The run could not be completed; what
                was committed stays.
        """
        roots = self.roots()
        if not any(_concerns(look, root) for look in looks for root in roots):
            return IngestReport()
        options = options or self._library.index_options()
        spec = self._library.models_for_indexing().first
        store = open_store(self._library.directory, writable=True)
        try:
            report = look_at(
                store, spec, looks, options, stop=stop, listener=listener, towers=self._towers
            )
            active = store.active_space()
            report.model = active.model if active else None
            return report
        finally:
            store.close(write_snapshot=False)

    def recognise_roots(self) -> list[Relocation]:
        """Note which indexed folders are at another place now, such as drives mounted elsewhere.

        Costs little; no picture is read.

        Raises:
            LibraryBusyError: Another process is writing.
            StoreError: The library cannot be read or written.
        """
        if not self.roots():
            return []
        store = open_store(self._library.directory, writable=True)
        try:
            return RootPlaces(store, self._library.directory).recognise()
        finally:
            store.close(write_snapshot=False)

    def write_snapshot(self) -> int:
        """Write the snapshots that are due, so that the next start is quick; return how many.

        To be called when there is nothing else to do. It takes the room of the vectors in memory.

        Raises:
            LibraryBusyError: Another process is writing.
            DiskFullError: There is no room; nothing is lost and the former ones stay in force.
        """
        self._close_if_gone()
        generation = self._library.generation()
        if generation is None or generation == self._snapshot_of:
            return 0
        store = open_store(self._library.directory, writable=True)
        try:
            written = store.write_snapshot()
            self._snapshot_of = store.generation()
        finally:
            store.close(write_snapshot=False)
        return written

    def unload(self) -> None:
        """Let the picture tower go, once no run uses it; the next run that needs it opens it."""
        self._towers.unload()

    def _close_if_gone(self) -> None:
        """Close a library that was deleted or went away with its drive.

        It stays readable as long as it is open, and what writes next would put an empty one in its
        place.
        """
        if not (self._library.directory / DATABASE_NAME).exists():
            self._library.close()

    def close(self) -> None:
        """Release everything; it may be used again afterwards."""
        self.unload()
        self._library.close()


def _concerns(look: Look, root: Root) -> bool:
    if relative_to(look.path, root.path) is not None:
        return True
    return look.subfolders and relative_to(root.path, look.path) is not None
