"""A file that the user names: there whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from siglip_index.durable_files import TEMPORARY_SUFFIX, sync_directory
from siglip_index.file_names import would_be_own_file
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


def refuse_taken_file(path: Path, *, replace: bool) -> None:
    """Raise where a file may not be written.

    Args:
        path: The file.
        replace: A file of this name may be replaced.

    Raises:
        PathError: It exists, is a folder, or its folder does not exist.
    """
    if path.is_dir():
        raise PathError(f"{path} is a folder", hint="Name a file in it.")
    if not path.parent.is_dir():
        raise PathError(f"the folder {path.parent} does not exist", hint="Make it first.")
    if path.is_file() and not replace:
        raise PathError(
            f"{path} exists already", hint="Choose another name, or replace it with --force."
        )


def refuse_library_file(path: Path, library: Path) -> None:
    """Raise where a file would take the place of one of the library's own, there or not.

    Raises:
        PathError: It would.
    """
    if would_be_own_file(path, library):
        raise PathError(f"{path} is a file of the library itself", hint="Choose another name.")


@contextmanager
def written_whole(path: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """Give a file to write to, which gets its name once everything is on disk.

    What is no ordinary file, such as a named pipe or /dev/null, is written as it is.

    Args:
        path: The file.
        replace: A file of this name may be replaced.

    Raises:
        PathError: It exists, or the operating system refuses; nothing of the new one is left then.
    """
    refuse_taken_file(path, replace=replace)
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        target = path.resolve()  # through a link, which stays one
        temporary = target.with_name(f"{target.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # Once more: it has taken its time.
            refuse_taken_file(target, replace=replace)
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_directory(target.parent)
    except OSError as error:
        raise PathError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="Check the room on that disk and the permissions of the folder.",
        ) from error
