"""Files that only the cloud has: told by what a stat call and a name say, never by opening them.

Windows marks them with attributes (Microsoft's "File Attribute Constants"), macOS with a flag
(SF_DATALESS of its sys/stat.h; Apple's TN3150 says what reading such a file sets off). Linux has no
common mark, so this knows its clients: Nextcloud's and ownCloud's stubs by their suffix, their
placeholders by an extended attribute, and drives of which every byte is fetched when it is read by
the kind of their mount. That a file occupies less than its size proves nothing, because sparse and
compressed files do so too; it only says when looking for the attribute is worth it.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache

# OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS. A placeholder of OneDrive may have the last alone.
_WINDOWS_ATTRIBUTES = 0x1000 | 0x4_0000 | 0x40_0000
_MACOS_DATALESS = 0x4000_0000

_STUB_SUFFIXES = (b".nextcloud", b".owncloud")
_ICLOUD_SUFFIX = b".icloud"

# What Nextcloud and ownCloud set on a placeholder only, and take off once it is filled.
_PLACEHOLDER_ATTRIBUTES = frozenset({"user.nextcloud.hydrate_exec", "user.owncloud.hydrate_exec"})
# What ownCloud's and OpenCloud's client sets on every file that it looks after.
_STATE_ATTRIBUTE = "user.openvfs.state"
_STATE_OF_PLACEHOLDER = b"dehydrated"

_BLOCK_BYTES = 512
_MOUNTINFO = "/proc/self/mountinfo"

_CLOUD_MOUNTS = frozenset(
    {
        *("fuse.onedriver", "fuse.google-drive-ocamlfuse", "fuse.drivefs", "fuse.pcloudfs"),
        *("fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.goofys"),
    }
)
"""Kinds of mount that fetch what is read; their own caches cannot be told from outside."""

_GVFS_MOUNT = "fuse.gvfsd-fuse"
_GVFS_CLOUDS = (b"/google-drive:", b"/onedrive:")
"""GNOME has every drive in one mount; beside clouds there are cameras and network folders."""


def is_online_only(path: bytes, status: os.stat_result) -> bool:
    """Tell whether reading a file, or listing a folder on macOS, would download it.

    Args:
        path: Absolute, or relative to the working directory; looked at, never opened.
        status: What os.stat says of it.
    """
    if getattr(status, "st_file_attributes", 0) & _WINDOWS_ATTRIBUTES:
        return True
    if getattr(status, "st_flags", 0) & _MACOS_DATALESS:
        return True
    if sys.platform != "linux":
        return False
    size = status.st_size
    if (size <= 1 or status.st_blocks * _BLOCK_BYTES < size) and _has_placeholder_attribute(path):
        return True
    kind = _mount_kind(status.st_dev)
    if kind == _GVFS_MOUNT:
        return any(part in path for part in _GVFS_CLOUDS)
    return kind is not None


def forget_mounts() -> None:
    """Ask anew what is mounted, which a person may have changed since."""
    _mount_kind.cache_clear()


def is_stub(name: bytes) -> bool:
    """Tell whether a name is that of a stub, a small file that stands for another one."""
    return name.endswith(_STUB_SUFFIXES) or (
        name.endswith(_ICLOUD_SUFFIX) and name.startswith(b".")
    )


def name_behind_stub(name: bytes) -> bytes:
    """Return what a stub's file will be called once its client has downloaded it."""
    if name.endswith(_ICLOUD_SUFFIX):
        return name[1 : -len(_ICLOUD_SUFFIX)]
    return name.rpartition(b".")[0]


def _has_placeholder_attribute(path: bytes) -> bool:
    if sys.platform != "linux":
        return False
    try:
        attributes = os.listxattr(path)
        if not _PLACEHOLDER_ATTRIBUTES.isdisjoint(attributes):
            return True
        return (
            _STATE_ATTRIBUTE in attributes
            and os.getxattr(path, _STATE_ATTRIBUTE) == _STATE_OF_PLACEHOLDER
        )
    except OSError:
        return False  # a file system without such attributes, or the file is gone


@lru_cache(maxsize=256)
def _mount_kind(device: int) -> str | None:
    """Return the kind of the mount with a device number if it may lead to a cloud."""
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    try:
        with open(_MOUNTINFO, "rb") as mounts:
            for line in mounts:
                fields, _, tail = line.partition(b" - ")
                if fields.split(b" ", 3)[2:3] == [number]:
                    kind = tail.split(b" ", 1)[0].decode("ascii", "replace")
                    return kind if kind in _CLOUD_MOUNTS or kind == _GVFS_MOUNT else None
    except OSError:
        pass
    return None
