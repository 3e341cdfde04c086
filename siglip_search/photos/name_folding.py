"""Names that differ in case or in Unicode normalisation only, as the file system sees them.

Windows, macOS, FAT and exFAT know "IMG.jpg" and "img.jpg" as one file; Linux's own file systems
as two. macOS writes "é" as one character or as two and takes either for the same. Which of it holds
is a matter of the folder, not of the operating system, so the folder is asked, and nothing is
written to find out. Inode numbers prove nothing here: exFAT under FUSE gives one file another
number for each spelling of its name.
"""

from __future__ import annotations

import os
import unicodedata


def folded(name: bytes) -> bytes:
    """Return what all spellings of a name or path have in common; bytes that are no text stay."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return name
    # Twice: folding may compose or decompose anew ("ǰ", say).
    text = unicodedata.normalize("NFC", text).casefold()
    return unicodedata.normalize("NFC", text).encode("utf-8")


def disk_spelling(path: bytes) -> bytes:
    """Return a path with every name as the folder that holds it lists it.

    What does not exist, or cannot be listed, keeps the spelling that it has. On a file system that
    tells every spelling from every other the path comes back as it is.

    Args:
        path: Absolute.
    """
    folder, name = os.path.split(path)
    if not name or folder == path:  # the root of the file system, or of a drive or share
        return path[:1].upper() + path[1:] if os.name == "nt" and path[1:2] == b":" else path
    folder = disk_spelling(folder)
    return os.path.join(folder, _listed_name(folder, name))


def _listed_name(folder: bytes, name: bytes) -> bytes:
    if not _exists(os.path.join(folder, name)) or not any(
        _exists(os.path.join(folder, other)) for other in _other_spellings(name)
    ):
        return name
    # Two spellings lead somewhere: to one file, or to twins. The listing tells.
    try:
        listed = os.listdir(folder)
    except OSError:
        return name
    if name in listed:
        return name
    wanted = folded(name)
    same = [entry for entry in listed if folded(entry) == wanted]
    return same[0] if len(same) == 1 else name


def _other_spellings(name: bytes) -> set[bytes]:
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return set()
    spellings = {
        unicodedata.normalize("NFC", text),
        unicodedata.normalize("NFD", text),
        text.swapcase(),
    }
    return {spelling.encode("utf-8") for spelling in spellings} - {name}


def _exists(path: bytes) -> bool:
    try:
        os.lstat(path)
    except (OSError, ValueError):
        return False
    return True
