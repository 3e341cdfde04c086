"""Size and time decide, as loosely as two file systems make it necessary and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_index.records import Fingerprint, KnownFile
from siglip_search.ingest.same_file import NO_TIME_NS, SameFile, same_time
from siglip_search.photos.scan import SeenFile

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
TAKEN = 1_700_000_001_123_456_789
TIMES = st.integers(0, 2 * TAKEN)


@given(TIMES, st.booleans())
def test_the_same_time_is_the_same(time: int, elsewhere: bool) -> None:
    assert same_time(time, time, elsewhere=elsewhere)


@given(TIMES, st.sampled_from([2 * SECOND, SECOND, 10_000_000, 1_000, 100]))
def test_a_copy_on_a_coarser_file_system_is_the_same_both_ways(time: int, grain: int) -> None:
    down, up = time // grain * grain, -(-time // grain) * grain
    for rounded in (down, up):
        assert same_time(time, rounded, elsewhere=True)
        assert same_time(rounded, time, elsewhere=True)


@given(TIMES.map(lambda time: time // SECOND * SECOND), st.integers(-14, 14))
def test_a_fat_drive_from_another_time_zone_is_the_same(time: int, hours: int) -> None:
    on_fat = time // (2 * SECOND) * 2 * SECOND
    assert same_time(time, on_fat + hours * HOUR, elsewhere=True)


def test_summer_time_moves_the_times_of_a_fat_drive_by_an_hour() -> None:
    on_fat = 1_700_000_000 * SECOND
    for hours in (-1, 1):
        assert same_time(on_fat, on_fat + hours * HOUR, elsewhere=False)
    assert not same_time(on_fat, on_fat + 2 * HOUR, elsewhere=False)
    assert not same_time(on_fat + SECOND, on_fat + SECOND + HOUR, elsewhere=False)


@pytest.mark.parametrize("apart", [1, 100, SECOND, 2 * SECOND, HOUR, 15 * HOUR])
def test_a_precise_time_that_differs_is_another(apart: int) -> None:
    assert not same_time(TAKEN, TAKEN + apart, elsewhere=False)
    assert not same_time(TAKEN, TAKEN + apart, elsewhere=True)


@pytest.mark.parametrize("apart", [2 * SECOND, 15 * 60 * SECOND, 15 * HOUR, 24 * HOUR])
def test_a_coarse_time_far_away_is_another(apart: int) -> None:
    on_fat = 1_700_000_000 * SECOND
    assert not same_time(on_fat, on_fat + apart, elsewhere=True)


@given(st.integers(0, 4).map(lambda seconds: seconds * SECOND), st.booleans())
def test_a_file_that_has_to_be_read_again_is_never_the_same(now: int, elsewhere: bool) -> None:
    assert not same_time(NO_TIME_NS, now, elsewhere=elsewhere)


def files(
    number: int, *, renumbered: int, device: int = 1
) -> tuple[dict[bytes, KnownFile], list[SeenFile]]:
    """Return known files and the same ones seen again, so many with another inode."""
    known, seen = {}, []
    for index in range(number):
        path = b"%d.jpg" % index
        before = Fingerprint(100 + index, TAKEN + index, inode=10 + index)
        known[path] = KnownFile(index, 1, path, before, index, None, True, device=1)
        inode = 1000 + index if index < renumbered else 10 + index
        seen.append(SeenFile(path, Fingerprint(100 + index, TAKEN + index, inode), device))
    return known, seen


@pytest.mark.parametrize(
    ("number", "renumbered", "changed"),
    [(1, 1, 1), (3, 3, 3), (10, 1, 1), (10, 5, 5), (10, 6, 0), (4, 4, 0)],
)
def test_inodes_count_until_a_whole_disk_is_renumbered(
    number: int, renumbered: int, changed: int
) -> None:
    known, seen = files(number, renumbered=renumbered)
    same_file = SameFile(known, seen)
    assert sum(not same_file(known[file.path], file) for file in seen) == changed


def test_inodes_of_another_device_do_not_count() -> None:
    known, seen = files(1, renumbered=1, device=2)
    assert SameFile(known, seen)(known[seen[0].path], seen[0])
