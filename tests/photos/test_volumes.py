"""What identifies a volume, on each operating system; here only Linux can be asked for real."""

from __future__ import annotations

import plistlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from loop_drives import ext4_drive

from siglip_search.photos import linux_mounts, macos_mounts, windows_mounts
from siglip_search.photos.mount import Mount, file_system_identity, share_identity
from siglip_search.photos.volumes import MountedVolumes, VolumePlace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOUNTINFO = rb"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 8:17 / /media/a\040b rw,nosuid shared:2 - exfat /dev/sdb1 rw,iocharset=utf8
41 27 0:45 /home /home rw,relatime - btrfs /dev/sdc2 rw,subvol=/home
42 27 0:46 / /mnt/nas rw - nfs4 Nas.local:/volume1/photo/ rw,vers=4.2
43 27 0:47 / /mnt/win rw - cifs //NAS/Photo rw,user=me
44 27 0:48 / /tmp rw - tmpfs tmpfs rw
a line of a later kernel that nobody understands
"""


def test_mountinfo_is_read() -> None:
    mounts = {mount.point: mount for mount in linux_mounts.parse_mountinfo(MOUNTINFO)}
    assert len(mounts) == 7
    assert mounts[b"/media/a b"] == Mount(b"/media/a b", "/dev/sdb1", "exfat")
    assert mounts[b"/home"].part == b"home"


def test_a_device_is_known_by_its_link_of_udev(tmp_path: Path) -> None:
    device = tmp_path / "sdb1"
    device.touch()
    links = tmp_path / "by-uuid"
    links.mkdir()
    (links / "1A2B-3C4D").symlink_to(device)
    (links / "0C8F5F3E-8B5A-4E4B-9E8B-2F5B0C6A7D11").symlink_to(tmp_path / "other")
    # Only what is named like a device is looked up.
    mount = Mount(b"/media/usb", f"/dev/../{device}", "vfat")
    assert linux_mounts.identity(mount, links) == "serial:1A2B-3C4D"


@pytest.mark.parametrize(
    ("point", "identity"),
    [
        (b"/mnt/nas", "share:nas.local:/volume1/photo"),
        (b"/mnt/win", "share://nas/photo"),
        (b"/tmp", None),
        (b"/proc", None),
    ],
)
def test_shares_are_known_by_name_and_memory_by_nothing(point: bytes, identity: str | None) -> None:
    (mount,) = (m for m in linux_mounts.parse_mountinfo(MOUNTINFO) if m.point == point)
    assert linux_mounts.identity(mount) == identity


@pytest.mark.parametrize(
    ("number", "identity"),
    [
        ("1a2b-3c4d", "serial:1A2B-3C4D"),
        ("3AFC85F07C1A17F4", "serial:7C1A-17F4"),  # NTFS: Windows tells the lower half
        (
            "0C8F5F3E-8B5A-4E4B-9E8B-2F5B0C6A7D11",
            "uuid:0c8f5f3e-8b5a-4e4b-9e8b-2f5b0c6a7d11",
        ),
        ("0000-0000", None),
        ("00000000-0000-0000-0000-000000000000", None),
        ("", None),
        ("a label", None),
    ],
)
def test_numbers_of_file_systems(number: str, identity: str | None) -> None:
    assert file_system_identity(number) == identity


def test_a_share_is_the_same_from_every_system() -> None:
    names = {share_identity(name) for name in ("//NAS/Photo", "//me@nas/photo/", r"\\nas\photo")}
    assert names == {"share://nas/photo"}


def test_mounts_of_macos_are_read() -> None:
    listing = b"""/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk4s2 on /Volumes/My (old) photos (exfat, local, nodev, nosuid, noowners)
//me@nas._smb._tcp.local/pictures on /Volumes/pictures (smbfs, nodev, nosuid, mounted by me)
map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)
"""
    root, drive, share, home = macos_mounts.parse_mount_listing(listing)
    assert drive == Mount(b"/Volumes/My (old) photos", "/dev/disk4s2", "exfat")
    assert macos_mounts.identity(share) == "share://nas._smb._tcp.local/pictures"
    assert macos_mounts.identity(root) is None
    assert macos_mounts.identity(home) is None


def test_uuid_of_macos_is_read() -> None:
    number = "0C8F5F3E-8B5A-4E4B-9E8B-2F5B0C6A7D11"
    facts = {"VolumeUUID": number, "VolumeName": "Photos", "TotalSize": 5}
    assert macos_mounts.parse_disk_info(plistlib.dumps(facts)) == f"uuid:{number.lower()}"
    for output in (plistlib.dumps({"VolumeName": "a"}), plistlib.dumps([1]), b"", b"<plist", b"x"):
        assert macos_mounts.parse_disk_info(output) is None


def test_names_of_windows_are_read() -> None:
    assert windows_mounts.share_of(r"\\NAS\Photo\2024\a.jpg") == r"\\NAS\Photo"
    assert windows_mounts.share_of("//NAS/Photo") == r"\\NAS\Photo"
    assert windows_mounts.share_of(r"\\?\UNC\NAS\Photo\2024") == r"\\NAS\Photo"
    assert windows_mounts.share_of(r"\\?\C:\Photos") is None
    assert windows_mounts.share_of(r"C:\Photos") is None
    assert windows_mounts.serial_identity(0x1A2B3C4D) == "serial:1A2B-3C4D"
    assert windows_mounts.serial_identity(0) is None


def test_a_path_without_an_identified_volume_is_nowhere() -> None:
    if sys.platform == "linux":
        assert MountedVolumes().place_of(b"/proc/self") is None
    assert MountedVolumes().paths_of(VolumePlace("uuid:none", b"Photos")) == []


def test_a_drive_is_found_at_its_new_mount_point(
    tmp_path: Path, cleanup: Callable[[Callable[[], object]], None]
) -> None:
    drive = ext4_drive(tmp_path / "image", cleanup)
    first, second = tmp_path / "first", tmp_path / "second mount"
    drive.mount(first)
    (first / "Photos" / "2024").mkdir(parents=True)
    place = MountedVolumes().place_of(bytes(first / "Photos"))
    assert place is not None
    assert place.volume.startswith("uuid:")
    assert place.path == b"Photos"
    drive.unmount()
    assert MountedVolumes().paths_of(place) == []
    drive.mount(second)
    assert MountedVolumes().paths_of(place) == [bytes(second / "Photos")]

    # A part of it elsewhere, too.
    bound = tmp_path / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", second / "Photos", bound], check=True)
    cleanup(lambda: subprocess.run(["umount", bound], check=True))
    inner = MountedVolumes().place_of(bytes(bound / "2024"))
    assert inner == VolumePlace(place.volume, b"Photos/2024")
    assert set(MountedVolumes().paths_of(inner)) == {
        bytes(second / "Photos" / "2024"),
        bytes(bound / "2024"),
    }
