"""Where a picture folder is that came along with the library to another place."""

from __future__ import annotations

import re


def beside_library(folder: bytes, former: bytes, now: bytes) -> bytes | None:
    r"""Return where a folder is if it kept its place beside the library.

    The three may be paths of different operating systems: "E:\Photos", with the library in
    "E:\library" then and in "/media/usb/library" now, is "/media/usb/Photos".

    Args:
        folder: Absolute path of the folder as the library knows it.
        former: Absolute path at which the library was then.
        now: Absolute path at which it is.

    Returns:
        None when the library did not move, when the two lay on different drives, or when there is
        no such place here.
    """
    if former == now:
        return None
    folder_names, library_names, here = _names(folder), _names(former), _names(now)
    common = 0
    for one, other in zip(folder_names, library_names, strict=False):
        if one != other and not (_is_drive(one) and one.lower() == other.lower()):
            break
        common += 1
    up = len(library_names) - common
    # The first name is the root of the file system, a drive or a share: nothing is above it.
    if common == 0 or up >= len(here):
        return None
    names = [*here[: len(here) - up], *folder_names[common:]]
    separator = b"\\" if _is_windows(now) else b"/"
    if names[0].endswith(separator):
        return names[0] + separator.join(names[1:])
    return separator.join(names)


def _names(path: bytes) -> list[bytes]:
    """Return the root of the file system, or the drive or share, and the names below it."""
    if not _is_windows(path):
        return [b"/", *filter(None, path.split(b"/"))]
    path = path.replace(b"/", b"\\")
    share = re.match(rb"\\\\[^\\]+\\[^\\]+", path)
    drive = share[0] if share is not None else path[:2]
    first = drive if share is not None else drive + b"\\"
    return [first, *filter(None, path[len(drive) :].split(b"\\"))]


def _is_windows(path: bytes) -> bool:
    return re.match(rb"[A-Za-z]:[\\/]|\\\\", path) is not None


def _is_drive(name: bytes) -> bool:
    return re.fullmatch(rb"[A-Za-z]:\\", name) is not None
