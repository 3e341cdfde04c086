"""An answer becomes what was asked for: rows, JSON, files, a sheet, thumbnails."""

from __future__ import annotations

import io
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from siglip_search.cli.console import (
    EXIT_ERROR,
    EXIT_MATCH,
    EXIT_NO_MATCH,
    count,
    print_json,
    print_path,
    say,
    shown,
)
from siglip_search.cli.output_options import Form
from siglip_search.cli.preview_options import print_previews

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from siglip_search.cli.output_options import Output
    from siglip_search.engine.attribution import HitExplanation
    from siglip_search.render.contact_sheet import Tile
    from siglip_search.search.ranking import Answer, Hit

# Others would break programs that read columns by their position: new ones go to the end.
_COLUMNS: Final = (
    *("rank", "path", "probability", "cosine", "width", "height", "format", "taken_at"),
    *("calibrated_probability", "camera", "lens", "latitude", "longitude", "rating"),
)

_STRANGERS_WORDS: Final = ("camera", "lens")
_FORMULA_SIGNS: Final = ("=", "+", "-", "@")

_PLACED: Final = {
    "copy": "copied",
    "link": "linked to",
    "hard link": "linked to (hard links)",
    "there already": "there already",
}

_MINUTES: Final = len("2024-06-03T14:00")


def show_answer(
    answer: Answer,
    question_text: str,
    output: Output,
    *,
    notice: str | None = None,
    explanations: Mapping[int, HitExplanation] | None = None,
) -> int:
    """Show an answer in every way that was asked for, and return the exit status.

    Results go to stdout; what is said about them, to stderr.

    Args:
        answer: What was found.
        question_text: What was asked, as people would say it; empty for a filter alone.
        output: What becomes of the answer.
        notice: What has to be said wherever results of this model are shown to people.
        explanations: Why pictures answer, by their photo_id; None where nobody asked.

    Returns:
        0 when something matches, 1 when nothing does, 2 when a picture could not be copied.

    Raises:
        PathError: A sheet or a folder cannot be written.
    """
    hits = answer.hits
    _print_hits(hits, output, explanations or {})
    if notice and hits and output.form is Form.ROWS:
        say(notice)
    if explanations and output.form is Form.ROWS:
        from siglip_search.cli.query_explanation import explanation_footnotes

        for note in explanation_footnotes(explanations.values()):
            say(note)
    if output.sheet:
        _save_sheet(hits, question_text, output.sheet, notice)
    if not hits:
        say(_nothing(question_text, answer))
        return EXIT_NO_MATCH
    if answer.more and output.form is Form.ROWS and sys.stdout.isatty():
        say(f"more match: --offset {hits[-1].rank} shows the next")
    # Asked here as well: a query in a pipe must not wait for the imaging library.
    if output.preview != "none" and sys.stdout.isatty():
        print_previews([_tile(hit, f"{hit.rank} {_score(hit)}") for hit in hits], output.preview)
    status = EXIT_MATCH
    if (output.copy_to or output.link_to) and not _place(hits, output):
        status = EXIT_ERROR
    if output.open_best:
        _open(hits[0].path)
    return status


def _print_hits(
    hits: Sequence[Hit], output: Output, explanations: Mapping[int, HitExplanation]
) -> None:
    end = b"\0" if output.null else b"\n"
    match output.form:
        case Form.JSON:
            print_json([_object(hit, explanations) for hit in hits])
        case Form.NL:
            for hit in hits:
                print_json(_object(hit, explanations))
        case Form.CSV | Form.TSV:
            _print_table(hits, delimiter="," if output.form is Form.CSV else "\t")
        case Form.PATHS:
            for hit in hits:
                others = (*hit.copies, *hit.companions) if output.all_files else ()
                for path in (hit.path, *others):
                    print_path(_for_eyes(path), end=end)
        case Form.FORMAT:
            assert output.row_format is not None
            for hit in hits:
                values = {name: _for_eyes(value) for name, value in asdict(hit).items()}
                print_path(output.row_format.written(values), end=end)
        case Form.ROWS:
            with_links = _writes_links(output.hyperlink)
            for hit in hits:
                print(_row(hit, with_link=with_links))
                if hit.photo_id in explanations:
                    from siglip_search.cli.query_explanation import explanation_rows

                    print(*explanation_rows(explanations[hit.photo_id]), sep="\n")


def _object(hit: Hit, explanations: Mapping[int, HitExplanation]) -> dict[str, Any]:
    value = asdict(hit)
    if hit.photo_id in explanations:
        from siglip_search.cli.query_explanation import explanation_object

        value["explanation"] = explanation_object(explanations[hit.photo_id])
    return value


def _row(hit: Hit, *, with_link: bool) -> str:
    path = shown(hit.path)
    if with_link:
        from siglip_search.render.file_links import terminal_link

        path = terminal_link(path, hit.path)
    copies = f"  (+{len(hit.copies)} more)" if hit.copies else ""
    return f"{_score(hit):>6}  {path}{_beside(hit)}{copies}"


