"""Drives that come and go, with real mounts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from installed_command import CommandLine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which can be bound to a mount point and taken away again."""
    drive = tmp_path / "drive"
    drive.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=8m", "tmpfs", str(drive)):
        pytest.skip("may not mount here")
    yield drive
    subprocess.run(["umount", str(drive)], check=True)


def test_drive_below_a_root_may_go_and_come_back(
    cli: CommandLine, pictures: Path, drive: Path
) -> None:
    for number in range(6):
        shutil.move(pictures / f"picture-{number:02}.jpg", drive)
    usb = pictures / "usb"
    usb.mkdir()
    assert mount("--bind", str(drive), str(usb))
    try:
        assert cli.index(pictures)["added"] == 12
    finally:
        subprocess.run(["umount", str(usb)], check=True)

    away = cli.index(pictures)
    assert (away["removed"], away["unreachable"], away["unchanged"]) == (0, 6, 6)
    assert "drive" in away["warnings"][0]
    assert cli.status()["files"] == 12

    # The mount point itself may go with the drive, as below /media.
    usb.rmdir()
    assert cli.index(pictures)["unreachable"] == 6
    usb.mkdir()
    assert mount("--bind", str(drive), str(usb))
    try:
        (drive / "picture-00.jpg").unlink()
        back = cli.index(pictures)
        assert (back["unchanged"], back["removed"], back["embedded"]) == (11, 1, 0)
    finally:
        subprocess.run(["umount", str(usb)], check=True)
    cli.verify()


def test_root_that_is_a_mount_point_may_be_empty(
    cli: CommandLine, pictures: Path, drive: Path
) -> None:
    shutil.copytree(pictures, drive, dirs_exist_ok=True)
    mount_point = pictures.parent / "mount-point"
    mount_point.mkdir()
    assert mount("--bind", str(drive), str(mount_point))
    try:
        assert cli.index(mount_point)["added"] == 12
    finally:
        subprocess.run(["umount", str(mount_point)], check=True)
    assert cli.index(mount_point)["removed"] == 0
    assert cli("index", "--json").json["removed"] == 0
    assert cli.status()["files"] == 12
