"""`siglip-search query`: words in, ranked pictures out."""

from __future__ import annotations

import csv
import io
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    EXIT_MATCH,
    EXIT_NO_MATCH,
    chosen_library,
    chosen_settings,
    device_option,
    library_option,
    model_option,
    print_json,
    print_path,
    say,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_search.search.ranking import Answer, Hit
    from siglip_search.towers.session import Device


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option(
    "-n",
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="At most so many.",
)
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    help="Smallest match probability of a result; by default the model's own cut.",
)
@click.option("--paths", is_flag=True, help="Print paths only.")
@click.option("-0", "--null", is_flag=True, help="Print paths only, each ended by a NUL byte.")
@click.option(
    "--all-files",
    is_flag=True,
    help="With --paths or -0: also print copies, and the RAWs, films and sidecars beside them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("--nl", is_flag=True, help="Print one JSON object a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a heading.")
@click.option("--open", "open_best", is_flag=True, help="Open the best picture in its viewer.")
@model_option
@device_option
@library_option
@click.pass_context
def query(
    context: click.Context,
    words: tuple[str, ...],
    top: int,
    min_probability: float | None,
    paths: bool,
    null: bool,
    all_files: bool,
    as_json: bool,
    nl: bool,
    as_csv: bool,
    open_best: bool,
    model: str | None,
    device: Device | None,
) -> None:
    """Show the pictures that match WORDS, best first.

    The number before each path is the model's probability that words and picture belong
    together; [+CR2] behind it, that a RAW lies beside the picture and belongs to it. Exit
    status: 0 when something matches, 1 when nothing does, 2 on an error.

    \b
      siglip-search query "red bicycle"
      siglip-search query -n 50 --json "dog on a beach"
      siglip-search query -0 "red bicycle" | xargs -0 cp -t /tmp
    """
    if sum((paths or null, as_json, nl, as_csv)) > 1:
        raise click.UsageError("Choose one of --paths (or -0), --json, --nl and --csv.")
    if all_files and not (paths or null):
        raise click.UsageError("--all-files is for --paths and -0.")
    text = " ".join(words)
    found = None
    if model is None and device is None:
        found = _asked_of_daemon(text, top, min_probability)
    if found is None:
        with chosen_library(model=model, one_shot=True, device=device) as library:
            found = (
                library.answer(text, top_k=top, min_probability=min_probability),
                library.notice(),
            )
    answer, notice = found
    if as_json:
        print_json([asdict(hit) for hit in answer.hits])
    elif nl:
        for hit in answer.hits:
            print_json(asdict(hit))
    elif as_csv:
        _print_csv(answer.hits)
    elif paths or null:
        for hit in answer.hits:
            for path in (hit.path, *hit.copies, *hit.companions) if all_files else (hit.path,):
                print_path(path, end=b"\0" if null else b"\n")
    else:
        for hit in answer.hits:
            score = f"{hit.cosine:6.3f}" if hit.probability is None else f"{hit.probability:6.1%}"
            copies = f"  (+{len(hit.copies)} more)" if hit.copies else ""
            print(f"{score}  {shown(hit.path)}{_beside(hit)}{copies}")
        if notice and answer.hits:
            say(notice)
    if not answer.hits:
        say(_nothing(text, answer.best_refused))
        context.exit(EXIT_NO_MATCH)
    if open_best and click.launch(answer.hits[0].path) != 0:
        say(f"no program was found that opens {shown(answer.hits[0].path)}")
    context.exit(EXIT_MATCH)


def _asked_of_daemon(
    text: str, top: int, min_probability: float | None
) -> tuple[Answer, str | None] | None:
    """Return what the daemon of the library answers, and what has to be said with it.

    None where there is none, or it cannot answer: working alone then tells why.
    """
    from siglip_search.service.client import DaemonUnavailableError, connect

    daemon = connect(chosen_settings().library)
    if daemon is None:
        return None
    from siglip_search.service.messages import Query

    with daemon:
        if not daemon.same_version:
            return None
        try:
            reply = daemon.query(Query(text, top, min_probability))
        except DaemonUnavailableError:
            return None
    return reply.answer, reply.notice


def _beside(hit: Hit) -> str:
    """Return the kinds of files that belong to a picture, such as "  [+CR2 +MOV]"."""
    kinds = {os.path.splitext(path)[1][1:].upper() for path in hit.companions}
    return f"  [{' '.join(f'+{kind}' for kind in sorted(kinds))}]" if kinds else ""


def _nothing(text: str, best_refused: float | None) -> str:
    if best_refused is None:
        return f"nothing matches {text!r}"
    return (
        f"nothing matches {text!r}: the best picture reaches {best_refused:.2%} only "
        "(--min-probability lowers the cut)"
    )


def _print_csv(hits: Sequence[Hit]) -> None:
    columns = ["rank", "path", "probability", "cosine", "width", "height", "format", "taken_at"]
    # A path that is not text is written as its very bytes.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(hit) for hit in hits)
