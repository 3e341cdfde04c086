"""RAW+JPEG pairs, Live Photos and sidecars from the disk into the library, and out again."""

from __future__ import annotations

import os
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from counted_indexing import CountingTower, run_index, shared_processes
from photos.drawn_pictures import quarters
from photos.drawn_raws import dng
from photos.written_metadata import jpeg_with, xmp_list, xmp_packet
from PIL import Image

from siglip_index import open_store
from siglip_search.photos import optional_formats

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_index.records import Photo

needs_rawpy = pytest.mark.skipif(not optional_formats.raw_available(), reason="needs rawpy")


@pytest.fixture(scope="module", autouse=True)
def _processes() -> Iterator[None]:
    with shared_processes():
        yield


@pytest.fixture(autouse=True)
def _counter() -> None:
    CountingTower.seen = {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "notes.txt").touch()
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return tmp_path / "library"


def picture(path: Path, red: int = 10) -> Path:
    Image.new("RGB", (40, 30), (red, 90, 200 - red)).save(path)
    return path


def raw(path: Path) -> Path:
    path.write_bytes(dng(quarters()).getvalue())
    return path


def sidecar(path: Path, attributes: str, elements: str = "") -> Path:
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_bytes(xmp_packet(attributes, elements))
    # As if time had passed: two writes within a tick of the clock are not this test's matter.
    os.utime(path, ns=(before + 10**10, before + 10**10))
    return path


def held(library: Path) -> list[Photo]:
    with open_store(library, writable=False) as store:
        space = store.active_space()
        assert space is not None
        return store.photos(sorted(store.photos_in_space(space.key)))


def names(library: Path) -> dict[str, list[str]]:
    """Return the companions' names of every visible picture, by its first name."""
    return {
        os.path.basename(os.fsdecode(photo.paths[0])): [
            os.path.basename(os.fsdecode(path)) for path in photo.companions
        ]
        for photo in held(library)
    }


def embeddings() -> int:
    return sum(CountingTower.seen.values())


@needs_rawpy
def test_raw_and_jpeg_are_one_result_and_the_raw_is_not_read(folder: Path, library: Path) -> None:
    picture(folder / "IMG_1.JPG")
    raw(folder / "IMG_1.dng")
    report = run_index(library, [folder])
    assert (report.added, report.companions, report.ignored, report.seen) == (1, 1, 1, 3)
    assert names(library) == {"IMG_1.JPG": ["IMG_1.dng"]}
    assert embeddings() == 1


@needs_rawpy
def test_raw_becomes_a_picture_and_a_companion_again_and_is_embedded_once(
    folder: Path, library: Path
) -> None:
    raw(folder / "IMG_1.dng")
    run_index(library, [folder])
    assert names(library) == {"IMG_1.dng": []}
    jpeg = picture(folder / "IMG_1.JPG")
    report = run_index(library, [folder])
    assert (report.added, report.removed, report.companions) == (1, 0, 1)
    assert names(library) == {"IMG_1.JPG": ["IMG_1.dng"]}
    before = embeddings()
    away = jpeg.replace(folder.parent / "away.jpg")
    report = run_index(library, [folder])
    assert (report.removed, report.embedded) == (1, 0)
    assert names(library) == {"IMG_1.dng": []}
    away.replace(jpeg)
    assert run_index(library, [folder]).embedded == 0
    assert names(library) == {"IMG_1.JPG": ["IMG_1.dng"]}
    assert embeddings() == before == 2


@needs_rawpy
def test_raw_stands_in_for_a_damaged_jpeg_until_that_is_mended(folder: Path, library: Path) -> None:
    jpeg = picture(folder / "IMG_1.JPG")
    whole = jpeg.read_bytes()
    jpeg.write_bytes(whole[:200])
    raw(folder / "IMG_1.dng")
    sidecar(folder / "IMG_1.xmp", 'xmp:Rating="2"')
    for added in (1, 0, 0):
        report = run_index(library, [folder])
        assert (report.failed, report.added, report.companions) == (1, added, 1)
        assert names(library) == {"IMG_1.dng": ["IMG_1.xmp"]}
    assert held(library)[0].facts.rating == 2
    jpeg.write_bytes(whole)
    os.utime(jpeg, ns=(10**18, 10**18))
    for _ in range(2):
        report = run_index(library, [folder])
        assert (report.failed, report.removed, report.companions) == (0, 0, 2)
        assert names(library) == {"IMG_1.JPG": ["IMG_1.dng", "IMG_1.xmp"]}
    assert embeddings() == 2


