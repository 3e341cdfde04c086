"""No cloud can be had here: what it does to a file's attributes is laid over os.stat."""

from __future__ import annotations

import os
import stat
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from siglip_search.photos import cloud_placeholder, fingerprint
from siglip_search.photos.cloud_placeholder import is_online_only, is_stub, name_behind_stub
from siglip_search.photos.fingerprint import OnlineOnlyError, open_regular
from siglip_search.photos.scan import ScanResult, ScanRules, scan
from siglip_search.photos.sidecar import read_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="what Linux clients leave")

PLAIN = {"st_size": 5_000_000, "st_blocks": 9_800, "st_dev": 0, "st_mode": stat.S_IFREG}


def status(**attributes: int) -> Any:
    return SimpleNamespace(**(PLAIN | attributes))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, False),
        ({"st_file_attributes": 0x20}, False),
        ({"st_file_attributes": 0x400020}, True),  # a placeholder of OneDrive
        ({"st_file_attributes": 0x401620}, True),
        ({"st_file_attributes": 0x40020}, True),
        ({"st_file_attributes": 0x1020}, True),
        ({"st_file_attributes": 0x80020}, False),  # "always keep on this device"
        ({"st_file_attributes": 0x100020}, False),  # may be removed from it, and is here now
        ({"st_flags": 0x40000000}, True),
        ({"st_flags": 0x40}, False),
    ],
)
def test_attributes_tell(attributes: dict[str, int], expected: bool) -> None:
    assert is_online_only(b"a.jpg", status(**attributes)) is expected


def test_sparse_file_is_no_placeholder(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(1 << 20)
    assert not is_online_only(os.fsencode(tmp_path / "a.jpg"), os.stat(tmp_path / "a.jpg"))


@linux_only
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("user.nextcloud.hydrate_exec", b"nextcloud", True),
        ("user.owncloud.hydrate_exec", b"owncloud", True),
        ("user.openvfs.state", b"dehydrated", True),
        ("user.openvfs.state", b"hydrated", False),
        ("user.comment", b"dehydrated", False),
    ],
)
def test_extended_attributes_tell_once_a_file_occupies_less_than_its_size(
    tmp_path: Path, name: str, value: bytes, expected: bool
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b" ")
    try:
        os.setxattr(file, name, value)
    except OSError:
        pytest.skip("this file system has no extended attributes")
    assert is_online_only(os.fsencode(file), os.stat(file)) is expected


@linux_only
@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("fuse.onedriver", b"/home/a/OneDrive/b.jpg", True),
        ("fuse.rclone", b"/mnt/drive/b.jpg", True),
        ("fuse.gvfsd-fuse", b"/run/user/1000/gvfs/google-drive:host=x,user=y/b.jpg", True),
        ("fuse.gvfsd-fuse", b"/run/user/1000/gvfs/smb-share:server=nas,share=p/b.jpg", False),
        ("fuse.sshfs", b"/mnt/nas/b.jpg", False),
        ("nfs4", b"/mnt/nas/b.jpg", False),
    ],
)
def test_mounts_that_fetch_what_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, path: bytes, expected: bool
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"90 22 0:77 / /mnt rw,nosuid shared:3 - {kind} source rw,user_id=1000\n"
    )
    monkeypatch.setattr(cloud_placeholder, "_MOUNTINFO", os.fspath(table))
    cloud_placeholder.forget_mounts()
    assert is_online_only(path, status(st_dev=os.makedev(0, 77))) is expected
    assert not is_online_only(path, status(st_dev=os.makedev(8, 1)))
    cloud_placeholder.forget_mounts()


@pytest.mark.parametrize(
    ("stub", "name"),
    [
        (b"a.jpg.nextcloud", b"a.jpg"),
        (b"a.b.HEIC.owncloud", b"a.b.HEIC"),
        (b".a.jpg.icloud", b"a.jpg"),
    ],
)
def test_stubs_stand_for_other_files(stub: bytes, name: bytes) -> None:
    assert is_stub(stub)
    assert name_behind_stub(stub) == name


@pytest.mark.parametrize("name", [b"a.jpg", b"a.icloud", b"nextcloud", b".hidden.jpg"])
def test_other_names_are_no_stubs(name: bytes) -> None:
    assert not is_stub(name)


# In a folder


