"""SigLIP towers out of a checkpoint of Hugging Face's Transformers."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from siglip_search.errors import ModelError
from siglip_search.export.checkpoint import read_state_dict
from siglip_search.export.reference_libraries import library_class, quiet
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

_KNOWN = "siglip"
"""CLIP's classes project what they pool, and SigLIP 2's of any size take cut-up pictures: an export
like this one would be equal to the library's towers, and not to its embeddings."""

_LEFT_OVER = "position_ids"
"""Buffers that older versions saved with the weights: 0, 1, 2, ..., which no version learns."""


def load_transformers_towers(row: RegistryRow, checkpoint: Checkpoint) -> TorchTowers:
    """Build the network that the checkpoint's configuration describes and fill in its weights.

    Args:
        row: The model; its architecture is a class of Transformers with two towers.
        checkpoint: The files.

    Raises:
        ModelError: If the configuration or the weights are another model's, or damaged.
    """
    assert row.hub is not None
    assert checkpoint.config is not None
    model_class = library_class(row.hub.architecture)
    if model_class.config_class.model_type != _KNOWN:
        raise ModelError(
            f"{row.name} is a {row.hub.architecture.name} of Transformers, which cannot be "
            "exported",
            hint="SiglipModel can, and models of open_clip.",
        )
    config = _config(row, model_class, checkpoint.config)
    model = _filled(row, model_class, config, checkpoint.weights)
    return TorchTowers(
        vision=TorchTower(model.vision_model, _pooled),
        text=TorchTower(model.text_model, _pooled),
        logit_scale=math.exp(model.logit_scale.item()),
        logit_bias=model.logit_bias.item(),
    )


def _pooled(output: Any) -> Any:
    return output.pooler_output


def _config(row: RegistryRow, model_class: Any, path: Path) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    expected = model_class.config_class.model_type
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path} is not the configuration of a model: {error}",
            hint="Take the config.json that belongs to the weights.",
        ) from error
    if found != expected:
        raise ModelError(
            f"{path} describes a model of the type {found!r}; {row.name} is of the type "
            f"{expected!r}",
            hint="Name the model that the checkpoint was made from.",
        )
    try:
        with quiet():
            config = model_class.config_class.from_dict(values)
    except (TypeError, ValueError, KeyError, AttributeError, StrictDataclassError) as error:
        raise ModelError(
            f"{path} is damaged: {' '.join(str(error).split())}",
            hint="Take the config.json that belongs to the weights.",
        ) from error
    size = config.vision_config.image_size
    refuse_other_sizes(
        row,
        Sizes(
            image_size=(size, size) if isinstance(size, int) else (size[0], size[1]),
            length=config.text_config.max_position_embeddings,
            dimension=config.vision_config.hidden_size,
        ),
        where=path,
    )
    return config


def _filled(row: RegistryRow, model_class: Any, config: Any, weights: Path) -> Any:
    import torch

    state = read_state_dict(weights)
    with quiet():
        # The library's own loading, for it knows the names that its older versions gave.
        model, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=state,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    refuse_foreign_weights(
        weights,
        row.name,
        missing=report["missing_keys"],
        unexpected=[name for name in report["unexpected_keys"] if not name.endswith(_LEFT_OVER)],
        other_shapes={
            name: f"is {tuple(found)}, not {tuple(wanted)}"
            for name, found, wanted in report["mismatched_keys"]
        },
    )
    return model.eval().requires_grad_(False)
