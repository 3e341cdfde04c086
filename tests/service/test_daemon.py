"""The daemon with a real library and real pictures, and what may stand in its way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from click.testing import CliRunner
from loop_drives import ext4_drive
from PIL import Image

from siglip_index import open_store
from siglip_index.errors import DiskFullError
from siglip_search import demo
from siglip_search.cli import command_line
from siglip_search.engine.chosen_model import model_called
from siglip_search.engine.following import Follower
from siglip_search.engine.indexing import IndexListener, IndexOptions
from siglip_search.engine.library import Library
from siglip_search.engine.tagging import TagChoice, tag_summary
from siglip_search.errors import DaemonRunningError, SiglipSearchError
from siglip_search.ingest.report import Committed, Failure
from siglip_search.photos.settling import Settling
from siglip_search.search.question import Question
from siglip_search.search.vocabulary import Vocabulary
from siglip_search.service.activity import Activity
from siglip_search.service.client import connect
from siglip_search.service.daemon import Daemon, WatchOptions
from siglip_search.service.job_runs import carry_out_job
from siglip_search.service.jobs import HandedOver
from siglip_search.service.journal import Journal
from siglip_search.service.library_standing import LibraryStanding, Standing
from siglip_search.service.messages import IndexJob
from siglip_search.service.run_stop import RunStop
from siglip_search.service.runs import Runs
from siglip_search.settings import Settings, log_file
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.ingest.report import IngestReport
    from siglip_search.towers.failover import Embedded

OPTIONS = IndexOptions(jobs=1)
WATCH = WatchOptions(settle_seconds=0.2, min_free_bytes=0)


class Running:
    """A daemon in a thread of this process."""

    def __init__(self, library: Path, *paths: Path, options: WatchOptions = WATCH) -> None:
        self.settings = Settings(library=library, model="demo", device="cpu")
        self.journal = Journal(library)
        self.daemon = Daemon(
            self.settings,
            model="demo",
            options=OPTIONS,
            watch_options=options,
            journal=self.journal,
        )
        self.paths = paths
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.daemon.run(self.paths)
        except BaseException as error:  # noqa: BLE001  # for the test to look at
            self.error = error

    def start(self) -> Running:
        self.thread.start()
        self.wait(lambda: connect_and_close(self.settings.library) or self.error)
        return self

    def wait(self, is_so: Callable[[], object], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, (self.daemon.state(), self.log())
            time.sleep(0.02)

    def is_doing(self, what: str) -> Callable[[], bool]:
        return lambda: self.daemon.state().doing == what

    def log(self) -> str:
        file = log_file(self.settings.library)
        return file.read_text() if file.exists() else ""

    def end(self) -> None:
        self.daemon.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.journal.close()


def connect_and_close(library: Path) -> bool:
    client = connect(library)
    if client is not None:
        client.close()
    return client is not None


@pytest.fixture
def run(tmp_path: Path, cleanup: Callable[[Callable[[], object]], None]) -> Callable[..., Running]:
    def start(*paths: Path, options: WatchOptions = WATCH) -> Running:
        running = Running(tmp_path / "library", *paths, options=options)
        cleanup(running.end)
        return running.start()

    return start


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(sorted(demo.gallery_directory().rglob("*.jpg"))[:12]):
        shutil.copy(picture, folder / f"{number:02}.jpg")
    return folder


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """So many pictures that something can come in between."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3):
        for picture in sorted(demo.gallery_directory().rglob("*.jpg")):
            content = picture.read_bytes()
            comment = b"\xff\xfe\x00\x03" + str(number).encode()
            name = f"{number}-{picture.parent.name}-{picture.name}"
            (folder / name).write_bytes(content[:2] + comment + content[2:])
    return folder


def pictures_in(library: Path) -> int:
    with Library(Settings(library=library)) as opened:
        return opened.status().counts.pictures


def test_a_job_that_is_handed_over_comes_before_a_long_look(
    run: Callable[..., Running], many: Path, pictures: Path, tmp_path: Path
) -> None:
    running = run(many)
    running.wait(lambda: running.daemon.state().done > 20)
    client = connect(tmp_path / "library")
    assert client is not None
    events: list[dict[str, Any]] = []
    report = client.index(IndexJob((str(pictures),), OPTIONS), events.append, threading.Event())
    assert report["added"] == 12
    assert {"progress", "committed"} <= {event["event"] for event in events}
    assert "caught up:" not in running.log()

    # What had been computed is kept, and no picture is embedded twice.
    running.wait(lambda: "caught up:" in running.log())
    running.wait(running.is_doing("idle"))
    assert running.daemon.state().embedded == len(list(many.iterdir())) + 12


