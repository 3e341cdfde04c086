"""What can be asked and said about the indexed folders of a library."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from siglip_index import open_store
from siglip_index.errors import LibraryAccessError, LibraryBusyError
from siglip_search.engine.relocation import RootPlaces
from siglip_search.engine.roots import changed_patterns, root_called

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from siglip_index.protocol import Store
    from siglip_index.records import Root
    from siglip_search.engine.explain import Explanation
    from siglip_search.engine.indexing import IndexOptions
    from siglip_search.engine.relocation import Relocation, RootState


class IndexedFolders:
    """The roots of one library. The writer's lock is held only while something is changed.

    Args:
        directory: Folder of the library.
        store: For reading, None where there is no library yet.
    """

    def __init__(self, directory: Path, store: Store | None) -> None:
        self._directory = directory
        self._store = store

    def states(self) -> list[tuple[Root, RootState]]:
        """Return the indexed folders, each with whether its path shows what was indexed there."""
        if self._store is None:
            return []
        places = RootPlaces(self._store, self._directory)
        return [(root, places.state(root)) for root in self._store.roots()]

    def explain(
        self,
        path: str | os.PathLike[str],
        paths: Sequence[str | os.PathLike[str]],
        options: IndexOptions,
    ) -> Explanation:
        """Say what `index` would do with one file or folder, and why; nothing is changed.

        Args:
            path: The file or folder.
            paths: What would be indexed; the known folders if nothing.
            options: How it would be.

        Raises:
            PathError: A path does not exist.
        """
        from siglip_search.engine.explain import explain

        return explain(self._store, path, paths, options)

    def recognise_moved(self) -> list[Relocation]:
        """Find the folders whose drives are mounted elsewhere now, and record where.

        Nothing is recorded, and nothing returned, while another process writes or where the
        library cannot be written: the next `index` does it.
        """
        if self._store is None or not RootPlaces(self._store, self._directory).moved():
            return []
        try:
            with open_store(self._directory, writable=True) as store:
                return RootPlaces(store, self._directory).recognise()
        except (LibraryBusyError, LibraryAccessError):
            return []

    def relocate(
        self, old: str | os.PathLike[str], new: str | os.PathLike[str]
    ) -> list[Relocation]:
        """Record that a folder, or every one below a folder, is at another place now.

        No picture is read for it, nor by the next `index` where sizes and times are the same.

        Raises:
            PathError: No indexed folder is called so, or its pictures are not at the new place.
            LibraryBusyError: Another process is writing.
        """
        if self._store is None:
            root_called(old, ())  # raises
        with open_store(self._directory, writable=True) as store:
            return RootPlaces(store, self._directory).relocate(old, new)

    def called(self, path: str | os.PathLike[str]) -> Root:
        """Return the folder that a typed path names.

        Raises:
            PathError: It names none.
        """
        return root_called(path, self._store.roots() if self._store else ())

    def exclude(
        self, path: str | os.PathLike[str], patterns: Sequence[str], *, remove: bool = False
    ) -> Root:
        """Leave out of a folder what matches, from the next `index` on.

        Args:
            path: The folder.
            patterns: As in .gitignore; without any, nothing is changed.
            remove: Take these patterns away instead.

        Returns:
            The folder as it is known now.

        Raises:
            PathError: No indexed folder is called so, or a pattern is malformed.
            LibraryBusyError: Another process is writing.
        """
        root = self.called(path)
        changed = changed_patterns(root.exclude, patterns, remove=remove)
        if changed != root.exclude:
            with open_store(self._directory, writable=True) as store, store.write() as writer:
                writer.set_root_exclude(root.id, changed)
        return replace(root, exclude=changed)
