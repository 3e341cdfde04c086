"""Small files that are either there whole or not at all, even after a power cut."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

TEMPORARY_SUFFIX = ".tmp"


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> os.stat_result:
    """Write a file under a temporary name, force it to disk, then give it its name.

    Args:
        path: The file; one of this name is replaced.
        write: Called with the open file.

    Returns:
        The finished file's stat result.

    Raises:
        OSError: Nothing of the file is left then.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        # On Windows a file's time may settle only when it is closed.
        status = temporary.stat()
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return status


def sync_directory(directory: Path) -> None:
    """Force a folder's names to disk, so that a rename survives a power cut.

    Windows has no such call; its file system keeps a journal of names.
    """
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
