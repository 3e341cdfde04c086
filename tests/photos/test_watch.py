"""Folders are followed: real files, the real watcher, and what it does not tell."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from loop_drives import ext4_drive

from siglip_search.photos.settling import Look
from siglip_search.photos.watch import IS_BACK, LOOK_AGAIN, FolderWatch
from tests.photos.followed import Followed, changed_between, state_of

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="about inotify")

Follow = Callable[..., Followed]
Cleanup = Callable[[Callable[[], object]], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture
def follow(root: Path) -> Iterator[Follow]:
    made: list[Followed] = []

    def begin(folder: Path = root, **options: object) -> Followed:
        made.append(Followed(folder, **options))  # type: ignore[arg-type]
        return made[-1]

    yield begin
    for followed in made:
        followed.close()


def counts_of_looks(followed: Followed, path: bytes) -> int:
    return sum(look.path in (path, os.path.dirname(path)) for _, look in followed.looks)


def test_what_is_written_is_looked_at(root: Path, follow: Follow) -> None:
    followed = follow()
    assert followed.how == "events"
    (root / "a.jpg").write_bytes(b"x")
    followed.until_quiet()
    assert [look for _, look in followed.looks] == [Look(followed.path, subfolders=False)]
    assert followed.lost == []


@linux_only
def test_names_that_are_no_text_are_looked_at(root: Path, follow: Follow) -> None:
    followed = follow()
    folder = followed.path + b"/\xff\xfe"
    os.mkdir(folder)
    followed.until_looked_at(folder)
    Path(os.fsdecode(folder + b"/\xe9.jpg")).write_bytes(b"x")
    followed.until(lambda: Look(folder, False) in [look for _, look in followed.looks])


def test_both_ends_of_a_rename_are_looked_at(root: Path, follow: Follow) -> None:
    (root / "from").mkdir()
    (root / "to").mkdir()
    (root / "from" / "a.jpg").write_bytes(b"x")
    followed = follow()
    (root / "from" / "a.jpg").rename(root / "to" / "b.jpg")
    followed.until_quiet()
    assert followed.covers(followed.path + b"/from/a.jpg")
    assert followed.covers(followed.path + b"/to/b.jpg")


def test_a_renamed_tree_is_looked_at_under_both_names(root: Path, follow: Follow) -> None:
    for number in range(30):
        path = root / "old" / str(number % 5) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    followed = follow()
    (root / "old").rename(root / "new")
    followed.until_quiet()
    looks = [look for _, look in followed.looks]
    assert Look(followed.path + b"/old", subfolders=True) in looks
    assert Look(followed.path + b"/new", subfolders=True) in looks
    (root / "new" / "3" / "later.jpg").write_bytes(b"x")
    followed.until(
        lambda: Look(followed.path + b"/new/3", False) in [look for _, look in followed.looks]
    )


def test_a_file_in_the_place_of_a_folder_does_not_hide_what_was_in_it(
    root: Path, tmp_path: Path, follow: Follow
) -> None:
    (root / "a.jpg").mkdir()
    (root / "a.jpg" / "b.jpg").write_bytes(b"x")
    followed = follow()
    (root / "a.jpg").rename(tmp_path / "away")
    (root / "a.jpg").write_bytes(b"x")
    followed.until_quiet()
    assert followed.covers(followed.path + b"/a.jpg/b.jpg")


def test_a_folder_that_went_and_comes_back_is_followed_again(
    root: Path, tmp_path: Path, follow: Follow
) -> None:
    """Moved out, replaced, both deleted: this ends the thread of watchdog 7.1 that reads."""
    (root / "a").mkdir()
    followed = follow()
    (root / "a").rename(tmp_path / "away")
    (root / "a").mkdir()
    followed.until_quiet()
    (root / "a").rmdir()
    followed.until_quiet()
    (tmp_path / "away").rmdir()
    followed.until_quiet()
    (root / "b.jpg").write_bytes(b"x")
    followed.looks.clear()
    followed.until_looked_at(followed.path + b"/b.jpg")
    assert followed.how == "events"


def test_a_tree_that_leaves_and_returns_under_another_name(
    root: Path, tmp_path: Path, follow: Follow
) -> None:
    (root / "a" / "b").mkdir(parents=True)
    followed = follow()
    (root / "a").rename(tmp_path / "away")
    followed.until_looked_at(followed.path + b"/a/b")
    (tmp_path / "away").rename(root / "c")
    followed.until_looked_at(followed.path + b"/c/b")
    followed.looks.clear()
    (root / "c" / "b" / "d.jpg").write_bytes(b"x")
    followed.until_looked_at(followed.path + b"/c/b/d.jpg")


def test_saving_as_editors_do_leads_to_a_look_or_two(root: Path, follow: Follow) -> None:
    def by_temporary_name(path: Path) -> None:
        path.with_suffix(".tmp").write_bytes(b"temporary")
        path.with_suffix(".tmp").replace(path)

    def with_backup(path: Path) -> None:
        path.rename(f"{path}~")
        path.write_bytes(b"after a backup")

    def in_place(path: Path) -> None:
        path.write_bytes(b"in its place")

    ways = (by_temporary_name, with_backup, in_place)
    paths = [root / str(number) / "a.jpg" for number in range(len(ways))]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"x")
    followed = follow()
    for save, path in zip(ways, paths, strict=True):
        save(path)
    followed.until_quiet()
    for path in paths:
        assert 1 <= counts_of_looks(followed, os.fsencode(path)) <= 2


def test_a_slow_writer_is_waited_for(root: Path, follow: Follow) -> None:
    followed = follow(settle_seconds=0.4)
    ended: list[float] = []

    def write_slowly() -> None:
        with (root / "slow.jpg").open("wb") as file:
            for _ in range(30):
                file.write(b"x" * 1_000)
                file.flush()
                time.sleep(0.1)
        ended.append(time.monotonic())

    writer = threading.Thread(target=write_slowly)
    writer.start()
    followed.until(lambda: bool(ended))
    writer.join()
    followed.until_quiet()
    times = [at for at, look in followed.looks]
    assert times[-1] >= ended[0]
    assert sum(at < ended[0] for at in times) <= 2  # on a machine that stalls the writer


def test_a_download_counts_when_it_gets_its_name(root: Path, follow: Follow) -> None:
    followed = follow()
    for number in range(5):
        (root / "a.jpg.part").write_bytes(b"x" * number)
    followed.until_quiet()
    assert followed.looks == []
    (root / "a.jpg.part").rename(root / "a.jpg")
    followed.until_quiet()
    assert [look for _, look in followed.looks] == [Look(followed.path, subfolders=False)]


def test_old_times_new_links_and_changed_rights_are_looked_at(root: Path, follow: Follow) -> None:
    (root / "a.jpg").write_bytes(b"x")
    os.utime(root / "a.jpg", (1, 1))
    for name in ("copies", "links", "rights"):
        (root / name).mkdir()
    (root / "rights" / "b.jpg").write_bytes(b"x")
    followed = follow()
    shutil.copy2(root / "a.jpg", root / "copies" / "a.jpg")
    os.link(root / "a.jpg", root / "links" / "a.jpg")
    (root / "rights" / "b.jpg").chmod(0o600)
    for name in (b"copies/a.jpg", b"links/a.jpg", b"rights/b.jpg"):
        followed.until_looked_at(followed.path + b"/" + name)


def test_circles_of_links_are_no_matter(root: Path, follow: Follow) -> None:
    (root / "a").mkdir()
    (root / "a" / "up").symlink_to(root)
    (root / "self").symlink_to("self")
    followed = follow()
    (root / "a" / "up2").symlink_to("..")
    (root / "a" / "b.jpg").write_bytes(b"x")
    followed.until_quiet()
    assert followed.covers(followed.path + b"/a/b.jpg")
    assert followed.how == "events"


def test_a_root_that_is_a_link_is_followed(root: Path, tmp_path: Path, follow: Follow) -> None:
    (tmp_path / "link").symlink_to(root)
    followed = follow(tmp_path / "link")
    (root / "a.jpg").write_bytes(b"x")
    followed.until_quiet()
    assert [look for _, look in followed.looks] == [Look(followed.path, subfolders=False)]


def test_a_burst_in_new_nested_folders_is_covered(root: Path, follow: Follow) -> None:
    followed = follow()
    subprocess.run([sys.executable, "-c", _BURST, str(root)], check=True)
    followed.until_quiet()
    after = state_of(followed.path)
    assert len(after) == 5_000
    assert [path for path in after if not followed.covers(path)] == []


_BURST = """
import os, sys
for outer in range(10):
    for inner in range(100):
        folder = f"{sys.argv[1]}/{outer}/{inner}"
        os.makedirs(folder)
        for number in range(5):
            open(f"{folder}/{number}.jpg", "wb").close()