def _writes_links(hyperlink: str) -> bool:
    if hyperlink == "auto" and sys.stdout.isatty():
        from siglip_search.render.terminal import shows_links

        return shows_links(os.environ)
    return hyperlink == "always"


def _score(hit: Hit) -> str:
    if hit.score is None:
        return ""  # a filter alone gives none
    is_cosine = hit.calibrated_probability is None and hit.probability is None
    return f"{hit.score:.3f}" if is_cosine else f"{hit.score:.1%}"


def _beside(hit: Hit) -> str:
    """Return the kinds of files that belong to a picture, such as "  [+CR2 +MOV]"."""
    kinds = {os.path.splitext(path)[1][1:].upper() for path in hit.companions}
    return f"  [{' '.join(f'+{kind}' for kind in sorted(kinds))}]" if kinds else ""


def _nothing(text: str, answer: Answer) -> str:
    if answer.is_filtered_out:
        return "no picture meets the filters"
    if answer.passed_over is not None:
        matching = count(answer.passed_over, "picture matches", "pictures match")
        return f"only {matching}: --offset passes over all of them"
    asked = repr(text) if text else "the filter"
    refused = answer.best_refused
    if refused is None:
        return f"nothing matches {asked}"
    if answer.cut_on == "similarity":
        reached, option = f"a similarity of {refused:.3f}", "--min-similarity"
    else:
        reached = f"{refused:.2%}"
        option = "--min-calibrated" if answer.cut_on == "calibrated" else "--min-probability"
    return (
        f"nothing matches {asked}: the best picture reaches {reached} only "
        f"({option} lowers the cut)"
    )


def _print_table(hits: Sequence[Hit], *, delimiter: str) -> None:
    import csv

    # A path that is not text is written as its very bytes.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    writer = csv.DictWriter(
        sys.stdout, _COLUMNS, extrasaction="ignore", lineterminator="\n", delimiter=delimiter
    )
    writer.writeheader()
    for hit in hits:
        row = {name: _for_eyes(value) for name, value in asdict(hit).items()}
        writer.writerow(row | {name: _no_formula(row[name]) for name in _STRANGERS_WORDS})


def _for_eyes(value: Any) -> Any:
    """Return a value, on a terminal without anything in its texts that this would obey.

    Names of files come with mails and archives from anybody; in pipes they are their very bytes.
    """
    if not sys.stdout.isatty():
        return value
    if isinstance(value, tuple):
        return tuple(map(_for_eyes, value))
    return shown(value) if isinstance(value, str) else value


def _no_formula(text: str | None) -> str | None:
    """Return a cell that no spreadsheet takes for a formula and computes.

    What a picture says of its camera is written by whoever made it. Paths begin with no such sign.
    """
    return f"'{text}" if text and text.startswith(_FORMULA_SIGNS) else text


def _tile(hit: Hit, caption: str) -> Tile:
    from siglip_search.render.contact_sheet import Tile

    taken = (hit.taken_at or "")[:_MINUTES].replace("T", " ")
    folder, name = os.path.split(hit.path)
    details = tuple(shown(text) for text in (taken, hit.camera, folder) if text)
    return Tile(hit.path, caption, shown(name), details)


def _save_sheet(hits: Sequence[Hit], heading: str, path: Path, notice: str | None) -> None:
    from siglip_search.render.contact_sheet import SheetRow
    from siglip_search.render.sheet_file import save_sheet

    title = f"siglip-search: {notice}" if notice else "siglip-search"
    row = SheetRow(
        shown(heading) or "what the filter leaves", [_tile(hit, _score(hit)) for hit in hits]
    )
    drawn = save_sheet([row], path, title=title)
    limited = f" (the first {drawn:,} of {len(hits):,})" if drawn < len(hits) else ""
    say(f"contact sheet: {shown(str(path))}{limited}")


def _open(path: str) -> None:
    if not os.path.exists(path):
        say(f"{shown(path)} is not there any more")
    elif click.launch(path) != 0:
        say(f"no program was found that opens {shown(path)}")


def _place(hits: Sequence[Hit], output: Output) -> bool:
    """Copy or link to the pictures, say what was done, and return whether all of it was."""
    from siglip_search.render.result_files import Placement, place_files

    directory = output.copy_to or output.link_to
    assert directory is not None
    groups = [(hit.path, *_companions(hit)) if output.all_files else (hit.path,) for hit in hits]
    done = place_files(groups, directory, link=output.link_to is not None)
    numbers = {placement: done.count(placement) for placement in Placement}
    parts = [f"{number:,} {_PLACED[how]}" for how, number in numbers.items() if number]
    if parts:
        say(f"{shown(str(directory))}: {', '.join(parts)}")
    if output.link_to and (numbers[Placement.HARD_LINK] or numbers[Placement.COPY]):
        say("symbolic links are refused there, so not all of them are")
    for path, reason in done.failed:
        say(f"siglip-search: {shown(path)}: {shown(reason)}")
    return not done.failed


def _companions(hit: Hit) -> list[str]:
    """Return what belongs to the picture itself, and not to another copy of it elsewhere."""
    folder = os.path.dirname(hit.path)
    return [path for path in hit.companions if os.path.dirname(path) == folder]
