"""`siglip-search tag`: labels for every picture, to filter by and to take along."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, get_args

import click

from siglip_index import open_store
from siglip_index.errors import LibraryMissingError
from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_NO_MATCH,
    chosen_settings,
    count,
    device_option,
    json_option,
    library_option,
    print_json,
    say,
)
from siglip_search.cli.counting_line import counting_line
from siglip_search.cli.index_cmd import resuming_command, stopping_on_signals
from siglip_search.cli.labels_file import read_labels_file
from siglip_search.cli.stage_line import stage_line
from siglip_search.cli.tag_output import (
    print_sidecars,
    print_summary,
    print_tagging,
    sidecar_object,
    summary_object,
    tagging_object,
)
from siglip_search.cli.termination import tidied_up_on_termination
from siglip_search.engine.chosen_model import model_for_searching, model_of_space
from siglip_search.engine.classification import DEFAULT_TEMPLATES
from siglip_search.engine.output_file import refuse_library_file, written_whole
from siglip_search.engine.tag_export import export_tags, write_sidecars
from siglip_search.engine.tagging import (
    TagChoice,
    chosen_tags,
    clear_tags,
    default_choice,
    tag_pictures,
    tag_summary,
)
from siglip_search.photos.xmp_sidecar import SidecarNaming
from siglip_search.search.vocabulary import Vocabulary, default_text
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import BinaryIO

    from siglip_index.local_store import LocalStore
    from siglip_index.records import Space
    from siglip_search.settings import Settings
    from siglip_search.towers.session import Device


@click.command()
@click.option(
    "--labels",
    metavar="FILE",
    type=click.Path(readable=False),
    help="One label a line; lines that begin with # are left out.",
)
@click.option("--default-labels", is_flag=True, help="Go back to the list of the program.")
@click.option(
    "--min-calibrated",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="P",
    help="Smallest calibrated probability of a tag.  [default: 0.9, where there is a calibration]",
)
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="P",
    help="Smallest probability of a tag by the model's own measure.",
)
@click.option("--again", is_flag=True, help="Compare also pictures that were compared already.")
@click.option("--list", "listing", is_flag=True, help="Show how many pictures have which tag.")
@click.option("--print-labels", is_flag=True, help="Print the list of the program, to edit it.")
@click.option("--clear", is_flag=True, help="Delete all tags, and tag new pictures no more.")
@click.option(
    "--export",
    "target",
    metavar="FILE|-",
    type=click.Path(),
    help="Write pictures and tags as one JSON array.",
)
@click.option("--force", is_flag=True, help="With --export: replace FILE if it exists.")
@click.option(
    "--sidecars",
    is_flag=True,
    help="Write a new XMP sidecar beside each tagged picture that has none.",
)
@click.option(
    "--sidecar-names",
    "naming",
    type=click.Choice(get_args(SidecarNaming)),
    help="IMG_1.JPG.xmp (full) or IMG_1.xmp (stem), which Lightroom reads beside RAWs.  "
    "[default: full]",
)
@click.option("--dry-run", is_flag=True, help="With --sidecars: only count.")
@click.option(
    "--under",
    metavar="FOLDER",
    type=click.Path(),
    help="With --export and --sidecars: only pictures in this folder.",
)
@json_option
@device_option
@library_option
@click.pass_context
def tag(
    context: click.Context,
    labels: str | None,
    default_labels: bool,
    min_calibrated: float | None,
    min_probability: float | None,
    again: bool,
    listing: bool,
    print_labels: bool,
    clear: bool,
    target: str | None,
    force: bool,
    sidecars: bool,
    naming: SidecarNaming | None,
    dry_run: bool,
    under: str | None,
    as_json: bool,
    device: Device | None,
) -> None:
    """Compare every picture with a list of labels, and keep those that fit as its tags.

    No picture is read: stored vectors are compared. The labels are remembered; pictures that
    `index` and `watch` add later get their tags by themselves, and running this again compares
    only what was not compared yet. Pictures and their files stay as they are: only --sidecars
    writes beside them, new files, and never over one that is there.

    \b
      siglip-search tag
      siglip-search tag --labels my-labels.txt --min-calibrated 0.8
      siglip-search tag --list
      siglip-search query --tag beach "a dog"
      siglip-search tag --export tags.json
      siglip-search tag --sidecars --dry-run
    """
    modes = [listing, print_labels, clear, target is not None, sidecars]
    choosing = bool(labels or default_labels or min_calibrated or min_probability or again)
    if sum(modes) > 1 or (any(modes) and choosing):
        raise click.UsageError(
            "Choose one: tag pictures, --list, --print-labels, --clear, --export or --sidecars."
        )
    if labels is not None and default_labels:
        raise click.UsageError("Choose one of --labels and --default-labels.")
    if min_calibrated is not None and min_probability is not None:
        raise click.UsageError("Choose one of --min-calibrated and --min-probability.")
    if (naming or dry_run) and not sidecars:
        raise click.UsageError("--sidecar-names and --dry-run go with --sidecars.")
    if under is not None and not (sidecars or target):
        raise click.UsageError("--under goes with --export and --sidecars.")
    if force and target is None:
        raise click.UsageError("--force goes with --export.")
    if as_json and (print_labels or clear or target):
        raise click.UsageError("--json goes with tagging, --list and --sidecars.")
    if print_labels:
        print(default_text(), end="")
        return
    settings = chosen_settings(device=device)
    folder = None if under is None else os.fsencode(absolute_path(under))
    if listing:
        code = _list(settings, as_json=as_json)
    elif clear:
        code = _clear(settings)
    elif target is not None:
        code = _export(settings, target, under=folder, force=force)
    elif sidecars:
        code = _write_sidecars(
            settings, naming or "full", under=folder, dry_run=dry_run, as_json=as_json
        )
    else:
        chosen = _chosen(labels, default_labels, min_calibrated, min_probability)
        code = _tag(settings, chosen, again=again, as_json=as_json)
    context.exit(code)


def _chosen(
    labels: str | None,
    default_labels: bool,
    min_calibrated: float | None,
    min_probability: float | None,
) -> Callable[[TagChoice | None], TagChoice]:
    """Return what the options make of the choice that the library remembers."""
    named: TagChoice | None = None
    if labels is not None:
        path, found = read_labels_file(labels)
        named = TagChoice(Vocabulary(str(path), found, DEFAULT_TEMPLATES))
    elif default_labels:
        named = default_choice()

    def choose(before: TagChoice | None) -> TagChoice:
        choice = named or before or default_choice()
        if min_calibrated is not None:
            return TagChoice(choice.vocabulary, "calibrated", min_calibrated)
        if min_probability is not None:
            return TagChoice(choice.vocabulary, "model", min_probability)
        return choice

    return choose


def _tag(
    settings: Settings,
    choose: Callable[[TagChoice | None], TagChoice],
    *,
    again: bool,
    as_json: bool,
) -> int:
    _refuse_missing_library(settings)
    with (
        daemon_aside(settings.library),
        open_store(settings.library, writable=True) as store,
        stopping_on_signals() as stop,
        stage_line(enabled=sys.stderr.isatty()) as line,
    ):
        space = _active_space(store)
        spec = model_for_searching(None, space)
        report = tag_pictures(
            store,
            spec,
            choose(chosen_tags(store)),
            stop=stop,
            again=again,
            device=settings.device,
            on_labels=partial(line, "embedding labels"),
            on_progress=partial(line, "comparing pictures"),
        )
        counts = store.tag_counts(space.key)
    if as_json:
        print_json(tagging_object(report, counts))
    else:
        print_tagging(report, counts)
    if spec.notice and not as_json:
        say(spec.notice)
    if report.left:
        say(f"stopped; `{resuming_command()}` goes on from here")
        return EXIT_INTERRUPTED
    return 0


def _list(settings: Settings, *, as_json: bool) -> int:
    with open_store(settings.library, writable=False) as store:
        space = _active_space(store)
        summary = tag_summary(store, space.key, model_of_space(space))
    if as_json:
        print_json(summary_object(summary))
    else:
        print_summary(summary)
    return 0 if summary.counts else EXIT_NO_MATCH


def _clear(settings: Settings) -> int:
    _refuse_missing_library(settings)
    with daemon_aside(settings.library), open_store(settings.library, writable=True) as store:
        clear_tags(store)
    say("all tags are deleted; new pictures get none")
    return 0


def _export(settings: Settings, target: str, *, under: bytes | None, force: bool) -> int:
    to_stdout = target == "-"
    path = absolute_path(target)
    if not to_stdout:
        refuse_library_file(path, settings.library)
    output: AbstractContextManager[BinaryIO] = (
        nullcontext(sys.stdout.buffer) if to_stdout else written_whole(path, replace=force)
    )
    with (
        open_store(settings.library, writable=False) as store,
        tidied_up_on_termination(),
        output as stream,
    ):
        pictures = export_tags(store, _active_space(store).key, stream, under=under)
    if not to_stdout:
        say(f"tags of {count(pictures, 'picture')} written to {path}")
    return 0 if pictures else EXIT_NO_MATCH


def _write_sidecars(
    settings: Settings,
    naming: SidecarNaming,
    *,
    under: bytes | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    with (
        open_store(settings.library, writable=False) as store,
        stopping_on_signals() as stop,
        counting_line("pictures", store.counts().files, enabled=sys.stderr.isatty()) as line,
    ):
        report = write_sidecars(
            store,
            _active_space(store).key,
            stop=stop,
            naming=naming,
            under=under,
            dry_run=dry_run,
            on_progress=line,
        )
    if as_json:
        print_json(sidecar_object(report))
    else:
        print_sidecars(report, dry_run=dry_run)
    if report.stopped:
        say(f"stopped; `{resuming_command()}` goes on from here")
        return EXIT_INTERRUPTED
    return EXIT_ERROR if report.refused else 0


def _refuse_missing_library(settings: Settings) -> None:
    """Raise where there is none: opening one for writing would make it."""
    with open_store(settings.library, writable=False) as store:
        _active_space(store)


def _active_space(store: LocalStore) -> Space:
    space = store.active_space()
    if space is None:
        raise LibraryMissingError(
            "there is no picture in the library yet",
            hint="Index a folder first: siglip-search index ~/Pictures",
        )
    return space