@pytest.fixture
def in_the_cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names that are placeholders from now on; the test fails when one of them is opened."""
    names: set[str] = set()
    real_open = os.open

    def is_placeholder(path: bytes, _: os.stat_result) -> bool:
        return os.path.basename(os.fsdecode(path)) in names

    def guarded_open(path: Any, *arguments: Any, **options: Any) -> int:
        assert os.path.basename(os.fsdecode(path)) not in names, f"{path!r} was opened"
        return real_open(path, *arguments, **options)

    monkeypatch.setattr("siglip_search.photos.file_rules.is_online_only", is_placeholder)
    monkeypatch.setattr(fingerprint, "is_online_only", is_placeholder)
    monkeypatch.setattr(os, "open", guarded_open)
    return names


def look(root: Path, rules: ScanRules | None = None) -> ScanResult:
    return scan(os.fsencode(root), rules or ScanRules())


def online(result: ScanResult) -> list[str]:
    return sorted(os.fsdecode(seen.path) for seen in result.online_only)


def lay(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(b"x" * 4096)


def test_placeholders_are_told_apart_and_never_opened(
    tmp_path: Path, in_the_cloud: set[str]
) -> None:
    lay(tmp_path, "here.jpg", "there.jpg", "picture", "film.mkv", "notes.txt")
    in_the_cloud |= {"there.jpg", "picture", "film.mkv"}
    result = look(tmp_path)
    assert [seen.path for seen in result.files] == [b"here.jpg"]
    assert online(result) == ["picture", "there.jpg"]
    assert result.ignored == 2


def test_download_cloud_takes_them(tmp_path: Path, in_the_cloud: set[str]) -> None:
    lay(tmp_path, "here.jpg", "there.jpg")
    in_the_cloud.add("there.jpg")
    result = look(tmp_path, ScanRules(download_cloud=True))
    assert len(result.files) == 2
    assert result.online_only == []


def test_stub_stands_under_the_name_that_its_file_will_have(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg.nextcloud", ".b.heic.icloud", "c.mp4.owncloud", "d.jpg", "d.jpg.nextcloud")
    lay(tmp_path, ".e.jpg", "f.png.nextcloud")
    result = look(tmp_path, ScanRules(exclude=("*.png",)))
    assert online(result) == ["a.jpg", "b.heic"]
    assert [seen.path for seen in result.files] == [b"d.jpg"]
    assert result.ignored == 2, "the film, and the stub of what is here"
    # Only its client can download what a stub stands for.
    assert online(look(tmp_path, ScanRules(exclude=("*.png",), download_cloud=True))) == [
        "a.jpg",
        "b.heic",
    ]


def test_raw_that_is_here_does_not_wait_for_its_jpeg(
    tmp_path: Path, in_the_cloud: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siglip_search.photos.file_rules.is_extra_installed", lambda _: True)
    lay(tmp_path, "a.jpg", "a.cr2", "b.jpg", "b.cr2", "c.jpg", "c.cr2")
    in_the_cloud |= {"a.jpg", "b.jpg", "b.cr2", "c.cr2"}
    result = look(tmp_path)
    assert sorted(seen.path for seen in result.files) == [b"a.cr2", b"c.jpg"]
    assert online(result) == ["a.jpg", "b.jpg"]
    assert result.companions == 2


def test_raw_without_its_jpeg_has_the_sidecars_of_both(
    tmp_path: Path, in_the_cloud: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siglip_search.photos.file_rules.is_extra_installed", lambda _: True)
    lay(tmp_path, "a.jpg", "a.cr2", "a.xmp", "a.cr2.xmp", "a.mov")
    in_the_cloud |= {"a.jpg"}
    result = look(tmp_path)
    (seen,) = result.files
    assert [item.path for item in seen.companions] == [b"a.cr2.xmp", b"a.xmp"]
    assert (seen.path, result.companions, result.ignored) == (b"a.cr2", 3, 0)


def test_ignore_file_that_only_the_cloud_has_leaves_its_folder_alone(
    tmp_path: Path, in_the_cloud: set[str]
) -> None:
    (tmp_path / ".siglipignore").write_bytes(b"a.jpg\n")
    lay(tmp_path, "a.jpg")
    in_the_cloud.add(".siglipignore")
    result = look(tmp_path)
    assert result.files == []
    ((place, reason),) = result.unreadable
    assert place == b""
    assert reason == "its .siglipignore file: only the cloud has it; --download-cloud reads it"
    with pytest.raises(AssertionError, match="was opened"):
        look(tmp_path, ScanRules(download_cloud=True))


def test_nothing_else_opens_them(tmp_path: Path, in_the_cloud: set[str]) -> None:
    lay(tmp_path, "a.jpg", "a.xmp")
    in_the_cloud |= {"a.jpg", "a.xmp"}
    path = os.fsencode(tmp_path / "a.jpg")
    with pytest.raises(OnlineOnlyError) as caught:
        open_regular(path)
    assert "--download-cloud" in caught.value.hint
    with pytest.raises(OnlineOnlyError):
        read_sidecar(os.fsencode(tmp_path / "a.xmp"))
