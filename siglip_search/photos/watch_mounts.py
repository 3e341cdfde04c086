"""Where the system's events do not tell of every change, so that one has to look instead."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from siglip_index.locations import relative_to
from siglip_search.photos import linux_mounts, macos_mounts, windows_mounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from siglip_search.photos.mount import Mount

# On these, what another machine or the program behind the mount changes comes without an event.
# A disk that FUSE merely reads ("fuseblk", as for NTFS and exFAT) changes through its mount alone.
_SHARED_KINDS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "afpfs", "webdav", "ceph", "coda"),
        *("glusterfs", "lustre", "beegfs", "ocfs2", "gfs2", "orangefs", "share"),
        # Folders of the machine around a virtual one.
        *("9p", "virtiofs", "vboxsf", "vmhgfs", "prl_fs", "drvfs"),
        *("fuse", "macfuse", "osxfuse"),
    }
)


def polling_reason(path: bytes) -> str | None:
    """Return why events do not suffice for a folder, None where they do.

    Args:
        path: Absolute, with no link in it.
    """
    if sys.platform == "win32":
        mount = windows_mounts.mount_of(path)
    else:
        mounts = macos_mounts.mounts() if sys.platform == "darwin" else linux_mounts.mounts()
        mount = _mount_of(path, mounts)
    if mount is None or not _is_shared(mount):
        return None
    return f"{mount.kind} tells nothing of changes that are made elsewhere"


def mounts_below(path: bytes) -> dict[bytes, str | None]:
    """Return the mount points below a folder, each with why it needs polling, if it does.

    Known on Linux only, where the table of mounts costs nothing to read.
    """
    if sys.platform != "linux":
        return {}
    return {
        mount.point: f"{mount.kind} is mounted at {os.fsdecode(mount.point)}"
        if _is_shared(mount)
        else None
        for mount in linux_mounts.mounts()
        if relative_to(mount.point, path)
    }


def mount_table() -> bytes:
    """Return something that differs whenever a mount came or went; always the same if unknown."""
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            return table.read()
    except OSError:
        return b""


def _mount_of(path: bytes, mounts: Iterable[Mount]) -> Mount | None:
    best: Mount | None = None
    for mount in mounts:
        if relative_to(path, mount.point) is not None and (
            best is None or len(mount.point) >= len(best.point)
        ):
            best = mount
    return best


def _is_shared(mount: Mount) -> bool:
    return mount.kind in _SHARED_KINDS or mount.kind.startswith("fuse.")
