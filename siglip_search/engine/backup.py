"""Keeping a library safe elsewhere, and getting it back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_index import open_store
from siglip_index import restore as index_restore
from siglip_index.database import DATABASE_NAME
from siglip_search.engine.chosen_model import model_of_space
from siglip_search.engine.output_file import refuse_library_file, refuse_taken_file
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_index.records import Problem
    from siglip_index.restore import BackupFile


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has led to.

    Attributes:
        pictures: How many the library shows now.
        model: Name of the model that it answers with; None for a library without pictures.
        model_is_there: Whether a model that can be asked about its vectors is installed.
        repaired: What was wrong in the backup and has been put right.
        replaced: Whether there was a library before.
    """

    pictures: int
    model: str | None
    model_is_there: bool
    repaired: tuple[Problem, ...]
    replaced: bool


def has_library(directory: Path) -> bool:
    """Tell whether there is a library in a folder, readable or not."""
    return (directory / DATABASE_NAME).exists()


def back_up(library: Path, target: Path, *, replace: bool = False) -> BackupFile:
    """Copy a library's database to a file, while others may read and write it.

    Args:
        library: Folder of the library.
        target: The file, or a folder: there it is named after the time.
        replace: A file of this name may be replaced.

    Raises:
        PathError: The file exists, is none to replace, or its folder does not exist.
        LibraryMissingError: There is no library.
        CorruptLibraryError: The library is damaged: such a copy is no backup.
        LibraryAccessError, DiskFullError: Nothing of the backup is left then.
    """
    if target.is_dir():
        target = target / f"siglip-search-{time.strftime('%Y%m%d-%H%M%S')}.sqlite3"
    refuse_taken_file(target, replace=replace)
    refuse_library_file(target, library)
    if target.exists() and not target.is_file():
        raise PathError(f"{target} is no ordinary file", hint="Name a new file, or a folder.")
    # Through a link, which stays one.
    return index_restore.write_backup(library, target.resolve() if target.is_symlink() else target)


def restore(library: Path, backup: Path) -> Restored:
    """Put a backup in the place of the library; see `siglip_index.restore.restore_backup`.

    Args:
        library: Folder of the library, made if need be.
        backup: What `back_up` wrote.

    Raises:
        StoreError: It cannot be; the library is as it was.
    """
    done = index_restore.restore_backup(backup, library)
    with open_store(library, writable=False) as store:
        space = store.active_space()
    return Restored(
        pictures=done.counts.pictures,
        model=space.model if space else None,
        model_is_there=space is not None and model_of_space(space) is not None,
        repaired=done.repaired,
        replaced=done.replaced,
    )
