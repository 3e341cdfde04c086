"""`siglip-search calibrate`: yes and no, until a score means what it says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from siglip_index import open_store
from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.calibration_report import print_state, print_status, status_object
from siglip_search.cli.calibration_talk import talk
from siglip_search.cli.console import (
    EXIT_NO_MATCH,
    chosen_library,
    count,
    device_option,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.cli.preview_options import chosen_preview, preview_option
from siglip_search.engine.calibrating import (
    CalibrationState,
    forget_calibrations,
    keep_calibration,
    state_of,
)
from siglip_search.engine.calibration_session import CalibrationSession, session_queries
from siglip_search.engine.judgements import (
    as_judgements,
    forget_judgements,
    keep,
    kept_judgements,
    read_labels,
)
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_search.engine.answering import Answering
    from siglip_search.engine.judgements import Judgement
    from siglip_search.engine.library import Library
    from siglip_search.towers.session import Device

_SHOWN_UNKNOWN = 5


@click.command()
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@click.option(
    "--labels",
    metavar="FILE",
    type=click.Path(readable=False),
    help="Take the answers from a file: on each line a JSON object with query, path and matches.",
)
@click.option(
    "-n",
    "--questions",
    type=click.IntRange(min=1),
    default=80,
    show_default=True,
    help="At most so many questions.",
)
@click.option("--status", is_flag=True, help="Show what calibrates this library's scores.")
@click.option("--reset", is_flag=True, help="Forget all answers, and what was made of them.")
@click.option("--yes", is_flag=True, help="With --reset: do not ask.")
@preview_option
@json_option
@device_option
@library_option
@click.pass_context
def calibrate(
    context: click.Context,
    queries: tuple[str, ...],
    labels: str | None,
    questions: int,
    status: bool,
    reset: bool,
    yes: bool,
    as_json: bool,
    device: Device | None,
) -> None:
    """Answer yes or no a few times, so that scores become the chance that a picture matches.

    Pictures of the library are shown with words: does the picture show that? Those are asked
    about whose answers tell most; the words are everyday ones, or each QUERY. `q` ends, and what
    was said is kept: the next call goes on from there. From 40 answers on the calibrated
    probability stands beside the model's own, and a cut is chosen so that 5% of the queries for
    what is not there are answered. Exit status: 0 when scores are calibrated now, 1 when more
    answers are needed.

    \b
      siglip-search calibrate
      siglip-search calibrate "our dog" "the red boat"
      siglip-search calibrate --labels answers.jsonl
      siglip-search calibrate --status
    """
    if sum([bool(queries), labels is not None, status, reset]) > 1:
        raise click.UsageError("Choose one: QUERY, --labels, --status or --reset.")
    if yes and not reset:
        raise click.UsageError("--yes goes with --reset.")
    if as_json and not (status or labels):
        raise click.UsageError("--json goes with --status and --labels.")
    with chosen_library(device=device) as library:
        if reset:
            _reset(library, yes=yes)
            return
        answering = library.answering()
        if status:
            if as_json:
                print_json(status_object(answering.store, answering.spec))
            else:
                print_status(answering.store, answering.spec)
            return
        if labels is not None:
            _take_labels(library, answering, labels)
        else:
            _ask(library, answering, queries, questions, chosen_preview(context))
        state = _fit(library, answering)
        if as_json:
            print_json(status_object(answering.store, answering.spec))
        else:
            print_state(state, answering.store)
        context.exit(0 if state.calibration else EXIT_NO_MATCH)


def _reset(library: Library, *, yes: bool) -> None:
    if not yes:
        click.confirm("Forget all answers about this library's pictures?", abort=True, err=True)
    with daemon_aside(library.directory), open_store(library.directory, writable=True) as store:
        forgotten = forget_judgements(store)
        forget_calibrations(store)
    print(f"forgot {count(forgotten, 'answer')}")


def _take_labels(library: Library, answering: Answering, file: str) -> None:
    labels = read_labels(file)
    judgements, unknown = as_judgements(answering.store, answering.spec.space_key, labels)
    for label in unknown[:_SHOWN_UNKNOWN]:
        say(f"line {label.line}: {shown(str(label.path))} is not in the library")
    if len(unknown) > _SHOWN_UNKNOWN:
        say(f"and {count(len(unknown) - _SHOWN_UNKNOWN, 'line')} more like it")
    if not judgements:
        raise PathError(
            f"no picture that {file} names is in the library",
            hint="Index their folder first; paths are relative to the file, or absolute.",
        )
    _keep(library, judgements)
    say(f"took {count(len(judgements), 'answer')} from {file}")


def _ask(
    library: Library,
    answering: Answering,
    queries: Sequence[str],
    questions: int,
    preview: str | None,
) -> None:
    session = CalibrationSession(
        answering.store,
        answering.spec,
        session_queries(queries),
        kept_judgements(answering.store),
        answering.text_vectors,
    )
    said: list[Judgement] = []
    try:
        talk(session, said, questions=questions, preview=preview)
    finally:
        # Also when it was interrupted: nobody answers the same twice.
        if said:
            _keep(library, said)


def _keep(library: Library, judgements: Sequence[Judgement]) -> None:
    with (
        daemon_aside(library.directory),
        open_store(library.directory, writable=True) as store,
        store.write() as writer,
    ):
        keep(writer, judgements)


def _fit(library: Library, answering: Answering) -> CalibrationState:
    state = state_of(answering.store, answering.spec, answering.text_vectors)
    with daemon_aside(library.directory), open_store(library.directory, writable=True) as store:
        keep_calibration(store, answering.spec, state)
    sys.stdout.flush()
    return state
