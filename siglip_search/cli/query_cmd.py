"""`siglip-search query`: a question in, ranked pictures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    chosen_library,
    chosen_settings,
    device_option,
    library_option,
    model_option,
    say,
    shown,
)
from siglip_search.cli.filter_options import filter_options
from siglip_search.cli.output_options import Form, chosen_output, output_options
from siglip_search.cli.query_explanation import chosen_explaining, explain_options, explained
from siglip_search.cli.query_output import show_answer
from siglip_search.cli.question_options import (
    Asked,
    asked_question,
    paged,
    question_options,
    standard_input_named,
)
from siglip_search.cli.sectioned_command import SectionedCommand
from siglip_search.cli.suggestions import saved_search_names
from siglip_search.errors import QueryError

if TYPE_CHECKING:
    from siglip_search.search.question import Question
    from siglip_search.search.ranking import Answer
    from siglip_search.towers.session import Device


@click.command(cls=SectionedCommand)
@click.argument("words", nargs=-1)
@click.option(
    "--saved",
    metavar="NAME",
    shell_complete=saved_search_names,
    help="Ask what `siglip-search save` keeps under this name.",
)
@question_options
@filter_options
@output_options
@explain_options
@model_option
@device_option
@library_option
@click.pass_context
def query(
    context: click.Context,
    words: tuple[str, ...],
    saved: str | None,
    model: str | None,
    device: Device | None,
) -> None:
    """Show the pictures that match WORDS, best first.

    The number before each path is the chance that words and picture belong together: calibrated
    where the scores were calibrated, else the model's own; with --like, or --plus and --minus
    without words, the similarity. [+CR2] behind it says that a RAW lies beside the picture and
    belongs to it. Exit status: 0 when something matches, 1 when nothing does, 2 on an error.

    \b
      siglip-search query "red bicycle"
      siglip-search query --like cat.jpg --plus snow
      siglip-search query dog --not puppy --after 2024 --under ~/Pictures
      siglip-search query -n 50 --json "dog on a beach"
      siglip-search query -0 "red bicycle" | xargs -0 cp -t /tmp
    """
    output = chosen_output(context)
    explaining = chosen_explaining(context, has_rows=output.form in {Form.ROWS, Form.JSON, Form.NL})
    if saved is not None and words:
        raise click.UsageError("Choose one of WORDS and --saved.")
    asked = asked_question(context, words) if saved is None else _saved_question(context, saved)
    if explaining is not None and not asked.question.has_score:
        raise QueryError(
            "a filter alone gives no scores, and there is nothing to explain",
            hint="Say what is in the picture as well.",
        )
    found = _asked_of_daemon(asked.question) if model is None and device is None else None
    if found is None:
        with (
            standard_input_named(context),
            chosen_library(model=model, one_shot=True, device=device) as library,
        ):
            found = library.answer(asked.question), library.notice()
    answer, notice = found
    explanations = None
    if explaining is not None and answer.hits:
        with chosen_library(model=model, device=device) as library:
            explanations = explained(library, asked.question, answer, explaining)
    status = show_answer(answer, asked.text, output, notice=notice, explanations=explanations)
    if answer.is_filtered_out:
        _say_what_is_not_indexed(asked.question.where.under)
    context.exit(status)


def _say_what_is_not_indexed(under: tuple[bytes, ...]) -> None:
    """Say so where the folders asked for have nothing to do with those that are indexed."""
    from siglip_index import open_store
    from siglip_index.locations import relative_to

    with open_store(chosen_settings().library, writable=False) as store:
        roots = [root.path for root in store.roots()]
    related = any(
        relative_to(folder, root) is not None or relative_to(root, folder) is not None
        for folder in under
        for root in roots
    )
    if under and not related:
        say(f"{shown(under[0])} is in no indexed folder: siglip-search roots list names them")


def _saved_question(context: click.Context, name: str) -> Asked:
    """Return the question that the library keeps under a name, as it is meant now."""
    from datetime import datetime

    with chosen_library() as library:
        saved = library.saved_searches().called(name)
    # The local clock, as cameras show it.
    return Asked(paged(context, saved.asked_at(datetime.now())), name)


def _asked_of_daemon(question: Question) -> tuple[Answer, str | None] | None:
    """Return what the daemon of the library answers, and what has to be said with it.

    None where there is none, or it cannot answer: working alone then tells why.
    """
    from siglip_search.service.client import DaemonUnavailableError, connect

    daemon = connect(chosen_settings().library)
    if daemon is None:
        return None
    with daemon:
        if not daemon.same_version:
            return None
        try:
            reply = daemon.query(question)
        except DaemonUnavailableError:
            return None
    return reply.answer, reply.notice
