"""`siglip-search model compile`: a model's towers, prepared for a chip ahead of time."""

from __future__ import annotations

import click

from siglip_search.cli.console import say
from siglip_search.cli.suggestions import installed_model_names
from siglip_search.engine.chosen_model import bundled_models, model_called
from siglip_search.errors import DeviceError, ModelError
from siglip_search.export.compile_context import compile_model
from siglip_search.towers.qnn_chip import this_processor
from siglip_search.towers.qnn_target import CHIPS, find_target


@click.command()
@click.argument("name", shell_complete=installed_model_names)
@click.option(
    "--target",
    "targets",
    metavar="CHIP",
    multiple=True,
    help=f"{', '.join(CHIPS)}; any other as soc=60,arch=73. May stand several times.  "
    "[default: this machine's]",
)
def compile(name: str, targets: tuple[str, ...]) -> None:  # noqa: A001 - the command's name
    """Compile the installed model NAME for Qualcomm NPUs.

    An NPU then need not prepare it at each start. The chip need not be this machine's: compiling
    works offline on any ordinary PC with the extra `npu`. What comes of it is for the installed
    version of the runtime; after an update, compile again.

    \b
      siglip-search model compile mine --target x-elite --target 8gen3
    """
    chips = list(dict.fromkeys(find_target(text) for text in targets))
    if not chips:
        here = this_processor().target
        if here is None:
            raise DeviceError(
                "this machine has no NPU that is known, and no --target was given",
                hint=f"Known are {', '.join(CHIPS)}; any other as soc=60,arch=73.",
            )
        chips = [here]
    spec = model_called(name)
    if spec.name in bundled_models():
        raise ModelError(
            f"the model {name!r} comes with the program, whose own files stay as they are",
            hint=f"`siglip-search model quantize {name} --precision w8a16` makes a model of it "
            "that can be compiled.",
        )
    for chip in chips:
        made = compile_model(spec, chip, on_step=say)
        say(f"{name} is ready for {chip}: {made.size_bytes / 1e6:,.1f} MB in {made.directory}")
