"""`siglip-search model bench`: models side by side; may a variant stand for its original?"""

from __future__ import annotations

import dataclasses
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import (
    chosen_library,
    count,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.engine.agreement import has_random_weights, is_decided, verdict
from siglip_search.engine.chosen_model import all_installed, model_called
from siglip_search.engine.comparison import compare_models, line_up
from siglip_search.engine.indexing import available_cores
from siglip_search.engine.picture_sample import folder_pictures, library_pictures
from siglip_search.engine.precision import settle_agreement
from siglip_search.models.spec import MIN_MEAN_COSINE, MIN_PICTURES, MIN_RECALL_AT_10
from siglip_search.photos.decode import DecodeLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from siglip_search.engine.agreement import Figures
    from siglip_search.engine.comparison import ComparedModel, Lineup
    from siglip_search.models.spec import ModelSpec

DEFAULT_PICTURES = 512


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --data to a command that compares models."""
    return click.option(
        "--data", metavar="FOLDER", help="Compare on the pictures in FOLDER, not on the library's."
    )(command)


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--pictures",
    type=click.IntRange(min=1),
    metavar="N",
    default=DEFAULT_PICTURES,
    show_default=True,
    help="Pictures to compare on, at most.",
)
@data_option
@json_option
@library_option
def bench(names: tuple[str, ...], pictures: int, data: str | None, as_json: bool) -> None:
    """Measure the models NAMES: speed, size, and whether variants agree with their originals.

    A variant (another precision, made by `model quantize`, say) is compared with the model that it
    was made from on a sample of your own pictures; a model in full precision with its variants. A
    variant that agrees on 500 pictures or more shares the embedding space of its original from
    then on.

    \b
      siglip-search model bench siglip-base-patch16-384
      siglip-search model bench --data ~/Pictures demo-int8
    """
    named = [model_called(name) for name in names]
    lineups = line_up(named, all_installed())
    compared = compare_lineups(lineups, data=data, pictures=pictures)
    if as_json:
        print_json({"models": [_as_object(model) for models in compared for model in models]})
    else:
        for models in compared:
            print_comparison(models)
    for models in compared:
        settle(models)


def compare_lineups(
    lineups: Sequence[Lineup], *, data: str | None, pictures: int
) -> list[list[ComparedModel]]:
    """Compare on the library's pictures, or on a folder's, with progress on a terminal."""
    paths = folder_pictures(data) if data else library_pictures(chosen_library().directory)
    options = chosen_library().index_options()
    limits = DecodeLimits(max_pixels=options.max_pixels, max_seconds=options.max_seconds)
    compared = []
    for lineup in lineups:
        number = min(pictures, len(paths)) if lineup.variants else 0
        with _progress_bar(number) as show:
            models = compare_models(
                lineup.reference,
                lineup.variants,
                paths,
                pictures=pictures,
                cores=available_cores(),
                limits=limits,
                on_progress=show,
            )
        compared.append(models)
    return compared


def print_comparison(models: Sequence[ComparedModel]) -> None:
    """Print what was measured of a reference and its variants as two small tables."""
    width = max(len(model.spec.name) for model in models)
    on_cores = f"on {count(models[0].speed.cores, 'core')}"
    print(
        f"{'':{width}}  {'weights':>7}  {'pictures/s':>10}  {on_cores:>10}  "
        f"{'query ms':>8}  {'load ms':>8}  {'MB':>7}"
    )
    for model in models:
        speed = model.speed
        print(
            f"{model.spec.name:{width}}  {model.spec.vision.precision:>7}  "
            f"{speed.pictures_per_second_one_thread:10.2f}  "
            f"{speed.pictures_per_second_all_cores:10.2f}  "
            f"{speed.text_ms:8.1f}  {speed.load_ms:8.0f}  {speed.disk_bytes / 1e6:7,.1f}"
        )
    with_figures = [(model, model.figures) for model in models if model.figures is not None]
    if not with_figures:
        return
    first = with_figures[0][1]
    print(
        f"\nAgreement with {models[0].spec.name} on {count(first.pictures, 'picture')} and "
        f"{count(first.texts, 'query', 'queries')} (worst in brackets):"
    )
    print(f"{'':{width}}  {'pictures':>15}  {'queries':>15}  {'recall@10':>9}  {'mixed':>6}")
    for model, figures in with_figures:
        print(
            f"{model.spec.name:{width}}  "
            f"{_mean_and_worst(figures.picture_cosine_mean, figures.picture_cosine_worst)}  "
            f"{_mean_and_worst(figures.text_cosine_mean, figures.text_cosine_worst)}  "
            f"{figures.recall_at_10:9.3f}  {figures.mixed_recall_at_10:6.3f}  "
            f"{verdict(model.spec, figures)}"
        )


def settle(models: Sequence[ComparedModel]) -> None:
    """Record what the figures decide about each variant, and say what follows from it."""
    reference = models[0].spec
    if reference.variant is not None:
        say(f"{reference.name}: nothing to compare with, {reference.variant.of} is not installed")
    for model in models[1:]:
        if model.figures is None:
            say(f"{model.spec.name} was not compared: there are no pictures. {_how(model.spec)}")
        elif model.spec.vision.precision == "w8a16":
            # Made for an NPU: what a processor makes of it is near, and not what will run.
            say(
                f"{model.spec.name} was simulated on the processor, which decides nothing: "
                f"`siglip-search model quantize --precision w8a16 --replace {reference.name}` "
                "compares it on the NPU"
            )
        elif is_decided(model.spec, model.figures):
            settle_one(model.spec, model.figures, reference.name)
        elif not has_random_weights(model.spec):
            say(f"{model.spec.name}: too few pictures to decide. {_how(model.spec)}")


@contextmanager
def _progress_bar(number: int) -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many pictures are done; silent where nobody looks."""
    if not number or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=number, label="comparing", file=sys.stderr) as bar:
        yield lambda done: bar.update(done - bar.pos)


