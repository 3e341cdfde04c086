"""`query --explain`: what the words and the parts of a picture did to its score."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from siglip_search.cli.console import shown
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from siglip_search.engine.attribution import ExplainOptions, HitExplanation
    from siglip_search.engine.library import Library
    from siglip_search.engine.patch_maps import PatchMap, PatchMethod
    from siglip_search.search.attribution import Effect
    from siglip_search.search.question import Question
    from siglip_search.search.ranking import Answer

F = TypeVar("F", bound="Callable[..., Any]")

_META: Final = "siglip_search.explain"
_METHODS: Final[dict[str, PatchMethod | None]] = {
    "auto": "auto",
    "attention": "attention",
    "occlusion": "occlusion",
    "words": None,
}

_WORDS_METHOD: Final = (
    "each word or term is left out and the question asked again: exact for this change of the "
    "question; the differences do not add up to the score"
)
_PATCHES_METHODS: Final = {
    "attention": (
        "the attention-pooling head leaves out the tokens of a window and the rest of the head is "
        "computed again: exact for the head; a token has seen the whole picture by then, so where "
        "it stands is only mostly what it tells; the differences do not add up to the score"
    ),
    "occlusion": (
        "a window of the picture is blurred and embedded again: exact for this change of the "
        "picture; what the blur leaves still counts; the differences do not add up to the score"
    ),
}
_SIGNS: Final = {"word": "", "plus": "plus ", "minus": "minus ", "picture": "like "}
_DOWN, _ACROSS = ("top", "", "bottom"), ("left", "", "right")


def explain_options(command: F) -> F:
    """Add the options of explaining to a command; `chosen_explaining` returns what was chosen."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def chosen_explaining(context: click.Context, *, has_rows: bool) -> ExplainOptions | None:
    """Return how the answer shall be explained; None if it shall not.

    Args:
        context: Of the command.
        has_rows: Whether explanations have a place in what is printed: as rows, or in JSON.

    Raises:
        click.UsageError: Options contradict one another.
        PathError: The folder for maps is a file.
    """
    given: dict[str, Any] = context.meta.get(_META, {})
    folder = given.get("heatmaps")
    if not (given.get("explain") or folder):
        for name in ("explain_by", "explain_hits", "explain_seconds"):
            if given.get(name) is not None:
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} is for --explain and --heatmaps.")
        return None
    if not has_rows and folder is None:
        raise click.UsageError(
            "--explain goes with rows, --json and --nl; --heatmaps DIR goes with every form."
        )
    method: str = given.get("explain_by") or "auto"
    if folder is not None and method == "words":
        raise click.UsageError("--explain-by words makes no heatmaps.")
    # Here: who explains nothing loads nothing.
    from siglip_search.engine.attribution import ExplainOptions

    options = ExplainOptions(method=_METHODS[method])
    if given.get("explain_hits") is not None:
        options = replace(options, hits=given["explain_hits"])
    if given.get("explain_seconds") is not None:
        options = replace(options, max_seconds=given["explain_seconds"])
    if folder is not None:
        from siglip_search.engine.heatmap_files import check_heatmap_folder

        options = replace(options, heatmaps=absolute_path(folder))
        assert options.heatmaps is not None
        check_heatmap_folder(options.heatmaps)
    return options


def explained(
    library: Library, question: Question, answer: Answer, options: ExplainOptions
) -> dict[int, HitExplanation]:
    """Return the explanations of the first hits by their photo_id, with a progress line.

    Raises:
        ModelError, DeviceError, WorkerError, PathError: See `attribution.explain_hits`.
    """
    from siglip_search.engine.attribution import explain_hits

    hits = answer.hits[: options.hits]
    with _progress_line(len(hits)) as on_progress:
        explanations = explain_hits(library, question, hits, options, on_progress=on_progress)
        return {explanation.photo_id: explanation for explanation in explanations}


def explanation_object(explanation: HitExplanation) -> dict[str, Any]:
    """Return an explanation as JSON knows it: the field `explanation` of a hit."""
    patches = explanation.patches
    return {
        "asked": explanation.asked,
        "unit": explanation.unit,
        "score": explanation.score,
        "parts": [
            {"kind": effect.part.kind, "text": effect.part.text, "difference": effect.difference}
            for effect in explanation.parts
        ],
        "parts_method": _WORDS_METHOD,
        "patches": None if patches is None else _patches_object(patches),
        "problem": explanation.problem,
        "heatmap": None if explanation.heatmap is None else str(explanation.heatmap),
    }


