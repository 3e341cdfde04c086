"""Leaving a machine as it was before: only what this program wrote is removed."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from siglip_index.library_folder import delete_library, library_files
from siglip_index.restore import staging_folders
from siglip_search.engine.thumbnail_cache import thumbnail_cache_files
from siglip_search.errors import PathError
from siglip_search.settings import data_directory, log_file, models_directory, settings_file

if TYPE_CHECKING:
    from pathlib import Path


def what_purge_removes(library: Path) -> list[Path]:
    """Return the files of the library, and the folders and files beside it, that exist.

    Copies that upgrades made before they changed the library are among its files; backups that
    the user wrote elsewhere are the user's.
    """
    places = (models_directory(), settings_file(), *thumbnail_cache_files())
    others = [place for place in places if os.path.lexists(place)]
    return [*library_files(library), *staging_folders(library), *_logs(library), *others]


def purge(library: Path) -> None:
    """Delete the library, the models and the settings; folders go when nothing else is in them.

    Of a folder of models that is a link, the link goes and what it leads to stays.

    Raises:
        LibraryBusyError: Another process is writing to the library.
        PathError: The operating system refuses to delete something else.
    """
    delete_library(library)
    try:
        for folder in [*staging_folders(library), models_directory()]:
            if folder.is_symlink():
                folder.unlink()  # who knows what else is where it leads
            elif folder.exists():
                shutil.rmtree(folder)
        for file in [*_logs(library), settings_file(), *thumbnail_cache_files()]:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise PathError(
            f"{error.filename or models_directory()} cannot be deleted: {error.strerror or error}",
            hint="Check its permissions and those of the folder that it is in.",
        ) from error
    for folder in (
        log_file(library).parent,
        library,
        data_directory(),
        settings_file().parent,
        thumbnail_cache_files()[0].parent,
    ):
        with suppress(OSError):  # not there, or somebody else's files are in it
            folder.rmdir()


def _logs(library: Path) -> list[Path]:
    log = log_file(library)
    return sorted(log.parent.glob(f"{log.name}*"))
