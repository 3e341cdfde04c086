"""The endpoint: who may speak to the daemon, and that nobody holds it up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from small_daemon import runtime_folder, serving, state

from siglip_search.engine.indexing import IndexOptions
from siglip_search.errors import DaemonRunningError, PathError, QueryError
from siglip_search.ingest.report import Failure, IngestReport
from siglip_search.search.question import Question
from siglip_search.search.ranking import Answer, Hit
from siglip_search.service import address, channel, conversation
from siglip_search.service.client import DaemonClient, DaemonUnavailableError, connect
from siglip_search.service.endpoint import CLOSING_SECONDS
from siglip_search.service.messages import IndexJob, QueryReply, report_object
from siglip_search.service.outbox import LARGEST_BACKLOG, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from siglip_search.service.state import ServiceState

pytestmark = pytest.mark.skipif(os.name == "nt", reason="looks at sockets in folders")

NOT_TEXT = os.fsdecode(b"/photos/caf\xe9 \xff.jpg")
HIT = Hit(
    rank=1,
    path=NOT_TEXT,
    probability=0.1 + 0.2,
    cosine=0.123456789012345678,
    copies=(NOT_TEXT, "/b.jpg"),
    photo_id=7,
    width=4,
    height=3,
    format="JPEG",
    taken_at=None,
    camera="caméra",
    keywords=("a", "b"),
)


class Echo:
    """Answers at once, and keeps what it was asked."""

    def __init__(self) -> None:
        self.meeting = threading.Barrier(8)
        self.events: list[dict[str, Any]] = []
        self.jobs: list[IndexJob] = []
        self.go_on = threading.Event()
        self.cancelled: threading.Event | None = None
        self.finished = threading.Event()
        self.aside: threading.Event | None = None

    def query(self, request: Question) -> QueryReply:
        if request.words == "together":
            self.meeting.wait(10)
        if request.words == "huge":
            return QueryReply(Answer((HIT,) * 100))
        if request.words == "wrong":
            raise QueryError("no words", hint="Say some.")
        return QueryReply(Answer((HIT,), None), request.words)

    def state(self) -> ServiceState:
        return state()

    def index(
        self,
        request: IndexJob,
        on_event: Callable[[dict[str, Any]], None],
        cancelled: threading.Event,
    ) -> dict[str, Any]:
        self.jobs.append(request)
        self.cancelled = cancelled
        for event in self.events:
            on_event(event)
        while not (self.go_on.wait(0.01) or cancelled.is_set()):
            pass
        self.finished.set()
        failures = [Failure(os.fsencode(NOT_TEXT), "torn")]
        return report_object(
            IngestReport(added=3, failed=1, failures=failures, stopped=cancelled.is_set())
        )

    def step_aside(self, done: threading.Event) -> None:
        self.aside = done

    def stop(self) -> None:
        self.finished.set()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with runtime_folder(monkeypatch) as folder:
        yield folder


@pytest.fixture(params=["unix", "loopback"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything that holds for Unix sockets holds for the loopback of Windows."""
    if request.param == "loopback":
        monkeypatch.setattr(address, "uses_loopback", lambda: True)
        monkeypatch.setattr("siglip_search.service.endpoint.uses_loopback", lambda: True)
    return str(request.param)


@pytest.fixture
def echo(runtime: Path, transport: str, tmp_path: Path) -> Iterator[Echo]:
    served = Echo()
    with serving(served, tmp_path):
        yield served
    served.go_on.set()


def dialled(directory: Path) -> socket.socket:
    line = address.dial(directory)
    assert line is not None
    line.socket.settimeout(10)
    return line.socket


def called(directory: Path) -> DaemonClient:
    """Return the daemon of a library, also on a machine under load."""
    client = connect(directory, greeting_seconds=10.0)
    assert client is not None
    return client


