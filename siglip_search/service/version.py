"""Which program this is, so that a daemon and a command of different versions notice."""

from __future__ import annotations

import os
from pathlib import Path

import siglip_search


def installed_version() -> str:
    """Return the version that is installed now, which an upgrade changes under a running daemon."""
    from importlib.metadata import version

    return version("siglip-search")


def package_folder() -> str:
    """Return where the program's code is: two that have the same need not compare versions.

    Looking up a version takes longer than the rest of a question that a daemon answers.
    """
    return os.fspath(Path(siglip_search.__file__).parent)
