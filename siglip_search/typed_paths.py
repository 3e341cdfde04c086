"""Paths as people type them become absolute ones."""

from __future__ import annotations

import os
from pathlib import Path

from siglip_search.errors import PathError


def absolute_path(typed: str | os.PathLike[str]) -> Path:
    """Return an absolute path; "~" is the home directory, and symbolic links stay.

    Raises:
        PathError: It is empty (an unset shell variable, say), or cannot be made absolute.
    """
    if not os.fspath(typed):
        raise PathError("a path is empty", hint="Is a variable of the shell unset?")
    try:
        return Path(os.path.abspath(Path(typed).expanduser()))
    except RuntimeError as error:  # whose home?
        raise PathError(f"{os.fspath(typed)!r} names no place: {error}") from None
    except FileNotFoundError:
        raise PathError(
            "the working directory does not exist any more", hint="Change to another one: cd ~"
        ) from None