def settle_one(spec: ModelSpec, figures: Figures, reference: str) -> None:
    """Record what decisive figures say of a variant, and tell what became of it."""
    agreement = figures.agreement
    library = chosen_library().directory
    match settle_agreement(spec, agreement, library):
        case "joined":
            say(
                f"{spec.name} agrees with {reference}: they share one embedding space. "
                f"`siglip-search model use {spec.name}` puts it to use"
            )
        case "apart":
            say(
                f"{spec.name} does not agree with {reference} (mean cosine "
                f"{agreement.mean_cosine:.4f}, at least {MIN_MEAN_COSINE} is asked for; recall@10 "
                f"{agreement.recall_at_10:.3f}, at least {MIN_RECALL_AT_10}): it stays, as an "
                "embedding space of its own"
            )
        case "left":
            say(
                f"{spec.name} agrees with {reference}, but the library {shown(str(library))} holds "
                "its vectors as a space of its own already: that is left as it is"
            )


def _how(spec: ModelSpec) -> str:
    return (
        f"It takes {MIN_PICTURES}: `siglip-search model bench {spec.name}` with a library that has "
        "them, or with --data FOLDER"
    )


def _mean_and_worst(mean: float, worst: float) -> str:
    return f"{mean:.4f} ({worst:.4f})"


def _as_object(model: ComparedModel) -> dict[str, object]:
    spec, figures = model.spec, model.figures
    return {
        "name": spec.name,
        "precision": spec.vision.precision,
        "variant_of": spec.variant.of if spec.variant else None,
        "speed": dataclasses.asdict(model.speed),
        "figures": dataclasses.asdict(figures) if figures else None,
        "verdict": verdict(spec, figures) if figures else None,
        "passed": figures.agreement.passed if figures and is_decided(spec, figures) else None,
    }
