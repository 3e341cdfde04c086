"""Paths wait until they are quiet and are handed over as few places; the files are real."""

import os
import threading
import time
from pathlib import Path

import pytest

from siglip_search.photos.settling import Look, Settling


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settling(clock: Clock) -> Settling:
    return Settling(clock=clock)


@pytest.fixture
def folder(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path)


def write(path: bytes, content: bytes = b"x") -> bytes:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(os.fsdecode(path)).write_bytes(content)
    return path


def pass_time(settling: Settling, clock: Clock, seconds: float) -> list[tuple[float, Look]]:
    """Let time pass in small steps; return what was handed over, and after how long."""
    start, found = clock.now, []
    while clock.now < start + seconds:
        clock.now += 0.0625
        found += [(clock.now - start, look) for look in settling.due()]
    return found


def looks(handed_over: list[tuple[float, Look]]) -> list[Look]:
    return [look for _, look in handed_over]


def test_a_quiet_file_becomes_a_look_at_its_folder(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    settling.touch(write(folder + b"/a.jpg"))
    assert settling.due() == []
    ((after, look),) = pass_time(settling, clock, 5)
    assert look == Look(folder, subfolders=False)
    assert 1.0 <= after <= 1.5
    assert len(settling) == 0


def test_a_closed_file_waits_less(settling: Settling, clock: Clock, folder: bytes) -> None:
    settling.touch(write(folder + b"/a.jpg"))
    settling.touch(folder + b"/a.jpg", closed=True)
    ((after, _),) = pass_time(settling, clock, 5)
    assert 0.25 <= after <= 0.4375


def test_what_was_read_before_a_close_does_not_count(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    path = write(folder + b"/a.jpg")
    settling.touch(path)
    assert pass_time(settling, clock, 0.875) == []
    settling.touch(path, closed=True)
    ((after, _),) = pass_time(settling, clock, 5)
    assert 0.25 <= after <= 0.4375


def test_attributes_that_change_after_a_close_take_nothing_back(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    path = write(folder + b"/a.jpg")  # as shutil.copy and cp -p leave it
    settling.touch(path)
    settling.touch(path, closed=True)
    settling.touch(path, closed=None)
    ((after, _),) = pass_time(settling, clock, 5)
    assert 0.25 <= after <= 0.75


def test_a_file_that_grows_without_a_word_waits(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    path = write(folder + b"/a.jpg")
    settling.touch(path)
    for size in range(2, 8):
        assert pass_time(settling, clock, 0.5) == []
        write(path, b"x" * size)
    assert looks(pass_time(settling, clock, 5)) == [Look(folder, subfolders=False)]


def test_writing_that_goes_on_after_a_close_is_waited_for(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    path = write(folder + b"/a.jpg")
    settling.touch(path, closed=True)
    settling.touch(path)
    assert pass_time(settling, clock, 0.75) == []
    assert looks(pass_time(settling, clock, 5)) == [Look(folder, subfolders=False)]


def test_a_time_from_long_ago_is_as_good_as_any(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    path = write(folder + b"/a.jpg")
    os.utime(path, (1, 1))
    settling.touch(path)
    assert looks(pass_time(settling, clock, 2)) == [Look(folder, subfolders=False)]


def test_what_never_gets_quiet_is_handed_over_in_the_end(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    path = write(folder + b"/a.jpg")
    found = []
    for _ in range(130):
        settling.touch(path)
        found += pass_time(settling, clock, 0.5)
    assert looks(found) == [Look(folder, subfolders=False)]


def test_a_new_folder_is_looked_at_with_all_below(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    settling.touch(os.path.dirname(write(folder + b"/new/deep/a.jpg")))
    assert looks(pass_time(settling, clock, 5)) == [Look(folder + b"/new/deep", subfolders=True)]


def test_what_vanished_may_have_been_a_folder(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    settling.touch(folder + b"/gone")
    assert looks(pass_time(settling, clock, 5)) == [
        Look(folder, subfolders=False),
        Look(folder + b"/gone", subfolders=True),
    ]


def test_both_ends_of_a_move_are_handed_over_together(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    new = folder + b"/new"
    write(new + b"/a.jpg")
    settling.touch_folder(folder + b"/old")
    clock.now += 0.5  # watchers tell of the files in it one by one
    settling.touch(new + b"/a.jpg", closed=True)
    settling.touch(folder + b"/old/a.jpg")
    settling.touch_folder(new)
    found = pass_time(settling, clock, 5)
    first = {look for after, look in found if after == found[0][0]}
    assert first == {Look(new, False), Look(folder + b"/old", True)}


def test_what_vanished_does_not_wait_long_for_what_is_being_written(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    settling.touch(folder + b"/gone.jpg")
    found = []
    for size in range(40):
        settling.touch(write(folder + b"/sub/slow.jpg", b"x" * size))
        found += pass_time(settling, clock, 0.125)
    assert Look(folder + b"/gone.jpg", True) in looks(found)


def test_links_count_as_what_they_lead_to(settling: Settling, clock: Clock, folder: bytes) -> None:
    write(folder + b"/far/away/a.jpg")
    os.symlink(folder + b"/far/away", folder + b"/link")
    os.symlink(b"circle", folder + b"/circle")
    settling.touch(folder + b"/link")
    settling.touch(folder + b"/circle")
    assert looks(pass_time(settling, clock, 5)) == [
        Look(folder, subfolders=False),
        Look(folder + b"/circle", subfolders=True),
        Look(folder + b"/link", subfolders=True),
    ]


def test_an_ignore_file_concerns_all_below(settling: Settling, clock: Clock, folder: bytes) -> None:
    settling.touch(write(folder + b"/.siglipignore"))
    assert looks(pass_time(settling, clock, 5)) == [Look(folder, subfolders=True)]


def test_a_burst_is_handed_over_as_one_look_a_folder(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    for number in range(300):
        settling.touch(write(folder + b"/%d/%d.jpg" % (number % 3, number)), closed=True)
    assert len(settling) == 300
    assert looks(pass_time(settling, clock, 5)) == [
        Look(folder + b"/%d" % number, subfolders=False) for number in range(3)
    ]


def test_a_deep_look_swallows_those_below(settling: Settling, clock: Clock, folder: bytes) -> None:
    settling.touch_folder(folder)
    settling.touch(write(folder + b"/a/b.jpg"))
    settling.touch(folder + b"/gone/b.jpg")
    settling.touch_folder(folder + b"/a")
    assert looks(pass_time(settling, clock, 5)) == [Look(folder, subfolders=True)]


def test_a_folder_waits_for_the_file_that_is_being_written_in_it(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    settling.touch(write(folder + b"/whole.jpg"), closed=True)
    growing = write(folder + b"/growing.jpg")
    for _ in range(4):
        settling.touch(growing)
        assert pass_time(settling, clock, 0.25) == []
    settling.touch(growing, closed=True)
    assert looks(pass_time(settling, clock, 1)) == [Look(folder, subfolders=False)]


def test_a_busy_neighbour_does_not_hold_a_file_for_long(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    settling.touch(write(folder + b"/whole.jpg"), closed=True)
    found = []
    for _ in range(20):
        settling.touch(write(folder + b"/growing.jpg"))
        found += pass_time(settling, clock, 0.125)
    assert looks(found) == [Look(folder, subfolders=False)]


def test_a_folder_that_is_always_busy_is_looked_at_now_and_then(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    found = []
    for number in range(100):
        settling.touch(write(folder + b"/%d.jpg" % number), closed=True)
        found += pass_time(settling, clock, 0.0625)
    found += pass_time(settling, clock, 5)
    assert set(looks(found)) == {Look(folder, subfolders=False)}
    assert 5 <= len(found) <= 8
    assert len(settling) == 0


def test_too_many_paths_become_a_look_at_their_folder(clock: Clock, folder: bytes) -> None:
    settling = Settling(clock=clock, max_paths=100)
    write(folder + b"/away/a.jpg")
    settling.touch(folder + b"/away/a.jpg")
    for number in range(150):
        settling.touch(folder + b"/many/%d/%d.jpg" % (number % 80, number))
    assert len(settling) <= 100
    found = looks(pass_time(settling, clock, 5))
    assert Look(folder + b"/many", subfolders=True) in found
    assert Look(folder + b"/away", subfolders=True) in found
    assert Look(folder, subfolders=True) not in found


def test_a_second_try_comes_later_each_time(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    path = write(folder + b"/a.jpg")
    pauses = []
    for _ in range(12):
        settling.try_later(path)
        start = clock.now
        while not settling.due():
            clock.now += 0.5
        pauses.append(clock.now - start)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]


def test_an_event_comes_before_the_second_try(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    path = write(folder + b"/a.jpg")
    for _ in range(6):
        settling.try_later(path)
    settling.touch(path, closed=True)
    assert looks(pass_time(settling, clock, 1)) == [Look(folder, subfolders=False)]
    assert pass_time(settling, clock, 100) == []


def test_what_went_well_for_long_is_tried_soon_again(
    settling: Settling, clock: Clock, folder: bytes
) -> None:
    for _ in range(6):
        settling.try_later(write(folder + b"/a.jpg"))
    clock.now += 3_600
    assert settling.due()
    settling.try_later(folder + b"/a.jpg")
    ((after, _),) = pass_time(settling, clock, 10)
    assert after == 2


def test_the_count_of_tries_does_not_grow_for_ever(clock: Clock, folder: bytes) -> None:
    settling = Settling(clock=clock, max_paths=10)
    for number in range(1_000):
        settling.try_later(folder + b"/%d.jpg" % number)
        clock.now += 1_000
        settling.due()
    assert len(settling._tries) <= 21
    for number in range(1_000):
        settling.try_later(folder + b"/%d.jpg" % number)
    assert len(settling._tries) <= 21


def test_a_drive_of_failing_files_is_not_tried_all_the_time(clock: Clock, folder: bytes) -> None:
    settling = Settling(clock=clock, max_paths=10)
    paths = [write(folder + b"/%d.jpg" % number) for number in range(100)]
    turns, tries = 0, [settling.try_later(path) for path in paths]
    assert tries == [1] * 20 + [None] * 80
    for _ in range(3_600):
        clock.now += 1
        if found := settling.due():
            assert found == [Look(folder, subfolders=False)]  # which tries them all
            turns += 1
            tries = [settling.try_later(path) for path in paths]
    # After twice the time each time, and then every ten minutes, as with one file.
    assert turns <= 9 + 2 * 3_600 // 600
    assert tries[0] is not None
    assert tries[0] > 9


def test_waiting_ends_when_something_may_be_due(folder: bytes) -> None:
    settling = Settling(settle_seconds=0.1)
    path = write(folder + b"/a.jpg")
    threading.Timer(0.05, settling.touch, [path]).start()
    start, found = time.monotonic(), []
    while not found:
        settling.wait(60)
        found = settling.due()
    assert found == [Look(folder, subfolders=False)]
    assert time.monotonic() - start < 30


def test_waiting_can_be_ended_before_it_begins_and_from_outside() -> None:
    settling = Settling()
    settling.wake()
    settling.wait(60)
    threading.Timer(0.05, settling.wake).start()
    settling.wait(60)
    start = time.monotonic()
    settling.wait(0.05)
    assert time.monotonic() - start >= 0.05


def test_a_wake_is_not_lost_on_somebody_who_is_busy() -> None:
    settling = Settling()
    settling.wake()
    assert settling.due() == []
    settling.wait(60)


def test_nothing_is_lost_between_threads(folder: bytes) -> None:
    settling = Settling(settle_seconds=0.02, max_paths=1_000)
    folders = [folder + b"/%d" % number for number in range(40)]
    for path in folders:
        write(path + b"/a.jpg")

    def touch_all(offset: int) -> None:
        for number in range(400):
            settling.touch(folders[(number + offset) % 40] + b"/a.jpg")

    threads = [threading.Thread(target=touch_all, args=(10 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    found: set[Look] = set()
    while any(thread.is_alive() for thread in threads) or len(settling):
        settling.wait(0.05)
        found.update(settling.due())
    assert {look.path for look in found} == set(folders)
