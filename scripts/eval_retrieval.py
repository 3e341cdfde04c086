"""Measure recall and zero-shot accuracy of an installed model on pictures with captions or classes.

    python scripts/eval_retrieval.py --model NAME --pictures DIR --captions FILE
    python scripts/eval_retrieval.py --model NAME --classes DIR

The captions file may be COCO's captions (JSON), Karpathy's splits (dataset_coco.json and its like),
or Flickr's results.csv ("image_name| comment_number| comment") or captions.txt ("image,caption").
A text's right answer is its own picture; a picture's is any of its own captions. With --classes
each sub-folder is a class, and the answer is the class with the greatest cosine. Ties count as
misses: the rank is that of the last of those that are equally near. Intervals are Wilson's, 95%,
with the captions of one picture as one group. Pictures that cannot be read are left out and
counted. Nothing is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.captions import read_captions
from retrieval.labelled import read_labelled
from retrieval.measure import measure_captions, measure_classes
from retrieval.published import (
    accuracy_figures,
    accuracy_remark,
    published_figures,
    retrieval_figures,
    retrieval_remark,
)

from siglip_search.engine.chosen_model import model_called
from siglip_search.engine.classification import DEFAULT_TEMPLATES
from siglip_search.engine.indexing import available_cores
from siglip_search.errors import SiglipSearchError
from siglip_search.models.model_folder import load_model_folder

if TYPE_CHECKING:
    from retrieval.measure import Measurement

    from siglip_search.models.registry import Published
    from siglip_search.models.spec import ModelSpec

SHOWN_FAILURES = 5


def parse_arguments() -> argparse.Namespace:
    """Return the options, or end the program with what is wrong with them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="NAME", help="an installed model, of any precision")
    which.add_argument("--model-dir", type=Path, metavar="DIR", help="a model's folder")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="where the pictures lie")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="what they show")
    parser.add_argument("--split", default="test", help="of Karpathy's file (default: test)")
    parser.add_argument("--classes", type=Path, metavar="DIR", help="one sub-folder a class")
    parser.add_argument(
        "--class-names", type=Path, metavar="FILE", help="on each line: sub-folder, tab, name"
    )
    parser.add_argument(
        "--template", action="append", metavar="TEXT", help="how a class is said, with {} in it"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    parser.add_argument("--jobs", type=int, default=available_cores(), metavar="N")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if (options.pictures is None) != (options.captions is None):
        parser.error("--pictures and --captions belong together")
    if options.captions is None and options.classes is None:
        parser.error("name --pictures and --captions, or --classes, or all three")
    if options.jobs < 1 or (options.limit is not None and options.limit < 1):
        parser.error("--limit and --jobs are at least 1")
    return options


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """Return everything that was measured, as JSON knows it."""
    spec: ModelSpec = (
        model_called(options.model) if options.model else load_model_folder(options.model_dir)
    )
    published = published_figures(spec)
    sets = []
    if options.captions is not None:
        captions = read_captions(options.captions, split=options.split)
        captions = replace(captions, pictures=captions.pictures[: options.limit])
        measured = measure_captions(
            spec, options.pictures, captions, jobs=options.jobs, on_progress=show_progress
        )
        remark = retrieval_remark(captions, measured.pictures)
        title = f"{options.captions} ({captions.form})"
        sets.append(
            set_object(title, measured, published, retrieval_figures(published, captions), remark)
        )
    if options.classes is not None:
        measured = measure_classes(
            spec,
            read_labelled(options.classes, options.class_names),
            templates=options.template or DEFAULT_TEMPLATES,
            limit=options.limit,
            jobs=options.jobs,
            on_progress=show_progress,
        )
        remark = accuracy_remark(measured.pictures, measured.texts)
        title = f"{options.classes} (one folder a class)"
        sets.append(set_object(title, measured, published, accuracy_figures(published), remark))
    return {
        "model": spec.name,
        "vision_precision": spec.vision.precision,
        "text_precision": spec.text.precision,
        "space_key": spec.space_key,
        "sets": sets,
    }


def set_object(
    title: str,
    measured: Measurement,
    published: Published | None,
    figures: dict[str, float],
    remark: str,
) -> dict[str, Any]:
    """Return one set's figures as JSON knows them; shares are in [0, 1]."""
    return {
        "set": title,
        "pictures": measured.pictures,
        "texts": measured.texts,
        "picture_seconds": measured.picture_seconds,
        "text_seconds": measured.text_seconds,
        "figures": {
            name: {**asdict(share), "published": figures.get(name)}
            for name, share in measured.shares.items()
        },
        "published_source": published.source if published and figures else None,
        "remark": remark,
        "left_out": [{"path": path, "reason": reason} for path, reason in measured.failures],
    }


def print_report(report: dict[str, Any]) -> None:
    """Print what was measured as Markdown."""
    precision = report["vision_precision"], report["text_precision"]
    print(f"{report['model']} ({precision[0]} pictures, {precision[1]} texts)")
    for measured in report["sets"]:
        print(
            f"\n{measured['set']}: {measured['pictures']:,} pictures, {measured['texts']:,} texts"
        )
        print("\n| % | n | measured | 95% interval | published | lost by ties |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, share in measured["figures"].items():
            known = "" if share["published"] is None else f"{share['published']:.1%}"[:-1]
            low, high = f"{share['low']:.1%}"[:-1], f"{share['high']:.1%}"[:-1]
            value = f"{share['value']:.1%}"[:-1]
            print(
                f"| {name} | {share['questions']:,} | {value} | {low} to {high} | {known} "
                f"| {share['tied']} |"
            )
        print(f"\n{measured['remark']}")
        if measured["published_source"]:
            print(f"published: {measured['published_source']}")
        rate = measured["pictures"] / max(measured["picture_seconds"], 1e-9)
        print(
            f"{measured['picture_seconds']:.1f} s for the pictures ({rate:.1f}/s), "
            f"{measured['text_seconds']:.1f} s for the texts"
        )


def print_left_out(report: dict[str, Any]) -> None:
    """Print to stderr which pictures could not be read."""
    for measured in report["sets"]:
        left_out = measured["left_out"]
        if left_out:
            print(
                f"{len(left_out):,} pictures could not be read and are left out:", file=sys.stderr
            )
        for failure in left_out[:SHOWN_FAILURES]:
            print(f"  {failure['path']}: {failure['reason']}", file=sys.stderr)
        if len(left_out) > SHOWN_FAILURES:
            print("  ... --json lists them all", file=sys.stderr)


def show_progress(what: str, done: int, total: int) -> None:
    """Keep one line on a terminal up to date."""
    if sys.stderr.isatty():
        end = "\r" if done < total else "\r\x1b[K"
        print(f"{what} {done:,}/{total:,}", end=end, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print; exit with 2 if something is wrong with what was given."""
    options = parse_arguments()
    try:
        report = evaluate(options)
    except SiglipSearchError as error:
        print(f"eval_retrieval: {error}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        sys.exit(2)
    if options.json:
        print(json.dumps(report))
    else:
        print_report(report)
    print_left_out(report)


if __name__ == "__main__":
    main()
