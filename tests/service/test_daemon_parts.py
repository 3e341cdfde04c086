"""What the daemon is made of, each part alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from siglip_index.errors import DiskFullError, LibraryBusyError
from siglip_search.engine.indexing import IndexOptions
from siglip_search.errors import DeviceError
from siglip_search.ingest.report import Committed, Failure, Progress
from siglip_search.service.activity import Activity
from siglip_search.service.jobs import DaemonStoppingError, Requests
from siglip_search.service.messages import IndexJob
from siglip_search.service.run_stop import Pulse, RunStop
from siglip_search.service.thrift import Backoff, DiskSpace, resident_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.service.state import ServiceState


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_waits_grow_to_ten_minutes_and_end_with_a_success() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    assert backoff.seconds_left() == 0
    waits = [backoff.failed(DeviceError("no")) for _ in range(12)]
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[-1] == 600
    clock.now += 599
    assert backoff.seconds_left() == pytest.approx(1)
    clock.now += 2
    assert backoff.seconds_left() == 0
    backoff.succeeded()
    assert backoff.failed(DiskFullError("full")) == 2
    for _ in range(5000):  # no overflow after months
        backoff.failed(DiskFullError("full"))


def test_another_writer_is_waited_for_less_long() -> None:
    backoff = Backoff(Clock())
    waits = [backoff.failed(LibraryBusyError("busy")) for _ in range(10)]
    assert waits[0] == 0.5
    assert waits[-1] == 15


def test_room_on_the_disk_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert DiskSpace(tmp_path / "not" / "there" / "yet", 1).shortage() is None
    shortage = DiskSpace(tmp_path / "not" / "there", 10**18).shortage()
    assert shortage is not None
    assert "MB are free" in shortage


def test_a_run_looks_at_every_reason_to_stop_and_shows_that_it_lives() -> None:
    looks: list[int] = []
    outer = threading.Event()
    stop = RunStop(outer, on_look=lambda: looks.append(1))
    assert not stop.is_set()
    outer.set()
    assert stop.is_set()
    assert len(looks) == 2
    own = RunStop(on_look=lambda: None)
    own.set()
    assert own.is_set()


def test_the_watchdog_hears_of_a_living_thread_alone() -> None:
    clock, sent = Clock(), list[str]()

    def send(state: str) -> bool:
        sent.append(state)
        return True

    pulse = Pulse(send, interval_seconds=10, clock=clock)
    pulse.ready()
    for _ in range(100):
        pulse.beat()
        pulse.status(lambda: "idle")
        clock.now += 1
    pulse.stopping()
    assert sent[0] == "READY=1"
    assert sent[-1] == "STOPPING=1"
    assert sent.count("WATCHDOG=1") == 20
    assert sent.count("STATUS=idle") == 1
    without = list[str]()
    Pulse(lambda state: bool(without.append(state)), clock=clock).beat()
    assert not without


def job() -> IndexJob:
    return IndexJob((), IndexOptions())


def test_jobs_come_in_their_order_and_give_back_what_became_of_them() -> None:
    asked = threading.Event()
    requests = Requests(asked.set)
    results: list[Any] = []

    def ask() -> None:
        try:
            results.append(requests.hand_over(job(), lambda _: None, threading.Event()))
        except DeviceError as error:
            results.append(error)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
        assert asked.wait(5)
    while not requests.is_urgent():
        time.sleep(0.01)
    first = requests.next_job()
    assert first is not None
    first.succeed({"added": 1})
    while (second := requests.next_job()) is None:
        time.sleep(0.01)
    second.fail(DeviceError("gone"))
    for thread in asking:
        thread.join(5)
    assert {type(result) for result in results} == {dict, DeviceError}
    assert requests.next_job() is None


def test_nobody_waits_for_a_daemon_that_has_ended() -> None:
    requests = Requests(lambda: None)
    requests.close()
    with pytest.raises(DaemonStoppingError):
        requests.hand_over(job(), lambda _: None, threading.Event())
    requests.step_aside(threading.Event())


def test_stepping_aside_lasts_until_everybody_is_done() -> None:
    requests = Requests(lambda: None)
    events = [threading.Event(), threading.Event()]
    passed: list[int] = []

    def ask(number: int) -> None:
        requests.step_aside(events[number])
        passed.append(number)

    asking = [threading.Thread(target=ask, args=(number,)) for number in (0, 1)]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + 5
    while len(passed) < 2 and time.monotonic() < deadline:
        requests.stay_aside()
    assert sorted(passed) == [0, 1]
    events[0].set()
    assert requests.stay_aside()
    events[1].set()
    while requests.stay_aside():
        assert time.monotonic() < deadline
    assert not requests.is_urgent()


def test_a_command_that_leaves_before_its_turn_holds_nobody_up() -> None:
    requests = Requests(lambda: None)
    done = threading.Event()
    done.set()
    requests.step_aside(done)
    assert not requests.stay_aside()


def snapshot(activity: Activity) -> ServiceState:
    return activity.snapshot(waiting=3, folders=(), queries=0, towers_warm=False, ran_on=None)


def test_rate_and_time_left_are_those_of_the_last_minute(tmp_path: Path) -> None:
    clock = Clock()
    activity = Activity(tmp_path, clock=clock)
    activity.now("scanning")
    for done in range(0, 200, 2):
        activity.progress(Progress(done, 1000))
        clock.now += 1
    state = snapshot(activity)
    assert (state.doing, state.done, state.total) == ("embedding", 198, 1000)
    assert state.pictures_per_second == pytest.approx(2.0)
    assert state.seconds_left == pytest.approx(401)
    assert state.queue == 3 + 802
    activity.held_back("on battery", paused=True)
    assert (snapshot(activity).doing, snapshot(activity).why) == ("paused", "on battery")
    activity.held_back(None, paused=False)
    assert snapshot(activity).doing == "embedding"
    activity.tagging(Progress(0, 317))
    clock.now += 1
    activity.tagging(Progress(2, 317))
    state = snapshot(activity)
    assert (state.doing, state.done, state.total) == ("tagging", 2, 317)
    assert state.pictures_per_second is None  # labels are no pictures
    activity.now("idle")
    assert (snapshot(activity).total, snapshot(activity).pictures_per_second) == (0, None)


def test_nothing_grows_with_warnings(tmp_path: Path) -> None:
    clock = Clock()
    activity = Activity(tmp_path, clock=clock)
    assert activity.warn("the same")
    assert not activity.warn("the same")
    clock.now += 25 * 3600
    assert activity.warn("the same")
    for number in range(1000):
        activity.warn(f"another {number}")
    assert len(snapshot(activity).last_warnings) == 10
    assert len(activity._told) <= 200
    activity.committed(Committed((b"/a",), (Failure(b"/b", "broken"),), 1))
    assert (snapshot(activity).embedded, snapshot(activity).failed) == (1, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="niceness as POSIX has it")
def test_niceness_is_a_goal_and_not_a_step() -> None:
    # In a process of its own: who is nice cannot go back.
    program = (
        "import os; from siglip_search.service.thrift import lower_priority;"
        "lower_priority(5); lower_priority(5); lower_priority(0); print(os.nice(0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == max(5, os.nice(0))


def test_memory_is_told() -> None:
    assert (resident_bytes() or 0) > 10_000_000
