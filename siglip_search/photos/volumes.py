"""On which volume a path lies, and where that volume is mounted now.

A volume is known by what stays with it wherever it is plugged in: the file system's UUID, the
serial number of FAT, exFAT and NTFS, or the name of a network share. Where nothing identifies a
volume, everything works by paths alone. Only the mount point is looked at, never a picture.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from siglip_index.locations import join, relative_to
from siglip_search.photos import linux_mounts, macos_mounts, windows_mounts

if TYPE_CHECKING:
    from siglip_search.photos.mount import Mount


@dataclass(frozen=True, slots=True)
class VolumePlace:
    """A place on a volume, wherever that is mounted.

    Attributes:
        volume: Identity of the volume: "uuid:…", "serial:…", "share:…" or "zfs:…".
        path: Relative to the volume, "/"-separated; empty for the volume itself.
    """

    volume: str
    path: bytes


class MountedVolumes:
    """What is mounted, as of the first question; to be asked anew, make another."""

    def __init__(self) -> None:
        self._identities: dict[Mount, str | None] = {}

    def place_of(self, path: bytes) -> VolumePlace | None:
        """Return the place on its volume of a path that exists, None when that is not known.

        Args:
            path: Absolute; links are followed, the last name included.
        """
        path = os.path.realpath(path)
        mount = self._mount_of(path)
        below = relative_to(path, mount.point) if mount is not None else None
        volume = self._identity(mount) if mount is not None else None
        if mount is None or below is None or volume is None:
            return None
        return VolumePlace(volume, b"/".join(filter(None, (mount.part, below))))

    def paths_of(self, place: VolumePlace) -> list[bytes]:
        """Return the absolute paths at which a place can be seen now; an empty list when nowhere.

        Its volume is mounted there, and something of the place's name exists.
        """
        paths = []
        for mount in self._mounts:
            below = _relative_part(place.path, mount.part)
            if below is None or self._identity(mount) != place.volume:
                continue
            path = join(mount.point, below)
            if os.path.exists(path) and path not in paths:
                paths.append(path)
        return paths

    @cached_property
    def _mounts(self) -> list[Mount]:
        if sys.platform == "win32":
            return windows_mounts.mounts()
        return macos_mounts.mounts() if sys.platform == "darwin" else linux_mounts.mounts()

    def _identity(self, mount: Mount) -> str | None:
        if mount not in self._identities:
            self._identities[mount] = _identity(mount)
        return self._identities[mount]

    def _mount_of(self, path: bytes) -> Mount | None:
        if sys.platform == "win32":
            return windows_mounts.mount_of(path)
        best: Mount | None = None
        for mount in self._mounts:
            # Of two mounts on one point the later one is on top.
            if relative_to(path, mount.point) is not None and (
                best is None or len(mount.point) >= len(best.point)
            ):
                best = mount
        return best


def _identity(mount: Mount) -> str | None:
    if sys.platform == "win32":
        return windows_mounts.identity(mount)
    if sys.platform == "darwin":
        return macos_mounts.identity(mount)
    return linux_mounts.identity(mount)


def _relative_part(path: bytes, part: bytes) -> bytes | None:
    if not part or path == part:
        return path[len(part) :]
    return path[len(part) + 1 :] if path.startswith(part + b"/") else None
