"""The mounted volumes as Linux tells them: /proc/self/mountinfo, udev's links, one ioctl."""

from __future__ import annotations

import os
import re
import sys
import uuid
from pathlib import Path

from siglip_search.photos.mount import Mount, file_system_identity, share_identity

_BY_UUID = Path("/dev/disk/by-uuid")
_SHARES = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.rclone", "ceph", "afs"})
# What lives in memory or is composed of other mounts ends with its mount.
_WITHOUT_IDENTITY = frozenset({"tmpfs", "ramfs", "overlay", "autofs", "squashfs", "devtmpfs"})

# FS_IOC_GETFSUUID of Linux 6.9 and later: one byte of length, up to 16 of the UUID.
_GET_FS_UUID = 0x8011_1500
_UUID_BYTES = 16


def mounts() -> list[Mount]:
    """Return what is mounted now; of two mounts on one point, the later one is on top."""
    try:
        return parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
    except OSError:
        return []


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Return the mounts in the content of /proc/self/mountinfo; proc(5) describes it."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(b" - ")
        fields, tail = before.split(b" "), after.split(b" ")
        if not separator or len(fields) < 5 or len(tail) < 2:
            continue
        found.append(
            Mount(
                point=_unescaped(fields[4]),
                source=os.fsdecode(_unescaped(tail[1])),
                kind=tail[0].decode("ascii", "replace"),
                part=_unescaped(fields[3]).strip(b"/"),
            )
        )
    return found


def identity(mount: Mount, by_uuid: Path = _BY_UUID) -> str | None:
    """Return the identity of a mounted volume, None for one that has none to rely on.

    Args:
        mount: From `mounts`.
        by_uuid: Folder of udev's links, each called by a number and leading to a device.
    """
    if mount.kind in _SHARES:
        return share_identity(mount.source)
    if mount.kind == "zfs":
        return f"zfs:{mount.source}"
    if mount.kind in _WITHOUT_IDENTITY or not mount.source.startswith("/dev/"):
        return None
    number = _number_by_udev(mount.source, by_uuid) or _number_by_kernel(mount.point)
    return file_system_identity(number) if number else None


def _number_by_udev(device: str, by_uuid: Path) -> str | None:
    wanted = os.path.realpath(device)
    try:
        links = list(by_uuid.iterdir())
    except OSError:
        return None  # no udev, as in a container
    return next((link.name for link in links if os.path.realpath(link) == wanted), None)


def _number_by_kernel(point: bytes) -> str | None:
    if sys.platform != "linux":
        return None
    import fcntl

    answer = bytearray(1 + _UUID_BYTES)
    try:
        descriptor = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.ioctl(descriptor, _GET_FS_UUID, answer)
    except OSError:
        return None  # an older kernel, or a file system without one
    finally:
        os.close(descriptor)
    return str(uuid.UUID(bytes=bytes(answer[1:]))) if answer[0] == _UUID_BYTES else None


def _unescaped(field: bytes) -> bytes:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
