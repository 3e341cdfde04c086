"""Which names in a library's folder are the library's own; whatever else lies there is left alone.

A folder may hold a person's files as well: what is not called exactly so is theirs.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from siglip_index.database import DATABASE_NAME

if TYPE_CHECKING:
    from pathlib import Path

_DATABASE = rf"{re.escape(DATABASE_NAME)}(-wal|-shm|-journal)?"
_SNAPSHOT = r"vectors-\d+(-\d+-[0-9a-f]+\.faiss|\.json)"
_LOCK = r"writer\.(lock|json)|daemon\.lock"
# Two digits of format at least, so that the names sort by format and then by time.
_BEFORE_UPGRADE = r"before-upgrade-format-\d{2,}-\d{8}T\d{6}Z\.sqlite3"
_STAGING = r"restore-[0-9a-f]{8}\.tmp"
_TEMPORARY = "|".join(
    (
        rf"{_SNAPSHOT}\.tmp",
        r"space-probe-\d+\.tmp",
        rf"{_BEFORE_UPGRADE}\.tmp(-journal)?",
        rf"damaged-\d{{8}}-\d{{6}}-{_DATABASE}\.tmp",
    )
)
_OWN_FILE = "|".join((_DATABASE, _SNAPSHOT, _LOCK, _BEFORE_UPGRADE, _TEMPORARY))


def is_own_file(name: str) -> bool:
    """Tell whether a file of this name belongs to a library, those that a crash left included."""
    return re.fullmatch(_OWN_FILE, name) is not None


def is_snapshot(name: str) -> bool:
    """Tell whether this is the name of a snapshot's index file or manifest."""
    return re.fullmatch(_SNAPSHOT, name) is not None


def is_temporary(name: str) -> bool:
    """Tell whether only a crash leaves a file of this name."""
    return re.fullmatch(_TEMPORARY, name) is not None


def is_copy_before_upgrade(name: str) -> bool:
    """Tell whether this is the name of a copy that an upgrade made first."""
    return re.fullmatch(_BEFORE_UPGRADE, name) is not None


def is_staging(name: str) -> bool:
    """Tell whether this is the name of the folder in which a restore prepares a library."""
    return re.fullmatch(_STAGING, name) is not None


def would_be_own_file(path: Path, directory: Path) -> bool:
    """Tell whether a path, there or not, is in a library's place for one of its own files.

    Args:
        path: Of a file that somebody wants to write; links are followed.
        directory: Folder of the library.
    """
    path = path.resolve()
    try:
        is_inside = os.path.samefile(path.parent, directory)
    except OSError:  # one of the two is not there
        is_inside = path.parent == directory.resolve()
    # Where the case of names does not matter, another case is the same file.
    return is_inside and bool(re.fullmatch(_OWN_FILE, path.name, re.IGNORECASE))
