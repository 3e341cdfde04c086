"""The searches that a library keeps under names."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from siglip_index import open_store
from siglip_search.errors import QueryError
from siglip_search.search.question import checked
from siglip_search.search.saved import (
    SavedSearch,
    checked_name,
    saved_as_text,
    saved_from_text,
)

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_index.protocol import Store

_log = logging.getLogger(__name__)

KIND: Final = "saved-search"
"""Of the records in the library."""


class SavedSearches:
    """The saved searches of one library. The writer's lock is held only while one is changed.

    Args:
        directory: Folder of the library.
        store: For reading, None where there is no library yet.
    """

    def __init__(self, directory: Path, store: Store | None) -> None:
        self._directory = directory
        self._store = store

    def all(self) -> list[SavedSearch]:
        """Return all of them by name; one of a newer version of the program is passed over."""
        found = []
        for name, text in sorted(self._texts().items()):
            try:
                found.append(saved_from_text(name, text))
            except QueryError as error:
                _log.warning("%s", error)
        return found

    def names(self) -> list[str]:
        """Return the names of all of them, whether they have a meaning here or not."""
        return sorted(self._texts())

    def called(self, name: str) -> SavedSearch:
        """Return the saved search of this name.

        Raises:
            QueryError: There is none, or it was saved by a newer version of the program.
        """
        texts = self._texts()
        bare = name.strip()
        if bare in texts:
            return saved_from_text(bare, texts[bare])
        names = ", ".join(map(repr, sorted(texts)))
        raise QueryError(
            f"no search is saved as {name!r}",
            hint=f"Saved are {names}." if names else 'Save one: siglip-search save sea "the sea"',
        )

    def save(self, saved: SavedSearch, *, replace: bool = False) -> None:
        """Keep a search.

        Args:
            saved: The search.
            replace: Take the place of one of the same name.

        Raises:
            QueryError: The question cannot be asked, the name is none, or is taken, or the album
                is that of another search: each would take the other's links away.
            LibraryBusyError: Another process is writing.
        """
        checked(saved.question)
        name = checked_name(saved.name)
        with open_store(self._directory, writable=True) as store:
            if not replace and name in store.records(KIND):
                raise QueryError(
                    f"a search is saved as {name!r} already",
                    hint="Choose another name, or put this one in its place: --replace",
                )
            for other in SavedSearches(self._directory, store).all():
                if saved.album and other.name != name and _are_same(saved.album, other.album):
                    raise QueryError(
                        f"{saved.album} is the album of the search {other.name!r}",
                        hint="Name another folder for this one.",
                    )
            with store.write() as writer:
                writer.put_record(KIND, name, saved_as_text(saved))

    def remove(self, name: str) -> None:
        """Forget a saved search; pictures, and the links of its album, stay.

        Raises:
            QueryError: There is none of this name.
            LibraryBusyError: Another process is writing.
        """
        bare = name.strip()
        if bare not in self._texts():
            self.called(name)  # says which there are
        with open_store(self._directory, writable=True) as store, store.write() as writer:
            writer.put_record(KIND, bare, None)

    def _texts(self) -> dict[str, str]:
        return {} if self._store is None else self._store.records(KIND)


def _are_same(folder: str, other: str | None) -> bool:
    return other is not None and os.path.realpath(folder) == os.path.realpath(other)
