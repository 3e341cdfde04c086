"""Names as the file system takes them: here Linux's own, and exFAT where it can be mounted."""

from __future__ import annotations

import os
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loop_drives import exfat_drive

from siglip_search.photos.name_folding import disk_spelling, folded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@given(st.text(st.characters(codec="utf-8")))
def test_all_spellings_fold_to_one(name: str) -> None:
    for form in ("NFC", "NFD"):
        spelled = unicodedata.normalize(form, name).encode()
        assert folded(spelled) == folded(name.encode())
    assert folded(folded(name.encode())) == folded(name.encode())


@pytest.mark.parametrize(
    ("one", "other"), [("IMG.jpg", "img.JPG"), ("Été", "e\u0301te\u0301"), ("Straße", "STRASSE")]
)
def test_case_and_normalisation_are_folded(one: str, other: str) -> None:
    assert folded(one.encode()) == folded(other.encode())


def test_other_letters_and_bytes_that_are_no_text_stay_apart() -> None:
    assert folded(b"a.jpg") != folded(b"b.jpg")
    assert folded("é".encode()) != folded(b"e")
    assert folded(b"\xff.JPG") == b"\xff.JPG"


def knows_case(folder: Path) -> bool:
    (folder / "probe").touch()
    return not (folder / "PROBE").exists()


def test_twins_of_a_file_system_that_knows_case_keep_their_spelling(tmp_path: Path) -> None:
    if not knows_case(tmp_path):
        pytest.skip("this file system knows no case")
    (tmp_path / "IMG.jpg").write_bytes(b"one")
    os.link(tmp_path / "IMG.jpg", tmp_path / "img.jpg")  # even as one inode
    for name in ("IMG.jpg", "img.jpg", "Img.jpg"):
        path = bytes(tmp_path / name)
        assert disk_spelling(path) == path


def test_what_does_not_exist_keeps_its_spelling(tmp_path: Path) -> None:
    for path in (bytes(tmp_path / "None" / "Of" / "this.jpg"), b"/", b"\xff/x", b""):
        assert disk_spelling(path) == path


def test_exfat_spelling_is_that_of_the_listing(
    tmp_path: Path, cleanup: Callable[[Callable[[], object]], None]
) -> None:
    drive = exfat_drive(tmp_path / "image", cleanup)
    mount_point = tmp_path / "Drive"
    drive.mount(mount_point)
    (mount_point / "Photos" / "Été").mkdir(parents=True)
    on_disk = mount_point / "Photos" / "Été" / "IMG_1.jpg"
    on_disk.touch()
    for typed in ("photos/été/img_1.JPG", "PHOTOS/Été/IMG_1.jpg", "Photos/Été/IMG_1.jpg"):
        assert disk_spelling(bytes(mount_point / typed)) == bytes(on_disk)
    gone = disk_spelling(bytes(mount_point / "photos" / "Gone.jpg"))
    assert gone == bytes(mount_point / "Photos" / "Gone.jpg")
