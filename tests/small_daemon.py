"""A daemon without a watcher: a real library behind a real endpoint, for tests of the endpoint."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siglip_search.engine.library import Library
from siglip_search.service.endpoint import Endpoint
from siglip_search.service.index_events import listener_for
from siglip_search.service.messages import QueryReply, report_object
from siglip_search.service.state import FolderState, ServiceState
from siglip_search.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from siglip_search.search.question import Question
    from siglip_search.service.messages import IndexJob


def state(**facts: Any) -> ServiceState:
    """Return the state of an idle daemon, but for these facts."""
    idle = ServiceState(
        pid=os.getpid(),
        version="0.1.0",
        started_at=time.time() - 90,
        library="/library",
        model="demo",
        device="cpu",
        precision="fp32",
        doing="idle",
        why=None,
        queue=0,
        done=0,
        total=0,
        pictures_per_second=None,
        seconds_left=None,
        last_event_at=None,
        last_commit_at=None,
        embedded=0,
        failed=0,
        looks=0,
        folders=(),
        last_warnings=(),
        queries=0,
        towers_warm=True,
        memory_bytes=None,
    )
    return replace(idle, **facts)


class SmallDaemon:
    """Serves a library; nothing here is a stand-in but the missing watcher.

    Attributes:
        asked: What was asked, in order.
        asides: Events of the commands that this stepped aside for.
        stopped: Set when a command asked for the end.
        slowness: Seconds that each question takes more.
    """

    def __init__(self, directory: Path) -> None:
        self.library = Library(replace(load_settings(), library=directory), one_shot=True)
        self.asked: list[str] = []
        self.asides: list[threading.Event] = []
        self.stopped = threading.Event()
        self.finished = threading.Event()
        self.slowness = 0.0
        self.writing = threading.Lock()

    def query(self, request: Question) -> QueryReply:
        self.asked.append("query")
        time.sleep(self.slowness)
        return QueryReply(self.library.answer(request), self.library.notice())

    def state(self) -> ServiceState:
        self.asked.append("state")
        folders = (FolderState(os.fsdecode(b"/photos/\xff"), "polling", "NFS"),)
        return state(folders=folders, queries=self.asked.count("query"))

    def index(
        self,
        request: IndexJob,
        on_event: Callable[[dict[str, Any]], None],
        cancelled: threading.Event,
    ) -> dict[str, Any]:
        self.asked.append("index")
        with self.writing:
            report = self.library.index(
                request.paths,
                options=replace(request.options, device="cpu"),
                stop=cancelled,
                listener=listener_for(on_event),
            )
        self.finished.set()
        return report_object(report)

    def step_aside(self, done: threading.Event) -> None:
        self.asked.append("step_aside")
        self.asides.append(done)

    def stop(self) -> None:
        self.asked.append("stop")
        self.stopped.set()


@contextmanager
def runtime_folder(monkeypatch: Any) -> Iterator[Path]:
    """Give a runtime folder with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="run") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


@contextmanager
def serving(served: Any, directory: Path) -> Iterator[Endpoint]:
    """Let a daemon be reached while the body runs."""
    endpoint = Endpoint(directory, served)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.close()
