"""`siglip-search model quantize`: a smaller or faster variant of an installed model."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from siglip_search.cli.console import (
    chosen_library,
    count,
    device_option,
    library_option,
    say,
)
from siglip_search.cli.model_bench_cmd import (
    DEFAULT_PICTURES,
    bench_lineups,
    data_option,
    settle,
    settle_one,
)
from siglip_search.cli.model_bench_table import print_bench
from siglip_search.cli.suggestions import installed_model_names
from siglip_search.engine.agreement import is_decided, verdict
from siglip_search.engine.chosen_model import model_called
from siglip_search.engine.comparison import Lineup
from siglip_search.engine.indexing import available_cores
from siglip_search.engine.picture_sample import folder_pictures, library_pictures
from siglip_search.engine.precision import MadePrecision, make_variant
from siglip_search.photos.decode import DecodeLimits
from siglip_search.settings import models_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_search.engine.w8a16 import MadeW8A16, Measured
    from siglip_search.export.layer_sensitivity import LayerLoss
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Device

_LAYERS_SHOWN = 8


@click.command()
@click.argument("name", shell_complete=installed_model_names)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp16", "w8a16"]),
    default="int8",
    show_default=True,
    help="int8: a quarter of the size and about twice as fast. fp16: half the size. w8a16: for a "
    "Qualcomm NPU.",
)
@click.option("--replace", is_flag=True, help="Make it again, in place of the one that is there.")
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    metavar="N",
    default=DEFAULT_PICTURES,
    show_default=True,
    help="Pictures to compare on, at most; 0 leaves that to `model bench`.",
)
@data_option
@device_option
@library_option
def quantize(
    name: str,
    precision: str,
    replace: bool,
    pictures: int,
    data: str | None,
    device: Device | None,
) -> None:
    """Make NAME-int8, NAME-fp16 or NAME-w8a16 from the installed model NAME, and compare the two.

    The new model is an embedding space of its own until it has been shown, on 500 of your own
    pictures or more, to agree with NAME; then both share one space. w8a16 is quantised with up to
    64 more of these pictures and runs on --device for the comparison: without an NPU, the
    processor simulates it. Needs the package onnx: pip install "siglip-search[quantize]".

    \b
      siglip-search model quantize siglip-base-patch16-384
      siglip-search model quantize --precision w8a16 --data ~/Pictures siglip-base-patch16-384
    """
    reference = model_called(name)
    if precision == "w8a16":
        _quantize_w8a16(reference, data, pictures, device=device or "auto", replace=replace)
        return
    if device not in {None, "cpu"}:
        raise click.UsageError(f"--device {device} is for --precision w8a16")
    made = make_variant(
        reference, cast(MadePrecision, precision), models_directory(), replace_old=replace
    )
    _say_made(reference, made.spec, made.picture_cosine, made.text_cosine)
    if pictures:
        lineup = Lineup(reference, (made.spec,))
        (models,) = bench_lineups([lineup], devices=["cpu"], data=data, pictures=pictures)
        print_bench(models, [])
        settle(models)


def _quantize_w8a16(
    reference: ModelSpec, data: str | None, pictures: int, *, device: Device, replace: bool
) -> None:
    from siglip_search.engine.w8a16 import make_w8a16

    library = chosen_library()
    options = library.index_options()

    def on_begin() -> None:
        say(
            f"quantising {reference.name} with your pictures; minutes, for a model of the usual "
            "size"
        )

    made = make_w8a16(
        reference,
        models_directory(),
        folder_pictures(data) if data else library_pictures(library.directory),
        pictures=pictures,
        cores=available_cores(),
        limits=DecodeLimits(max_pixels=options.max_pixels, max_seconds=options.max_seconds),
        device=device,
        replace_old=replace,
        on_begin=on_begin,
    )
    _say_made(reference, made.spec, made.picture_cosine, made.text_cosine)
    for tower, losses in made.losses.items():
        _print_losses(tower, losses)
    if made.measured is not None:
        if made.other_try is not None:
            _say_tries(made, made.measured, made.other_try)
        _print_measured(reference, made, made.measured)
        _settle(reference, made.spec, made.measured)


def _say_made(
    reference: ModelSpec, variant: ModelSpec, picture_cosine: float, text_cosine: float
) -> None:
    say(
        f"made {variant.name}: {variant.disk_bytes / 1e6:,.1f} MB instead of "
        f"{reference.disk_bytes / 1e6:,.1f} MB; cosine to {reference.name} at least "
        f"{picture_cosine:.4f} on made-up pictures and {text_cosine:.4f} on a few queries"
    )


def _print_losses(tower: str, losses: Sequence[LayerLoss]) -> None:
    print(f"The {tower} tower's layers that lose most (cosine to fp32):")
    print(f"{'reads':>8}  {'computes':>8}  {'passes on':>9}  layer")
    for loss in losses[:_LAYERS_SHOWN]:
        print(
            f"{loss.read:8.5f}  {loss.computed:8.5f}  {loss.passed_on:9.5f}  "
            f"{loss.operator} {loss.node}"
        )
    print()


def _say_tries(made: MadeW8A16, kept: Measured, other: Measured) -> None:
    if made.float_nodes:
        how = f"the second try, with {count(len(made.float_nodes), 'layer')} in floating point,"
    else:
        how = "the first try"
    say(
        f"{how} is kept: mean cosine {kept.figures.agreement.mean_cosine:.4f}, the other's is "
        f"{other.figures.agreement.mean_cosine:.4f}"
    )


def _print_measured(reference: ModelSpec, made: MadeW8A16, measured: Measured) -> None:
    figures = measured.figures
    print(
        f"Agreement with {reference.name} on {count(figures.pictures, 'picture')}, none of the "
        f"{made.samples} used for quantising, and {count(figures.texts, 'query', 'queries')}:"
    )
    for what, mean, worst, device in (
        (
            "pictures",
            figures.picture_cosine_mean,
            figures.picture_cosine_worst,
            measured.picture_device,
        ),
        ("queries", figures.text_cosine_mean, figures.text_cosine_worst, measured.text_device),
    ):
        where = "simulated on the CPU" if device == "cpu" else f"on the {device}"
        print(f"  cosine of {what}: mean {mean:.4f}, worst {worst:.4f}, {where}")
    print(
        f"  recall@10: {figures.recall_at_10:.3f}, with the other's queries "
        f"{figures.mixed_recall_at_10:.3f}"
    )
    print(f"  {verdict(made.spec, figures)}")


def _settle(reference: ModelSpec, variant: ModelSpec, measured: Measured) -> None:
    """Record what the figures decide about the variant, and say what follows from it."""
    figures = measured.figures
    if measured.is_simulation:
        say(
            f"{variant.name} stays an embedding space of its own: a simulation decides nothing. On "
            f"the NPU: siglip-search model quantize {reference.name} --precision w8a16 --replace "
            "--device npu"
        )
        return
    if not is_decided(variant, figures):
        say(f"{variant.name} stays an embedding space of its own")
        return
    settle_one(variant, figures, reference.name)
