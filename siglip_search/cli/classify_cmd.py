"""`siglip-search classify`: which of these labels fit these pictures."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    EXIT_ERROR,
    EXIT_MATCH,
    EXIT_NO_MATCH,
    chosen_library,
    device_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.cli.labels_file import read_labels_file
from siglip_search.engine.chosen_model import model_called
from siglip_search.engine.classification import DEFAULT_TEMPLATES, classify_pictures
from siglip_search.ingest.report import Failure
from siglip_search.photos.decode import DecodeLimits
from siglip_search.search.classify import BARE_LABEL, check_labels

if TYPE_CHECKING:
    from siglip_search.engine.classification import ClassifiedPicture
    from siglip_search.search.classify import LabelScore
    from siglip_search.towers.session import Device


@click.command()
@click.argument(
    "pictures", nargs=-1, required=True, type=click.Path(readable=False), metavar="PICTURE..."
)
@click.option(
    "--labels",
    metavar="A,B,...",
    help="The labels, separated by commas; for labels that hold commas take --labels-file.",
)
@click.option(
    "--labels-file",
    type=click.Path(readable=False),
    metavar="FILE",
    help="One label a line; lines that begin with # are left out.",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="TEXT",
    help="How a label is said, with {} where it goes; repeat for the mean of several.  "
    f"[default: {', '.join(DEFAULT_TEMPLATES)}]",
)
@click.option("--no-templates", is_flag=True, help="Take the bare labels.")
@click.option(
    "--min-probability",
    type=click.FloatRange(0, 1),
    help="Smallest probability of a label that fits; by default the model's own cut.",
)
@click.option(
    "--softmax",
    is_flag=True,
    help="Forced choice: shares of 100% over the labels, even if none of them fits.",
)
@click.option(
    "-n", "--top", type=click.IntRange(min=1), help="At most so many labels for each picture."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("--nl", is_flag=True, help="Print one JSON object a line.")
@click.option(
    "--model",
    metavar="NAME",
    help="Model to use; by default that of the library, or else of the settings.",
)
@device_option
@library_option
@click.pass_context
def classify(
    context: click.Context,
    pictures: tuple[str, ...],
    labels: str | None,
    labels_file: str | None,
    templates: tuple[str, ...],
    no_templates: bool,
    min_probability: float | None,
    softmax: bool,
    top: int | None,
    as_json: bool,
    nl: bool,
    model: str | None,
    device: Device | None,
) -> None:
    """Say which of the labels fit each PICTURE, or that none of these does.

    The number behind each label is the model's probability that label and picture belong
    together, whatever the other labels are: several may be high, or none. Exit status: 0 when
    some picture has a label, 1 when none has, 2 on an error or if a picture cannot be read
    (after all others are done).

    \b
      siglip-search classify --labels "dog,cat,red bicycle" a.jpg b.jpg
      siglip-search classify --labels-file labels.txt --nl *.jpg
    """
    if (labels is None) == (labels_file is None):
        raise click.UsageError("Name the labels, by one of --labels and --labels-file.")
    if as_json and nl:
        raise click.UsageError("Choose one of --json and --nl.")
    if templates and no_templates:
        raise click.UsageError("Choose one of --template and --no-templates.")
    if softmax and min_probability is not None:
        raise click.UsageError("A forced choice has no cut: choose --softmax or --min-probability.")
    names = (
        check_labels(labels.split(","))
        if labels is not None
        else read_labels_file(labels_file or "")[1]
    )
    if softmax and len(names) == 1:
        raise click.UsageError("A forced choice needs two labels at least.")
    with chosen_library(device=device) as library:
        # With --model a library that cannot be opened is in nobody's way.
        spec = model_called(model) if model else library.models_for_indexing().first
        options = library.index_options()
    answers = classify_pictures(
        pictures,
        names,
        model=spec,
        templates=BARE_LABEL if no_templates else templates or DEFAULT_TEMPLATES,
        min_probability=min_probability,
        limits=DecodeLimits(max_pixels=options.max_pixels, max_seconds=options.max_seconds),
        jobs=options.jobs,
        device=options.device,
    )
    done: list[ClassifiedPicture] = []
    failed = False
    with closing(answers):
        for answer in answers:
            if isinstance(answer, Failure):
                failed = True
                say(f"siglip-search: {shown(answer.path)}: {shown(answer.reason)}")
                continue
            done.append(replace(answer, labels=answer.labels[:top]))
            if nl:
                print_json(done[-1])
            elif not as_json:
                print(_line(done[-1], softmax=softmax), flush=True)
    if as_json:
        print_json(done)
    elif done and not nl:
        if spec.score.logit_bias is None and not softmax:
            say(f"{spec.name} states no probabilities: the numbers are cosines, a relative score")
        if spec.notice:
            say(spec.notice)
    if failed:
        context.exit(EXIT_ERROR)
    # A forced choice always chooses, and a relative score refuses nothing.
    found = softmax or any(not picture.none_of_these for picture in done)
    context.exit(EXIT_MATCH if found else EXIT_NO_MATCH)


def _line(picture: ClassifiedPicture, *, softmax: bool) -> str:
    path, best = shown(picture.path), picture.labels[0]
    if softmax:
        shares = [f"{shown(score.label)} {score.forced_choice:.1%}" for score in picture.labels]
        return f"{path}: {', '.join(shares)} (forced choice)"
    if picture.none_of_these:
        return f"{path}: none of these (best: {_scored(best, digits=2)})"
    fitting = [score for score in picture.labels if score.matches is not False]
    return f"{path}: {', '.join(_scored(score) for score in fitting)}"


def _scored(score: LabelScore, *, digits: int = 1) -> str:
    if score.probability is None:
        return f"{shown(score.label)} {score.cosine:.3f}"
    return f"{shown(score.label)} {score.probability:.{digits}%}"