def test_stopping_commits_what_is_computed_and_is_quick(
    run: Callable[..., Running], many: Path, tmp_path: Path
) -> None:
    running = run(many)
    running.wait(lambda: running.daemon.state().done > 40)
    started = time.monotonic()
    running.end()
    assert time.monotonic() - started < 3
    assert running.error is None
    assert 40 <= pictures_in(tmp_path / "library") < len(list(many.iterdir()))


def test_a_cancelled_job_gives_its_report_and_the_daemon_goes_on(
    run: Callable[..., Running], many: Path, pictures: Path, tmp_path: Path
) -> None:
    running = run(pictures)
    running.wait(running.is_doing("idle"))
    client = connect(tmp_path / "library")
    assert client is not None
    stop = threading.Event()
    report = client.index(IndexJob((str(many),), OPTIONS), lambda _: stop.set(), stop)
    assert report["stopped"]
    # Its folder is one of the library now, and so it is followed.
    running.wait(lambda: running.daemon.state().embedded == len(list(many.iterdir())) + 12)


def test_a_library_that_is_being_written_is_waited_for(
    run: Callable[..., Running], pictures: Path, tmp_path: Path
) -> None:
    with open_store(tmp_path / "library", writable=True):
        running = run(pictures)
        running.wait(running.is_doing("waiting"))
        why = running.daemon.state().why
        assert why is not None
        assert "is being written by" in why
    running.wait(lambda: "caught up:" in running.log())
    assert running.log().count("waiting for that") == 1


def test_without_room_it_pauses_and_still_answers(
    run: Callable[..., Running], pictures: Path, tmp_path: Path
) -> None:
    with Library(Settings(library=tmp_path / "library", device="cpu"), model="demo") as library:
        library.index([pictures])
    shutil.copy(pictures / "00.jpg", pictures / "copy.jpg")
    running = run(options=replace(WATCH, min_free_bytes=10**18))
    running.wait(running.is_doing("paused"))
    client = connect(tmp_path / "library")
    assert client is not None
    reply = client.query(Question("anything", top_k=50, min_probability=0.0))
    assert len(reply.answer.hits) == 12
    assert not any(hit.copies for hit in reply.answer.hits)
    assert "MB are free" in running.log()


class Failing(Follower):
    """A follower whose disk, or whose program, fails a number of times."""

    errors: ClassVar[list[Exception]] = []

    def index(self, *arguments: Any, **named: Any) -> IngestReport:
        if self.errors:
            raise self.errors.pop()
        return super().index(*arguments, **named)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    errors: list[Exception] = []
    monkeypatch.setattr(Failing, "errors", errors)
    monkeypatch.setattr("siglip_search.service.daemon.Follower", Failing)
    return errors


def test_after_a_failure_of_the_disk_it_tries_again(
    run: Callable[..., Running], pictures: Path, failing: list[Exception]
) -> None:
    failing += [DiskFullError("no space is left", hint="Make room."), OSError(5, "EIO")]
    running = run(pictures)
    running.wait(lambda: "caught up:" in running.log())
    assert "no space is left; trying again in 4 s" in running.log()


def test_a_defect_ends_it_and_lets_go_of_the_library(
    run: Callable[..., Running], pictures: Path, tmp_path: Path, failing: list[Exception]
) -> None:
    failing.append(ZeroDivisionError("a defect"))
    running = run(pictures)
    running.thread.join(30)
    assert isinstance(running.error, ZeroDivisionError)
    assert connect(tmp_path / "library") is None
    assert run(pictures).error is None


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_a_defect_is_an_object_where_lines_are(
    tmp_path: Path, failing: list[Exception], pictures: Path
) -> None:
    failing.append(ZeroDivisionError("a defect"))
    library = str(tmp_path / "library")
    arguments = ["watch", "--json-logs", "--nice", "0", "--model", "demo", "--library", library]
    result = CliRunner().invoke(command_line, [*arguments, str(pictures)])
    assert result.exit_code == 1
    last = [json.loads(line) for line in result.stderr.splitlines()][-1]
    assert last["message"] == "the daemon failed: a defect"
    assert "ZeroDivisionError" in last["traceback"]


def test_a_failing_disk_fails_a_job_and_not_the_daemon(
    run: Callable[..., Running], pictures: Path, tmp_path: Path, failing: list[Exception]
) -> None:
    running = run(pictures)
    running.wait(lambda: "caught up:" in running.log())
    failing.append(OSError(errno.EIO, "Input/output error"))
    for _ in range(2):
        client = connect(tmp_path / "library")
        assert client is not None
        if failing:
            with pytest.raises(SiglipSearchError, match="Input/output error"):
                client.index(IndexJob((str(pictures),), OPTIONS), print, threading.Event())
        else:
            job = IndexJob((str(pictures),), OPTIONS)
            assert client.index(job, print, threading.Event())["unchanged"] == 12
    assert "Input/output error" in running.log()


