"""The mounted volumes as Windows tells them: drive letters, shares and serial numbers."""

from __future__ import annotations

import os
import re
import string
import sys

from siglip_search.photos.mount import Mount, file_system_identity, share_identity

_DRIVE_NO_ROOT, _DRIVE_REMOTE = 1, 4
_SEM_FAIL_CRITICAL_ERRORS = 1
_PATH_CHARACTERS = 32_768


def mounts() -> list[Mount]:
    """Return the drives that have a letter now; a volume mounted in a folder is not among them."""
    if sys.platform != "win32":
        return []
    import ctypes

    letters: int = ctypes.windll.kernel32.GetLogicalDrives()
    return [
        _mount_at(f"{letter}:\\")
        for position, letter in enumerate(string.ascii_uppercase)
        if letters >> position & 1
    ]


def mount_of(path: bytes) -> Mount | None:
    """Return the mount on which a path lies: a drive, a share, or a volume in a folder."""
    share = share_of(os.fsdecode(path))
    if share is not None:
        return Mount(os.fsencode(share), share, "share")
    if sys.platform != "win32":
        return None
    import ctypes

    point = ctypes.create_unicode_buffer(_PATH_CHARACTERS)
    if not ctypes.windll.kernel32.GetVolumePathNameW(os.fsdecode(path), point, len(point)):
        return None
    return _mount_at(point.value)


def share_of(path: str) -> str | None:
    r"""Return "\\server\share" of a path on a share, None for any other.

    The long forms "\\?\C:\..." and "\\?\UNC\server\share\..." are understood.
    """
    text = path.replace("/", "\\")
    if text[:8].upper() == "\\\\?\\UNC\\":
        text = "\\\\" + text[8:]
    match = re.match(r"\\\\[^\\?.][^\\]*\\[^\\]+", text)
    return match[0] if match else None


def identity(mount: Mount) -> str | None:
    """Return the identity of a mounted volume, None when Windows does not tell one.

    It is the file system's serial number, which comes with the disk to another computer. The
    name with a GUID that the mount manager gives a volume would not.
    """
    if mount.kind == "share":
        return share_identity(mount.source)
    if sys.platform != "win32":
        return None
    import ctypes

    serial = ctypes.c_uint32()
    before = ctypes.c_uint32()
    kernel = ctypes.windll.kernel32
    # An empty card reader would open a dialogue.
    kernel.SetThreadErrorMode(_SEM_FAIL_CRITICAL_ERRORS, ctypes.byref(before))
    try:
        answered = kernel.GetVolumeInformationW(
            os.fsdecode(mount.point), None, 0, ctypes.byref(serial), None, None, None, 0
        )
    finally:
        kernel.SetThreadErrorMode(before.value, None)
    return serial_identity(serial.value) if answered else None


def serial_identity(serial: int) -> str | None:
    """Return the identity of a file system with this serial number of 32 bits."""
    return file_system_identity(f"{serial >> 16:04X}-{serial & 0xFFFF:04X}")


def _mount_at(point: str) -> Mount:
    """Return the mount at a drive's root; a letter that stands for a share is that share."""
    mount = Mount(os.fsencode(point), point, "drive")
    if sys.platform != "win32":
        return mount
    import ctypes

    if ctypes.windll.kernel32.GetDriveTypeW(point) not in (_DRIVE_NO_ROOT, _DRIVE_REMOTE):
        return mount
    remote = ctypes.create_unicode_buffer(_PATH_CHARACTERS)
    length = ctypes.c_uint32(len(remote))
    failed = ctypes.windll.mpr.WNetGetConnectionW(point.rstrip("\\"), remote, ctypes.byref(length))
    return mount if failed else Mount(mount.point, remote.value, "share")
