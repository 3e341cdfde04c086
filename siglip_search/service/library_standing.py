"""What other commands may change about a library, read at next to no cost while nothing changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_index import open_store
from siglip_index.database import DATABASE_NAME
from siglip_index.errors import LibraryMissingError

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_index.local_store import LocalStore


@dataclass(frozen=True, slots=True)
class Standing:
    """What other commands may change about a library, and the daemon has to act on.

    Attributes:
        excludes: Of each root, by its path, the patterns that leave parts of it out.
        model: Name of the model that answers; None before there is one.
        coming: Name of the model that is to take over; None when none is.
    """

    excludes: dict[bytes, tuple[str, ...]]
    model: str | None = None
    coming: str | None = None


class LibraryStanding:
    """Reads the standing of a library, at next to no cost while nothing changes.

    Args:
        directory: Folder of the library, which need not exist.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._store: LocalStore | None = None
        self._generation = -1
        self._standing = Standing({})

    def read(self) -> Standing:
        """Return the newest committed standing; an empty one where there is no library.

        Raises:
            StoreError: The library cannot be read.
        """
        if not (self._directory / DATABASE_NAME).exists():
            self.start_afresh()  # it went away, though it can be read as long as it is open
        try:
            self._store = self._store or open_store(self._directory, writable=False)
        except LibraryMissingError:
            return Standing({})
        generation = self._store.generation()
        if generation != self._generation:
            active, coming = self._store.active_space(), self._store.coming_space()
            self._standing = Standing(
                {root.path: root.exclude for root in self._store.roots()},
                active.model if active else None,
                coming.model if coming else None,
            )
            self._generation = generation
        return self._standing

    def start_afresh(self) -> None:
        """Close what is open: another library may lie there now."""
        store, self._store = self._store, None
        self._generation = -1
        if store is not None:
            store.close()