def test_raw_belongs_to_its_jpeg_without_the_extra_too(
    folder: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional_formats, "is_extra_installed", lambda _: False)
    picture(folder / "IMG_1.JPG")
    raw(folder / "IMG_1.dng")
    report = run_index(library, [folder])
    assert (report.added, report.companions, report.ignored) == (1, 1, 1)
    assert names(library) == {"IMG_1.JPG": ["IMG_1.dng"]}


def test_live_photo_is_one_result(folder: Path, library: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(quarters()).save(str(folder / "IMG_2.HEIC"))
    (folder / "IMG_2.MOV").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    (folder / "IMG_2.AAE").write_bytes(b"<plist/>")
    (folder / "other.MOV").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    report = run_index(library, [folder])
    assert (report.added, report.companions, report.ignored) == (1, 1, 3)
    assert names(library) == {"IMG_2.HEIC": ["IMG_2.MOV"]}


def test_moved_pair_is_not_read_again_and_keeps_what_belongs_to_it(
    folder: Path, library: Path
) -> None:
    picture(folder / "IMG_1.JPG")
    (folder / "IMG_1.MOV").write_bytes(b"film")
    sidecar(folder / "IMG_1.xmp", 'xmp:Rating="4"')
    run_index(library, [folder])
    (folder / "trip").mkdir()
    for path in folder.glob("IMG_1.*"):
        path.replace(folder / "trip" / path.name)
    report = run_index(library, [folder])
    assert (report.moved, report.added, report.embedded, report.metadata_read) == (1, 0, 0, 0)
    (photo,) = held(library)
    assert photo.paths == (bytes(folder / "trip" / "IMG_1.JPG"),)
    assert photo.companions == (
        bytes(folder / "trip" / "IMG_1.MOV"),
        bytes(folder / "trip" / "IMG_1.xmp"),
    )
    assert photo.facts.rating == 4


def test_film_that_comes_and_goes_is_noted_without_reading(folder: Path, library: Path) -> None:
    picture(folder / "IMG_1.JPG")
    run_index(library, [folder])
    film = folder / "IMG_1.MOV"
    film.write_bytes(b"film")
    report = run_index(library, [folder])
    assert (report.unchanged, report.companions, report.metadata_read) == (1, 1, 0)
    assert names(library) == {"IMG_1.JPG": ["IMG_1.MOV"]}
    film.unlink()
    run_index(library, [folder])
    assert names(library) == {"IMG_1.JPG": []}
    assert embeddings() == 1


def test_sidecar_counts_when_it_comes_changes_and_goes_without_embedding(
    folder: Path, library: Path
) -> None:
    picture(folder / "IMG_1.JPG")
    run_index(library, [folder])

    def rating_after(metadata_read: int) -> int | None:
        report = run_index(library, [folder])
        assert (report.embedded, report.unchanged) == (0, 1)
        assert report.metadata_read == metadata_read
        (photo,) = held(library)
        return photo.facts.rating

    xmp = sidecar(folder / "IMG_1.xmp", 'xmp:Rating="2"')
    assert rating_after(1) == 2
    assert rating_after(0) == 2
    sidecar(xmp, 'xmp:Rating="5"')
    assert rating_after(1) == 5
    own = sidecar(folder / "IMG_1.JPG.xmp", 'xmp:Rating="3"')
    assert rating_after(1) == 3, "the sidecar of the very file weighs more"
    own.unlink()
    assert rating_after(1) == 5
    xmp.unlink()
    assert rating_after(1) is None
    assert embeddings() == 1


def test_sidecars_of_all_copies_count_and_only_while_their_copies_are_there(
    folder: Path, library: Path
) -> None:
    picture(folder / "a.jpg")
    run_index(library, [folder])
    copy = folder / "b.jpg"
    copy.write_bytes((folder / "a.jpg").read_bytes())
    sidecar(folder / "b.xmp", 'xmp:Rating="4"')
    report = run_index(library, [folder])
    assert (report.copies, report.metadata_read, report.embedded) == (1, 1, 0)
    assert held(library)[0].facts.rating == 4
    copy.unlink()
    assert run_index(library, [folder]).metadata_read == 1
    assert held(library)[0].facts.rating is None
    assert embeddings() == 1


def test_sidecar_on_a_drive_that_is_away_has_its_say_when_it_is_back(
    folder: Path, library: Path, tmp_path: Path
) -> None:
    drive = tmp_path / "drive"
    drive.mkdir()
    content = picture(folder / "a.jpg").read_bytes()
    (drive / "copy.jpg").write_bytes(content)
    sidecar(drive / "copy.xmp", 'xmp:Rating="4"')
    run_index(library, [folder, drive])
    assert held(library)[0].facts.rating == 4
    away = drive.rename(tmp_path / "away")
    drive.mkdir()
    sidecar(folder / "a.xmp", "", xmp_list("dc:subject", ["news"]))
    for metadata_read in (1, 1):  # once more each time, until the drive is back
        assert run_index(library, []).metadata_read == metadata_read
        facts = held(library)[0].facts
        assert (facts.rating, facts.keywords) == (None, ("news",))
    drive.rmdir()
    away.rename(drive)
    for metadata_read in (1, 0):
        assert run_index(library, []).metadata_read == metadata_read
        facts = held(library)[0].facts
        assert (facts.rating, facts.keywords) == (4, ("news",))
    assert embeddings() == 1


def test_sidecar_that_is_a_pipe_or_nonsense_does_no_harm(folder: Path, library: Path) -> None:
    picture(folder / "a.jpg")
    (folder / "a.xmp").write_bytes(b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><x>&a;&a;</x>" * 100)
    picture(folder / "b.jpg", 30)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "b.xmp")
    report = run_index(library, [folder])
    assert (report.added, report.failed) == (2, 0)
    assert names(library) == {"a.jpg": ["a.xmp"], "b.jpg": []}


def test_date_of_the_name_is_marked_and_outlives_a_rename(folder: Path, library: Path) -> None:
    path = picture(folder / "IMG_20200304_050607.jpg")
    run_index(library, [folder])
    path.replace(folder / "Grandma.jpg")
    sidecar(folder / "Grandma.xmp", 'xmp:Rating="5"')
    assert run_index(library, [folder]).moved == 1
    (photo,) = held(library)
    assert (photo.facts.taken_at, photo.facts.taken_source) == ("2020-03-04T05:06:07", "file-name")
    assert photo.facts.rating == 5


def test_run_that_was_stopped_reads_the_metadata_in_the_next_one(
    folder: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(folder / "a.jpg")
    run_index(library, [folder])
    sidecar(folder / "a.xmp", 'xmp:Rating="1"')
    with monkeypatch.context() as patch:
        patch.setattr("siglip_search.engine.indexing.read_metadata_again", lambda *_, **__: 0)
        run_index(library, [folder])  # it came to its end before the metadata were read
    assert held(library)[0].facts.rating is None
    assert run_index(library, [folder]).metadata_read == 1
    assert held(library)[0].facts.rating == 1


def test_older_metadata_are_read_again_and_nothing_is_embedded(folder: Path, library: Path) -> None:
    (folder / "a.jpg").write_bytes(jpeg_with(main={271: "Maker", 272: "Camera"}))
    (folder / "b.png").write_bytes(_png())
    run_index(library, [folder])
    for photo in held(library):
        with open_store(library, writable=True) as store, store.write() as writer:
            writer.update_facts(photo.id, replace(photo.facts, camera=None, metadata_version=0))
    report = run_index(library, [folder])
    assert (report.metadata_read, report.embedded, report.unchanged) == (2, 0, 2)
    assert {photo.facts.camera for photo in held(library)} == {"Maker Camera", None}
    assert run_index(library, [folder]).metadata_read == 0


def _png() -> bytes:
    file = BytesIO()
    quarters().save(file, "PNG")
    return file.getvalue()


def test_one_file_of_a_folder_leaves_what_lies_beside_it_alone(folder: Path, library: Path) -> None:
    jpeg = picture(folder / "a.jpg")
    sidecar(folder / "a.xmp", 'xmp:Rating="1"')
    run_index(library, [folder])
    assert run_index(library, [jpeg]).unchanged == 1
    assert names(library) == {"a.jpg": ["a.xmp"]}
    assert held(library)[0].facts.rating == 1
