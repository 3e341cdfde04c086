"""The files of a library in its folder: which they are, what they take, deleting them all."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from siglip_index import snapshot
from siglip_index.backup import copies_before_upgrade
from siglip_index.database import DATABASE_NAME, explained
from siglip_index.file_names import is_own_file
from siglip_index.lock import WriterLock

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def library_files(directory: Path) -> list[Path]:
    """Return the files in this folder that belong to a library, those of a crash included.

    The copies of the database that upgrades made are among them.
    """
    return sorted(path for path in directory.glob("*") if is_own_file(path.name))


def disk_usage(directory: Path) -> dict[str, int]:
    """Return the bytes taken by each kind of file.

    They are "database" (its write-ahead log included), "snapshots", and "copies" of the database
    that upgrades made.
    """
    return {
        "database": _size_bytes(directory.glob(f"{DATABASE_NAME}*")),
        "snapshots": snapshot.size_bytes(directory),
        "copies": _size_bytes(copies_before_upgrade(directory)),
    }


def _size_bytes(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        with suppress(OSError):
            total += path.stat().st_size
    return total


def delete_library(directory: Path) -> None:
    """Delete a library; the folder and what else is in it stay.

    Raises:
        LibraryBusyError: Another process is writing to it.
        LibraryAccessError: The operating system refuses.
    """
    with explained(directory):
        if not library_files(directory):
            return
        lock = WriterLock(directory)
        lock.acquire()
        try:
            for path in library_files(directory):
                if path != lock.path:
                    path.unlink(missing_ok=True)
            # While it is held: whoever waits for it finds it gone and begins anew.
            if os.name != "nt":
                lock.path.unlink(missing_ok=True)
        finally:
            lock.release()
        if os.name == "nt":  # an open file cannot be deleted there
            lock.path.unlink(missing_ok=True)
