"""`siglip-search save`: keep a question under a name."""

from __future__ import annotations

from dataclasses import replace as replaced
from typing import Final

import click
from click.core import ParameterSource

from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import (
    EXIT_ERROR,
    chosen_library,
    count,
    library_option,
    say,
    shown,
)
from siglip_search.cli.filter_options import filter_options, typed_times
from siglip_search.cli.question_options import (
    asked_question,
    question_options,
    reads_standard_input,
)
from siglip_search.cli.sectioned_command import SectionedCommand
from siglip_search.typed_paths import absolute_path

ALBUM_PICTURES: Final = 1000
"""What an album shows where -n does not say how many."""


@click.command(cls=SectionedCommand)
@click.argument("name")
@click.argument("words", nargs=-1)
@click.option(
    "--album",
    metavar="DIR",
    type=click.Path(),
    help="New folder that `watch` and `index` keep filled with links to what is found.",
)
@click.option("--replace", is_flag=True, help="Take the place of a search of the same name.")
@question_options
@filter_options
@library_option
@click.pass_context
def save(
    context: click.Context, name: str, words: tuple[str, ...], album: str | None, replace: bool
) -> None:
    """Keep the question WORDS, with all its options, under NAME.

    `siglip-search query --saved NAME` asks it. Times such as `--after 3w` are understood anew each
    time. An album holds links only: the pictures stay where they are.

    \b
      siglip-search save seaside "a sandy beach" --not people
      siglip-search save lately "a child laughing" --after 3w --album ~/Pictures/lately
    """
    if reads_standard_input(context):
        raise click.UsageError("A picture from standard input is gone afterwards: name a file.")
    from siglip_search.engine.album_folder import require_album
    from siglip_search.engine.albums import refresh_album
    from siglip_search.search.saved import SavedSearch

    question = asked_question(context, words).question
    is_default = context.get_parameter_source("top") is ParameterSource.DEFAULT
    if album is not None and is_default:
        question = replaced(question, top_k=ALBUM_PICTURES)
    saved = SavedSearch(
        name.strip(),
        question,
        typed_times(context),
        None if album is None else str(absolute_path(album)),
    )
    with chosen_library() as library:
        if saved.album is not None:
            roots = [root.path for root in library.roots()]
            require_album(absolute_path(saved.album), roots)
        with daemon_aside(library.directory):
            library.saved_searches().save(saved, replace=replace)
        say(f"saved as {saved.name!r}; siglip-search query --saved asks it")
        if saved.album is None:
            return
        report = refresh_album(library, saved, make=True)
    say(f"{shown(report.folder)} shows {count(report.pictures, 'picture')}")
    if report.refused:
        say(f"{count(report.refused, 'picture')} could not be linked from there")
        context.exit(EXIT_ERROR)
