"""`siglip-search dupes`: copies, edited copies and bursts, and what could be moved away."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, get_args

import click

from siglip_index import open_store
from siglip_index.errors import LibraryMissingError
from siglip_search.cli.console import (
    EXIT_MATCH,
    EXIT_NO_MATCH,
    chosen_settings,
    count,
    library_option,
    say,
    shown,
)
from siglip_search.cli.dupes_output import print_groups, print_plan
from siglip_search.cli.filter_options import chosen_filter, filter_options
from siglip_search.cli.sectioned_command import SectionedCommand
from siglip_search.cli.stage_line import stage_line
from siglip_search.cli.termination import tidied_up_on_termination
from siglip_search.engine.closer_look import doubtful_copies
from siglip_search.engine.duplicate_plan import plan_moves
from siglip_search.engine.duplicates import (
    READ_ALL_UP_TO,
    DuplicateKind,
    DuplicateOptions,
    find_duplicates,
)
from siglip_search.engine.indexing import available_cores
from siglip_search.photos.decode import DecodeLimits
from siglip_search.search.exposures import BURST_GAP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_index.local_store import LocalStore
    from siglip_index.records import Where
    from siglip_search.cli.filter_options import Filter
    from siglip_search.engine.duplicates import DuplicateReport
    from siglip_search.settings import Settings

_SHOWN_FAILURES = 5


@click.command(cls=SectionedCommand)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(get_args(DuplicateKind)),
    multiple=True,
    help="Only these groups: the same bytes, the same photograph edited, frames taken in a row; "
    "again for several.  [default: all]",
)
@click.option(
    "--thorough/--quick",
    default=None,
    help="Read every picture once, which finds turned and black and white copies, or only those "
    f"that the model finds near another.  [default: thorough up to {READ_ALL_UP_TO:,} pictures]",
)
@click.option(
    "--burst-gap",
    type=click.FloatRange(0, 3600),
    metavar="SECONDS",
    default=BURST_GAP_SECONDS,
    show_default=True,
    help="Most time between two frames of a burst.",
)
@click.option(
    "--plan", is_flag=True, help="Print for each file whether it would be kept or moved away."
)
@click.option("--paths", is_flag=True, help="With --plan: only the paths that would be moved.")
@click.option("-0", "--null", is_flag=True, help="As --paths, each ended by a NUL byte.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a heading.")
@filter_options
@library_option
@click.pass_context
def dupes(
    context: click.Context,
    kinds: tuple[DuplicateKind, ...],
    thorough: bool | None,
    burst_gap: float,
    plan: bool,
    paths: bool,
    null: bool,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show which pictures are there more than once, the one to keep first.

    Three kinds of groups: files with the same bytes; pictures that show the same photograph, one of
    them resized, recompressed, cropped, turned or filtered; and bursts, whose frames are no copies.
    Another face or another line of text makes another picture, as far as a thumbnail shows it;
    --plan looks closer. Nothing is moved or deleted, with --plan neither. Exit status: 0 when
    something was found, 1 when nothing was, 2 on an error.

    \b
      siglip-search dupes
      siglip-search dupes --kind near --under ~/Pictures/phone
      siglip-search dupes --plan
      siglip-search dupes --plan -0 | xargs -0 -r mv -n -t ~/duplicates
    """
    if sum((paths or null, as_json, as_csv)) > 1:
        raise click.UsageError("Choose one of --paths (or -0), --json and --csv.")
    if (paths or null) and not plan:
        raise click.UsageError("--paths and -0 are for --plan.")
    settings = chosen_settings()
    chosen = chosen_filter(context)
    with (
        tidied_up_on_termination(),
        stage_line(enabled=sys.stderr.isatty()) as line,
        open_store(settings.library, writable=False) as store,
    ):
        options = DuplicateOptions(
            kinds=kinds or get_args(DuplicateKind),
            where=_where(store, chosen),
            thorough=thorough,
            burst_gap_seconds=burst_gap,
            limits=DecodeLimits(
                max_pixels=settings.max_pixels,
                max_seconds=settings.max_seconds,
                download_cloud=settings.download_cloud,
            ),
            jobs=settings.jobs or available_cores(),
        )
        report = find_duplicates(store, _space_key(store, settings), options, on_progress=line)
        doubtful = _doubtful(report, options, line) if plan else {}
    _say_what_is_missing(report)
    if plan:
        rows = plan_moves(report.groups, doubtful)
        print_plan(rows, paths=paths, null=null, as_json=as_json, as_csv=as_csv)
        moved = [row for row in rows if row.action == "move"]
        if not moved:
            say("nothing would be moved")
        context.exit(EXIT_MATCH if moved else EXIT_NO_MATCH)
    print_groups(report.groups, as_json=as_json, as_csv=as_csv)
    if not report.groups:
        say(f"no duplicates among {count(report.pictures, 'picture')}")
    context.exit(EXIT_MATCH if report.groups else EXIT_NO_MATCH)


def _space_key(store: LocalStore, settings: Settings) -> str:
    active = store.active_space()
    if active is None:
        raise LibraryMissingError(
            f"there is no picture in the library {settings.library} yet",
            hint="Index a folder first: siglip-search index ~/Pictures",
        )
    return active.key


def _doubtful(
    report: DuplicateReport, options: DuplicateOptions, line: Callable[[str, int, int], None]
) -> dict[int, str]:
    return doubtful_copies(
        report.groups,
        limits=options.limits,
        jobs=options.jobs,
        on_progress=lambda done, total: line("looking closer", done, total),
    )


def _where(store: LocalStore, chosen: Filter) -> Where:
    if not chosen.places:
        return chosen.where
    from siglip_search.engine.places import resolve_places

    return dataclasses.replace(
        chosen.where, photo_ids=resolve_places(store, chosen.places, chosen.where)
    )


def _say_what_is_missing(report: DuplicateReport) -> None:
    for path, reason in report.unreadable[:_SHOWN_FAILURES]:
        say(f"not compared: {shown(path)}: {reason}")
    if len(report.unreadable) > _SHOWN_FAILURES:
        say(f"not compared: {count(len(report.unreadable) - _SHOWN_FAILURES, 'more picture')}")
    if not report.thorough and "near" in report.kinds:
        say(
            "turned and black and white copies may be missing: --thorough reads all "
            f"{count(report.pictures, 'picture')} and finds them"
        )
    if report.crowded:
        say(
            f"{count(report.crowded, 'picture')} with more look-alikes than are compared: "
            "a filter such as --under or --after leaves fewer"
        )
