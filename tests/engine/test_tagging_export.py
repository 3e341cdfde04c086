"""Tags on their way out of the library: JSON, and new sidecars beside the pictures."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from counted_indexing import SPEC, CountingTower, run_index, shared_processes
from loop_drives import ext4_drive
from photos.written_metadata import jpeg_with, xmp_list, xmp_packet
from PIL import Image

from siglip_index import open_store
from siglip_search.engine.tag_export import (
    SidecarReport,
    export_tags,
    tagged_photos,
    write_sidecars,
)
from siglip_search.photos.sidecar import read_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from loop_drives import Cleanup

    from siglip_index.records import Photo

KEY = SPEC.space_key


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
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return tmp_path / "library"


def picture(path: Path, red: int = 10) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 30), (red, 90, 200 - red)).save(path)
    return path


def index_with_tags(library: Path, folder: Path, tags: Mapping[str, Sequence[str]]) -> None:
    """Index a folder and give its pictures tags, by file name."""
    run_index(library, [folder])
    with open_store(library, writable=True) as store, store.write() as writer:
        rows = [
            (photo.id, [(label, 0.9) for label in tags.get(os.path.basename(path).decode(), ())])
            for photo in photos(library)
            for path in photo.paths[:1]
        ]
        writer.put_tags(KEY, "a list", rows)


def photos(library: Path) -> list[Photo]:
    """Return the photos of a library by their paths."""
    with open_store(library, writable=False) as store:
        found = store.photos(sorted(store.photos_in_space(KEY)))
    return sorted(found, key=lambda photo: photo.paths)


def sidecars(library: Path, **options: Any) -> SidecarReport:
    with open_store(library, writable=False) as store:
        return write_sidecars(store, KEY, **{"stop": threading.Event(), **options})


def keywords_in(path: Path) -> tuple[str, ...]:
    fields = read_sidecar(os.fsencode(path))
    assert fields is not None
    return fields.keywords


def test_a_sidecar_is_written_beside_each_tagged_picture(library: Path, folder: Path) -> None:
    a, b = picture(folder / "a.jpg", 10), picture(folder / "sub" / "b.png", 20)
    picture(folder / "c.jpg", 30)
    before = {path: path.read_bytes() for path in (a, b)}
    index_with_tags(library, folder, {"a.jpg": ["beach", "dog"], "b.png": ["sea"]})
    assert sidecars(library) == SidecarReport(written=2)
    assert keywords_in(folder / "a.jpg.xmp") == ("beach", "dog")
    assert keywords_in(folder / "sub" / "b.png.xmp") == ("sea",)
    assert sorted(path.name for path in folder.rglob("*.xmp")) == ["a.jpg.xmp", "b.png.xmp"]
    assert {path: path.read_bytes() for path in (a, b)} == before


def test_a_second_run_writes_nothing_and_says_so(library: Path, folder: Path) -> None:
    picture(folder / "a.jpg")
    index_with_tags(library, folder, {"a.jpg": ["beach"]})
    sidecars(library)
    before = (folder / "a.jpg.xmp").stat()
    assert sidecars(library) == SidecarReport(existing=1)
    assert (folder / "a.jpg.xmp").stat() == before


def test_written_keywords_come_into_the_library_and_nothing_is_embedded_again(
    library: Path, folder: Path
) -> None:
    picture(folder / "a.jpg", 10)
    picture(folder / "b.jpg", 20)
    index_with_tags(library, folder, {"a.jpg": ["beach"], "b.jpg": ["dog"]})
    sidecars(library)
    report = run_index(library, [folder])
    assert (report.embedded, report.metadata_read, report.companions) == (0, 2, 2)
    assert set(CountingTower.seen.values()) == {1}
    assert [photo.facts.keywords for photo in photos(library)] == [("beach",), ("dog",)]
    with open_store(library, writable=False) as store:
        assert store.tag_counts(KEY) == {"beach": 1, "dog": 1}
    assert run_index(library, [folder]).metadata_read == 0


def test_keywords_of_the_picture_are_not_hidden_by_its_sidecar(library: Path, folder: Path) -> None:
    own = jpeg_with(xmp=xmp_packet(elements=xmp_list("dc:subject", ["Grandma", "Dog"])))
    (folder / "a.jpg").write_bytes(own)
    index_with_tags(library, folder, {"a.jpg": ["beach", "dog"]})
    sidecars(library)
    assert keywords_in(folder / "a.jpg.xmp") == ("Grandma", "Dog", "beach")
    run_index(library, [folder])
    (photo,) = photos(library)
    assert photo.facts.keywords == ("Grandma", "Dog", "beach")


def test_a_picture_that_says_all_of_it_gets_no_sidecar(library: Path, folder: Path) -> None:
    own = jpeg_with(xmp=xmp_packet(elements=xmp_list("dc:subject", ["DOG"])))
    (folder / "a.jpg").write_bytes(own)
    index_with_tags(library, folder, {"a.jpg": ["dog"]})
    assert sidecars(library) == SidecarReport(known=1)


@pytest.mark.parametrize("name", ["a.jpg.xmp", "a.xmp", "A.JPG.XMP"])
def test_a_sidecar_of_any_name_is_left_alone(library: Path, folder: Path, name: str) -> None:
    picture(folder / "a.jpg")
    index_with_tags(library, folder, {"a.jpg": ["beach"]})
    (folder / name).write_bytes(b"somebody's")  # after the last look at the folder
    for naming in ("full", "stem"):
        assert sidecars(library, naming=naming) == SidecarReport(existing=1)
    assert (folder / name).read_bytes() == b"somebody's"
    assert len(list(folder.iterdir())) == 2


def test_every_copy_has_a_sidecar_of_its_own(library: Path, folder: Path) -> None:
    picture(folder / "a.jpg")
    (folder / "copies").mkdir()
    (folder / "copies" / "b.jpg").write_bytes((folder / "a.jpg").read_bytes())
    index_with_tags(library, folder, {"a.jpg": ["beach"], "b.jpg": ["beach"]})
    assert sidecars(library) == SidecarReport(written=2)
    assert keywords_in(folder / "copies" / "b.jpg.xmp") == ("beach",)


def test_sidecars_can_be_called_by_the_stem(library: Path, folder: Path) -> None:
    picture(folder / "a.jpg", 10)
    picture(folder / "b.jpg", 20)
    picture(folder / "b.png", 30)
    index_with_tags(library, folder, {name: ["sea"] for name in ("a.jpg", "b.jpg", "b.png")})
    assert sidecars(library, naming="stem") == SidecarReport(written=3)
    assert {path.name for path in folder.glob("*.xmp")} == {"a.xmp", "b.jpg.xmp", "b.png.xmp"}
    assert run_index(library, [folder]).metadata_read == 3
    assert [photo.facts.keywords for photo in photos(library)] == [("sea",)] * 3


def test_a_dry_run_only_counts(library: Path, folder: Path) -> None:
    picture(folder / "a.jpg")
    index_with_tags(library, folder, {"a.jpg": ["beach"]})
    assert sidecars(library, dry_run=True) == SidecarReport(written=1)
    assert not list(folder.glob("*.xmp"))


def test_only_what_lies_under_a_folder_is_meant(library: Path, folder: Path) -> None:
    picture(folder / "one" / "a.jpg", 10)
    picture(folder / "one2" / "b.jpg", 20)
    index_with_tags(library, folder, {"a.jpg": ["beach"], "b.jpg": ["beach"]})
    for under in (folder / "one", folder.parent, folder / "other"):
        report = sidecars(library, under=os.fsencode(under), dry_run=True)
        assert report.written == {"one": 1, "other": 0}.get(under.name, 2)
    with open_store(library, writable=False) as store:
        found = list(tagged_photos(store, KEY, under=os.fsencode(folder / "one")))
    assert [os.path.basename(photo.paths[0]) for photo, _ in found] == [b"a.jpg"]


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0,
    reason="root may write anywhere, Windows otherwise",
)
def test_a_folder_that_may_not_be_written_is_named_once(library: Path, folder: Path) -> None:
    for number in range(3):
        picture(folder / "closed" / f"{number}.jpg", 10 * number)
    picture(folder / "open.jpg", 100)
    index_with_tags(
        library, folder, {name: ["beach"] for name in ("0.jpg", "1.jpg", "2.jpg", "open.jpg")}
    )
    (folder / "closed").chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        planned, done = sidecars(library, dry_run=True), sidecars(library)
    finally:
        (folder / "closed").chmod(0o700)
    assert done.written == planned.written == 1
    assert done.not_written == planned.not_written == 3
    assert done.refused == [(os.fsencode(folder / "closed"), "Permission denied")]
    assert [path for path, _ in planned.refused] == [os.fsencode(folder / "closed")]


def test_on_a_drive_that_is_read_only_nothing_is_written_and_the_reason_is_told(
    library: Path, tmp_path: Path, cleanup: Cleanup
) -> None:
    drive = ext4_drive(tmp_path / "image", cleanup)
    drive.mount(tmp_path / "drive")
    for number in range(3):
        picture(tmp_path / "drive" / f"{number}.jpg", 10 * number)
    index_with_tags(library, tmp_path / "drive", {f"{number}.jpg": ["sea"] for number in range(3)})
    drive.unmount()
    drive.command[2] = "loop,ro"
    drive.mount(tmp_path / "drive")
    refused = [(os.fsencode(tmp_path / "drive"), "Read-only file system")]
    assert sidecars(library) == SidecarReport(refused=refused, not_written=3)
    planned = sidecars(library, dry_run=True)
    assert (planned.written, planned.not_written) == (0, 3)


def test_what_is_gone_since_the_last_look_gets_nothing(library: Path, folder: Path) -> None:
    picture(folder / "a.jpg", 10).with_name("keep.txt").touch()
    picture(folder / "gone" / "b.jpg", 20)
    index_with_tags(library, folder, {"a.jpg": ["beach"], "b.jpg": ["beach"]})
    (folder / "a.jpg").unlink()
    (folder / "gone" / "b.jpg").unlink()
    (folder / "gone").rmdir()
    report = sidecars(library)
    assert (report.written, report.gone, report.not_written) == (0, 1, 1)
    assert [path for path, _ in report.refused] == [os.fsencode(folder / "gone")]
    assert not list(folder.rglob("*.xmp"))


def test_nothing_is_written_into_another_programs_library(library: Path, folder: Path) -> None:
    originals = folder / "Photos.photoslibrary" / "originals"
    originals.mkdir(parents=True)
    picture(originals / "a.jpg")
    index_with_tags(library, folder, {"a.jpg": ["beach"]})
    assert sidecars(library) == SidecarReport(foreign=1)
    assert [path.name for path in originals.iterdir()] == ["a.jpg"]


def test_a_run_that_is_stopped_says_so(library: Path, folder: Path) -> None:
    picture(folder / "a.jpg")
    index_with_tags(library, folder, {"a.jpg": ["beach"]})
    stop = threading.Event()
    stop.set()
    assert sidecars(library, stop=stop) == SidecarReport(stopped=True)


def test_the_export_is_one_json_array(library: Path, folder: Path) -> None:
    picture(folder / "a.jpg", 10)
    picture(folder / "b.jpg", 20)
    picture(folder / "c.jpg", 30)
    index_with_tags(library, folder, {"a.jpg": ["beach", "dog"], "b.jpg": ["bébé"]})
    stream = io.BytesIO()
    with open_store(library, writable=False) as store:
        assert export_tags(store, KEY, stream) == 2
    rows = sorted(json.loads(stream.getvalue()), key=lambda row: row["paths"])
    assert [row["paths"] for row in rows] == [[str(folder / "a.jpg")], [str(folder / "b.jpg")]]
    assert [[tag["label"] for tag in row["tags"]] for row in rows] == [["beach", "dog"], ["bébé"]]
    assert rows[0]["content_hash"] == photos(library)[0].content_hash.hex()
    # One picture a line, so that line-oriented tools can do with it as well.
    assert len(stream.getvalue().splitlines()) == 4


def test_an_export_of_nothing_is_an_empty_array(library: Path, folder: Path) -> None:
    picture(folder / "a.jpg")
    index_with_tags(library, folder, {})
    stream = io.BytesIO()
    with open_store(library, writable=False) as store:
        assert export_tags(store, KEY, stream) == 0
    assert json.loads(stream.getvalue()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no text")
def test_a_name_that_is_no_text_gets_its_sidecar_and_its_row(library: Path, folder: Path) -> None:
    name = os.fsencode(folder) + b"/caf\xe9.jpg"
    os.rename(picture(folder / "a.jpg"), name)
    run_index(library, [folder])
    with open_store(library, writable=True) as store, store.write() as writer:
        writer.put_tags(KEY, "a list", [(photos(library)[0].id, [("beach", 0.9)])])
    assert sidecars(library) == SidecarReport(written=1)
    assert os.path.exists(name + b".xmp")
    stream = io.BytesIO()
    with open_store(library, writable=False) as store:
        export_tags(store, KEY, stream)
    (row,) = json.loads(stream.getvalue())
    assert [os.fsencode(path) for path in row["paths"]] == [name]
