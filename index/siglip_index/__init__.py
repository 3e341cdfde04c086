"""The vector-index engine: photos, files and vectors, consistent with one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_index.local_store import LocalStore

__all__ = ["open_store"]


def open_store(directory: Path, *, writable: bool) -> LocalStore:
    """Open the library in this folder.

    Args:
        directory: Folder of the library. Created, with the library in it, when writable.
        writable: Take the writer's lock at once. Without it nothing is written, and any number
            of readers may work beside one writer.

    Raises:
        LibraryMissingError: Nothing is there, and not writable.
        LibraryBusyError: Another process is writing.
        NewerLibraryError: A newer version of the program wrote the library.
        CorruptLibraryError: The database cannot be read.
        NetworkFileSystemError: The folder lies on a network file system.
        LibraryAccessError: The operating system refuses.
        DiskFullError: No space is left to create the library.
    """
    # Imported here: whoever needs only the records or the errors need not wait for numpy.
    from siglip_index.local_store import LocalStore

    return LocalStore(directory, writable=writable)
