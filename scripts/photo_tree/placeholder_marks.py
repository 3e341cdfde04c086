"""The marks of clouds' placeholders that an ordinary program may set on a file."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OPENVFS_STATE = "user.openvfs.state"
"""Extended attribute of every file that ownCloud's and OpenCloud's clients look after."""

_FILE_ATTRIBUTE_OFFLINE = 0x1000


def placeholder_marks() -> list[Callable[[bytes], None]]:
    """Return what marks a file on this system; each raises OSError where the disk keeps no mark."""
    if sys.platform == "linux":
        return [_openvfs, _nextcloud]
    return [_offline] if sys.platform == "win32" else []


def _openvfs(path: bytes) -> None:
    """OwnCloud's and OpenCloud's attribute."""
    if sys.platform == "linux":
        os.setxattr(path, OPENVFS_STATE, b"dehydrated")


def _nextcloud(path: bytes) -> None:
    """Nextcloud's attribute."""
    if sys.platform == "linux":
        os.setxattr(path, "user.nextcloud.hydrate_exec", b"nextcloud")


def _offline(path: bytes) -> None:
    """Windows' attribute of what is not on this disk."""
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        if not kernel.SetFileAttributesW(os.fsdecode(path), _FILE_ATTRIBUTE_OFFLINE):
            raise ctypes.WinError(ctypes.get_last_error())
