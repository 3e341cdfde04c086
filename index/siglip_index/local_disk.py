"""Refusing network file systems, on which SQLite's WAL would damage the library.

WAL needs memory that all readers and the writer share; between machines there is none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from siglip_index.errors import NetworkFileSystemError

_NETWORK_TYPES = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afs", "coda", "ncpfs", "afpfs"),
        *("webdav", "davfs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "gfs2", "ocfs2"),
        *("pvfs2", "orangefs", "panfs", "ftp", "macfuse_sshfs"),
        # Folders that a virtual machine's host shares with it.
        *("vboxsf", "vmhgfs", "prl_fs"),
    }
)
_NETWORK_FUSE = re.compile(
    r"sshfs|rclone|s3fs|goofys|gcsfuse|glusterfs|ceph|davfs|juicefs|mfs|lizardfs|smbnetfs|gvfsd"
    r"|curlftpfs|vmhgfs|blobfuse|onedrive|google-drive|encfs-remote|beegfs|gpfs|nfs|cifs|smb"
)
_DRIVE_REMOTE = 4


def refuse_network_file_system(directory: Path) -> None:
    """Make sure that a folder, existing or not yet, lies on a disk of this machine.

    Where the platform does not tell, the folder is taken to be local.

    Raises:
        NetworkFileSystemError: It lies on a network file system.
    """
    directory = Path(os.path.realpath(directory))
    kind = _network_kind(directory)
    if kind is not None:
        raise NetworkFileSystemError(
            f"{directory} lies on a network file system ({kind}), where the library's database"
            " would be damaged",
            hint="Choose a folder on a disk of this machine; the pictures may stay where they are.",
        )


def _network_kind(directory: Path) -> str | None:
    if sys.platform == "win32":
        return _windows_kind(directory)
    try:
        if sys.platform == "darwin":
            listing = subprocess.run(
                ["/sbin/mount"], capture_output=True, check=True, timeout=5
            ).stdout
            return network_mount_macos(os.fsencode(directory), listing)
        return network_mount_linux(
            os.fsencode(directory), Path("/proc/self/mountinfo").read_bytes()
        )
    except (OSError, subprocess.SubprocessError):
        return None


def network_mount_linux(path: bytes, mountinfo: bytes) -> str | None:
    """Return the type of the network file system on which a path lies, None when it is local.

    Args:
        path: Absolute path without symbolic links.
        mountinfo: Content of /proc/self/mountinfo (proc(5)).
    """
    best: tuple[int, bytes, bytes, bytes] = (-1, b"", b"", b"")
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(b" - ")
        fields, tail = before.split(b" "), after.split(b" ")
        if not separator or len(fields) < 5 or len(tail) < 2:
            continue
        mount_point = _unescape(fields[4])
        # Of two mounts on one point the later one is on top.
        if _is_below(path, mount_point) and len(mount_point) >= best[0]:
            best = len(mount_point), tail[0], tail[1], tail[2] if len(tail) > 2 else b""
    _, kind, source, options = best
    if kind == b"9p":
        return "9p" if _is_shared_9p(source, options) else None
    return _network_type(kind.decode("ascii", "replace"), source)


def _is_shared_9p(source: bytes, options: bytes) -> bool:
    """Tell a share of WSL or a virtual machine's host from the root of a sandbox."""
    return (
        b"drvfs" in source
        or b"aname=drvfs" in options
        or any(
            option in (b"trans=tcp", b"trans=virtio", b"trans=unix", b"trans=rdma", b"trans=xen")
            for option in options.split(b",")
        )
    )


def _network_type(kind: str, source: bytes) -> str | None:
    if kind in _NETWORK_TYPES:
        return kind
    if kind.startswith("fuse") and (
        _NETWORK_FUSE.search(kind) or _NETWORK_FUSE.match(source.decode("ascii", "replace"))
    ):
        return kind
    return None


def network_mount_macos(path: bytes, listing: bytes) -> str | None:
    """Return the type of the network file system on which a path lies, None when it is local.

    Args:
        path: Absolute path without symbolic links.
        listing: What `mount` prints: lines such as "//me@nas/pictures on /Volumes/pictures
            (smbfs, nodev, nosuid)".
    """
    best: tuple[int, str] = (-1, "")
    for line in listing.splitlines():
        match = re.fullmatch(rb".*? on (/.*) \(([^,()]+)[^()]*\)", line)
        if match is not None and _is_below(path, match[1]) and len(match[1]) >= best[0]:
            best = len(match[1]), match[2].decode("ascii", "replace")
    return _network_type(best[1], b"")


def _windows_kind(directory: Path) -> str | None:
    if sys.platform != "win32":
        return None
    import ctypes

    anchor = directory.anchor
    if anchor.startswith("\\\\") and not anchor.startswith(("\\\\?\\", "\\\\.\\")):
        return "a network share"
    kind = ctypes.windll.kernel32.GetDriveTypeW(anchor)
    return "a network drive" if kind == _DRIVE_REMOTE else None


def _is_below(path: bytes, mount_point: bytes) -> bool:
    return (
        mount_point == b"/"
        or path == mount_point
        or path.startswith(mount_point.rstrip(b"/") + b"/")
    )


def _unescape(field: bytes) -> bytes:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
