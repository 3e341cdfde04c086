"""Commands beside a daemon: the same output, the same exit code, the same library."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from installed_command import CommandLine
from small_daemon import SmallDaemon, runtime_folder, serving

from siglip_index import open_store
from siglip_index.errors import LibraryBusyError
from siglip_search import demo
from siglip_search.ingest.report import IngestReport
from siglip_search.service.client import connect
from siglip_search.service.jobs import DaemonStoppingError
from siglip_search.service.messages import report_object
from siglip_search.service.systemd import Systemd
from siglip_search.service.units import unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def _runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with runtime_folder(monkeypatch):
        yield


pytestmark = pytest.mark.usefixtures("_runtime")


def put_pictures(folder: Path) -> Path:
    folder.mkdir()
    for number, picture in enumerate(sorted(demo.gallery_directory().rglob("*.jpg"))[:12]):
        shutil.copy(picture, folder / f"picture-{number:02}.jpg")
    if os.name != "nt":
        os.rename(folder / "picture-00.jpg", os.fsencode(folder) + b"/caf\xe9.jpg")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    return folder


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A library for tests that only read it."""
    folder = tmp_path_factory.mktemp("unchanged")
    cli = CommandLine(folder / "library")
    cli.index(put_pictures(folder / "pictures"))
    return cli


@pytest.fixture
def resident(unchanged: CommandLine) -> Iterator[SmallDaemon]:
    """The daemon of the library that is only read."""
    served = SmallDaemon(unchanged.library)
    with serving(served, unchanged.library):
        yield served
    served.library.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return put_pictures(tmp_path / "pictures")


@pytest.fixture
def cli(tmp_path: Path, pictures: Path) -> CommandLine:
    cli = CommandLine(tmp_path / "library")
    cli.index(pictures)
    return cli


@pytest.fixture
def daemon(cli: CommandLine) -> Iterator[SmallDaemon]:
    served = SmallDaemon(cli.library)
    with serving(served, cli.library):
        yield served
    served.library.close()


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_questions_have_the_same_answers_with_and_without_a_daemon(unchanged: CommandLine) -> None:
    ways: list[tuple[str, ...]] = [
        ("dog",),
        ("--json", "--min-probability", "0", "-n", "50", "red bicycle"),
        ("--csv", "--min-probability", "0", "cat"),
        ("-0", "--all-files", "--min-probability", "0", "house"),
        ("--min-probability", "1", "dog"),
        ("!?",),
        ("",),
        (os.fsdecode(b"r\xf6d dog"),),
    ]
    if os.name == "nt":
        ways.pop()

    def outcomes() -> list[tuple[int, bytes, str]]:
        done = [unchanged("query", *way, expect=None) for way in ways]
        return [(outcome.status, outcome.stdout, outcome.stderr) for outcome in done]

    alone = outcomes()
    assert {status for status, _, _ in alone} == {0, 1, 2}
    served = SmallDaemon(unchanged.library)
    with serving(served, unchanged.library):
        beside = outcomes()
    served.library.close()
    for way, one, other in zip(ways, alone, beside, strict=True):
        assert one == other, way
    # What holds no words is refused before anybody is asked.
    assert served.asked == ["query"] * (len(ways) - 2)


def test_a_question_with_a_model_or_device_of_its_own_is_answered_alone(
    unchanged: CommandLine, resident: SmallDaemon
) -> None:
    unchanged("query", "--model", "demo", "--min-probability", "0", "dog")
    unchanged("query", "--device", "cpu", "--min-probability", "0", "dog")
    assert resident.asked == []


def test_a_question_to_a_daemon_loads_next_to_nothing(
    unchanged: CommandLine, resident: SmallDaemon
) -> None:
    script = """
import json, sys
from siglip_search.cli import main
sys.argv[1:] = ["query", "--nl", "--min-probability", "0", "dog"]
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=unchanged.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert resident.asked == ["query"]
    assert not loaded & {
        "numpy",
        "faiss",
        "onnxruntime",
        "sqlite3",
        "filelock",
        "importlib.metadata",
        "multiprocessing",
        "watchdog",
        "siglip_search.engine.library",
        "siglip_search.engine.indexing",
    }


def test_a_question_without_a_daemon_loads_no_more_than_its_address(unchanged: CommandLine) -> None:
    script = """