"""


@linux_only
def test_an_overflowing_queue_leads_to_a_look_at_everything(root: Path, follow: Follow) -> None:
    (root / "sub").mkdir()
    followed = follow()
    events = followed.watch._places[followed.path]._events
    assert events is not None
    assert events._inotify is not None
    capacity = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with events._inotify._lock:  # the reader stands still
        for number in range(capacity // 2 + 100):
            (root / "sub" / f"{number % 7}.jpg").touch()
            (root / "sub" / f"{number % 7}.jpg").unlink()
        (root / "sub" / "lost").mkdir()
    followed.until(lambda: bool(followed.lost))
    followed.until_quiet()
    assert followed.lost == [(followed.path, "more happened at once than the system could tell")]
    followed.looks.clear()
    (root / "sub" / "lost" / "a.jpg").write_bytes(b"x")
    followed.until_looked_at(followed.path + b"/sub/lost/a.jpg")
    assert followed.how == "events"


def test_a_deleted_root_is_away_and_followed_again_when_it_is_back(
    root: Path, follow: Follow
) -> None:
    (root / "a.jpg").write_bytes(b"x")
    followed = follow()
    shutil.rmtree(root)
    followed.until(lambda: followed.how == "away")
    assert followed.lost == []
    root.mkdir()
    followed.until(lambda: followed.how == "events")
    assert followed.lost == [(followed.path, IS_BACK)]
    followed.until_quiet()
    followed.looks.clear()
    (root / "b.jpg").write_bytes(b"x")
    followed.until_looked_at(followed.path + b"/b.jpg")


def test_a_root_that_is_replaced_at_once_is_followed(root: Path, follow: Follow) -> None:
    followed = follow()
    shutil.rmtree(root)
    root.mkdir()
    followed.until(lambda: bool(followed.lost))
    followed.until_quiet()
    followed.looks.clear()
    (root / "b.jpg").write_bytes(b"x")
    followed.until_looked_at(followed.path + b"/b.jpg")


def test_a_root_that_is_not_there_yet_is_followed_when_it_comes(
    tmp_path: Path, follow: Follow
) -> None:
    followed = follow(tmp_path / "later")
    assert followed.how == "away"
    (tmp_path / "later").mkdir()
    followed.until(lambda: followed.how == "events")
    assert followed.lost == [(followed.path, IS_BACK)]


@linux_only
def test_a_drive_that_is_unmounted_and_comes_back_is_followed(
    root: Path, tmp_path: Path, follow: Follow, cleanup: Cleanup
) -> None:
    drive = ext4_drive(tmp_path / "drive.img", cleanup)
    drive.mount(root)
    (root / "a.jpg").write_bytes(b"x")
    followed = follow()
    drive.unmount()
    followed.until(lambda: bool(followed.lost))
    followed.until_quiet()
    followed.lost.clear()
    drive.mount(root)
    followed.until(lambda: bool(followed.lost))
    assert {path for path, _ in followed.lost} == {followed.path}
    followed.until_quiet()
    followed.looks.clear()
    (root / "b.jpg").write_bytes(b"x")
    followed.until_looked_at(followed.path + b"/b.jpg")


@linux_only
def test_a_drive_that_is_mounted_below_is_followed(
    root: Path, tmp_path: Path, follow: Follow, cleanup: Cleanup
) -> None:
    (root / "drive").mkdir()
    followed = follow()
    drive = ext4_drive(tmp_path / "drive.img", cleanup)
    drive.mount(root / "drive")
    followed.until(lambda: bool(followed.lost))
    followed.until_quiet()
    followed.looks.clear()
    (root / "drive" / "a.jpg").write_bytes(b"x")
    followed.until_looked_at(followed.path + b"/drive/a.jpg")
    drive.unmount()
    followed.until(lambda: len(followed.lost) > 1)
    assert followed.how == "events"


@linux_only
@pytest.mark.parametrize("limit", ["max_inotify_watches", "max_inotify_instances"])
def test_a_limit_of_the_system_leads_to_polling_and_is_named(root: Path, limit: str) -> None:
    for number in range(20):
        (root / str(number)).mkdir()
    # A user namespace has limits of its own.
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _LIMITED]
    name = {"max_inotify_watches": "max_user_watches"}.get(limit, "max_user_instances")
    try:
        done = subprocess.run([*command, str(root), limit], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if "unshare" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip(f"no limits of one's own here: {done.stderr.strip()}")
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        f"polling a limit of the system is reached, see /proc/sys/fs/inotify/{name}",
        f"{root} {LOOK_AGAIN}",
        "0 handles more",
    ]


_LIMITED = """
import os, sys
from siglip_search.photos.watch import FolderWatch
open(f"/proc/sys/user/{sys.argv[2]}", "w").write("5" if "watches" in sys.argv[2] else "0")
before = len(os.listdir("/proc/self/fd"))
watch = FolderWatch(
    on_change=print, on_lost=lambda path, why: print(os.fsdecode(path), why), poll_seconds=0
)
watch.follow(os.fsencode(sys.argv[1]))
for state in watch.states():
    print(state.how, state.why)
