"""`siglip-search index`: bring the library up to date."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    EXIT_INTERRUPTED,
    EXIT_NO_MATCH,
    chosen_library,
    count,
    device_option,
    duration,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.cli.explanation import print_explanation
from siglip_search.cli.model_choice import agree_to_another_version, offer_model
from siglip_search.cli.progress import ProgressLine
from siglip_search.engine.chosen_model import AnotherVersionError
from siglip_search.engine.indexing import Estimate, IndexListener
from siglip_search.errors import NoModelError
from siglip_search.ingest.pace import ON_BATTERY
from siglip_search.photos.optional_formats import install_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from siglip_search.ingest.pace import Decision, OnBattery
    from siglip_search.ingest.report import Committed, IngestReport
    from siglip_search.towers.session import Device

# Shorter runs are over before anyone has read the estimate.
LONG_RUN_SECONDS = 20.0


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

    \b
      siglip-search index ~/Pictures
      siglip-search index --exclude "*.png" --exclude "Screenshots/" ~/Pictures /mnt/camera
    """
    if as_json and json_events:
        raise click.UsageError("Choose one of --json and --json-events.")
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
        chosen = offer_model(model)
        if chosen is None:
            raise
        library.close()
        library = chosen_library(model=chosen, device=device)
    except AnotherVersionError as error:
        if not agree_to_another_version(library, error):
            raise
    with library, stopping_on_signals() as stop, ProgressLine(enabled=sys.stderr.isatty()) as line:
        listener = IndexListener(
            on_scanned=line.scanned,
            on_estimate=_tell_estimate,
            on_progress=line.progress,
            on_pace=partial(_tell_pace, line),
        )
        if json_events:
            listener = dataclasses.replace(listener, on_commit=_print_event)
        report = library.index(
            paths, options=options, stop=stop, dry_run=dry_run, listener=listener
        )
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


def report_object(report: IngestReport) -> dict[str, object]:
    """Return the report as JSON knows it."""
    counts = {
        field.name: getattr(report, field.name)
        for field in dataclasses.fields(report)
        if field.name not in {"failures", "warnings"}
    }
    failures = [{"path": failure.path, "reason": failure.reason} for failure in report.failures]
    return {"seen": report.seen, **counts, "failures": failures, "warnings": report.warnings}


def print_summary(report: IngestReport, *, dry_run: bool = False) -> None:
    """Print what was done, one line a fact, nothing about what did not occur."""
    done = "would be " if dry_run else ""
    waiting = sum(report.missing_extras.values())
    lines = [
        (report.added, "picture", f"{done}added"),
        (report.changed, "picture", "changed" if dry_run else "updated"),
        (report.moved, "picture", "moved, not read again"),
        (report.removed, "file", f"gone: {done or 'are '}out of the results"),
        (report.unchanged, "picture", "unchanged"),
        (report.metadata_read, "picture", "with metadata read again, and not embedded again"),
        (report.companions, "file", "beside their pictures (RAW, film of a Live Photo, sidecar)"),
        (report.ignored - waiting, "file", "ignored (no pictures)"),
        (report.online_only, "file", "only in the cloud, not read: --download-cloud reads them"),
        (report.pending, "file", "left for the next run"),
    ]
    for number, noun, what in lines:
        if number:
            print(f"{count(number, noun)} {what}")
    if report.copies:
        print(f"  {count(report.copies, 'copy', 'copies')} among them, embedded once")
    if report.failed:
        print(f"{count(report.failed, 'file')} could not be read:")
        for failure in report.failures[:5]:
            print(f"  {shown(failure.path)}: {failure.reason}")
        if report.failed > 5:
            print("  ... `siglip-search status --failed` lists them all")
    if report.switched:
        print(f"{report.model} answers from now on")
    if not report.seen and not report.pending and not report.online_only:
        print("no files found")
    if waiting:
        extras = ",".join(sorted(report.missing_extras))
        print(f"{count(waiting, 'picture')} ignored for want of an extra: {install_line(extras)}")
    rate = f", {report.embedded / report.seconds:.1f} pictures/s" if report.embedded else ""
    print(f"{duration(report.seconds)}{rate}")


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


def _tell_estimate(estimate: Estimate) -> None:
    pictures = count(estimate.pictures, "picture")
    if estimate.switching_to is not None:
        say(
            f"switching to {estimate.switching_to}: {pictures} to embed again, about "
            f"{duration(max(estimate.seconds, 1.0))}; Ctrl-C stops, and the next run goes on"
        )
    elif estimate.seconds >= LONG_RUN_SECONDS:
        say(
            f"{pictures} to read, about {duration(estimate.seconds)}; Ctrl-C stops, and the next "
            "run goes on"
        )
    if estimate.choices:
        say("The newest come first, and are found while it runs. Quicker would be:")
    for choice in estimate.choices:
        remark = f" ({choice.remark})" if choice.remark else ""
        say(f"  {choice.how}: about {duration(choice.seconds)}{remark}")


def _tell_pace(line: ProgressLine, decision: Decision) -> None:
    """Say why the run slows down, waits, or goes on."""
    charge = decision.battery_percent
    battery = "on battery" if charge is None else f"on battery ({charge:.0f}%)"
    if decision.cause is None:
        line.held_back(None)
        say("going on at full speed")
        return
    line.held_back("slow" if decision.at_once else "paused")
    match decision.cause, bool(decision.at_once):
        case "heat", True:
            say(f"hot: {count(decision.at_once, 'picture')} at a time until it has cooled down")
        case "heat", False:
            say("too hot: paused until it has cooled down")
        case _, True:
            say(
                f"{battery}: {count(decision.at_once, 'picture')} at a time; "
                "--on-battery run goes on at full speed"
            )
        case _, False:
            say(f"{battery}: paused until a charger is connected; --on-battery run goes on")


def _print_event(committed: Committed) -> None:
    print_json({"event": "committed", **dataclasses.asdict(committed)})
