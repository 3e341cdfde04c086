"""Measure how well a model says that nothing matches, and whether its probabilities hold.

    python scripts/eval_no_match.py --plot docs/no-match.png
    python scripts/eval_no_match.py --model NAME --classes DIR
    python scripts/eval_no_match.py --model NAME --labels FILE

The first asks the demonstration model about its held-out scenes: seeds, galleries, words and ways
of asking of demo_model/evaluation.toml, the very queries of eval_demo_model.py; and then, among 30
to 2,500 of them, what becomes of the cut. --classes takes a folder with one sub-folder a class:
each class is asked for with its pictures there, and with them away. --labels takes JSON lines with
query, path and matches, as `siglip-search calibrate` does.

Three ways of scoring: the model's own sigmoid ("raw") at the model's cut, the calibrated
probability at its cut, and in contrast the softmax over the pictures of a collection at 1/2. A
model without a shipped fit is calibrated on four fifths of the queries and judged on the last one,
five times. Intervals are 95%, bootstrapped over galleries, or queries. Needs for the first what
eval_demo_model.py needs; --plot needs matplotlib. --into puts the tables between the marks
"no-match: begin" and "no-match: end" of a document. Nothing else is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from no_match.asked import calibrated, pairs_of
from no_match.chart import draw_reliability
from no_match.figures import judge
from no_match.labelled_pictures import ask_classes, ask_labels

from siglip_search import demo
from siglip_search.engine.calibrations import shipped_calibration
from siglip_search.engine.chosen_model import model_called
from siglip_search.engine.indexing import available_cores
from siglip_search.errors import SiglipSearchError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.search.calibration_fit import (
    FALSE_POSITIVE_RATE,
    UnfittableError,
    choose_cut,
    fit,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from no_match.asked import AskedQuery
    from no_match.figures import Figure, Judged
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.search.calibration import Calibration

FOLDS = 5
BEGIN, END = "<!-- no-match: begin -->", "<!-- no-match: end -->"
DEMO_KINDS = {
    "absent": "absent known thing",
    "mixed": "held thing in absent colour",
    "strange": "word never trained",
}


def parse_arguments() -> argparse.Namespace:
    """Return the options, or end the program with what is wrong with them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", metavar="NAME", default="demo", help="an installed model")
    parser.add_argument("--model-dir", type=Path, metavar="DIR", help="a model's folder")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--classes", type=Path, metavar="DIR", help="one sub-folder a class")
    which.add_argument("--labels", type=Path, metavar="FILE", help="query, path, matches a line")
    parser.add_argument("--quick", action="store_true", help="one seed, two galleries; a trial")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the reliability diagram")
    parser.add_argument("--into", type=Path, metavar="MD", help="put the tables into a document")
    parser.add_argument("--json", action="store_true", help="print one object")
    return parser.parse_args()


def ask_held_out_scenes(*, quick: bool) -> dict[str, list[AskedQuery]]:
    """Ask the demonstration model about its held-out scenes, by ways of asking."""
    # Here: drawing needs the two fonts, which judging one's own pictures does not.
    from demo_model.evaluation import Model
    from demo_model.scenes import Art, load_config
    from no_match.demo_galleries import ask_demo_galleries

    settings = load_config("evaluation.toml")
    model, art = Model(demo.model_directory()), Art()
    ways: dict[str, list[str | None]] = {
        "usual ways of asking": [None],
        "ways of asking never trained": list(settings["unseen"]["templates"]),
    }
    return {
        name: [
            one
            for seed in settings["seeds"][: 1 if quick else None]
            for one in ask_demo_galleries(
                model,
                art,
                seed,
                galleries=2 if quick else 20,
                size=settings["gallery_scenes"],
                queries=60 if quick else settings["queries"],
                words=list(settings["absent"]["words"]),
                templates=templates,
            )
        ]
        for name, templates in ways.items()
    }


def size_table(spec: ModelSpec, *, quick: bool) -> str:
    """Return what few and many held-out scenes answer, as Markdown."""
    from demo_model.evaluation import Model
    from demo_model.scenes import Art, load_config
    from no_match.sizes import SIZES, ask_pool, draw_pool, size_figures

    calibration = shipped_calibration(spec)
    assert calibration is not None
    model, art = Model(demo.model_directory()), Art()
    sizes, seeds = (
        (SIZES[:2], [9001]) if quick else (SIZES, load_config("evaluation.toml")["seeds"])
    )
    pools = [
        draw_pool(model, art, seed, 400) if quick else draw_pool(model, art, seed) for seed in seeds
    ]
    lines = [
        "| pictures | cut | answered, absent thing | of those asked for by bare name | if the cut "
        f"stayed at {calibration.cut:.1%} | found, present thing | found, if one picture matches |",
        f"|{'---:|' * 7}",
    ]
    for size in sizes:
        asked = [one for pool in pools for one in ask_pool(pool, model, art.natural_colours, size)]
        one = size_figures(asked, calibration, size)
        lines.append(
            f"| {size:,} | {one.cut:.1%} | {one.answered:.1%} | {one.bare:.1%} | {one.fixed:.1%} "
            f"| {one.found:.1%} | {one.found_single:.1%} |"
        )
    return "\n".join(lines)


