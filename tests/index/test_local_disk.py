"""Network file systems are recognised by what the platform tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from siglip_index import local_disk
from siglip_index.errors import NetworkFileSystemError
from siglip_index.local_disk import (
    network_mount_linux,
    network_mount_macos,
    refuse_network_file_system,
)

MOUNTINFO = rb"""21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:40 / /mnt/nas rw - nfs4 nas:/export rw,vers=4.2
23 21 0:41 / /mnt/my\040share rw - cifs //nas/share rw
24 22 8:2 / /mnt/nas/local rw - xfs /dev/sdb1 rw
25 21 0:42 / /mnt/over rw - ext4 /dev/sdc1 rw
26 21 0:43 / /mnt/over rw - fuse.sshfs me@host: rw
27 21 0:44 / /mnt/c rw - 9p drvfs rw,aname=drvfs;path=C:\134,trans=fd,rfd=8
28 21 0:45 / /mnt/host rw - 9p share rw,trans=virtio
29 21 0:46 / /sandbox rw - 9p none rw,trans=fd,rfd=4,wfd=4
30 21 0:47 / /mnt/exfat rw - fuseblk /dev/sdd1 rw
31 21 0:48 / /home/me/drive rw - fuse.rclone remote: rw
32 21 0:49 / /mnt/nasty rw - btrfs /dev/sde1 rw
33 21 0:50 / /shared rw - virtiofs tag rw
34 21 0:51 / /vm rw - vboxsf pictures rw
this line is nonsense
35 21 0:52 / /cut - nfs
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/home/me/library", None),
        (b"/mnt/nas", "nfs4"),
        (b"/mnt/nas/a/b", "nfs4"),
        (b"/mnt/nas/local/a", None),
        (b"/mnt/nasty/a", None),
        (b"/mnt/my share/x", "cifs"),
        (b"/mnt/over/x", "fuse.sshfs"),
        (b"/mnt/c/Users", "9p"),
        (b"/mnt/host", "9p"),
        (b"/sandbox/x", None),
        (b"/mnt/exfat/x", None),
        (b"/home/me/drive/lib", "fuse.rclone"),
        (b"/shared/x", None),
        (b"/vm/x", "vboxsf"),
    ],
)
def test_linux(path: bytes, kind: str | None) -> None:
    assert network_mount_linux(path, MOUNTINFO) == kind


def test_linux_without_any_line_is_local() -> None:
    assert network_mount_linux(b"/x", b"") is None


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (b"/Users/me", None),
        (b"/Volumes/My Pictures (1)/x", "smbfs"),
        (b"/Volumes/nfs", "nfs"),
        (b"/Volumes/Stick/x", None),
        (b"/Volumes/afp/x", "afpfs"),
    ],
)
def test_macos(path: bytes, kind: str | None) -> None:
    listing = b"""/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
devfs on /dev (devfs, local, nobrowse)
//me@nas/pictures on /Volumes/My Pictures (1) (smbfs, nodev, nosuid, mounted by me)
nas:/export on /Volumes/nfs (nfs)
/dev/disk4s1 on /Volumes/Stick (msdos, local, nodev)
afp://nas on /Volumes/afp (afpfs, nodev)
"""
    assert network_mount_macos(path, listing) == kind


def test_this_machines_own_disk_is_accepted(tmp_path: Path) -> None:
    refuse_network_file_system(tmp_path / "not" / "there" / "yet")


def test_refusal_names_the_folder_and_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_disk, "_network_kind", lambda directory: "nfs4")
    with pytest.raises(NetworkFileSystemError, match="nfs4") as caught:
        refuse_network_file_system(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "this machine" in caught.value.hint


def test_symbolic_link_is_judged_by_where_it_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(local_disk, "_network_kind", lambda path: seen.append(path))
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    refuse_network_file_system(tmp_path / "link" / "library")
    assert seen == [tmp_path.resolve() / "target" / "library"]


def test_unknown_platform_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_there(self: Path) -> bytes:
        raise FileNotFoundError(self)

    monkeypatch.setattr(local_disk.sys, "platform", "plan9")
    monkeypatch.setattr(Path, "read_bytes", nothing_there)
    refuse_network_file_system(tmp_path)
