"""`siglip-search model export`: a trained checkpoint becomes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from siglip_search.cli.console import say
from siglip_search.cli.model_choice import accept_conditions
from siglip_search.cli.suggestions import known_model_names
from siglip_search.export.model_export import ExportOptions, export_model, refuse_installed
from siglip_search.export.to_onnx import DEFAULT_OPSET, OPSETS
from siglip_search.models.registry import find_row
from siglip_search.settings import models_directory, own_models_file
from siglip_search.typed_paths import absolute_path

_MAX_BATCH: Final = 1024


def _batch_size(_: click.Context, __: click.Parameter, value: str) -> int | None:
    if value == "dynamic":
        return None
    if value.isdecimal() and 1 <= int(value) <= _MAX_BATCH:
        return int(value)
    raise click.BadParameter(f"{value!r} is neither a number from 1 to {_MAX_BATCH} nor 'dynamic'.")


@click.command()
@click.argument("name", shell_complete=known_model_names)
@click.option(
    "--weights",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Your own checkpoint of this model: a folder as Transformers or open_clip saves it, or a "
    "file of weights (.safetensors, .pt). By default the published one, from the hub or its cache.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write the model folder there instead of installing it.",
)
@click.option("--name", "new_name", metavar="NEWNAME", help="Name of the new model.")
@click.option(
    "--batch",
    metavar="N|dynamic",
    default="dynamic",
    callback=_batch_size,
    show_default=True,
    help="The one batch size that the towers take, as NPUs want it.",
)
@click.option(
    "--normalised/--raw",
    help="End the graphs with unit vectors, or as the published exports do (default).",
)
@click.option(
    "--opset",
    type=click.IntRange(*OPSETS),
    default=DEFAULT_OPSET,
    show_default=True,
    help="Version of the ONNX operators.",
)
@click.option(
    "--accept-licence",
    is_flag=True,
    help="Accept the conditions of the published weights, where there are any.",
)
def export(
    name: str,
    weights: Path | None,
    out: Path | None,
    new_name: str | None,
    batch: int | None,
    normalised: bool,
    opset: int,
    accept_licence: bool,
) -> None:
    """Export a trained checkpoint of the model NAME into ONNX towers.

    The towers are compared with the checkpoint in its own library, and refused if they differ.
    This needs the extra `export`: pip install "siglip-search[export]".
    """
    row = find_row(name, own_models_file())
    chosen = new_name or row.name
    if out is None:
        refuse_installed(chosen, models_directory())
        target = models_directory() / chosen
    else:
        target = absolute_path(out)
    if weights is None and not accept_conditions(row, accepted=accept_licence):
        say(f"{row.name} was not exported")
        return
    exported = export_model(
        row,
        target,
        weights=None if weights is None else absolute_path(weights),
        options=ExportOptions(name=chosen, batch=batch, normalised=normalised, opset=opset),
        on_step=say,
    )
    spec = exported.spec
    say(
        f"{spec.name} is ready in {spec.directory}; its unit vectors differ from the checkpoint's "
        f"in {exported.made_with} by at most {exported.differences.vision:.0e} (pictures) and "
        f"{exported.differences.text:.0e} (texts)"
    )