def framed(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def until(holds: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_answer_comes_as_it_was_given(echo: Echo, tmp_path: Path) -> None:
    client = called(tmp_path)
    assert client.pid == os.getpid()
    assert client.same_version
    text = os.fsdecode(b"r\xf6d")
    assert client.query(Question(text)) == QueryReply(Answer((HIT,), None), text)
    found = client.state()
    assert found == state(started_at=found.started_at)


def test_a_failure_and_an_answer_that_is_too_large_are_worked_out_alone(
    echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(channel.Channel.send.__kwdefaults__, "limit", 5000)
    for text in ("wrong", "huge"):
        client = called(tmp_path)
        with pytest.raises(DaemonUnavailableError):
            client.query(Question(text))


def test_questions_are_answered_side_by_side(echo: Echo, tmp_path: Path) -> None:
    def ask() -> None:
        client = called(tmp_path)
        client.query(Question("together"))  # none is answered before all eight are there

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert not echo.meeting.broken


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00",
        framed(b"{")[:-1],
        framed(b"\xff\xfe nonsense"),
        framed(b"[" * 4000),
        framed(b"[]"),
        framed(b'{"ask": "the way"}'),
        framed(b'{"ask": "query", "query": {"text": 3}}'),
        framed(b'{"ask": "index", "job": {"paths": ["relative"], "options": {}}}'),
        framed(b'{"ask": "index", "job": {"paths": 1, "options": {"no": 1}}}'),
        struct.pack(">I", 2**32 - 1),
        os.urandom(5000),
    ],
)
def test_nonsense_does_nothing(echo: Echo, tmp_path: Path, said: bytes) -> None:
    with dialled(tmp_path) as line:
        line.sendall(said)
        line.shutdown(socket.SHUT_WR)
        while line.recv(65536):
            pass
    assert not echo.jobs
    client = called(tmp_path)
    client.query(Question("dog"))


def test_whoever_says_nothing_or_one_byte_at_a_time_is_put_out(
    echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "REQUEST_SECONDS", 0.5)
    with dialled(tmp_path) as line, dialled(tmp_path) as other:
        began = time.monotonic()
        try:
            for byte in struct.pack(">I", 1000) + b" " * 1000:
                line.send(bytes([byte]))
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - began < 5
        while other.recv(65536):
            pass


def test_too_many_are_sent_away_at_once(
    echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siglip_search.service.endpoint.MAX_CONVERSATIONS", 2)
    silent = [dialled(tmp_path), dialled(tmp_path)]
    for line in silent:
        line.recv(10)  # greeted
    began = time.monotonic()
    assert connect(tmp_path) is None
    assert time.monotonic() - began < 0.5
    for line in silent:
        line.close()
    until(lambda: (client := connect(tmp_path)) and (client.close(), True))


def test_a_run_tells_its_events_and_its_report(echo: Echo, tmp_path: Path) -> None:
    paths = [NOT_TEXT]
    echo.events = [
        {"event": "scanned", "files": 3},
        {"event": "committed", "paths": paths, "failures": [], "embedded": 1},
    ]
    echo.go_on.set()
    client = called(tmp_path)
    heard: list[dict[str, Any]] = []
    options = IndexOptions(exclude=("*.gif", "x/"), newest=5)
    job = IndexJob((NOT_TEXT,), options)
    report = client.index(job, heard.append, threading.Event())
    assert heard == echo.events
    assert report["failures"] == [{"path": NOT_TEXT, "reason": "torn"}]
    assert echo.jobs == [job]


def test_a_command_that_is_stopped_stops_its_run_and_gets_the_report(
    echo: Echo, tmp_path: Path
) -> None:
    client = called(tmp_path)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    report = client.index(IndexJob((), IndexOptions()), lambda _: None, stop)
    assert report["stopped"]


def test_a_command_that_is_killed_leaves_its_run_going_on(echo: Echo, tmp_path: Path) -> None:
    client = called(tmp_path)
    client._channel.send(  # type: ignore[union-attr]
        {"ask": "index", "job": {"paths": [], "options": {}}}
    )
    until(lambda: echo.cancelled)
    client.close()
    time.sleep(0.3)
    assert echo.cancelled is not None
    assert not echo.cancelled.is_set()
    assert not echo.finished.is_set()
    echo.go_on.set()
    assert echo.finished.wait(5)


def test_the_run_never_waits_for_a_command_that_does_not_listen() -> None:
    outbox = Outbox()
    for files in range(3 * LARGEST_BACKLOG):
        outbox.put_event({"event": "scanned", "files": files})
    outbox.put_last({"reply": {}})
    assert list(outbox) == [
        {"event": {"event": "scanned", "files": 3 * LARGEST_BACKLOG - 1}},
        {"reply": {}},
    ]
    outbox = Outbox()
    for number in range(2 * LARGEST_BACKLOG):
        outbox.put_event({"event": "committed", "embedded": number})
    outbox.put_last({"reply": {}})
    assert list(outbox) == []


def test_the_daemon_steps_aside_until_the_command_is_done_or_gone(
    echo: Echo, tmp_path: Path
) -> None:
    client = called(tmp_path)
    with client.stepping_aside():
        assert echo.aside is not None
        assert not echo.aside.is_set()
    assert echo.aside.wait(5)


def test_a_closing_endpoint_keeps_nobody_waiting(
    runtime: Path, transport: str, tmp_path: Path
) -> None:
    served = Echo()
    with ExitStack() as open_ends, serving(served, tmp_path) as endpoint:
        open_ends.enter_context(dialled(tmp_path))  # and silent
        client, other, last = (open_ends.enter_context(called(tmp_path)) for _ in range(3))
        open_ends.enter_context(client.stepping_aside())
        ended: list[bool] = []
        waiting = threading.Thread(target=lambda: ended.append(last.stop()))
        waiting.start()
        assert served.finished.wait(5)
        began = time.monotonic()
        endpoint.close()
        assert time.monotonic() - began < 1.0
        assert connect(tmp_path) is None
        with pytest.raises(DaemonUnavailableError):
            other.query(Question("dog"))
        assert served.aside is not None
        assert served.aside.wait(5)
        waiting.join(5)
        assert ended == [True]
    assert list(tmp_path.iterdir()) == []
    assert list((runtime / "siglip-search").iterdir()) == []


class Preempted(Echo):
    """Is about to answer when the endpoint closes, as on a machine under load."""

    def stop(self) -> None:
        super().stop()
        time.sleep(0.3)


def test_a_closing_endpoint_waits_for_an_answer_and_no_longer(
    runtime: Path, transport: str, tmp_path: Path
) -> None:
    served = Preempted()
    with serving(served, tmp_path) as endpoint, called(tmp_path) as last:
        ended: list[bool] = []
        waiting = threading.Thread(target=lambda: ended.append(last.stop()))
        waiting.start()
        assert served.finished.wait(5)
        began = time.monotonic()
        endpoint.close()
        assert 0.2 < time.monotonic() - began < CLOSING_SECONDS
        waiting.join(5)
        assert ended == [True]


def test_whoever_waits_for_the_end_finds_the_lock_free(
    runtime: Path, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Echo()
    left: list[list[Path]] = []

    def stop() -> None:
        client = called(tmp_path)
        assert client.stop()
        left.append(list(tmp_path.iterdir()))

    for _ in range(5):
        with serving(served, tmp_path) as endpoint:
            waiting = threading.Thread(target=stop)
            waiting.start()
            assert served.finished.wait(5)
            served.finished.clear()
            release = endpoint._release_lock

            def slow(release: Callable[[], None] = release) -> None:
                time.sleep(0.05)  # as a slow disk would
                release()

            monkeypatch.setattr(endpoint, "_release_lock", slow)
            endpoint.close()
            waiting.join(5)
    assert left == [[]] * 5


def test_an_address_that_was_cleared_away_is_made_anew(
    runtime: Path, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siglip_search.service.endpoint.RENEWAL_SECONDS", 0.05)
    with serving(Echo(), tmp_path):
        for _ in range(2):
            shutil.rmtree(runtime / "siglip-search")
            client = None
            deadline = time.monotonic() + 10
            while client is None:
                assert time.monotonic() < deadline
                client = connect(tmp_path)
            assert client.state().pid == os.getpid()
    assert list((runtime / "siglip-search").iterdir()) == []


@pytest.mark.parametrize("error", [PackageNotFoundError("siglip-search"), RuntimeError("threads")])
def test_a_daemon_that_cannot_let_one_in_goes_on_listening(
    error: Exception, echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise error  # while pip exchanges the package, or a limit of threads is reached

    with monkeypatch.context() as amid:
        amid.setattr("siglip_search.service.endpoint.installed_version", refuse)
        assert connect(tmp_path) is None
    client = called(tmp_path)
    assert client.state().pid == os.getpid()


def test_a_slow_greeting_is_waited_for_by_whoever_asks_for_patience(
    echo: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow() -> str:
        time.sleep(0.5)  # as on a machine under load
        return "1"

    monkeypatch.setattr("siglip_search.service.endpoint.installed_version", slow)
    assert connect(tmp_path, greeting_seconds=0.1) is None
    client = connect(tmp_path, greeting_seconds=5.0)
    assert client is not None
    client.close()


def test_one_daemon_a_library(echo: Echo, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with (
        pytest.raises(DaemonRunningError, match=f"process {os.getpid()} looks after") as refused,
        serving(Echo(), link),
    ):
        pass
    assert "siglip-search index PATH" in refused.value.hint
    client = called(link)
    client.close()


def test_another_version_is_noticed(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Echo(), tmp_path):
        # Upgraded in its place, while the daemon runs what it has loaded.
        monkeypatch.setattr("siglip_search.service.endpoint.installed_version", lambda: "9.9")
        monkeypatch.setattr("siglip_search.service.version.installed_version", lambda: "9.9")
        client = called(tmp_path)
        assert not client.same_version
        client.close()
        monkeypatch.setattr("siglip_search.service.messages.PROTOCOL", 99)
        assert connect(tmp_path) is None


def test_only_the_user_can_enter(runtime: Path, tmp_path: Path) -> None:
    folder = runtime / "siglip-search"
    folder.mkdir(mode=0o755)
    assert connect(tmp_path) is None
    with serving(Echo(), tmp_path):
        (place,) = folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert place.stat().st_mode & 0o777 == 0o600
        folder.chmod(0o750)
        assert connect(tmp_path) is None


def test_the_secret_of_the_loopback_is_the_users_own(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "uses_loopback", lambda: True)
    monkeypatch.setattr("siglip_search.service.endpoint.uses_loopback", lambda: True)
    with serving(Echo(), tmp_path):
        place = address.address_file(tmp_path)
        assert place.stat().st_mode & 0o777 == 0o600
        known = json.loads(place.read_bytes())
        place.write_text(json.dumps({**known, "secret": "00" * 32}))
        assert connect(tmp_path) is None  # neither believes the other
        place.write_text(json.dumps({**known, "port": 1}))
        assert connect(tmp_path) is None
        place.write_text("nonsense")
        assert connect(tmp_path) is None


def test_a_runtime_folder_that_is_a_link_or_another_users_is_refused(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runtime / "siglip-search"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    with pytest.raises(PathError, match="is a link or belongs to another user") as refused:
        address.make_private(folder)
    # In /tmp nobody can remove what is another user's.
    assert "XDG_RUNTIME_DIR" in refused.value.hint
    with (
        pytest.raises(PathError, match="is a link or belongs to another user"),
        serving(Echo(), tmp_path / "library"),
    ):
        pass
    # What was refused holds no lock.
    folder.unlink()
    with serving(Echo(), tmp_path / "library"):
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        assert not address._is_trustworthy(folder / "any")
        assert connect(tmp_path / "library") is None
        with pytest.raises(PathError, match="is a link or belongs to another user"):
            address.make_private(folder)


def test_another_users_process_is_no_daemon_and_no_command(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Echo(), tmp_path):
        monkeypatch.setattr("siglip_search.service.peer.peer_user", lambda _: os.getuid() + 1)
        assert connect(tmp_path) is None


def test_the_system_tells_who_is_there() -> None:
    from siglip_search.service.peer import peer_user

    one, other = socket.socketpair()
    with one, other:
        assert peer_user(one) in {os.getuid(), None}


def test_where_paths_are_long_another_folder_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("a" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    assert not str(address.address_file(tmp_path)).startswith(str(long))
    assert len(os.fsencode(address.address_file(tmp_path))) <= 103


DAEMON = """
import sys, threading
from pathlib import Path
from small_daemon import SmallDaemon
from siglip_search.service.endpoint import Endpoint
endpoint = Endpoint(Path(sys.argv[1]), SmallDaemon(Path(sys.argv[1])))
endpoint.start()
print("ready", flush=True)
threading.Event().wait()
"""


def test_what_a_killed_daemon_left_is_replaced(runtime: Path, tmp_path: Path) -> None:
    tests = str(Path(__file__).resolve().parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, tmp_path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": tests},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        client = called(tmp_path)
        assert client.pid == process.pid
        # Suspended: it takes the connection and says nothing.
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert connect(tmp_path) is None
        assert time.monotonic() - began < 3
        process.kill()
    with pytest.raises(DaemonUnavailableError):
        client.state()
    assert address.address_file(tmp_path).exists()
    began = time.monotonic()
    assert connect(tmp_path) is None
    assert time.monotonic() - began < 0.1
    with serving(Echo(), tmp_path):
        client = called(tmp_path)
        assert client.pid == os.getpid()
        client.close()


def test_one_daemon_a_library_also_when_its_lock_was_deleted(echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "daemon.lock").unlink()
    with (
        pytest.raises(DaemonRunningError, match=f"process {os.getpid()} looks after"),
        serving(Echo(), tmp_path),
    ):
        pass
    client = called(tmp_path)
    client.close()
