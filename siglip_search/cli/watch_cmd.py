"""`siglip-search watch`: follow the folders, and answer questions while models are warm."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from siglip_index.errors import StoreError
from siglip_search.cli.console import (
    EXIT_INTERRUPTED,
    chosen_library,
    chosen_settings,
    device_option,
    library_option,
)
from siglip_search.cli.model_choice import agree_to_another_version, offer_model
from siglip_search.cli.progress import ProgressLine
from siglip_search.engine.chosen_model import AnotherVersionError
from siglip_search.engine.indexing import IndexListener
from siglip_search.errors import NoModelError, SiglipSearchError
from siglip_search.ingest.pace import ON_BATTERY
from siglip_search.service.daemon import Daemon, WatchOptions
from siglip_search.service.journal import Journal
from siglip_search.service.thrift import lower_priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from siglip_search.engine.library import Library
    from siglip_search.ingest.pace import OnBattery
    from siglip_search.towers.session import Device

# Beside somebody's work at the machine, and before what is done when nobody needs it.
DEFAULT_NICE = 10


@click.command()
@click.argument("paths", nargs=-1, type=click.Path())
@click.option(
    "--poll",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Look at every folder so often instead of relying on the system's events; network drives "
    "are always followed in this way, every 30 s.",
)
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long nothing may happen to a file before it is read.",
)
@click.option(
    "--nice",
    type=click.IntRange(0, 19),
    default=DEFAULT_NICE,
    show_default=True,
    help="How far to stand back for other programs, as in nice(1).",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Pictures at a time.  [default: cores]"
)
@click.option(
    "--on-battery",
    type=click.Choice(ON_BATTERY),
    help="Without a charger: wait for one, go on with half the work at a time (and wait below "
    "20%), or take no notice.  [default: slow]",
)
@click.option(
    "--download-cloud",
    is_flag=True,
    help="Read also files that only the cloud has, which downloads them.",
)
@click.option("--json-logs", is_flag=True, help="Write each line of the log as a JSON object.")
@click.option("--verbose", is_flag=True, help="Say also what only a search for a fault needs.")
@click.option("--quiet", is_flag=True, help="Say on stderr only what somebody should know.")
@click.option(
    "--model",
    metavar="NAME",
    help="Model to use, for a new library; an older one is switched to it, as by `model use`.",
)
@device_option
@library_option
def watch(
    paths: tuple[str, ...],
    poll: float | None,
    settle: float,
    nice: int,
    jobs: int | None,
    on_battery: OnBattery | None,
    download_cloud: bool,
    json_logs: bool,
    verbose: bool,
    quiet: bool,
    model: str | None,
    device: Device | None,
) -> None:
    """Add the pictures in PATHS to the library, then follow every known folder.

    New pictures are found seconds later, until this is stopped with Ctrl-C (or SIGTERM). Other
    commands work meanwhile: `query` is answered at once, and `index` hands its folders over. The
    log goes to stderr and to the library's folder.

    \b
      siglip-search watch ~/Pictures
      siglip-search watch --poll 60 /mnt/nas/photos
    """
    if verbose and quiet:
        raise click.UsageError("Choose one of --verbose and --quiet.")
    library = chosen_library(model=model, device=device)
    if paths:
        with library:
            model = _model_for_indexing(library, model)
    options = library.index_options()
    options = dataclasses.replace(
        options,
        jobs=jobs or options.jobs,
        on_battery=on_battery or options.on_battery,
        download_cloud=download_cloud or options.download_cloud,
    )
    watch_options = WatchOptions(settle_seconds=settle)
    if poll is not None:
        watch_options = dataclasses.replace(watch_options, poll=True, poll_seconds=poll)
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    lower_priority(nice)
    shows_progress = sys.stderr.isatty() and not (json_logs or quiet)
    has_failed = False
    with Journal(library.directory, json_lines=json_logs, level=level) as journal:
        daemon = Daemon(
            chosen_settings(device=device),
            model=model,
            options=options,
            watch_options=watch_options,
            journal=journal,
            shown=partial(_progress, enabled=shows_progress),
        )
        with _obeying_signals(daemon), _defects_of_threads_told(journal):
            try:
                daemon.run(paths)
            except (SiglipSearchError, StoreError):
                raise
            except Exception as error:
                if not json_logs:
                    raise
                # Whoever reads objects would stumble over a traceback in plain text.
                journal.error(f"the daemon failed: {error}", trace=error)
                has_failed = True
    if has_failed:
        click.get_current_context().exit(1)  # as Python does with a defect


def _model_for_indexing(library: Library, model: str | None) -> str | None:
    """Return the model to index new paths with, as `index` finds it; None for the library's own.

    Raises:
        ModelError: There is none, and nobody can be asked.
    """
    try:
        library.models_for_indexing()
    except NoModelError:
        model = offer_model(model)
        if model is None:
            raise
    except AnotherVersionError as error:
        if not agree_to_another_version(library, error):
            raise
    return model


@contextmanager
def _progress(*, enabled: bool) -> Iterator[IndexListener]:
    """Show the run that goes on in the body."""
    with ProgressLine(enabled=enabled) as line:
        yield IndexListener(
            on_scanned=line.scanned, on_progress=line.progress, on_tagging=line.tagging
        )


@contextmanager
def _obeying_signals(daemon: Daemon) -> Iterator[None]:
    """Stop the daemon on the first signal, and the process at once on the second.

    A hangup stops it if somebody looked on at a terminal, which is gone now. Without a terminal it
    is what service managers send for "reload": all folders are looked through.
    """
    is_watched = sys.stderr.isatty()

    def stop(number: int, _: FrameType | None) -> None:
        if daemon.is_stopping:
            # Not even to clean up: what was committed is safe, and the locks end with the process.
            os._exit(EXIT_INTERRUPTED)
        daemon.stop()
        if is_watched and number == signal.SIGINT:
            # Not through print: the signal may have come amid one.
            os.write(2, b"stopping: pictures in work are finished first (again to quit at once)\n")

    def hang_up(number: int, frame: FrameType | None) -> None:
        if is_watched:
            stop(number, frame)
        else:
            daemon.look_again()

    handlers: dict[int, Callable[[int, FrameType | None], None]]
    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop}
    if sys.platform == "win32":
        handlers[signal.SIGBREAK] = stop
    else:
        handlers[signal.SIGHUP] = hang_up
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _defects_of_threads_told(journal: Journal) -> Iterator[None]:
    """Have what a thread dies of written to the journal, with its traceback."""

    def tell(what: threading.ExceptHookArgs) -> None:
        name = what.thread.name if what.thread else "unknown"
        journal.error(f"defect in the thread {name}: {what.exc_value}", trace=what.exc_value)

    before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        threading.excepthook = before
