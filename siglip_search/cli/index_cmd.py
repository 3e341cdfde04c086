"""`siglip-search index`: bring the library up to date."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import click

from siglip_search.cli.beside_daemon import daemon_aside, index_in_daemon
from siglip_search.cli.console import (
    EXIT_INTERRUPTED,
    EXIT_NO_MATCH,
    chosen_library,
    device_option,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.cli.explanation import print_explanation
from siglip_search.cli.index_listener import telling_listener
from siglip_search.cli.index_summary import print_summary
from siglip_search.cli.model_choice import agree_to_another_version, offer_model
from siglip_search.cli.progress import ProgressLine
from siglip_search.engine.chosen_model import AnotherVersionError
from siglip_search.errors import NoModelError
from siglip_search.ingest.pace import ON_BATTERY
from siglip_search.service.messages import report_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from siglip_search.ingest.pace import OnBattery
    from siglip_search.towers.session import Device


@click.command()
@click.argument("paths", nargs=-1, type=click.Path())
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="Leave out, as in .gitignore; repeatable."
)
@click.option("--hidden", is_flag=True, help="Take hidden files and folders as well.")
@click.option(
    "--download-cloud",
    is_flag=True,
    help="Read also files that only the cloud has, which downloads them.",
)
@click.option("--retry-failed", is_flag=True, help="Read pictures again that could not be read.")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Largest picture that is opened, width times height.  [default: 250 million]",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Pictures at a time.  [default: cores]"
)
@click.option(
    "--newest",
    type=click.IntRange(min=1),
    metavar="N",
    help="Read only the N newest of what is new, and leave the rest for the next run.",
)
@click.option(
    "--on-battery",
    type=click.Choice(ON_BATTERY),
    help="Without a charger: wait for one, go on with half the work at a time (and wait below "
    "20%), or take no notice.  [default: slow]",
)
@click.option("--dry-run", is_flag=True, help="Only count what would be done.")
@click.option(
    "--explain",
    metavar="PATH",
    type=click.Path(),
    help="Only say what would happen to one file or folder, and which rule decides.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if a picture could not be read.")
@json_option
@click.option(
    "--json-events", is_flag=True, help="Print a JSON line after each batch is safely on disk."
)
@click.option(
    "--model",
    metavar="NAME",
    help="Model to use, for a new library; an older one is switched to it, as by `model use`.",
)
@device_option
@library_option
@click.pass_context
def index(
    context: click.Context,
    paths: tuple[str, ...],
    exclude: tuple[str, ...],
    hidden: bool,
    download_cloud: bool,
    retry_failed: bool,
    max_pixels: int | None,
    jobs: int | None,
    newest: int | None,
    on_battery: OnBattery | None,
    dry_run: bool,
    explain: str | None,
    strict: bool,
    as_json: bool,
    json_events: bool,
    model: str | None,
    device: Device | None,
) -> None:
    """Add the pictures in PATHS to the library, or look again at every known folder.

    Only new and changed pictures are read. Copies and moved files are recognised. Files named
    in a .siglipignore (written like .gitignore) are left out. Ctrl-C stops after the pictures
    in work; the next run goes on from there.

    While `siglip-search watch` runs, it does the work and this shows it; with --model or --device
    it steps aside. Ctrl-C stops the work then too; when this command is killed, it goes on.

    \b
      siglip-search index ~/Pictures
      siglip-search index --exclude "*.png" --exclude "Screenshots/" ~/Pictures /mnt/camera
    """
    if as_json and json_events:
        raise click.UsageError("Choose one of --json and --json-events.")
    if explain is not None and json_events:
        raise click.UsageError("--explain prints no events; it goes with --json.")
    library = chosen_library(model=model, device=device)
    options = library.index_options()
    options = dataclasses.replace(
        options,
        exclude=options.exclude + exclude,
        hidden=hidden or options.hidden,
        download_cloud=download_cloud or options.download_cloud,
        retry_failed=retry_failed,
        max_pixels=max_pixels or options.max_pixels,
        jobs=jobs or options.jobs,
        newest=newest,
        on_battery=on_battery or options.on_battery,
    )
    if explain is not None:
        with library:
            explanation = library.folders().explain(explain, paths, options)
        print_explanation(explanation, as_json=as_json)
        context.exit(0 if explanation.taken else EXIT_NO_MATCH)
    if not paths and not library.roots():
        raise click.UsageError("Name the folders to index: siglip-search index ~/Pictures")
    try:
        library.models_for_indexing()
    except NoModelError:
        model = offer_model(model)
        if model is None:
            raise
        library.close()
        library = chosen_library(model=model, device=device)
    except AnotherVersionError as error:
        if not agree_to_another_version(library, error):
            raise
    with library, stopping_on_signals() as stop, ProgressLine(enabled=sys.stderr.isatty()) as line:
        listener = telling_listener(line, json_events=json_events)
        report = None
        if model is None and device is None and not dry_run:
            report = index_in_daemon(
                library.directory, paths, options, stop=stop, listener=listener
            )
        if report is None:
            with nullcontext() if dry_run else daemon_aside(library.directory):
                report = library.index(
                    paths, options=options, stop=stop, dry_run=dry_run, listener=listener
                )
            if not dry_run and not report.stopped:
                from siglip_search.engine.albums import refresh_albums

                refresh_albums(library)
    if as_json:
        print_json(report_object(report))
    elif json_events:
        print_json({"event": "finished", **report_object(report)})
    else:
        print_summary(report, dry_run=dry_run)
    for warning in report.warnings:
        say(f"warning: {shown(warning)}")
    if report.stopped:
        say(f"stopped; `{resuming_command()}` goes on from here")
        context.exit(EXIT_INTERRUPTED)
    if strict and report.failed:
        context.exit(EXIT_NO_MATCH)


def resuming_command() -> str:
    """Return the line that continues a run that was stopped."""
    return shlex.join(["siglip-search", *sys.argv[1:]])


@contextmanager
def stopping_on_signals() -> Iterator[threading.Event]:
    """Give an event that the first SIGINT or SIGTERM sets; the second one interrupts at once."""
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        # Not through print: the signal may have come amid one.
        os.write(2, b"stopping: pictures in work are finished first (again to quit at once)\n")

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
