"""Folders that are elsewhere now, with real libraries, and real drives where they can be mounted.

Where nothing may be read, other bytes of the same size and time stand in the new place: reading
one of them would give a picture that cannot be read, or another picture.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loop_drives import exfat_drive, ext4_drive

from siglip_search import demo, open_library
from siglip_search.engine.relocation import Relocation
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from siglip_search import Library

    Cleanup = Callable[[Callable[[], object]], None]

PICTURES = 6


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path / "library", model="demo") as library:
        yield library


def put_pictures(folder: Path, *, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    gallery = sorted(demo.gallery_directory().rglob("*.jpg"))[first : first + PICTURES]
    for number, picture in enumerate(gallery):
        shutil.copyfile(picture, folder / f"IMG_{number}.jpg")
    return folder


def spoil(folder: Path) -> None:
    """Put other bytes into every picture, without a trace in its size and time."""
    for picture in folder.rglob("*.jpg"):
        status = picture.stat()
        picture.write_bytes(bytes(status.st_size))
        os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))


def assert_nothing_is_read(library: Library, *paths: Path) -> None:
    report = library.index(paths)
    assert (report.unchanged, report.seen) == (PICTURES, PICTURES)
    assert report.embedded == report.removed == report.failed == 0


def root_path(library: Library) -> Path:
    (root,) = library.roots()
    return Path(os.fsdecode(root.path))


def test_a_folder_is_relocated_without_reading_a_picture(library: Library, tmp_path: Path) -> None:
    old, new = put_pictures(tmp_path / "old"), tmp_path / "new"
    library.index([old])
    shutil.copytree(old, new)
    shutil.rmtree(old)
    spoil(new)
    assert library.folders().relocate(old, new) == [Relocation(bytes(old), bytes(new))]
    assert_nothing_is_read(library)
    hits = library.search("beach", top_k=99, min_probability=0.0)
    assert {Path(hit.path).parent for hit in hits} == {new}
    assert library.verify().is_whole


def test_every_folder_below_a_former_mount_point_is_relocated(
    library: Library, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    single = put_pictures(tmp_path / "old" / "a") / "IMG_0.jpg"
    shutil.copy2(single, old / "single.jpg")
    library.index([old / "a", old / "single.jpg"])
    old.rename(new)
    library.folders().relocate(old, new)
    assert [root.path for root in library.roots()] == [
        bytes(new / "a"),
        bytes(new / "single.jpg"),
    ]
    report = library.index()
    assert (report.unchanged, report.removed, report.embedded) == (PICTURES + 1, 0, 0)


def test_a_new_place_that_is_indexed_already_is_joined(library: Library, tmp_path: Path) -> None:
    old, new = put_pictures(tmp_path / "old"), tmp_path / "new"
    library.index([old])
    shutil.copytree(old, new)
    assert library.index([new]).embedded == 0
    shutil.rmtree(old)
    library.folders().relocate(old, new)
    assert root_path(library) == new
    assert_nothing_is_read(library)
    assert library.verify().is_whole


def test_wrong_places_are_refused(library: Library, tmp_path: Path) -> None:
    folders = library.folders()
    with pytest.raises(PathError, match="not an indexed folder"):
        folders.relocate(tmp_path / "old", tmp_path)
    old = put_pictures(tmp_path / "old")
    library.index([old])
    (tmp_path / "empty").mkdir()
    folders = library.folders()
    with pytest.raises(PathError, match="not an indexed folder"):
        folders.relocate(tmp_path / "other", tmp_path)
    with pytest.raises(PathError, match="there is no file or folder"):
        folders.relocate(old, tmp_path / "nowhere")
    with pytest.raises(PathError, match="none of the pictures"):
        folders.relocate(old, tmp_path / "empty")
    assert folders.relocate(old, old) == []
    assert root_path(library) == old


def test_patterns_are_kept_with_a_folder(library: Library, tmp_path: Path) -> None:
    folder = put_pictures(tmp_path / "pictures")
    library.index([folder])
    folders = library.folders()
    folders.exclude(folder, ["*.gif", "drafts/"])
    folders.exclude(folder, ["!keep.gif", "*.gif"])
    assert folders.exclude(folder, []).exclude == ("drafts/", "!keep.gif", "*.gif")
    with pytest.raises(PathError, match="no pattern"):
        folders.exclude(folder, ["*.bmp"], remove=True)
    with pytest.raises(PathError, match="malformed"):
        folders.exclude(folder, ["a\\"])
    folders.exclude(folder, ["*.gif", "drafts/"], remove=True)
    (root,) = library.roots()
    assert root.exclude == ("!keep.gif",)


def test_library_and_pictures_that_were_copied_together_work_there(tmp_path: Path) -> None:
    usb, elsewhere = tmp_path / "usb", tmp_path / "mnt" / "backup"
    put_pictures(usb / "Photos")
    with open_library(usb / "library", model="demo") as library:
        library.index([usb / "Photos"])
    shutil.copytree(usb, elsewhere)
    # As long as the first ones are there, they are meant.
    with open_library(elsewhere / "library") as library:
        assert library.folders().recognise_moved() == []
    usb.rename(tmp_path / "unplugged")
    spoil(elsewhere)
    with open_library(elsewhere / "library") as library:
        assert library.folders().recognise_moved() == [
            Relocation(bytes(usb / "Photos"), bytes(elsewhere / "Photos"))
        ]
        assert_nothing_is_read(library)


def test_another_folder_beside_a_library_that_moved_is_not_taken(tmp_path: Path) -> None:
    put_pictures(tmp_path / "usb" / "Photos")
    with open_library(tmp_path / "usb" / "library", model="demo") as library:
        library.index([tmp_path / "usb" / "Photos"])
    (tmp_path / "usb").rename(tmp_path / "elsewhere")
    spoiled = next((tmp_path / "elsewhere" / "Photos").iterdir())
    shutil.rmtree(tmp_path / "elsewhere" / "Photos")
    spoiled.parent.mkdir()
    spoiled.write_bytes(b"one of six, and of another size")
    with open_library(tmp_path / "elsewhere" / "library") as library:
        assert library.folders().recognise_moved() == []
        assert library.index().unreachable == PICTURES


def test_a_drive_is_recognised_at_another_mount_point(
    library: Library, tmp_path: Path, cleanup: Cleanup
) -> None:
    drive = ext4_drive(tmp_path / "image", cleanup)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    drive.mount(first)
    put_pictures(first / "Photos")
    library.index([first / "Photos"])
    spoil(first)
    drive.unmount()
    assert library.index().unreachable == PICTURES
    drive.mount(second)
    report = library.index()
    assert (report.unchanged, report.embedded, report.removed) == (PICTURES, 0, 0)
    assert str(second / "Photos") in report.warnings[0]
    assert library.index().warnings == []
    drive.unmount()
    drive.mount(third)
    # Named by its new place, or by none.
    assert_nothing_is_read(library, third / "Photos")
    assert root_path(library) == third / "Photos"


def test_drives_that_exchange_their_places_are_told_apart(
    library: Library, tmp_path: Path, cleanup: Cleanup
) -> None:
    one, two = (ext4_drive(tmp_path / name, cleanup) for name in ("one.img", "two.img"))
    e, f = tmp_path / "e", tmp_path / "f"
    one.mount(e)
    two.mount(f)
    put_pictures(e / "Photos")
    put_pictures(f / "Photos", first=PICTURES)
    library.index([e / "Photos", f / "Photos"])
    one.unmount()
    two.unmount()
    # The first drive has taken the place of the second, which is away.
    one.mount(f)
    assert library.folders().recognise_moved() == []
    assert [state for _, state in library.folders().states()] == ["missing", "another volume"]
    two.mount(e)
    spoil(e)
    spoil(f)
    report = library.index()
    assert (report.unchanged, report.embedded, report.removed) == (2 * PICTURES, 0, 0)
    assert [Path(os.fsdecode(root.path)).parent for root in library.roots()] == [e, f]
    first, second = (state for _, state in library.folders().states())
    assert first == second == "there"


def test_a_drive_that_was_replaced_by_a_copy_is_accepted(
    library: Library, tmp_path: Path, cleanup: Cleanup
) -> None:
    former, replacement = (ext4_drive(tmp_path / name, cleanup) for name in ("a.img", "b.img"))
    point = tmp_path / "drive"
    former.mount(point)
    put_pictures(point / "Photos")
    library.index([point / "Photos"])
    shutil.copytree(point / "Photos", tmp_path / "backup")
    former.unmount()
    replacement.mount(point)
    (point / "Photos").mkdir()
    assert [state for _, state in library.folders().states()] == ["missing"]
    (point / "Photos" / "notes.txt").touch()
    assert [state for _, state in library.folders().states()] == ["another volume"]
    (point / "Photos" / "notes.txt").unlink()
    shutil.copytree(tmp_path / "backup", point / "Photos", dirs_exist_ok=True)
    assert [state for _, state in library.folders().states()] == ["there"]
    (before,) = library.roots()
    spoil(point)
    assert_nothing_is_read(library)
    (after,) = library.roots()
    assert after.volume != before.volume


def test_pictures_that_moved_to_an_exfat_drive(
    library: Library, tmp_path: Path, cleanup: Cleanup
) -> None:
    drive = exfat_drive(tmp_path / "image", cleanup)
    first, second = tmp_path / "First", tmp_path / "Second"
    old = put_pictures(tmp_path / "old")
    library.index([old])
    drive.mount(first)
    shutil.copytree(old, first / "Photos")
    spoil(first)
    # Its times are coarser, its inode numbers others.
    library.folders().relocate(old, first / "photos")
    assert root_path(library) == first / "Photos"
    assert_nothing_is_read(library)
    # Typed in another case, it is the same folder, and the same file in it.
    assert_nothing_is_read(library, first / "PHOTOS")
    assert library.index([first / "PHOTOS" / "img_0.JPG"]).unchanged == 1
    assert len(library.roots()) == 1

    drive.unmount()
    drive.mount(second)
    library.folders().relocate(first, second)
    assert_nothing_is_read(library)
    for picture in (second / "Photos").iterdir():
        picture.rename(picture.with_name(picture.name.lower()))
    report = library.index()
    assert (report.moved, report.embedded, report.removed) == (PICTURES, 0, 0)
    assert library.status().counts.files == PICTURES


def test_without_a_library_there_are_no_folders(tmp_path: Path) -> None:
    with open_library(tmp_path / "none") as library:
        folders = library.folders()
        assert folders.states() == []
        assert folders.recognise_moved() == []
        with pytest.raises(PathError, match="not an indexed folder"):
            folders.relocate(tmp_path, tmp_path)
    assert not (tmp_path / "none").exists()


def test_pictures_of_another_drive_at_the_same_place_change_nothing(
    library: Library, tmp_path: Path, cleanup: Cleanup
) -> None:
    ours, other = (ext4_drive(tmp_path / name, cleanup) for name in ("a.img", "b.img"))
    point = tmp_path / "drive"
    ours.mount(point)
    put_pictures(point / "Photos")
    library.index([point / "Photos"])
    ours.unmount()
    other.mount(point)
    put_pictures(point / "Photos", first=PICTURES)
    for paths in ([], [point / "Photos"], [point / "Photos" / "IMG_0.jpg"]):
        report = library.index(paths)
        assert report.added == report.changed == report.removed == report.embedded == 0
        assert "another drive" in report.warnings[0]
    assert library.status().counts.files == PICTURES
    other.unmount()
    ours.mount(point)
    spoil(point)
    assert_nothing_is_read(library)


def test_patterns_of_a_folder_hold_for_every_run(library: Library, tmp_path: Path) -> None:
    folder = put_pictures(tmp_path / "pictures")
    library.index([folder])
    library.folders().exclude(folder, ["IMG_0.jpg", "IMG_1.jpg"])
    report = library.index()
    assert (report.removed, report.unchanged) == (2, PICTURES - 2)
    # The run's own patterns come after them.
    options = replace(library.index_options(), exclude=("!IMG_1.jpg",))
    report = library.index(options=options)
    assert (report.added, report.unchanged, report.embedded) == (1, PICTURES - 2, 0)


def test_a_folder_that_joins_another_leaves_that_ones_place_on_its_drive(
    library: Library, tmp_path: Path, cleanup: Cleanup
) -> None:
    drive = ext4_drive(tmp_path / "image", cleanup)
    first, second = tmp_path / "first", tmp_path / "second"
    drive.mount(first)
    old = put_pictures(tmp_path / "old", first=PICTURES)
    library.index([put_pictures(first / "Photos"), old])
    shutil.move(old, first / "Photos" / "trip")
    library.folders().relocate(old, first / "Photos" / "trip")
    assert root_path(library) == first / "Photos"
    drive.unmount()
    drive.mount(second)
    assert library.folders().recognise_moved() == [
        Relocation(bytes(first / "Photos"), bytes(second / "Photos"))
    ]
    report = library.index()
    assert (report.unchanged, report.removed, report.embedded) == (2 * PICTURES, 0, 0)
