"""Towers out of a checkpoint of open_clip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from siglip_search.errors import ModelError
from siglip_search.export.checkpoint import read_state_dict
from siglip_search.export.reference_libraries import INSTALL, quiet
from siglip_search.export.torch_towers import (
    Sizes,
    TorchTower,
    TorchTowers,
    refuse_foreign_weights,
    refuse_other_sizes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.export.checkpoint import Checkpoint
    from siglip_search.models.registry_row import RegistryRow


def load_open_clip_towers(row: RegistryRow, checkpoint: Checkpoint) -> TorchTowers:
    """Build the network that open_clip knows by the row's name and fill in the weights.

    Branches that exist for training alone (MobileCLIP) are merged into single convolutions
    (arXiv:2206.04040), as everybody does before deployment.

    Args:
        row: The model; its architecture names a configuration with a text tower of its own.
        checkpoint: The files.

    Raises:
        ModelError: If the library does not know the configuration, or the weights are another
            model's, or damaged.
    """
    from timm.utils.model import reparameterize_model

    assert row.hub is not None
    model = _filled(row, _built(row, row.hub.architecture.name), checkpoint.weights)
    with quiet():
        visual = reparameterize_model(model.visual, inplace=True)
    bias = model.logit_bias
    return TorchTowers(
        vision=TorchTower(visual, _itself),
        text=TorchTower(model.text, _itself),
        logit_scale=math.exp(model.logit_scale.item()),
        logit_bias=None if bias is None else bias.item(),
    )


def _itself(output: Any) -> Any:
    return output


def _built(row: RegistryRow, name: str) -> Any:
    import open_clip

    config = open_clip.get_model_config(name)
    if config is None:
        raise ModelError(
            f"open_clip {open_clip.__version__} does not know the model {name}", hint=INSTALL
        )
    if not config.get("custom_text"):
        raise ModelError(
            f"{row.name} is {name} of open_clip, which has no text tower of its own",
            hint="The models of the SigLIP and MobileCLIP families can be exported.",
        )
    size = config["vision_cfg"]["image_size"]
    refuse_other_sizes(
        row,
        Sizes(
            image_size=(size, size) if isinstance(size, int) else (size[0], size[1]),
            length=config["text_cfg"]["context_length"],
            dimension=config["embed_dim"],
        ),
        where=f"open_clip {open_clip.__version__}'s {name}",
    )
    with quiet():
        return open_clip.create_model(name, pretrained=None, load_weights=False)


def _filled(row: RegistryRow, model: Any, weights: Path) -> Any:
    # Not the library's own loading: it resizes what does not fit and invents a missing bias.
    found, wanted = read_state_dict(weights), model.state_dict()
    for scalar in ("logit_scale", "logit_bias"):
        if scalar in found and scalar in wanted and found[scalar].numel() == 1:
            found[scalar] = found[scalar].reshape(wanted[scalar].shape)
    refuse_foreign_weights(
        weights,
        row.name,
        missing=wanted.keys() - found.keys(),
        unexpected=found.keys() - wanted.keys(),
        other_shapes={
            name: f"is {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}"
            for name in found.keys() & wanted.keys()
            if found[name].shape != wanted[name].shape
        },
    )
    model.load_state_dict(found)
    return model.eval().requires_grad_(False)
