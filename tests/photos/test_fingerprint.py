from __future__ import annotations

import hashlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from siglip_search.errors import NotAPictureError
from siglip_search.photos.fingerprint import (
    CONTENT_HASH_BYTES,
    TryAgainError,
    content_hash,
    fingerprint,
    open_regular,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_called_jpg_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "picture.jpg"
    os.mkfifo(pipe)
    started = time.monotonic()
    with pytest.raises(NotAPictureError, match="not a regular file"):
        open_regular(os.fsencode(pipe))
    assert time.monotonic() - started < 1


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAPictureError, match="not a regular file"):
        open_regular(os.fsencode(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a socket with a file name")
def test_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is limited to about 100 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.jpg")
        with pytest.raises(NotAPictureError):
            open_regular(b"s.jpg")


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev")
def test_device_is_refused() -> None:
    with pytest.raises(NotAPictureError):
        open_regular(b"/dev/zero")


def test_missing_file_and_missing_folder_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("absent.jpg", "absent/a.jpg", "file/a.jpg"):
        with pytest.raises(FileNotFoundError):
            open_regular(os.fsencode(tmp_path / name))


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions that bind this user"
)
def test_forbidden_file_is_tried_again_later(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.touch(mode=0)
    with pytest.raises(TryAgainError, match=r"^cannot be read: Permission denied$"):
        open_regular(os.fsencode(file))


def test_descriptor_is_not_inherited_by_other_programs(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with open_regular(os.fsencode(tmp_path / "a")) as file:
        assert not os.get_inheritable(file.fileno())


def test_content_hash_is_sha256_of_the_whole_file_wherever_it_was_read(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "a").write_bytes(data)
    with open_regular(os.fsencode(tmp_path / "a")) as file:
        file.read(1000)
        digest = content_hash(file)
    assert digest == hashlib.sha256(data).digest()
    assert len(digest) == CONTENT_HASH_BYTES


def test_fingerprint_of_a_listing_equals_that_of_the_open_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (entry,) = os.scandir(tmp_path)
    with open_regular(os.fsencode(tmp_path / "a")) as file:
        opened = fingerprint(os.fstat(file.fileno()))
    assert fingerprint(entry.stat()) == opened
    assert opened.size == 5
    assert opened.mtime_ns == os.stat(tmp_path / "a").st_mtime_ns