def _patches_object(patches: PatchMap) -> dict[str, Any]:
    return {
        "method": patches.method,
        "exactness": _PATCHES_METHODS[patches.method],
        "score": patches.score,
        "rows": patches.windows.grid[0],
        "columns": patches.windows.grid[1],
        "window_rows": patches.windows.span[0],
        "window_columns": patches.windows.span[1],
        "region": list(patches.region),
        "differences": patches.differences.tolist(),
        "model": patches.model,
        "device": patches.device,
    }


def explanation_rows(explanation: HitExplanation) -> list[str]:
    """Return what stands beneath the row of a hit, for people."""
    unit = explanation.unit
    parts = "  ".join(map(_part, explanation.parts)) or "a single picture: nothing to leave out"
    rows = [f"        words    {parts}  ({unit} {explanation.score:+.2f})"]
    patches = explanation.patches
    if patches is not None:
        strongest = float(patches.differences.max())
        where = f"most from the {_place(patches)}: {strongest:+.2f}"
        if not strongest > 0:
            where = "no part raises the score by itself"
        rows.append(f"        picture  {where}  (by {patches.method})")
    if explanation.problem is not None:
        rows.append(f"        picture  not tried: {shown(explanation.problem)}")
    if explanation.heatmap is not None:
        rows.append(f"        heatmap  {shown(str(explanation.heatmap))}")
    return rows


def explanation_footnotes(explanations: Iterable[HitExplanation]) -> list[str]:
    """Return what has to be said once about the figures of `explanation_rows`."""
    found = list(explanations)
    if not found:
        return []
    units = " or ".join(dict.fromkeys(one.unit for one in found))
    notes = [f"+ raises the {units}, - lowers it", f"words: {_WORDS_METHOD}"]
    for method in dict.fromkeys(one.patches.method for one in found if one.patches is not None):
        notes.append(f"picture, by {method}: {_PATCHES_METHODS[method]}")  # noqa: PERF401
    return notes


def _part(effect: Effect) -> str:
    difference = "?" if effect.difference is None else f"{effect.difference:+.2f}"
    return f"{_SIGNS[effect.part.kind]}{shown(effect.part.text)} {difference}"


def _place(patches: PatchMap) -> str:
    """Return where on the picture the strongest cell is: "top left", "middle"."""
    rows, columns = patches.windows.grid
    row, column = divmod(int(patches.differences.argmax()), columns)
    left, top, right, bottom = patches.region
    across = left + (right - left) * (column + 0.5) / columns
    down = top + (bottom - top) * (row + 0.5) / rows
    words = (_DOWN[min(2, int(3 * down))], _ACROSS[min(2, int(3 * across))])
    return " ".join(filter(None, words)) or "middle"


@contextmanager
def _progress_line(hits: int) -> Iterator[Callable[[int, float], None]]:
    """Give a function that shows which hit is in work, and its share that is done."""
    if not sys.stderr.isatty():
        yield lambda _hit, _share: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("explaining", total=hits)

        def show(hit: int, share: float) -> None:
            bar.update(task, completed=hit + share)

        yield show


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    assert parameter.name is not None
    context.meta.setdefault(_META, {})[parameter.name] = value


def _option(*declarations: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(*declarations, expose_value=False, callback=_remember, **attributes)


_OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    _option(
        "--explain",
        "explain",
        is_flag=True,
        help="Say what each word, and which part of the picture, did to the score.",
    ),
    _option(
        "--heatmaps",
        "heatmaps",
        metavar="DIR",
        help="As --explain, and draw the parts over the pictures: PNG files in a folder, where "
        "nothing is ever replaced.",
    ),
    _option(
        "--explain-hits",
        "explain_hits",
        type=click.IntRange(min=1),
        help="Explain so many of the first hits.  [default: 3]",
    ),
    _option(
        "--explain-by",
        "explain_by",
        type=click.Choice(tuple(_METHODS)),
        help="How the parts of a picture are tried: by the tower's attention-pooling head, by "
        "hiding them, or not at all.  [default: auto, the first of these that works]",
    ),
    _option(
        "--explain-seconds",
        "explain_seconds",
        type=click.FloatRange(min=0, min_open=True),
        help="How long hiding parts of one picture may take; less is coarser.  [default: 60]",
    ),
)
