"""`siglip-search model quantize`: a smaller or faster variant of an installed model."""

from __future__ import annotations

from typing import cast

import click

from siglip_search.cli.console import library_option, say
from siglip_search.cli.model_bench_cmd import (
    DEFAULT_PICTURES,
    compare_lineups,
    data_option,
    print_comparison,
    settle,
)
from siglip_search.engine.chosen_model import model_called
from siglip_search.engine.comparison import Lineup, disk_bytes
from siglip_search.engine.precision import MadePrecision, make_variant
from siglip_search.settings import models_directory


@click.command()
@click.argument("name")
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp16"]),
    default="int8",
    show_default=True,
    help="int8: a quarter of the size and about twice as fast. fp16: half the size.",
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
@library_option
def quantize(name: str, precision: str, replace: bool, pictures: int, data: str | None) -> None:
    """Make NAME-int8 or NAME-fp16 from the installed model NAME, and compare the two.

    The new model is an embedding space of its own until it has been shown, on 500 of your own
    pictures or more, to agree with NAME; then both share one space. Needs the package onnx:
    pip install "siglip-search[quantize]".

    \b
      siglip-search model quantize siglip-base-patch16-384
    """
    reference = model_called(name)
    made = make_variant(
        reference, cast(MadePrecision, precision), models_directory(), replace_old=replace
    )
    say(
        f"made {made.spec.name}: {disk_bytes(made.spec) / 1e6:,.1f} MB instead of "
        f"{disk_bytes(reference) / 1e6:,.1f} MB; cosine to {name} at least "
        f"{made.picture_cosine:.4f} on made-up pictures and {made.text_cosine:.4f} on a few queries"
    )
    if pictures:
        lineup = Lineup(reference, (made.spec,))
        (models,) = compare_lineups([lineup], data=data, pictures=pictures)
        print_comparison(models)
        settle(models)
