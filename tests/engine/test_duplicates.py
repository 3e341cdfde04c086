"""Duplicates of a real library: groups, what is kept, and what a plan never moves."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from siglip_index import open_store
from siglip_index.records import Companion, Fingerprint, Where
from siglip_search import demo
from siglip_search.engine.closer_look import doubtful_copies
from siglip_search.engine.duplicate_files import PictureFile, quality_rank
from siglip_search.engine.duplicate_plan import plan_moves
from siglip_search.engine.duplicates import DuplicateOptions, find_duplicates
from siglip_search.engine.library import Library
from siglip_search.engine.thumbnail_cache import ThumbnailCache
from siglip_search.photos.decode import DecodeLimits
from siglip_search.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from siglip_index.local_store import LocalStore
    from siglip_index.records import CompanionKind
    from siglip_search.engine.duplicate_plan import PlanRow
    from siglip_search.engine.duplicates import DuplicateReport, GroupMember

CAMERA, MODEL, TAKEN, SUBSECONDS = 271, 272, 36867, 37521


def drawing(name: str) -> Image.Image:
    (path,) = demo.gallery_directory().rglob(name)
    with Image.open(path) as image:
        return image.convert("RGB")


def save(
    image: Image.Image,
    path: Path,
    *,
    taken: str | None = None,
    fraction: str = "",
    quality: int = 90,
) -> None:
    exif = Image.Exif()
    if taken is not None:
        exif[CAMERA], exif[MODEL] = "Maker", "Camera 1"
        exif.get_ifd(34665)[TAKEN] = taken
        if fraction:
            exif.get_ifd(34665)[SUBSECONDS] = fraction
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=quality, exif=exif)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with three drawings that have nothing to do with one another."""
    folder = tmp_path / "pictures"
    for name in ("DSC00092.jpg", "P0001234.jpg", "DSC00293.jpg"):
        save(drawing(name), folder / f"other-{name}")
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalStore, Path]]:
    """A library of a drawing and a smaller one of it, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("pair") / "pictures"
    save(drawing("IMG_0685.jpg"), folder / "whole.jpg")
    save(drawing("IMG_0685.jpg").resize((200, 150)), folder / "small.jpg")
    with indexed(folder) as store:
        yield store, folder


@contextmanager
def indexed(pictures: Path) -> Iterator[LocalStore]:
    directory = pictures.parent / "library"
    with Library(Settings(library=directory, on_battery="run"), model="demo") as library:
        library.index([pictures])
    with open_store(directory, writable=False) as store:
        yield store


def found(store: LocalStore, pictures: Path, **options: object) -> DuplicateReport:
    active = store.active_space()
    assert active is not None
    chosen = replace(
        DuplicateOptions(cache=pictures.parent / "thumbnails.sqlite3"),
        **options,  # type: ignore[arg-type]
    )
    return find_duplicates(store, active.key, chosen)


def named(report: DuplicateReport) -> list[tuple[str, list[str]]]:
    return [
        (
            group.kind,
            [
                os.fsdecode(os.path.basename(file.path))
                for member in group.members
                for file in member.picture.files
            ],
        )
        for group in report.groups
    ]


def planned(report: DuplicateReport) -> dict[str, tuple[str, str]]:
    rows: list[PlanRow] = plan_moves(report.groups)
    return {os.fsdecode(os.path.basename(row.path)): (row.action, row.reason) for row in rows}


def test_copies_and_edits_are_grouped_the_best_one_first(pictures: Path) -> None:
    image = drawing("IMG_0685.jpg")
    save(image, pictures / "whole.jpg")
    save(image.resize((200, 150)), pictures / "small.jpg")
    save(image, pictures / "poor.jpg", quality=40)
    shutil.copy(pictures / "other-DSC00092.jpg", pictures / "same bytes.jpg")
    with indexed(pictures) as store:
        report = found(store, pictures)
        assert named(report) == [
            ("near", ["whole.jpg", "poor.jpg", "small.jpg"]),
            ("exact", ["other-DSC00092.jpg", "same bytes.jpg"]),
        ]
        near, exact = report.groups
        assert near.members[0].likeness is None
        assert all(member.likeness is not None for member in near.members[1:])
        assert exact.members[0].likeness is None
        assert report.unreadable == ()
        before = sorted(pictures.iterdir())
        plan = planned(report)
        assert sorted(pictures.iterdir()) == before
    assert {name: action for name, (action, _) in plan.items()} == {
        "whole.jpg": "keep",
        "poor.jpg": "move",
        "small.jpg": "move",
        "other-DSC00092.jpg": "keep",
        "same bytes.jpg": "move",
    }


@pytest.mark.slow
def test_only_what_was_asked_for_is_looked_for(pictures: Path) -> None:
    image = drawing("IMG_0685.jpg")
    save(image, pictures / "whole.jpg")
    save(image.resize((200, 150)), pictures / "phone" / "small.jpg")
    shutil.copy(pictures / "whole.jpg", pictures / "copy.jpg")
    with indexed(pictures) as store:
        # A copy of a picture in a group is in it; alone it is a group.
        assert [kind for kind, _ in named(found(store, pictures))] == ["near"]
        ((kind, names),) = named(found(store, pictures, kinds=("exact",)))
        assert (kind, sorted(names)) == ("exact", ["copy.jpg", "whole.jpg"])
        phone = Where(under=(os.fsencode(pictures / "phone"),))
        report = found(store, pictures, where=phone)
        assert report.groups == ()
        assert report.pictures == 1


def test_turned_and_grey_copies_are_found_when_every_picture_is_read(pictures: Path) -> None:
    image = drawing("IMG_0685.jpg")
    save(image, pictures / "whole.jpg")
    save(image.transpose(Image.Transpose.ROTATE_90), pictures / "turned.jpg")
    save(image.convert("L"), pictures / "grey.jpg")
    with indexed(pictures) as store:
        assert not found(store, pictures, thorough=False).thorough
        report = found(store, pictures)
        assert report.thorough
        ((kind, names),) = named(report)
        assert kind == "near"
        assert sorted(names) == ["grey.jpg", "turned.jpg", "whole.jpg"]
        # Somebody's work perhaps: found, but not to be moved unseen.
        assert "move" not in {action for action, _ in planned(report).values()}


@pytest.mark.slow
def test_frames_of_a_burst_are_no_duplicates_however_alike(pictures: Path) -> None:
    image = drawing("IMG_0685.jpg")
    for number, quality in enumerate((90, 91, 92)):
        save(
            image,
            pictures / f"frame-{number}.jpg",
            taken=f"2024:06:01 10:00:0{number}",
            quality=quality,
        )
    save(image.resize((200, 150)), pictures / "sent.jpg", taken="2024:06:01 10:00:01")
    save(image, pictures / "later.jpg", taken="2024:06:01 10:00:30", quality=89)
    with indexed(pictures) as store:
        report = found(store, pictures)
        assert named(report) == [
            ("near", ["frame-1.jpg", "sent.jpg"]),
            ("burst", ["frame-0.jpg", "frame-1.jpg", "frame-2.jpg"]),
        ]
        assert set(planned(report)) == {"frame-1.jpg", "sent.jpg"}
        longer = found(store, pictures, kinds=("burst",), burst_gap_seconds=60.0)
        assert len(named(longer)[0][1]) == 5


def test_of_a_raw_and_a_developed_picture_both_are_kept(
    pair: tuple[LocalStore, Path], tmp_path: Path
) -> None:
    store, pictures = pair
    (group,) = found(store, pictures).groups
    first, second = group.members
    shot = tmp_path / "shot.cr2"
    shot.write_bytes(b"as large as it was")
    status = os.stat(shot)
    raw = PictureFile(os.fsencode(shot), status.st_size, status.st_mtime_ns)
    pair_of_both = replace(
        group, members=(first, replace(second, picture=replace(second.picture, files=(raw,))))
    )
    rows = plan_moves([pair_of_both])
    assert [row.action for row in rows] == ["keep", "keep"]
    assert rows[1].reason == "the RAW"
    assert quality_rank(replace(second.picture, files=(raw,))) < quality_rank(first.picture)


def test_a_plan_moves_nothing_that_is_not_as_it_was_indexed(pictures: Path) -> None:
    image = drawing("IMG_0685.jpg")
    save(image, pictures / "whole.jpg")
    for name in ("changed.jpg", "gone.jpg", "linked.jpg", "hard.jpg"):
        save(image.resize((200, 150)), pictures / name, quality=70 + len(name))
    with indexed(pictures) as store:
        report = found(store, pictures)
        assert len(named(report)[0][1]) == 5
        (pictures / "changed.jpg").write_bytes(b"something else")
        (pictures / "gone.jpg").unlink()
        try:
            (pictures / "linked.jpg").unlink()
            (pictures / "linked.jpg").symlink_to(pictures / "whole.jpg")
        except OSError:
            pytest.skip("may not make links here")
        plan = planned(report)
        assert plan["whole.jpg"][0] == "keep"
        assert plan["hard.jpg"][0] == "move"
        for name in ("changed.jpg", "gone.jpg", "linked.jpg"):
            assert plan[name][0] == "skip", plan[name]
        (pictures / "whole.jpg").unlink()
        assert {action for action, _ in planned(report).values()} == {"skip"}


def test_plan_moves_no_form_with_another_number(
    duplicate_material: ModuleType, pictures: Path
) -> None:
    form = duplicate_material.form(1, "2026-004711")
    save(form, pictures / "form.jpg", quality=97)
    save(form.resize((800, 1131)), pictures / "smaller form.jpg")
    save(duplicate_material.form(1, "2026-004717"), pictures / "other form.jpg")
    with indexed(pictures) as store:
        report = found(store, pictures)
        assert named(report) == [("near", ["form.jpg", "other form.jpg", "smaller form.jpg"])]
        steps: list[tuple[int, int]] = []
        doubtful = doubtful_copies(
            report.groups,
            limits=DecodeLimits(),
            jobs=1,
            on_progress=lambda done, total: steps.append((done, total)),
        )
        assert steps == [(1, 3), (2, 3), (3, 3)]
        rows = {os.path.basename(row.path): row for row in plan_moves(report.groups, doubtful)}
        assert {name: row.action for name, row in rows.items()} == {
            b"form.jpg": "keep",
            b"other form.jpg": "skip",
            b"smaller form.jpg": "move",
        }
        assert rows[b"other form.jpg"].reason == "differs in small things: look first"
        (pictures / "form.jpg").write_bytes(b"no picture any more")
        doubtful = doubtful_copies(report.groups, limits=DecodeLimits(), jobs=1)
        assert len(doubtful) == 2
        assert all("the one to keep cannot be compared" in why for why in doubtful.values())


def test_another_name_of_the_same_file_is_not_moved(pictures: Path) -> None:
    try:
        os.link(pictures / "other-DSC00092.jpg", pictures / "hard link.jpg")
    except OSError:
        pytest.skip("no hard links here")
    with indexed(pictures) as store:
        report = found(store, pictures)
        assert [kind for kind, _ in named(report)] == ["exact"]
        assert sorted(action for action, _ in planned(report).values()) == ["keep", "skip"]


def test_sidecars_go_with_their_picture_unless_another_one_needs_them(pictures: Path) -> None:
    image = drawing("IMG_0685.jpg")
    save(image, pictures / "a" / "whole.jpg")
    save(image.resize((200, 150)), pictures / "b" / "IMG_1.jpg")
    drawing("DSC00092.jpg").save(pictures / "b" / "IMG_1.png")
    for name in ("IMG_1.jpg.xmp", "IMG_1.xmp"):  # of the one, and of both
        (pictures / "b" / name).write_text(
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
            ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
        )
    with indexed(pictures) as store:
        plan = planned(found(store, pictures))
    assert plan["IMG_1.jpg"][0] == "move"
    assert plan["IMG_1.jpg.xmp"] == ("move", "belongs to it")
    assert "IMG_1.xmp" not in plan


def test_film_and_raw_that_the_kept_one_has_not_keep_their_picture_in_place(
    pair: tuple[LocalStore, Path],
) -> None:
    store, pictures = pair
    (group,) = found(store, pictures).groups
    best, second = group.members

    def with_companion(member: GroupMember, kind: CompanionKind, size: int) -> GroupMember:
        (file,) = member.picture.files
        suffix = b".cr2" if kind == "raw" else b".mov"
        companion = Companion(file.path[:-4] + suffix, kind, Fingerprint(size, 1))
        file = replace(file, companions=(companion,))
        return replace(member, picture=replace(member.picture, files=(file,)))

    def action(*members: GroupMember) -> tuple[str, str]:
        row = plan_moves([replace(group, members=members)])[1]
        return row.action, row.reason

    assert action(best, second)[0] == "move"
    live = with_companion(second, "live-video", 5)
    assert action(best, live) == ("skip", "has a film of its own")
    assert action(with_companion(best, "live-video", 6), live)[0] == "skip"
    assert action(with_companion(best, "live-video", 5), live)[0] == "move"
    raw = with_companion(second, "raw", 5)
    assert action(best, raw) == ("skip", "has a RAW of its own")
    assert action(with_companion(best, "raw", 5), raw)[0] == "move"


@pytest.mark.skipif(sys.platform != "linux", reason="a placeholder that is made by hand")
def test_nothing_is_moved_where_the_one_to_keep_is_in_the_cloud_only(pictures: Path) -> None:
    shutil.copy(pictures / "other-DSC00092.jpg", pictures / "same bytes.jpg")
    kept, other = pictures / "other-DSC00092.jpg", pictures / "same bytes.jpg"
    os.utime(kept, ns=(1, 1))
    with indexed(pictures) as store:
        report = found(store, pictures, kinds=("exact",))
        assert planned(report)[other.name][0] == "move"
        status = os.stat(kept)
        os.truncate(kept, 0)
        os.truncate(kept, status.st_size)
        os.utime(kept, ns=(status.st_atime_ns, status.st_mtime_ns))
        try:
            os.setxattr(kept, "user.nextcloud.hydrate_exec", b"nextcloud")
        except OSError:
            pytest.skip("no extended attributes here")
        plan = planned(report)
    assert {action for action, _ in plan.values()} == {"skip"}
    assert "cloud" in plan[other.name][1]


def test_picture_that_changed_since_is_named_and_not_compared(pictures: Path) -> None:
    image = drawing("IMG_0685.jpg")
    save(image, pictures / "whole.jpg")
    save(image.resize((200, 150)), pictures / "small.jpg")
    with indexed(pictures) as store:
        save(drawing("DSC00293.jpg"), pictures / "small.jpg")
        report = found(store, pictures)
        assert report.groups == ()
        ((path, reason),) = report.unreadable
        assert path.endswith(b"small.jpg")
        assert "changed" in reason


def test_thumbnails_are_made_once(pair: tuple[LocalStore, Path], tmp_path: Path) -> None:
    store, _ = pair
    read = []
    active = store.active_space()
    assert active is not None
    for _ in range(2):
        find_duplicates(
            store,
            active.key,
            DuplicateOptions(thorough=False, cache=tmp_path / "thumbnails.sqlite3"),
            on_progress=lambda stage, done, _: read.append((stage, done)),
        )
    assert [done for stage, done in read if stage == "reading"] == [1, 2]


def test_place_that_cannot_hold_thumbnails_is_no_reason_to_stop(
    pair: tuple[LocalStore, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, pictures = pair
    (tmp_path / "thumbnails.sqlite3").mkdir()
    report = found(store, pictures, cache=tmp_path / "thumbnails.sqlite3")
    assert [kind for kind, _ in named(report)] == ["near"]
    assert "not kept" in caplog.text


@pytest.mark.parametrize("is_thorough", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_thumbnail_that_is_none_is_named_and_made_anew_the_next_time(
    pair: tuple[LocalStore, Path], tmp_path: Path, is_thorough: bool
) -> None:
    store, pictures = pair
    cache = tmp_path / "thumbnails.sqlite3"
    (photo,) = [
        photo for photo in store.photos(store.photo_ids().tolist()) if photo.facts.width == 200
    ]
    with ThumbnailCache(cache) as thumbnails:
        thumbnails.put([(photo.content_hash, b"\xff\xd8\xff nothing that can be shown")])
    report = found(store, pictures, cache=cache, thorough=is_thorough)
    assert report.groups == ()
    ((path, reason),) = report.unreadable
    assert path.endswith(b"small.jpg")
    assert "damaged" in reason
    again = found(store, pictures, cache=cache, thorough=is_thorough)
    assert again.unreadable == ()
    assert [kind for kind, _ in named(again)] == ["near"]


def test_one_picture_or_none_has_no_duplicates(pair: tuple[LocalStore, Path]) -> None:
    store, pictures = pair
    some = store.photo_ids().tolist()[:1]
    for where, number in ((Where(photo_ids=frozenset(some)), 1), (Where(formats=("PNG",)), 0)):
        report = found(store, pictures, where=where)
        assert (report.groups, report.pictures) == ((), number)


def test_file_knows_whether_it_is_a_raw() -> None:
    assert PictureFile(b"/a/shot.NEF", 1, 1).is_raw
    assert not PictureFile(b"/a/shot.jpg", 1, 1).is_raw
