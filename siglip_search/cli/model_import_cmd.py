"""`siglip-search model import`: ready-made towers for a Qualcomm NPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from siglip_search.cli.console import say
from siglip_search.engine.chosen_model import model_called
from siglip_search.export.import_context import ImportOptions, import_contexts
from siglip_search.models.spec import Precision
from siglip_search.settings import models_directory
from siglip_search.towers.qnn_context import compiled_for
from siglip_search.towers.qnn_graph import graph_facts
from siglip_search.towers.qnn_target import CHIPS, DEFAULT_TARGET, find_target
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.qnn_target import Target


@click.command("import")
@click.argument("source", metavar="FILE.bin|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "base_name",
    metavar="NAME",
    required=True,
    help="Installed model of the same checkpoint: its tokenizer, preprocessing, scale and bias "
    "are taken, and each tower that SOURCE does not have.",
)
@click.option(
    "--name", "new_name", metavar="NEWNAME", help="Of the new model.  [default: NAME-CHIP]"
)
@click.option(
    "--target",
    metavar="CHIP",
    help=f"{', '.join(CHIPS)}; any other as soc=60,arch=73.  [default: what the binary says]",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Of the weights, which a binary does not tell; noted with every vector.  "
    "[default: w8a16 for one that takes or gives integers, else fp16]",
)
@click.option(
    "--unit-pixels",
    is_flag=True,
    help="The picture tower takes pixels from 0 to 1 and normalises them itself.",
)
@click.option("--replace", is_flag=True, help="Take the place of a model of the same name.")
def import_(
    source: Path,
    base_name: str,
    new_name: str | None,
    target: str | None,
    precision: Precision | None,
    unit_pixels: bool,
    replace: bool,
) -> None:
    """Install ready-made QNN context binaries, as Model Farm and AI Hub publish them.

    A folder may hold one for each tower. What a binary takes and gives is read from itself, and
    one that does not fit is refused. The new model is an embedding space of its own until
    `siglip-search model bench` has shown that it agrees with NAME.

    \b
      siglip-search model import siglip_vision.bin --as siglip-base-patch16-384
    """
    spec = import_contexts(
        absolute_path(source),
        model_called(base_name),
        models_directory(),
        options=ImportOptions(
            name=new_name,
            target=None if target is None else find_target(target),
            precision=precision,
            unit_pixels=unit_pixels,
            replace=replace,
        ),
        on_step=say,
    )
    chip = _chip(spec)
    emulated = ", or --device npu-emulator" if chip == DEFAULT_TARGET else ""
    say(f"added {spec.name}; it runs on {chip} only: --device npu{emulated}")


def _chip(spec: ModelSpec) -> Target:
    """Return the chip that a model's contexts were made for, as they say it themselves."""
    facts = (graph_facts(path) for path in (spec.vision_path, spec.text_path))
    said = next(one.compatibility for one in facts if one is not None and one.compatibility)
    return compiled_for(said).targets[0]
