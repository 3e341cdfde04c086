"""The plan is pure: what the library knows and what the disk shows, in; what to do, out."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from siglip_index.records import Fingerprint, KnownFile
from siglip_search.ingest.plan import plan_changes
from siglip_search.photos.scan import ScanResult, SeenFile

DISK, OTHER_DISK = 1, 2


def fingerprint(size: int = 100, mtime_ns: int = 1_000, inode: int = 0) -> Fingerprint:
    return Fingerprint(size=size, mtime_ns=mtime_ns, inode=inode)


def known(path: bytes, id: int = 1, **changes: object) -> KnownFile:  # noqa: A002
    file = KnownFile(
        id=id,
        root_id=1,
        path=path,
        fingerprint=fingerprint(),
        photo_id=id,
        failure=None,
        present=True,
        device=DISK,
    )
    return replace(file, **changes)  # type: ignore[arg-type]


def scanned(
    *files: SeenFile,
    unreadable: tuple[tuple[bytes, str], ...] = (),
    devices: dict[bytes, int] | None = None,
    dangling_links: tuple[bytes, ...] = (),
    entries_at_root: int = 5,
) -> ScanResult:
    return ScanResult(
        files=list(files),
        ignored=0,
        unreadable=list(unreadable),
        dangling_links=list(dangling_links),
        devices={b"": DISK} if devices is None else devices,
        entries_at_root=entries_at_root,
    )


def seen(path: bytes, device: int = DISK, **facts: int) -> SeenFile:
    return SeenFile(path=path, fingerprint=fingerprint(**facts), device=device)


def test_new_files_are_added_newest_first() -> None:
    plan = plan_changes([], scanned(seen(b"old.jpg", mtime_ns=1), seen(b"new.jpg", mtime_ns=9)))
    assert [file.path for file in plan.added] == [b"new.jpg", b"old.jpg"]


def test_same_size_and_time_is_unchanged_and_needs_no_reading() -> None:
    plan = plan_changes([known(b"a.jpg")], scanned(seen(b"a.jpg")))
    assert [file.path for file in plan.unchanged] == [b"a.jpg"]
    assert not list(plan.to_read())


def test_another_size_or_time_is_changed() -> None:
    plan = plan_changes([known(b"a.jpg")], scanned(seen(b"a.jpg", mtime_ns=2_000)))
    assert [file.path for file in plan.changed] == [b"a.jpg"]


def test_gone_file_is_removed() -> None:
    plan = plan_changes([known(b"a.jpg"), known(b"b.jpg", 2)], scanned(seen(b"b.jpg")))
    assert [file.path for file in plan.removed] == [b"a.jpg"]


def test_empty_root_removes_nothing() -> None:
    plan = plan_changes([known(b"a.jpg")], scanned(entries_at_root=0))
    assert not plan.removed
    assert [file.path for file in plan.unreachable] == [b"a.jpg"]


def test_unmounted_drive_below_the_root_removes_nothing() -> None:
    usb = known(b"usb/a.jpg", device=OTHER_DISK)
    # The mount point is an ordinary folder of the root's disk now, or has gone with the drive.
    for devices in ({b"": DISK, b"usb": DISK}, {b"": DISK}):
        plan = plan_changes([usb], scanned(devices=devices))
        assert not plan.removed
        assert [file.path for file in plan.unreachable] == [b"usb/a.jpg"]


def test_disk_with_a_new_number_after_a_restart_still_loses_deleted_files() -> None:
    files = [known(b"a.jpg"), known(b"b.jpg", 2)]
    plan = plan_changes(files, scanned(seen(b"b.jpg", device=77), devices={b"": 77}))
    assert [file.path for file in plan.removed] == [b"a.jpg"]
    assert [before.path for before, _ in plan.refreshed] == [b"b.jpg"]


def test_folder_that_cannot_be_listed_removes_nothing_below_it() -> None:
    plan = plan_changes(
        [known(b"private/x/a.jpg")], scanned(unreadable=((b"private", "permission denied"),))
    )
    assert not plan.removed
    assert [file.path for file in plan.unreachable] == [b"private/x/a.jpg"]


def test_link_to_a_folder_that_is_away_removes_nothing_below_it() -> None:
    plan = plan_changes([known(b"usb/a.jpg")], scanned(dangling_links=(b"usb",)))
    assert not plan.removed
    assert [file.path for file in plan.unreachable] == [b"usb/a.jpg"]


def test_rename_is_recognised_without_reading() -> None:
    before = known(b"a.jpg", fingerprint=fingerprint(inode=42))
    plan = plan_changes([before], scanned(seen(b"sub/b.jpg", inode=42)))
    assert [(old.path, new.path) for old, new in plan.moved] == [(b"a.jpg", b"sub/b.jpg")]
    assert not plan.removed
    assert not list(plan.to_read())


def test_hard_links_are_left_to_the_content_hash() -> None:
    before = [
        known(path, number, fingerprint=fingerprint(inode=42))
        for number, path in ((1, b"a"), (2, b"b"))
    ]
    plan = plan_changes(before, scanned(seen(b"c", inode=42)))
    assert not plan.moved
    assert [file.path for file in plan.added] == [b"c"]


def test_renamed_file_whose_content_has_no_vector_yet_is_read() -> None:
    before = known(b"a.jpg", fingerprint=fingerprint(inode=42))
    plan = plan_changes([before], scanned(seen(b"b.jpg", inode=42)), embedded=set())
    assert not plan.moved
    assert len(list(plan.to_read())) == 1


def test_vanished_file_that_is_back_costs_nothing() -> None:
    plan = plan_changes([known(b"a.jpg", present=False)], scanned(seen(b"a.jpg")))
    assert [before.path for before, _ in plan.returned] == [b"a.jpg"]
    assert not list(plan.to_read())


def test_bad_picture_is_skipped_until_it_changes() -> None:
    bad = known(b"a.jpg", photo_id=None, failure="truncated")
    assert not list(plan_changes([bad], scanned(seen(b"a.jpg"))).to_read())
    assert plan_changes([bad], scanned(seen(b"a.jpg", size=101))).changed
    assert plan_changes([bad], scanned(seen(b"a.jpg")), retry_failed=True).changed


def test_picture_without_a_vector_in_the_space_is_read_again() -> None:
    plan = plan_changes([known(b"a.jpg")], scanned(seen(b"a.jpg")), embedded=set())
    assert [file.path for file in plan.unembedded] == [b"a.jpg"]


def test_nothing_outside_the_scanned_part_is_judged() -> None:
    plan = plan_changes(
        [known(b"2023/a.jpg"), known(b"2024/b.jpg", 2), known(b"2024x/c.jpg", 3)],
        scanned(devices={b"2024": DISK}),
        within=b"2024",
    )
    assert [file.path for file in plan.removed] == [b"2024/b.jpg"]


def test_another_spelling_of_a_name_is_a_move_without_reading() -> None:
    spellings = [
        (b"2024/IMG.jpg", b"2024/img.JPG"),
        ("Été.jpg".encode(), "E\u0301te\u0301.jpg".encode()),
    ]
    for old, new in spellings:
        plan = plan_changes([known(old)], scanned(seen(new)))
        assert [(before.path, now.path) for before, now in plan.moved] == [(old, new)]
        assert not plan.removed
        assert not list(plan.to_read())


def test_another_spelling_with_another_size_or_folder_is_another_file() -> None:
    for now in (seen(b"img.jpg", size=101), seen(b"sub/img.jpg")):
        plan = plan_changes([known(b"IMG.jpg")], scanned(now))
        assert [file.path for file in plan.added] == [now.path]
        assert [file.path for file in plan.removed] == [b"IMG.jpg"]


def test_twins_in_two_spellings_are_two_files() -> None:
    both = [known(b"IMG.jpg"), known(b"img.jpg", 2)]
    plan = plan_changes(both, scanned(seen(b"IMG.jpg"), seen(b"img.jpg")))
    assert len(plan.unchanged) == 2
    # Which of the twins the new name was, its content has to tell.
    plan = plan_changes(both, scanned(seen(b"Img.jpg")))
    assert [file.path for file in plan.added] == [b"Img.jpg"]
    plan = plan_changes([known(b"IMG.jpg")], scanned(seen(b"img.jpg"), seen(b"Img.jpg")))
    assert not plan.moved
    # The one that stayed is no rename of the one that went.
    plan = plan_changes(both, scanned(seen(b"img.jpg")))
    assert [file.path for file in plan.removed] == [b"IMG.jpg"]


def test_copy_of_a_disk_on_exfat_is_unchanged_and_recorded_as_it_is_now() -> None:
    taken = 1_700_000_001_123_456_789
    before = known(b"a.jpg", fingerprint=fingerprint(mtime_ns=taken, inode=42))
    now = seen(b"a.jpg", device=OTHER_DISK, mtime_ns=1_700_000_000_000_000_000, inode=3)
    plan = plan_changes([before], scanned(now, devices={b"": OTHER_DISK}))
    assert plan.unchanged == [before]
    assert plan.refreshed == [(before, now)]
    # On its own disk the same difference is a change.
    plan = plan_changes([before], scanned(replace(now, device=DISK)))
    assert plan.changed


PATHS = st.sampled_from([b"a", b"A", b"b", b"d/a", b"d/b", b"d/e/a", b"usb/a", b"usb/b"])
PRINTS = st.builds(
    Fingerprint, size=st.integers(1, 2), mtime_ns=st.integers(1, 2), inode=st.integers(0, 3)
)
KNOWN = st.lists(
    st.builds(
        KnownFile,
        id=st.just(0),
        root_id=st.just(1),
        path=PATHS,
        fingerprint=PRINTS,
        photo_id=st.one_of(st.none(), st.integers(1, 3)),
        failure=st.one_of(st.none(), st.just("bad")),
        present=st.booleans(),
        device=st.sampled_from([DISK, OTHER_DISK]),
    ),
    unique_by=lambda file: file.path,
).map(lambda files: [replace(file, id=number) for number, file in enumerate(files, 1)])
SEEN = st.lists(
    st.builds(SeenFile, path=PATHS, fingerprint=PRINTS, device=st.sampled_from([DISK, OTHER_DISK])),
    unique_by=lambda file: file.path,
)


@given(KNOWN, SEEN, st.sets(st.integers(1, 3)), st.integers(0, 2))
def test_every_seen_file_stands_in_one_list_and_every_missing_one_at_most_once(
    before: list[KnownFile], now: list[SeenFile], embedded: set[int], entries_at_root: int
) -> None:
    scan = scanned(*now, entries_at_root=len(now) + entries_at_root)
    plan = plan_changes(before, scan, embedded=embedded)
    accounted = [file.path for file in (*plan.added, *plan.changed, *plan.unembedded)]
    accounted += [file.path for file in (*plan.unchanged, *plan.failed)]
    accounted += [file.path for _, file in (*plan.moved, *plan.returned)]
    assert sorted(accounted) == sorted(file.path for file in now)

    missing = {file.path for file in before if file.present} - {file.path for file in now}
    judged = [file.path for file in (*plan.removed, *plan.unreachable)]
    judged += [file.path for file, _ in plan.moved if file.present]
    assert sorted(judged) == sorted(missing)
    if scan.entries_at_root == 0:
        assert not plan.removed