watch.check()
watch.close()
print(len(os.listdir("/proc/self/fd")) - before, "handles more")
"""


@linux_only
def test_a_limit_that_new_folders_reach_leads_to_polling(root: Path, follow: Follow) -> None:
    followed = follow()
    events = followed.watch._places[followed.path]._events
    assert events is not None
    assert events._inotify is not None
    events._inotify.exhausted = OSError(errno.ENOSPC, "inotify watch limit reached")
    followed.until(lambda: followed.how == "polling")
    followed.until_looked_at(followed.path + b"/new/a.jpg")
    assert not events._inotify.is_alive()
    assert followed.lost == [(followed.path, LOOK_AGAIN)]


def test_polling_asks_for_a_look_every_so_often(root: Path, follow: Follow) -> None:
    followed = follow(poll=True, poll_seconds=0.05)
    assert [state.why for state in followed.watch.states()] == ["asked for"]
    followed.until(lambda: len(followed.lost) >= 3)
    assert set(followed.lost) == {(followed.path, LOOK_AGAIN)}
    assert followed.until_looked_at(followed.path + b"/any/where.jpg")


def test_a_single_file_is_followed(root: Path, follow: Follow) -> None:
    path = root / "a.jpg"
    path.write_bytes(b"x")
    followed = follow(path)
    path.with_suffix(".tmp").write_bytes(b"other")
    path.with_suffix(".tmp").replace(path)
    followed.until_looked_at(os.fsencode(path))
    path.unlink()
    followed.until(lambda: followed.how == "away")


def test_what_is_hidden_or_never_a_picture_is_not_looked_at(root: Path, follow: Follow) -> None:
    for name in (".hidden", "node_modules", "own"):
        (root / name).mkdir()
    followed = follow(apart=(os.fsencode(root / "own"),))
    for name in (
        *(".hidden/a.jpg", "node_modules/b/a.jpg", "own/a.jpg", ".a.jpg.Xy1", "notes.txt"),
        *("library.sqlite3-wal", "vectors-1.faiss", "writer.lock"),
    ):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "a.xmp").write_bytes(b"x")
    followed.until_quiet()
    assert [look for _, look in followed.looks] == [Look(followed.path, subfolders=False)]
    places = followed.watch._places[followed.path]
    if sys.platform == "linux":
        assert places._events._inotify is not None
        assert len(places._events._inotify._watch_for_wd) == 1


def test_hidden_files_are_looked_at_when_they_count(root: Path, follow: Follow) -> None:
    followed = follow()
    followed.watch.follow(followed.path, hidden=True)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "a.jpg").write_bytes(b"x")
    followed.until_looked_at(followed.path + b"/.hidden/a.jpg")


def test_closing_gives_every_handle_and_thread_back(root: Path) -> None:
    for number in range(50):
        (root / str(number)).mkdir()
    process, threads = psutil.Process(), threading.active_count()
    handles = process.num_fds if hasattr(process, "num_fds") else process.num_handles
    before = handles()
    for _ in range(5):
        watch = FolderWatch(on_change=lambda *_: None, on_lost=lambda *_: None)
        watch.follow(os.fsencode(root))
        watch.follow(os.fsencode(root / "1"))
        watch.follow(os.fsencode(root))
        watch.unfollow(os.fsencode(root / "1"))
        start = time.monotonic()
        watch.close()
        assert time.monotonic() - start < 5
        watch.follow(os.fsencode(root))
        assert watch.states() == ()
    assert (handles(), threading.active_count()) == (before, threads)


def test_closing_in_the_middle_of_a_burst_is_quiet(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[bytes] = []
    for _ in range(5):
        watch = FolderWatch(on_change=lambda path, _: heard.append(path), on_lost=lambda *_: None)
        watch.follow(os.fsencode(root))
        for number in range(300):
            (root / f"{number}.jpg").write_bytes(b"x")
        watch.close()
        count = len(heard)
        (root / "after.jpg").write_bytes(b"x")
        assert len(heard) == count
    assert capfd.readouterr() == ("", "")


def test_after_quiet_nothing_that_changed_was_overlooked(root: Path, follow: Follow) -> None:
    """One long day of a folder; random ones are in test_watch_random.py."""
    followed = follow()
    before = state_of(followed.path)
    for number in range(200):
        path = root / f"{number % 7}" / f"{number % 3}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
        if number % 10 == 9:
            shutil.move(root / f"{number % 7}", root / f"m{number}")
        if number % 40 == 39:
            shutil.rmtree(root / f"m{number}")
    followed.until_quiet()
    changed = changed_between(before, state_of(followed.path))
    assert changed
    assert [path for path in changed if not followed.covers(path)] == []
