"""Paths as the library keeps them: bytes, root-relative, "/"-separated."""

from __future__ import annotations

import os

ON_WINDOWS = os.name == "nt"


def join(root: bytes, relative: bytes) -> bytes:
    """Return the absolute path of a file below a root; the root itself when relative is empty."""
    if not relative:
        return root
    return root + relative if root.endswith((b"/", b"\\")) else root + b"/" + relative


def relative_to(path: bytes, folder: bytes, *, windows: bool = ON_WINDOWS) -> bytes | None:
    """Return path relative to folder, empty when they are the same, None when it is not below.

    Args:
        path: Absolute path.
        folder: Absolute path of what may contain it.
        windows: Take a backslash for a separator as well.
    """
    path, folder = comparable(path, windows=windows), comparable(folder, windows=windows)
    if path == folder:
        return b""
    prefix = folder if folder.endswith(b"/") else folder + b"/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def comparable(path: bytes, *, windows: bool = ON_WINDOWS) -> bytes:
    """Return path with one kind of separator and none at the end (but for "/" itself)."""
    if windows:
        path = path.replace(b"\\", b"/")
    return path.rstrip(b"/") or b"/"


def display_text(path: bytes) -> str:
    """Return a path for people; bytes that are no text become question marks."""
    return storable_text(os.fsdecode(path))


def storable_text(text: str) -> str:
    """Return text that SQLite takes: lone surrogates, as in odd names, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
