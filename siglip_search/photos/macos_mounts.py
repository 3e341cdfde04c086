"""The mounted volumes as macOS tells them: `mount` lists them, `diskutil` knows their UUIDs."""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
from xml.parsers.expat import ExpatError

from siglip_search.photos.mount import Mount, file_system_identity, share_identity

_SHARES = frozenset({"smbfs", "nfs", "afpfs", "webdav"})
_TIMEOUT_S = 10.0


def mounts() -> list[Mount]:
    """Return what is mounted now, without asking any volume for anything."""
    return parse_mount_listing(_output_of("/sbin/mount"))


def parse_mount_listing(text: bytes) -> list[Mount]:
    """Return the mounts in what `mount` prints.

    A line reads "/dev/disk4s1 on /Volumes/Photos (exfat, local, nodev, nosuid, noowners)".
    """
    found = []
    for line in text.splitlines():
        match = re.fullmatch(rb"(.*?) on (/.*) \(([^,()]+)[^()]*\)", line)
        if match is not None:
            kind = match[3].decode("ascii", "replace")
            found.append(Mount(point=match[2], source=os.fsdecode(match[1]), kind=kind))
    return found


def identity(mount: Mount) -> str | None:
    """Return the identity of a mounted volume, None for the system's own disk.

    What lies on that one is seen through "/" by firmlinks, and it does not come and go.
    """
    if mount.kind in _SHARES:
        return share_identity(mount.source)
    if mount.point == b"/" or not mount.source.startswith("/dev/"):
        return None
    return parse_disk_info(_output_of("/usr/sbin/diskutil", "info", "-plist", mount.source))


def parse_disk_info(text: bytes) -> str | None:
    """Return the identity in what `diskutil info -plist` prints."""
    try:
        facts = plistlib.loads(text)
    except (plistlib.InvalidFileException, ExpatError, ValueError):
        return None
    number = facts.get("VolumeUUID") if isinstance(facts, dict) else None
    return file_system_identity(number) if isinstance(number, str) else None


def _output_of(*command: str) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - the system's own programs, by their full paths
            command, capture_output=True, check=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return b""
    return done.stdout
