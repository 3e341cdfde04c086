"""Cloud placeholders on their way through a library; Nextcloud's kind, which can be made here."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from photos.drawn_pictures import quarters
from photos.drawn_raws import dng
from photos.written_metadata import xmp_packet
from PIL import Image

from siglip_index import open_store
from siglip_search import demo, open_library
from siglip_search.engine.indexing import IndexListener, IndexOptions
from siglip_search.photos import optional_formats
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.fingerprint import TryAgainError
from siglip_search.photos.thumbnails import thumbnail, thumbnails

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_search import Library
    from siglip_search.engine.indexing import Estimate
    from siglip_search.ingest.report import IngestReport

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a kind of Linux clients")

_ATTRIBUTE = "user.nextcloud.hydrate_exec"


def send_to_cloud(file: Path) -> None:
    """Make a placeholder of a file: its size and time stay, and it occupies less than its size."""
    status = file.stat()
    try:
        os.setxattr(file, _ATTRIBUTE, b"nextcloud")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    os.truncate(file, 0)
    os.truncate(file, status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        source = sorted(demo.gallery_directory().rglob("*.jpg"))[number]
        shutil.copy(source, folder / f"{number}.jpg")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path / "library", model="demo") as library:
        yield library


def ratings(library: Library) -> list[int]:
    with open_store(library.directory, writable=False) as store:
        space = store.active_space()
        assert space is not None
        photos = store.photos(sorted(store.photos_in_space(space.key)))
        return [photo.facts.rating for photo in photos if photo.facts.rating is not None]


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.added, report.unchanged, report.failed, report.online_only


def test_placeholder_is_counted_and_not_read(library: Library, pictures: Path) -> None:
    send_to_cloud(pictures / "3.jpg")
    assert counts(library.index([pictures], dry_run=True)) == (3, 0, 0, 1)
    assert counts(library.index([pictures])) == (3, 0, 0, 1)
    assert library.status().counts.online_only == 1
    assert counts(library.index()) == (0, 3, 0, 1)
    os.unlink(pictures / "3.jpg")
    assert library.index().online_only == 0
    assert library.status().counts.online_only == 0


def test_known_picture_stays_when_it_goes_to_the_cloud(library: Library, pictures: Path) -> None:
    library.index([pictures])
    before = [hit.path for hit in library.search("a dog", top_k=9, min_probability=0.0)]
    send_to_cloud(pictures / "0.jpg")
    report = library.index()
    assert counts(report) == (0, 4, 0, 0)
    assert (report.removed, report.changed, report.embedded) == (0, 0, 0)
    assert library.status().counts.online_only == 0
    assert [hit.path for hit in library.search("a dog", top_k=9, min_probability=0.0)] == before


def test_no_thumbnail_downloads_it(pictures: Path) -> None:
    send_to_cloud(pictures / "0.jpg")
    blocks = (pictures / "0.jpg").stat().st_blocks
    paths = [str(pictures / "0.jpg"), str(pictures / "1.jpg")]
    placeholder, picture = thumbnails(paths, (64, 64))
    assert placeholder is None
    assert picture is not None
    assert (pictures / "0.jpg").stat().st_blocks == blocks
    with pytest.raises(TryAgainError, match="only the cloud has it"):
        thumbnail(os.fsencode(paths[0]), (64, 64), DecodeLimits())


def test_known_placeholder_under_a_new_name_is_moved(library: Library, pictures: Path) -> None:
    library.index([pictures])
    send_to_cloud(pictures / "0.jpg")
    library.index()
    (pictures / "0.jpg").rename(pictures / "renamed.jpg")
    report = library.index()
    assert (report.moved, report.removed, report.embedded, report.online_only) == (1, 0, 0, 0)


def test_changed_in_the_cloud_stays_as_it_was_known(library: Library, pictures: Path) -> None:
    library.index([pictures])
    send_to_cloud(pictures / "0.jpg")
    os.truncate(pictures / "0.jpg", 5_000_000)
    report = library.index()
    assert counts(report) == (0, 4, 0, 0)
    # Downloaded, it is read.
    os.unlink(pictures / "0.jpg")
    Image.new("RGB", (640, 480), "red").save(pictures / "0.jpg")
    assert library.index().changed == 1


def test_stub_that_becomes_its_file_is_added(library: Library, pictures: Path) -> None:
    (pictures / "0.jpg").rename(pictures / "away")
    (pictures / "0.jpg.nextcloud").write_bytes(b" ")
    (pictures / "away").rename(pictures.parent / "away")
    assert counts(library.index([pictures])) == (3, 0, 0, 1)
    (pictures.parent / "away").rename(pictures / "0.jpg")
    os.unlink(pictures / "0.jpg.nextcloud")
    assert counts(library.index()) == (1, 3, 0, 0)


def test_part_of_a_root_forgets_nothing_outside_it(library: Library, pictures: Path) -> None:
    (pictures / "sub").mkdir()
    (pictures / "3.jpg").rename(pictures / "sub" / "3.jpg")
    send_to_cloud(pictures / "0.jpg")
    send_to_cloud(pictures / "sub" / "3.jpg")
    library.index([pictures])
    assert library.status().counts.online_only == 2
    os.unlink(pictures / "sub" / "3.jpg")
    library.index([pictures / "sub"])
    assert library.status().counts.online_only == 1


def test_download_cloud_reads_it(library: Library, pictures: Path) -> None:
    # A placeholder that some client fills as it is read looks like this one afterwards.
    os.setxattr(pictures / "0.jpg", _ATTRIBUTE, b"nextcloud")
    os.truncate(pictures / "0.jpg", 5_000_000)
    assert counts(library.index([pictures])) == (3, 0, 0, 1)
    report = library.index(options=IndexOptions(download_cloud=True))
    assert counts(report) == (1, 3, 0, 0), report.failures
    assert library.status().counts.online_only == 0


def test_newest_of_a_part_forgets_nothing_outside_it(library: Library, pictures: Path) -> None:
    (pictures / "sub").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (pictures / name).rename(pictures / "sub" / name)
    send_to_cloud(pictures / "0.jpg")
    library.index([pictures], options=IndexOptions(newest=1))
    assert library.status().counts.online_only == 1
    report = library.index([pictures / "sub"], options=IndexOptions(newest=1))
    assert report.pending == 1
    assert library.status().counts.online_only == 1


@pytest.mark.parametrize("known", [False, True])
def test_file_that_goes_to_the_cloud_after_the_scan_is_no_failure(
    library: Library, pictures: Path, known: bool
) -> None:
    if known:
        library.index([pictures])
        Image.new("RGB", (640, 480), "red").save(pictures / "0.jpg")

    def take_away(_: Estimate) -> None:
        send_to_cloud(pictures / "0.jpg")

    listener = IndexListener(on_estimate=take_away)
    report = library.index([pictures], listener=listener)
    # Between scan and reading; the next run, whose scan sees it, says the same.
    expected = (0, 4, 0, 0) if known else (3, 0, 0, 1)
    assert counts(report) == expected
    assert library.status().counts.online_only == (0 if known else 1)
    assert library.status().counts.failed == 0
    assert counts(library.index()) == ((0, 4, 0, 0) if known else (0, 3, 0, 1))


def test_sidecar_in_the_cloud_is_read_once_it_is_here(library: Library, pictures: Path) -> None:
    sidecar = pictures / "0.xmp"
    packet = xmp_packet('xmp:Rating="4"')
    sidecar.write_bytes(packet)
    time = sidecar.stat().st_mtime_ns
    send_to_cloud(sidecar)

    def bring(content: bytes, ns: int) -> None:
        sidecar.unlink()
        sidecar.write_bytes(content)
        os.utime(sidecar, ns=(ns, ns))

    assert library.index([pictures]).added == 4
    assert library.index().metadata_read == 0
    assert ratings(library) == []
    bring(packet, time)  # as it was told of: only what it holds is new
    assert library.index().metadata_read == 1
    assert ratings(library) == [4]
    send_to_cloud(sidecar)
    assert library.index().metadata_read == 0
    # Changed in the cloud: what it said stays until the new one is here.
    os.truncate(sidecar, 5_000_000)
    assert library.index().metadata_read == 0
    assert ratings(library) == [4]
    bring(xmp_packet('xmp:Rating="5"'), time)
    assert library.index().metadata_read == 1
    assert ratings(library) == [5]


@pytest.mark.skipif(not optional_formats.raw_available(), reason="needs rawpy")
def test_raw_in_the_cloud_waits_with_its_damaged_jpeg(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    raw = folder / "a.dng"
    raw.write_bytes(dng(quarters()).getvalue())
    send_to_cloud(raw)
    library.index([folder])
    for dry_run in (False, True):
        assert counts(library.index(dry_run=dry_run)) == (0, 0, 1, 1)
    found = library.folders().explain(raw, (), library.index_options())
    assert (found.taken, found.rule) == (False, "online-only")
    raw.unlink()
    raw.write_bytes(dng(quarters()).getvalue())
    assert counts(library.index()) == (1, 0, 1, 0)


def test_worker_refuses_what_went_to_the_cloud_after_the_scan(pictures: Path) -> None:
    send_to_cloud(pictures / "0.jpg")
    path = os.fsencode(pictures / "0.jpg")
    pool = DecodePool(_as_it_is, workers=1, limits=DecodeLimits(), min_side=None)
    try:
        with pytest.raises(TryAgainError, match="only the cloud has it"):
            pool.decode(path).result()
    finally:
        pool.close()


def _as_it_is(image: Image.Image) -> object:
    import numpy as np

    return np.asarray(image)


# Pictures that wait for an extra


@pytest.fixture
def without_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    real = optional_formats.find_spec
    optional_formats.is_extra_installed.cache_clear()
    monkeypatch.setattr(
        optional_formats, "find_spec", lambda name: None if name == "rawpy" else real(name)
    )


@pytest.fixture(autouse=True)
def _extras_as_they_are() -> Iterator[None]:
    yield
    optional_formats.is_extra_installed.cache_clear()


def test_raw_without_the_extra_is_ignored_and_counted(
    library: Library, pictures: Path, without_raw: None
) -> None:
    for name in ("a.cr2", "b.NEF", "2.arw"):  # the last belongs to 2.jpg
        (pictures / name).write_bytes(b"II*\0")
    report = library.index([pictures])
    assert report.missing_extras == {"raw": 2}
    assert (report.added, report.ignored, report.failed) == (4, 2, 0)
    assert report.seen == 7


def test_known_raw_outlives_its_extra(
    library: Library, pictures: Path, request: pytest.FixtureRequest
) -> None:
    if not optional_formats.raw_available():
        pytest.skip("needs the extra raw")
    (pictures / "0.jpg").rename(pictures / "kept.dng")
    (pictures / "bad.nef").write_bytes(b"no RAW at all")
    assert counts(library.index([pictures])) == (4, 0, 1, 0)
    request.getfixturevalue("without_raw")
    report = library.index()
    assert counts(report) == (0, 4, 1, 0)
    assert (report.removed, report.missing_extras) == (0, {})


def test_failure_for_want_of_an_extra_is_tried_again_once_it_is_there() -> None:
    line = optional_formats.install_line("raw")
    assert optional_formats.waits_no_more(f"a camera's RAW: to read such, {line}") is (
        optional_formats.raw_available()
    )
    assert not optional_formats.waits_no_more("not a picture")


def test_stopped_run_keeps_what_was_known_of_the_cloud(library: Library, pictures: Path) -> None:
    send_to_cloud(pictures / "3.jpg")
    library.index([pictures])
    stop = threading.Event()
    stop.set()
    library.index(stop=stop)
    assert library.status().counts.online_only == 1
