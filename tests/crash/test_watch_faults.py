"""The daemon on a disk that fails, beside a clock that jumps, asleep, and with a dead decoder."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from crash.watched_command import add_drawing, files_in, found, wait_until

from siglip_index.verify import verify
from siglip_search.engine.indexing import IndexOptions
from siglip_search.search.question import Question
from siglip_search.service.daemon import Daemon, WatchOptions
from siglip_search.service.journal import Journal
from siglip_search.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crash.watched_command import FailingDisk, WatchedCommand
    from installed_command import CommandLine
    from small_disks import SmallDisk

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


def slow(value: str) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.fixture
def faulty(
    watch: Callable[..., WatchedCommand], failing_disk: FailingDisk, pictures: Path
) -> WatchedCommand:
    """A daemon that has caught up, and whose disk may fail."""
    watched = watch("--model", "demo", pictures, environment=failing_disk.environment)
    watched.says("caught up")
    watched.wait(watched.is_idle)
    return watched


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("write 5 library.sqlite3", "input/output error"),
        pytest.param("write 28 library.sqlite3-wal", "no space is left", marks=pytest.mark.slow),
        pytest.param("sync 5 library.sqlite3", "input/output error", marks=pytest.mark.slow),
        pytest.param("read 5 library.sqlite3", "input/output error", marks=pytest.mark.slow),
        ("open 30 library.sqlite3", "cannot be opened or written"),
        pytest.param("open 30 writer", "Read-only file system", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fails_is_waited_for(
    faulty: WatchedCommand, failing_disk: FailingDisk, pictures: Path, fault: str, line: str
) -> None:
    failing_disk.demand(fault)
    add_drawing(pictures, 12)
    faulty.says(line)
    # What was committed before is still found by whoever has a good disk.
    assert len(found(faulty.cli)) == 12
    failing_disk.heal()
    faulty.finds(*files_in(pictures))
    faulty.wait(faulty.is_idle)
    assert faulty.state()["embedded"] == 13
    faulty.end()
    assert verify(faulty.cli.library).is_whole
    assert not any("Traceback" in said for said in faulty.lines)


@pytest.mark.slow
def test_a_snapshot_that_cannot_be_written_costs_nothing(
    faulty: WatchedCommand, failing_disk: FailingDisk, pictures: Path
) -> None:
    for file in faulty.cli.library.glob("vectors-*"):
        file.unlink()
    failing_disk.demand("write 5 vectors-")
    add_drawing(pictures, 12)
    faulty.finds(*files_in(pictures))
    faulty.says("no snapshot was written")
    # It is tried again, and no picture waits for that.
    add_drawing(pictures, 13)
    faulty.finds(*files_in(pictures))
    assert not list(faulty.cli.library.glob("vectors-*.tmp"))
    failing_disk.heal()
    faulty.wait(lambda: list(faulty.cli.library.glob("vectors-*.json")))
    faulty.end()
    report = verify(faulty.cli.library)
    assert report.is_whole
    assert report.checked["snapshots"] == 1


def test_a_disk_that_is_nearly_full_pauses_the_work_and_not_the_answers(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path, roomy_disk: Path
) -> None:
    cli.library = roomy_disk / "library"
    watched = watch("--model", "demo", pictures)
    watched.says("caught up")
    ballast = roomy_disk / "ballast"
    ballast.write_bytes(bytes(100_000_000))
    watched.wait(lambda: watched.state()["doing"] == "paused")
    add_drawing(pictures, 12)
    time.sleep(1.0)
    assert len(found(cli)) == 12
    ballast.unlink()
    watched.finds(*files_in(pictures))
    watched.end()


def test_a_full_disk_is_waited_for(pictures: Path, small_disk: SmallDisk) -> None:
    library = small_disk.path / "library"
    # The command pauses long before; without that, what is written fails at some byte.
    options = WatchOptions(settle_seconds=0.2, min_free_bytes=0)
    settings = Settings(library=library, model="demo", device="cpu")
    with Journal(library) as journal:
        daemon = Daemon(
            settings,
            model="demo",
            options=IndexOptions(jobs=1, on_battery="run"),
            watch_options=options,
            journal=journal,
        )
        thread = threading.Thread(target=daemon.run, args=([pictures],))
        thread.start()
        try:
            wait_until(lambda: daemon.state().embedded == 12 and daemon.state().doing == "idle")
            small_disk.fill_up()
            add_drawing(pictures, 12)
            wait_until(lambda: daemon.state().doing == "waiting")
            assert "no space is left" in str(daemon.state().why)
            reply = daemon.query(Question("anything", top_k=50, min_probability=0.0))
            assert len(reply.answer.hits) == 12
            small_disk.make_room()
            wait_until(lambda: daemon.state().embedded == 13 and daemon.state().doing == "idle")
        finally:
            daemon.stop()
            thread.join(30)
    assert verify(library).is_whole


def test_a_library_that_goes_away_is_not_brought_back_and_is_known_when_it_returns(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path, tmp_path: Path
) -> None:
    watched = watch("--model", "demo", pictures)
    watched.says("caught up")
    watched.wait(watched.is_idle)
    away = tmp_path / "away"
    cli.library.rename(away)
    add_drawing(pictures, 12)
    time.sleep(3.0)
    assert not (cli.library / "library.sqlite3").exists()
    watched.wait(lambda: True)  # it lives
    shutil.rmtree(cli.library, ignore_errors=True)
    away.rename(cli.library)
    watched.finds(*files_in(pictures))
    watched.end()
    cli.verify()


@pytest.mark.parametrize("damage", ["torn", "flipped", slow("empty"), slow("manifest")])
def test_a_damaged_snapshot_is_made_anew(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path, damage: str
) -> None:
    cli.index(pictures)
    (file,) = cli.library.glob("vectors-*.json" if damage == "manifest" else "vectors-*.faiss")
    spoil(file, "torn" if damage == "manifest" else damage)
    assert not verify(cli.library).is_whole
    watched = watch()
    watched.says("caught up")
    watched.finds(*files_in(pictures))
    watched.wait(lambda: verify(cli.library).is_whole)
    assert watched.state()["embedded"] == 0
    watched.end()
    assert verify(cli.library).checked["snapshots"] == 1


@pytest.mark.parametrize("damage", ["torn", slow("flipped"), "other"])
def test_a_damaged_database_ends_it_with_the_remedy_and_nothing_is_deleted(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path, damage: str
) -> None:
    cli.index(pictures)
    database = cli.library / "library.sqlite3"
    spoil(database, damage)
    content = database.read_bytes()
    names = sorted(path.name for path in cli.library.iterdir())
    watched = watch()
    assert watched.ended() == 2
    told = " ".join(watched.lines)
    assert str(cli.library) in told
    assert "damaged" in told
    assert "restore" in told
    assert database.read_bytes() == content
    assert set(names) <= {path.name for path in cli.library.iterdir()}


def spoil(file: Path, damage: str) -> None:
    content = bytearray(file.read_bytes())
    match damage:
        case "torn":
            content = content[: len(content) // 2]
        case "empty":
            content.clear()
        case "other":
            content = bytearray(b"not a database" * 9999)
        case _:
            for place in range(0, len(content), 4096):
                content[place + 100 : place + 108] = b"\xff" * 8
    file.write_bytes(content)


def test_a_clock_that_jumps_changes_nothing(
    faulty: WatchedCommand, failing_disk: FailingDisk, pictures: Path
) -> None:
    for number, seconds in enumerate((400 * 86_400, -800 * 86_400)):
        failing_disk.demand(f"clock {seconds}")
        add_drawing(pictures, 12 + number)
        faulty.finds(*files_in(pictures))
    failing_disk.heal()
    # Nor do pictures from the future, or from before there were computers.
    for number, seconds in enumerate((4_000_000_000, 0, -86_400), 20):
        new = add_drawing(pictures.parent, number)
        os.utime(new, (seconds, seconds))
        new.rename(pictures / new.name)
    faulty.finds(*files_in(pictures))
    faulty.wait(faulty.is_idle)
    state = faulty.state()
    assert state["embedded"] == 17
    assert state["looks"] < 20
    faulty.end()
    assert faulty.cli.index(pictures)["embedded"] == 0
    faulty.cli.verify()


def test_what_a_dead_daemon_left_is_in_nobodys_way_and_two_do_not_start(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path
) -> None:
    dead = watch("--model", "demo", pictures)
    dead.says("caught up")
    dead.kill()
    assert (cli.library / "daemon.lock").exists()
    pair = [watch(), watch()]
    deadline = time.monotonic() + 30
    while all(one.process.poll() is None for one in pair):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    loser, winner = sorted(pair, key=lambda one: one.process.poll() is None)
    assert loser.ended() == 2
    assert str(winner.process.pid) in " ".join(loser.lines)
    winner.says("caught up")
    winner.finds(*files_in(pictures))
    winner.end()


def test_a_laptop_that_sleeps_wakes_up_to_new_pictures(
    cli: CommandLine, watch: Callable[..., WatchedCommand], pictures: Path
) -> None:
    watched = watch("--model", "demo", pictures)
    watched.says("caught up")
    watched.wait(watched.is_idle)
    watched.process.send_signal(signal.SIGSTOP)
    add_drawing(pictures, 12)
    (pictures / "drawing-0.jpg").unlink()
    started = time.monotonic()
    assert len(found(cli)) == 12  # nobody waits for a daemon that sleeps
    assert time.monotonic() - started < 10
    watched.process.send_signal(signal.SIGCONT)
    watched.finds(*files_in(pictures))
    watched.end()


def test_a_picture_that_kills_its_decoder_is_quarantined(
    cli: CommandLine,
    watch: Callable[..., WatchedCommand],
    failing_disk: FailingDisk,
    pictures: Path,
) -> None:
    failing_disk.demand("kill drawing-5")
    watched = watch("--model", "demo", pictures, environment=failing_disk.environment)
    watched.says("quarantined: ")
    watched.wait(watched.is_idle)
    (line,) = [line for line in watched.lines if "quarantined: " in line]
    assert "drawing-5.jpg" in line
    assert "3 times" in line
    watched.finds(*[path for path in files_in(pictures) if path.name != "drawing-5.jpg"])
    assert watched.state()["failed"] == 1
    watched.end()

    # Kept out until it changes, or somebody asks for it.
    failing_disk.heal()
    assert cli.index(pictures)["added"] == 0
    again = watch()
    again.says("caught up")
    content = (pictures / "drawing-5.jpg").read_bytes()
    (pictures / "drawing-5.jpg").write_bytes(content + b"changed")
    again.finds(*files_in(pictures))
    again.end()
