"""Drives of their own for tests: file systems in image files, mounted for real."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Cleanup = Callable[[Callable[[], object]], None]


@dataclass
class Drive:
    """A file system that can be plugged in anywhere.

    Attributes:
        command: Mounts it; the mount point comes last.
        point: Where it is mounted now.
    """

    command: list[str]
    cleanup: Cleanup
    point: Path | None = None

    def mount(self, point: Path) -> None:
        assert self.point is None
        point.mkdir(exist_ok=True)
        done = subprocess.run([*self.command, str(point)], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"may not mount here: {done.stderr.decode().strip()}")
        self.point = point
        self.cleanup(self.unmount)

    def unmount(self) -> None:
        if self.point is not None:
            subprocess.run(["umount", str(self.point)], check=True)
        self.point = None


def ext4_drive(image: Path, cleanup: Cleanup) -> Drive:
    _format(image, ["mkfs.ext4", "-q"], 8)
    return Drive(["mount", "-o", "loop", str(image)], cleanup)


def exfat_drive(image: Path, cleanup: Cleanup) -> Drive:
    """A file system that knows no case and whose inode numbers mean nothing."""
    _format(image, ["mkfs.exfat"], 8)
    if shutil.which("mount.exfat-fuse") is None:
        pytest.skip("mount.exfat-fuse is not installed")
    attached = subprocess.run(
        ["losetup", "-f", "--show", str(image)], capture_output=True, check=False
    )
    if attached.returncode:
        pytest.skip("may not attach a loop device here")
    device = attached.stdout.decode().strip()
    cleanup(lambda: subprocess.run(["losetup", "-d", device], check=True))
    return Drive(["mount.exfat-fuse", device], cleanup)


def _format(image: Path, command: list[str], mebibytes: int) -> None:
    if sys.platform != "linux" or shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with image.open("wb") as file:
        file.truncate(mebibytes * 2**20)
    subprocess.run([*command, str(image)], capture_output=True, check=True)
