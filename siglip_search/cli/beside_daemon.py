"""What commands that write do while a daemon looks after the library."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from siglip_search.cli.console import say
from siglip_search.service.client import DaemonUnavailableError, connect

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from siglip_search.engine.indexing import IndexListener, IndexOptions
    from siglip_search.ingest.report import IngestReport


# A question can do without a daemon that is slow to greet. Whoever wants to write would be refused
# while it writes, and a machine under load may take its time.
GREETING_SECONDS = 5.0


@contextmanager
def daemon_aside(directory: Path) -> Iterator[None]:
    """Have the daemon of a library leave it alone while the body runs; it goes on afterwards.

    Args:
        directory: Folder of the library.
    """
    daemon = connect(directory, greeting_seconds=GREETING_SECONDS)
    if daemon is None:
        yield
        return
    with daemon.stepping_aside():
        yield


def index_in_daemon(
    directory: Path,
    paths: Sequence[str],
    options: IndexOptions,
    *,
    stop: threading.Event,
    listener: IndexListener,
) -> IngestReport | None:
    """Hand a run of `index` to the daemon of a library; None where it has to be done here.

    Args:
        directory: Folder of the library.
        paths: As they were typed.
        options: How to index.
        stop: When set, the daemon stops the run.
        listener: Who wants to know about progress and commits.

    Raises:
        SiglipSearchError: The run failed, as it would have here.
    """
    from siglip_search.service.index_events import tell
    from siglip_search.service.messages import IndexJob, report_from_object
    from siglip_search.typed_paths import absolute_path

    daemon = connect(directory, greeting_seconds=GREETING_SECONDS)
    if daemon is None:
        return None
    with daemon:
        if not daemon.same_version:
            return None
        # The daemon has a working directory of its own.
        job = IndexJob(tuple(str(absolute_path(path)) for path in paths), options)
        try:
            report = report_from_object(
                daemon.index(job, lambda event: tell(event, listener), stop)
            )
        except (DaemonUnavailableError, ValueError):
            if stop.is_set():
                raise KeyboardInterrupt from None  # both were told to end
            say("the daemon does not answer any more; going on without it")
            return None
    if report.stopped and not stop.is_set():
        say("the daemon has been stopped; going on without it")
        return None
    return report


def stop_daemon(directory: Path) -> None:
    """Have the daemon of a library end, if there is one, and wait until it has."""
    daemon = connect(directory, greeting_seconds=GREETING_SECONDS)
    if daemon is None:
        return
    with suppress(DaemonUnavailableError):  # it has ended already
        daemon.stop()