import json, sys
from siglip_search.cli import main
sys.argv[1:] = ["query", "--nl", "--min-probability", "0", "dog"]
try:
    main()
finally:
    print(json.dumps(sorted(name for name in sys.modules if ".service" in name)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=unchanged.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [
        "siglip_search.service",
        "siglip_search.service.address",
        "siglip_search.service.client",
    ]


def without_time(report: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name != "seconds"}


def test_an_index_says_the_same_with_and_without_a_daemon(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone, beside = CommandLine(tmp_path / "alone"), CommandLine(tmp_path / "beside")
    for cli in (alone, beside):
        first = pictures / "picture-05.jpg"
        cli("index", "--model", "demo", first)
    served = SmallDaemon(beside.library)
    with serving(served, beside.library):
        # Relative to the command's folder; quiet stdout but for the object.
        for way in (
            ("--json", "pictures"),
            ("--json", "--strict", "--newest", "1", "pictures"),
            ("--json", "nowhere"),
        ):
            one, other = (cli("index", *way, expect=None) for cli in (alone, beside))
            assert one.status == other.status, way
            assert one.stderr == other.stderr, way
            if one.stdout:
                assert without_time(one.json) == without_time(other.json), way
            else:
                assert other.stdout == b"", way
        one, other = (
            cli("index", "--json-events", "--exclude", "*05*", "--retry-failed", "pictures")
            for cli in (alone, beside)
        )
        for mine, its in zip(one.text.splitlines(), other.text.splitlines(), strict=True):
            assert without_time(json.loads(mine)) == without_time(json.loads(its))
        one, other = (cli("index") for cli in (alone, beside))
        assert one.text.splitlines()[:-1] == other.text.splitlines()[:-1]
    assert served.asked == ["index"] * 5
    served.library.close()
    beside.verify()


def test_an_index_with_a_model_of_its_own_has_the_daemon_step_aside(
    cli: CommandLine, daemon: SmallDaemon, pictures: Path
) -> None:
    cli.index(pictures)
    cli("index", "--dry-run", pictures)
    assert daemon.asked == ["step_aside"]


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_ctrl_c_stops_the_run_in_the_daemon_and_a_kill_does_not(
    cli: CommandLine, daemon: SmallDaemon, pictures: Path
) -> None:
    daemon.writing.acquire()  # the run waits, and so cannot be over too soon
    stopped = cli.start("index", "--json")
    until(lambda: daemon.asked == ["index"])
    stopped.send_signal(signal.SIGINT)
    assert stopped.stderr is not None
    assert "stopping" in stopped.stderr.readline()
    time.sleep(0.5)
    daemon.writing.release()
    output, errors = stopped.communicate(timeout=20)
    assert stopped.returncode == 130
    assert json.loads(output)["stopped"]
    assert "goes on from here" in errors

    daemon.finished.clear()
    shutil.copy(pictures / "picture-03.jpg", pictures / "new.jpg")
    daemon.writing.acquire()
    killed = cli.start("index", "--json")
    until(lambda: daemon.asked == ["index", "index"])
    killed.kill()
    killed.communicate(timeout=20)
    daemon.writing.release()
    assert daemon.finished.wait(20)
    assert cli.status()["files"] == 13


@pytest.mark.skipif(os.name == "nt", reason="kills a process")
def test_a_daemon_that_dies_amid_a_run_leaves_the_rest_to_the_command(
    cli: CommandLine, pictures: Path
) -> None:
    served = SmallDaemon(cli.library)
    shutil.copy(pictures / "picture-03.jpg", pictures / "new.jpg")
    with serving(served, cli.library) as endpoint:
        served.writing.acquire()
        run = cli.start("index", "--json")
        until(lambda: served.asked)
        endpoint.close()
        output, errors = run.communicate(timeout=30)
        assert run.returncode == 0
        assert json.loads(output)["added"] == 1
        assert "going on without it" in errors
        served.writing.release()
        assert served.finished.wait(20)
    served.library.close()


@pytest.mark.parametrize("ends", ["before the run", "amid the run"])
def test_a_daemon_that_is_told_to_end_leaves_the_rest_to_the_command(
    ends: str, cli: CommandLine, pictures: Path
) -> None:
    class Ending(SmallDaemon):
        def index(self, *_: Any) -> dict[str, Any]:
            self.asked.append("index")
            if ends == "before the run":
                raise DaemonStoppingError("the daemon of this library is ending", hint="Wait.")
            return report_object(IngestReport(stopped=True, unchanged=3))

    served = Ending(cli.library)
    shutil.copy(pictures / "picture-03.jpg", pictures / "new.jpg")
    with serving(served, cli.library):
        done = cli("index", "--json")
    served.library.close()
    assert served.asked == ["index", "step_aside"]
    assert done.json["added"] == 1
    assert not done.json["stopped"]
    assert "going on without it" in done.stderr


def test_commands_that_write_have_the_daemon_step_aside(
    cli: CommandLine, daemon: SmallDaemon, pictures: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(pictures, elsewhere)
    backup = tmp_path / "backup.sqlite3"
    cli("backup", backup)
    for command in (
        ("prune",),
        ("roots", "relocate", pictures, elsewhere),
        ("roots", "exclude", elsewhere, "*.gif"),
        ("verify", "--repair"),
        ("model", "use", "demo"),
        ("restore", "--force", backup),
        ("forget", pictures),
    ):
        daemon.asked.clear()
        cli(*command)
        assert daemon.asked == ["step_aside"], command
        assert daemon.asides[-1].wait(5), command
    daemon.asked.clear()
    for command in (("verify",), ("roots",), ("backup", tmp_path / "again.sqlite3")):
        cli(*command)
    cli("roots", "exclude", elsewhere, expect=2)
    assert daemon.asked == []


def test_while_the_daemon_is_aside_the_lock_is_the_commands(
    unchanged: CommandLine, resident: SmallDaemon
) -> None:
    client = connect(unchanged.library)
    assert client is not None
    with client.stepping_aside(), open_store(unchanged.library, writable=True):
        with pytest.raises(LibraryBusyError):
            open_store(unchanged.library, writable=True)
        assert not resident.asides[-1].is_set()
    assert resident.asides[-1].wait(5)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at a unit of systemd")
def test_purge_tells_of_a_service_that_is_left(cli: CommandLine) -> None:
    unit = unit_of(cli.library)
    file = Systemd().file(unit)
    file.parent.mkdir(parents=True)
    file.write_bytes(Systemd().definition(unit))
    told = cli("purge", "--yes").stderr
    assert f"siglip-search service uninstall --library {cli.library}\n" in told
    assert file.exists()


def test_purge_ends_the_daemon_first(cli: CommandLine) -> None:
    served = SmallDaemon(cli.library)
    with serving(served, cli.library) as endpoint:
        purging = cli.start("purge", "--yes")
        assert served.stopped.wait(20)
        assert cli.library.exists()
        endpoint.close()
        output, errors = purging.communicate(timeout=20)
    assert purging.returncode == 0, errors
    assert output.endswith("deleted\n")
    assert not cli.library.exists()


def test_status_shows_the_daemon(unchanged: CommandLine, resident: SmallDaemon) -> None:
    unchanged("query", "--min-probability", "0", "dog")
    service = unchanged.status()["service"]
    assert service["pid"] == os.getpid()
    assert service["doing"] == "idle"
    assert service["queries"] == 1
    assert service["folders"] == [
        {"path": os.fsdecode(b"/photos/\xff"), "how": "polling", "why": "NFS"}
    ]
    said = unchanged("status").text
    assert f"service   idle (process {os.getpid()}" in said
    assert "1 query answered" in said
    assert "/photos/\\udcff  polling (NFS)" in said


def test_status_without_a_daemon(unchanged: CommandLine) -> None:
    assert unchanged.status()["service"] is None
    assert "service" not in unchanged("status").text
    assert "siglip_search_up 0\n" in unchanged("status", "--prometheus").text
    unchanged("status", "--prometheus", "--json", expect=2)


def test_prometheus_reads_the_figures(unchanged: CommandLine, resident: SmallDaemon) -> None:
    said = unchanged("status", "--prometheus").text
    assert "siglip_search_up 1\n" in said
    assert "# TYPE siglip_search_queries_total counter\nsiglip_search_queries_total 0\n" in said
    assert 'siglip_search_service_doing{doing="idle"} 1\n' in said
    assert 'siglip_search_folder_followed{path="/photos/\ufffd",how="polling"} 1\n' in said
    assert f"siglip_search_pictures {unchanged.status()['pictures']}\n" in said