def raw_scores(asked: Sequence[AskedQuery], spec: ModelSpec) -> list[NDArray[np.float64]]:
    """Return the model's own probabilities; without a bias, where it has none."""
    scale, bias = spec.score.logit_scale, spec.score.logit_bias or 0.0
    return [1 / (1 + np.exp(-(scale * one.cosines + bias))) for one in asked]


def softmax_scores(asked: Sequence[AskedQuery], spec: ModelSpec) -> list[NDArray[np.float64]]:
    """Return each picture's share of its collection, as if one of them had to match."""
    odds = [np.exp(spec.score.logit_scale * (one.cosines - one.cosines.max())) for one in asked]
    return [each / each.sum() for each in odds]


def fit_queries(asked: Sequence[AskedQuery], spec: ModelSpec) -> Calibration:
    """Return the fit of these queries' pairs.

    Raises:
        UnfittableError: They cannot be fitted.
    """
    return fit(
        pairs_of(asked),
        logit_scale=spec.score.logit_scale,
        logit_bias=spec.score.logit_bias,
        origin="yours",
    )


def cross_fitted(
    asked: Sequence[AskedQuery], spec: ModelSpec
) -> tuple[list[NDArray[np.float64]], float]:
    """Return scores by fits that have not seen the query, and the cut that they give.

    Raises:
        UnfittableError: The queries cannot be fitted.
    """
    scores: list[NDArray[np.float64]] = [np.empty(0)] * len(asked)
    for fold in range(FOLDS):
        seen = [one for one in asked if one.group % FOLDS != fold]
        calibration = fit_queries(seen, spec)
        for number, one in enumerate(asked):
            if one.group % FOLDS == fold:
                scores[number] = calibrated(one, calibration)
    best = [s.max() for one, s in zip(asked, scores, strict=True) if one.kind != "present"]
    return scores, choose_cut(np.array(best))[0]


def judge_all(
    asked: Sequence[AskedQuery], spec: ModelSpec, names: dict[str, str]
) -> dict[str, Judged]:
    """Judge the three ways of scoring.

    Raises:
        UnfittableError: There is no shipped fit, and the queries support none.
    """
    calibration = shipped_calibration(spec)
    if calibration is not None:
        pictures = max(len(one.cosines) for one in asked)
        fitted = [calibrated(one, calibration) for one in asked], calibration.cut_for(pictures)
    else:
        fitted = cross_fitted(asked, spec)
    ways = {
        "raw": (raw_scores(asked, spec), spec.score.min_probability),
        "calibrated": fitted,
        "softmax": (softmax_scores(asked, spec), 0.5),
    }
    return {
        name: judge(asked, scores, cut, rate=FALSE_POSITIVE_RATE, names=names)
        for name, (scores, cut) in ways.items()
    }


def table(judged: dict[str, Judged]) -> str:
    """Return the figures as Markdown, in per cent."""
    lines = [f"| figure | {' | '.join(judged)} | number |", f"|---|{'---:|' * (len(judged) + 1)}"]
    for name in next(iter(judged.values())).figures:
        figures = [one.figures[name] for one in judged.values()]
        cells = " | ".join(map(_cell, figures))
        lines.append(f"| {name} | {cells} | {figures[-2].number:,} |")
    return "\n".join(lines)


def put_into(document: Path, text: str) -> None:
    """Put text between the marks of a document."""
    before, rest = document.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def _cell(figure: Figure) -> str:
    if np.isnan(figure.value):
        return "none"
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"


def main() -> None:
    """Ask, judge, print."""
    arguments = parse_arguments()
    try:
        folder = arguments.model_dir
        spec = load_model_folder(folder) if folder else model_called(arguments.model)
        names = {"absent": "query without its pictures"}
        failed: list[str] = []
        if arguments.classes:
            asked, failed = ask_classes(arguments.classes, spec, jobs=available_cores())
            lots = {str(arguments.classes): asked}
        elif arguments.labels:
            asked, failed = ask_labels(arguments.labels, spec, jobs=available_cores())
            lots = {str(arguments.labels): asked}
        else:
            names = DEMO_KINDS
            lots = ask_held_out_scenes(quick=arguments.quick)
        judged = {title: judge_all(asked, spec, names) for title, asked in lots.items()}
    except UnfittableError as error:
        sys.exit(f"the labels cannot be fitted: {error}")
    except SiglipSearchError as error:
        sys.exit(f"{error}\n{error.hint}".rstrip())
    for line in failed:
        print(f"left out: {line}", file=sys.stderr)
    if arguments.json:
        figures = {
            title: {
                way: {k: asdict(f) for k, f in one.figures.items()} for way, one in ways.items()
            }
            for title, ways in judged.items()
        }
        print(json.dumps(figures))
    else:
        parts = [f"**{title}**\n\n{table(ways)}" for title, ways in judged.items()]
        if names is DEMO_KINDS:
            sizes = size_table(spec, quick=arguments.quick)
            parts.append(f"**among few and many pictures**\n\n{sizes}")
        text = "\n\n".join(parts)
        print(text)
        if arguments.into:
            put_into(arguments.into, text)
    if arguments.plot:
        draw_reliability(next(iter(judged.values())), arguments.plot)


if __name__ == "__main__":
    main()