def test_what_another_command_has_mended_is_not_waited_for(
    run: Callable[..., Running],
    pictures: Path,
    tmp_path: Path,
    failing: list[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siglip_search.service.thrift.FIRST_WAIT_SECONDS", 300.0)
    failing.append(OSError(errno.EIO, "Input/output error"))
    running = run(pictures)
    running.wait(running.is_doing("waiting"))
    client = connect(tmp_path / "library")
    assert client is not None
    with client.stepping_aside():
        failing.clear()
    running.wait(lambda: "caught up:" in running.log())


def test_a_library_that_cannot_be_read_for_a_moment_ends_nothing(
    run: Callable[..., Running], pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(pictures)
    running.wait(lambda: "caught up:" in running.log() and running.daemon.state().folders)

    def read(_: LibraryStanding) -> Standing:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(LibraryStanding, "read", read)
        running.wait(lambda: running.daemon.state().last_warnings)
    shutil.copy(sorted(demo.gallery_directory().rglob("*.jpg"))[50], pictures / "new.jpg")
    running.wait(lambda: running.daemon.state().embedded == 13)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_watcher_ends_it_in_the_midst_of_a_run(
    run: Callable[..., Running], many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(many)
    running.wait(lambda: running.daemon.state().done > 20)
    monkeypatch.delattr("siglip_search.service.followed_roots.FollowedRoots.check")
    running.thread.join(30)
    assert isinstance(running.error, RuntimeError)
    assert "caught up in part" in running.log()


def test_two_daemons_do_not_share_a_library(run: Callable[..., Running], pictures: Path) -> None:
    running = run(pictures)
    second = Running(running.settings.library)
    second.thread.start()
    second.thread.join(30)
    second.journal.close()
    assert isinstance(second.error, DaemonRunningError)


def test_idle_models_leave_the_memory(
    run: Callable[..., Running], pictures: Path, tmp_path: Path
) -> None:
    running = run(pictures, options=replace(WATCH, idle_unload_seconds=0.5))
    running.wait(lambda: "caught up:" in running.log())
    client = connect(tmp_path / "library")
    assert client is not None
    client.query(Question("anything"))
    assert running.daemon.state().towers_warm
    running.wait(lambda: not running.daemon.state().towers_warm)
    shutil.copy(sorted(demo.gallery_directory().rglob("*.jpg"))[50], pictures / "new.jpg")
    running.wait(lambda: running.daemon.state().embedded == 13)


def test_polling_keeps_no_model_in_memory(run: Callable[..., Running], pictures: Path) -> None:
    options = replace(WATCH, poll=True, poll_seconds=0.2, idle_unload_seconds=3)
    running = run(pictures, options=options)
    running.wait(lambda: "caught up:" in running.log() and running.daemon.state().looks > 1)
    running.wait(lambda: not running.daemon.state().towers_warm)


def test_new_pictures_do_not_wait_for_the_rest_of_a_large_folder(
    run: Callable[..., Running],
    many: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("siglip_search.service.watcher_care.CARE_SECONDS", 0.1)
    monkeypatch.setattr("siglip_search.service.working_thread.EMBEDDING_SECONDS", 0.1)
    monkeypatch.setattr("siglip_search.service.working_thread.EMBEDDING_TIMES_SCANNING", 0.1)
    embed = VisionTower.embed_with_provenance

    def slowly(self: VisionTower, pixels: NDArray[np.uint8]) -> Embedded:
        time.sleep(0.02)
        return embed(self, pixels)

    monkeypatch.setattr(VisionTower, "embed_with_provenance", slowly)
    root = tmp_path / "root"
    root.mkdir()
    with Library(Settings(library=tmp_path / "library", device="cpu"), model="demo") as library:
        library.index([root, pictures])  # or they would be looked at once more for being new
    many = many.rename(root / "many")
    running = run(root)
    running.wait(lambda: running.daemon.state().done > 20)
    shutil.copy(pictures / "00.jpg", many / "first.jpg")
    running.wait(lambda: "caught up in part" in running.log())
    # The folder of this one has many others, and looking at it means all of them.
    embedded = running.daemon.state().embedded
    running.wait(lambda: running.daemon.state().embedded > embedded)
    shutil.copy(pictures / "00.jpg", pictures / "second.jpg")
    running.wait(lambda: "caught up:" in running.log())
    lines = [line[20:].partition(" (")[0] for line in running.log().splitlines()]
    assert [line.partition(":")[0] for line in lines[-5:]] == [
        "caught up in part",  # once, though folders were named that come before all others
        "looked at 1 place in part",
        "looked at 1 place",
        "looked at 1 place",
        "caught up",
    ]
    assert lines[-3] == "looked at 1 place: 1 added"
    assert pictures_in(tmp_path / "library") == len({*many.iterdir()}) - 1 + 12


def test_new_pictures_do_not_wait_for_labels(
    run: Callable[..., Running], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siglip_search.service.watcher_care.CARE_SECONDS", 0.1)
    monkeypatch.setattr("siglip_search.service.working_thread.EMBEDDING_SECONDS", 0.1)
    monkeypatch.setattr("siglip_search.service.working_thread.EMBEDDING_TIMES_SCANNING", 0.1)
    embed = TextTower.embed

    def slowly(self: TextTower, texts: Sequence[str]) -> NDArray[np.float32]:
        time.sleep(0.05)
        return embed(self, texts)

    monkeypatch.setattr(TextTower, "embed", slowly)
    with Library(Settings(library=tmp_path / "library", device="cpu"), model="demo") as library:
        library.index([pictures])
    labels = tuple(f"label {number}" for number in range(120))
    choice = TagChoice(Vocabulary("labels.txt", labels, ("{}",)), "model", 0.001)
    with open_store(tmp_path / "library", writable=True) as store, store.write() as writer:
        writer.put_record("vocabulary", "tags", choice.to_json())
    running = run(pictures)
    running.wait(lambda: running.daemon.state().doing == "tagging")
    Image.new("RGB", (64, 64), "teal").save(pictures / "new.png")
    running.wait(lambda: "looked at 1 place: 1 added" in running.log())
    assert "caught up in part" in running.log()
    assert "caught up:" not in running.log()
    running.wait(lambda: "caught up:" in running.log())
    model = model_called("demo")
    with open_store(tmp_path / "library", writable=False) as store:
        assert not tag_summary(store, model.space_key, model).untagged


def test_a_drive_that_comes_to_another_place_is_followed_there(
    run: Callable[..., Running],
    pictures: Path,
    tmp_path: Path,
    cleanup: Callable[[Callable[[], object]], None],
) -> None:
    drive = ext4_drive(tmp_path / "drive.img", cleanup)
    drive.mount(tmp_path / "drive")
    shutil.copytree(pictures, tmp_path / "drive" / "photos")
    running = run(tmp_path / "drive" / "photos")
    running.wait(lambda: "caught up:" in running.log() and running.daemon.state().folders)
    drive.unmount()
    running.wait(lambda: [f.how for f in running.daemon.state().folders] == ["away"])
    drive.mount(tmp_path / "elsewhere")
    shutil.copy(pictures / "00.jpg", tmp_path / "elsewhere" / "photos" / "copy.jpg")
    running.wait(lambda: "looked at 1 place: 1 added" in running.log())
    (folder,) = running.daemon.state().folders
    assert (folder.path, folder.how) == (str(tmp_path / "elsewhere" / "photos"), "events")
    assert running.daemon.state().embedded == 12
    running.end()  # which lets the drive go


def test_a_job_that_was_taken_back_adds_no_folder(tmp_path: Path, pictures: Path) -> None:
    settings = Settings(library=tmp_path / "library", model="demo", device="cpu")
    cancelled = threading.Event()
    cancelled.set()
    job = HandedOver(IndexJob((str(pictures),), OPTIONS), print, cancelled)
    activity, settling = Activity(settings.library), Settling()
    with Follower(settings) as follower, Journal(settings.library) as journal:
        stop = RunStop(cancelled, on_look=lambda: None)
        runs = Runs(settling, activity, journal)
        assert carry_out_job(job, follower, runs, journal, own_options=OPTIONS, stop=stop)
        assert job.result()["stopped"]
        assert not follower.roots()


def test_what_could_not_be_read_now_is_tried_again_and_told_once(tmp_path: Path) -> None:
    activity, settling = Activity(tmp_path), Settling()
    failure = Failure(os.fsencode(tmp_path / "a.jpg"), "Permission denied", try_again=True)

    def fail(listener: IndexListener) -> IngestReport:
        listener.on_commit(Committed((), (failure,), 0))
        raise DiskFullError("full", hint="")

    with Journal(tmp_path) as journal:
        for _ in range(10):
            with pytest.raises(DiskFullError):
                Runs(settling, activity, journal).carry_out(fail, "looked", IndexListener())
            assert len(settling) == 1
    assert log_file(tmp_path).read_text().count("Permission denied; tried again") == 1


def test_a_hangup_has_everything_looked_through(
    run: Callable[..., Running], pictures: Path
) -> None:
    running = run(pictures)
    running.wait(lambda: "caught up:" in running.log())
    running.daemon.look_again()
    running.wait(lambda: "looked through all folders" in running.log())
