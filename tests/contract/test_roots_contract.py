"""Roots that move, meet and remember: the same for every store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from stored_samples import SPACE, file_entry, fill, new_photo, unit_vectors

from siglip_index import open_store
from siglip_index.records import Companion, FileEntry, Fingerprint, PhotoFacts, StoreCounts
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_index.protocol import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "library", writable=True) as opened:
        yield opened
    report = verify(tmp_path / "library")
    assert report.is_whole, report


def sidecar(path: bytes) -> Companion:
    return Companion(path, "sidecar", Fingerprint(2**40, 2**63 + 1, 2**64 - 1))


def test_relocated_root_keeps_everything_and_reads_nothing(store: Store) -> None:
    ids = fill(store, 3, root=b"/mnt/old")
    (root,) = store.roots()
    files = list(store.files(root.id))
    with store.write() as writer:
        writer.set_root_volume(root.id, "uuid:1-2", b"photos", 7)
        writer.set_root_exclude(root.id, ["*.png", "x\udcff"])
        writer.set_online_only(root.id, [b"cloud.jpg"])
        assert writer.relocate_root(root.id, b"/media/new") == root.id
    (moved,) = store.roots()
    assert (moved.id, moved.path, moved.device) == (root.id, b"/media/new", 7)
    assert (moved.volume, moved.volume_path) == ("uuid:1-2", b"photos")
    assert moved.exclude == ("*.png", "x\udcff")
    assert list(store.files(root.id)) == files
    assert store.photos(ids)[0].paths == (b"/media/new/0.jpg",)
    assert store.online_only() == [b"/media/new/cloud.jpg"]
    with pytest.raises(LookupError), store.write() as writer:
        writer.relocate_root(99, b"/elsewhere")


def test_root_that_is_relocated_around_another_takes_it_in(store: Store) -> None:
    (inner,) = fill(store, 1, root=b"/new/2020")
    (outer,) = fill(store, 1, first=1, root=b"/old")
    old, new = (next(r for r in store.roots() if r.path == p) for p in (b"/old", b"/new/2020"))
    with store.write() as writer:
        writer.link_files(
            inner, [FileEntry(new.id, b"a.jpg", Fingerprint(1, 2), None, (sidecar(b"a.xmp"),))]
        )
        writer.set_root_exclude(new.id, ["*.png", "/sub/", "!keep*"])
        writer.set_root_exclude(old.id, ["raw/"])
        writer.set_online_only(new.id, [b"far.jpg"])
        assert writer.relocate_root(old.id, b"/new") == old.id
    (root,) = store.roots()
    assert root.path == b"/new"
    assert root.exclude == ("raw/", "/2020/**/*.png", "/2020/sub/", "!/2020/**/keep*")
    assert [file.path for file in store.files(root.id)] == [b"1.jpg", b"2020/0.jpg", b"2020/a.jpg"]
    (photo,) = store.photos([inner])
    assert photo.companions == (b"/new/2020/a.xmp",)
    assert store.photos([outer])[0].paths == (b"/new/1.jpg",)
    assert store.online_only() == [b"/new/2020/far.jpg"]


def test_root_that_is_relocated_into_another_becomes_a_part_of_it(store: Store) -> None:
    fill(store, 2, root=b"/new")
    (moved,) = fill(store, 1, first=9, root=b"/old")
    new, old = store.roots()
    with store.write() as writer:
        assert writer.relocate_root(old.id, b"/new/sub") == new.id
    assert store.roots() == [new]
    assert store.photos([moved])[0].paths == (b"/new/sub/9.jpg",)


def test_of_two_rows_for_a_path_the_one_with_a_present_picture_stays(store: Store) -> None:
    """A drive came back under another letter, was indexed there, and is relocated only then."""
    first, second = fill(store, 2, root=b"/new")
    (root,) = store.roots()
    with store.write() as writer:
        old = writer.ensure_root(b"/old", None)
        writer.link_files(first, [file_entry(old.id, b"0.jpg")])
        third = writer.add_photo(SPACE.key, new_photo(3, unit_vectors(1, seed=3)[0]))
        writer.link_files(third, [file_entry(old.id, b"1.jpg")])
    vanished = [file.id for file in store.files(root.id) if file.path == b"1.jpg"]
    with store.write() as writer:
        writer.mark_vanished(vanished)
        writer.relocate_root(old.id, b"/new")
    assert [root.path for root in store.roots()] == [b"/new"]
    assert store.photos([first, second, third]) == [
        photo for photo in store.photos([first, third]) if photo.paths
    ]
    assert store.photos([third])[0].paths == (b"/new/1.jpg",)
    assert store.counts() == StoreCounts(pictures=2, files=2, vanished=1)


def test_companions_follow_their_file(store: Store) -> None:
    (photo_id,) = fill(store, 1)
    (root,) = store.roots()
    (file,) = store.files(root.id)
    pair = (Companion(b"0.CR2", "raw", Fingerprint(3, 4, 5)), sidecar(b"0.jpg.xmp"))
    with store.write() as writer:
        writer.set_companions(file.id, pair)
        writer.set_companions(10**6, pair)
    assert next(store.files(root.id)).companions == pair
    assert store.photos([photo_id])[0].companions == (
        b"/pictures/0.CR2",
        b"/pictures/0.jpg.xmp",
    )
    before = store.generation()
    with store.write() as writer:
        writer.set_companions(file.id, pair)
    assert store.photos([photo_id])[0].paths == (b"/pictures/0.jpg",)
    with store.write() as writer:
        writer.mark_vanished([file.id])
    assert store.photos([photo_id]) == []
    assert store.generation() > before
    with store.write() as writer:
        writer.drop_files([file.id])
    assert list(store.files(root.id)) == []


def test_placeholders_below_a_folder_are_replaced_alone(store: Store) -> None:
    fill(store, 1)
    (root,) = store.roots()
    with store.write() as writer:
        writer.set_online_only(root.id, [b"a/1.jpg", b"ab/2.jpg", b"3.jpg", b"0.jpg"])
    assert store.counts().online_only == 3  # of 0.jpg the content is known
    with store.write() as writer:
        writer.set_online_only(root.id, [b"a/4.jpg"], under=b"a")
    assert store.online_only() == [
        b"/pictures/3.jpg",
        b"/pictures/a/4.jpg",
        b"/pictures/ab/2.jpg",
    ]
    with store.write() as writer:
        writer.drop_root(root.id)
    assert store.counts() == StoreCounts()


def test_facts_are_replaced_and_read_back_whole(store: Store) -> None:
    (photo_id, other) = fill(store, 2)
    facts = PhotoFacts(
        10,
        20,
        "HEIF",
        taken_at="2020-01-02T03:04:05.25+01:00",
        camera="Camera",
        latitude=1.5,
        longitude=-2.5,
        taken_source="xmp",
        lens="Lens \u0416",
        exposure_seconds=0.004,
        f_number=2.8,
        iso=6400,
        focal_length_mm=35.0,
        altitude_m=-3.5,
        rating=-1,
        title='"quoted" \\ title',
        keywords=("one", 'tw"o', "drei \u00fc"),
        metadata_version=2,
    )
    with store.write() as writer:
        writer.update_facts(photo_id, facts)
        writer.update_facts(10**6, facts)
    assert store.photos([photo_id])[0].facts == facts
    assert store.photos_with_older_metadata(2) == {other}
    generation = store.generation()
    with store.write() as writer:
        writer.update_facts(photo_id, facts)
    assert store.generation() == generation
    with store.write() as writer:
        writer.forget_metadata([photo_id, 10**6])
    assert store.photos([photo_id])[0].facts == replace(facts, metadata_version=0)
    assert store.photos_with_older_metadata(1) == {photo_id, other}
    assert PhotoFacts(1, 1, "PNG", keywords=["a"]) == PhotoFacts(  # type: ignore[arg-type]
        1, 1, "PNG", keywords=("a",)
    )


def test_text_that_sqlite_refuses_becomes_text_that_it_takes(store: Store) -> None:
    (photo_id,) = fill(store, 1)
    with store.write() as writer:
        facts = PhotoFacts(1, 1, "PNG", title="a\udcff", keywords=("\ud800x",))
        writer.update_facts(photo_id, facts)
    (photo,) = store.photos([photo_id])
    assert (photo.facts.title, photo.facts.keywords) == ("a?", ("?x",))
