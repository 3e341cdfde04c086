"""Small models of every kind that can be exported, with random weights, as their libraries save."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siglip_search.models.registry import find_row
from siglip_search.models.registry_row import Architecture

if TYPE_CHECKING:
    from types import ModuleType

    from siglip_search.export.model_export import ExportedModel
    from siglip_search.models.registry_row import RegistryRow

_SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

# open_clip's own configurations of ViT-*-SigLIP and MobileCLIP2-S3, smaller.
_SIGLIP_LIKE = {
    "embed_dim": 96,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 160,
        "timm_model_name": "test_vit3",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 320,
        "width": 96,
        "heads": 3,
        "layers": 2,
        "mlp_ratio": 3.7362,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}
_MOBILECLIP2_LIKE = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 64,
        "timm_model_name": "fastvit_mci0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": None,
        "timm_drop": 0.0,
        "timm_drop_path": 0.0,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49_408,
        "width": 64,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
    },
    "custom_text": True,
}

FAMILIES = ("transformers-siglip", "open-clip-siglip", "open-clip-mobileclip2")


@dataclass(frozen=True)
class SmallModel:
    """A checkpoint and what was exported from it.

    Attributes:
        row: As the registry would have it.
        checkpoint: Folder as the library saves it.
        vocabulary: Rows of the token table.
        exported: The model folder.
    """

    row: RegistryRow
    checkpoint: Path
    vocabulary: int
    exported: ExportedModel


def script(name: str) -> ModuleType:
    """Return a module out of scripts/."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _SCRIPTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def small_row(family: str) -> RegistryRow:
    """Return a row like the registry's for a small model of a family."""
    return {
        "transformers-siglip": lambda: _row(
            dimension=64,
            image_size=(48, 48),
            length=16,
            preprocessor_file="preprocessor_config.json",
        ),
        "open-clip-siglip": lambda: _row(
            dimension=96,
            image_size=(160, 160),
            length=16,
            architecture=Architecture("open_clip", "small-siglip"),
            weights_file="open_clip_model.safetensors",
            preprocessor_file="open_clip_config.json",
        ),
        "open-clip-mobileclip2": lambda: _row(
            dimension=64,
            image_size=(64, 64),
            length=77,
            architecture=Architecture("open_clip", "small-mobileclip2"),
            weights_file="open_clip_model.safetensors",
            preprocessor_file="open_clip_config.json",
            resize="shortest-side-crop",
            tokenizer="clip-bpe",
            tokenizer_file="bpe_simple_vocab_16e6.txt.gz",
            canonicalize="clip",
            pad_id=0,
            start_id=49_406,
            end_id=49_407,
        ),
    }[family]()


def write_checkpoint(family: str, folder: Path, *, seed: int = 1) -> int:
    """Write a checkpoint of a family; return the rows of its token table."""
    writer, row = script("random_checkpoint"), small_row(family)
    if family == "open-clip-mobileclip2":
        _make_known("small-mobileclip2", _MOBILECLIP2_LIKE, folder.parent)
        writer.write_open_clip(row, folder, seed=seed)
        return 49_408
    tokenizer = script("random_tower").train_tokenizer()
    if family == "open-clip-siglip":
        _make_known("small-siglip", _SIGLIP_LIKE, folder.parent)
        writer.write_open_clip(row, folder, seed=seed, tokenizer=tokenizer)
        return 320
    encoder = {"hidden_size": 64, "intermediate_size": 128}
    encoder |= {"num_hidden_layers": 3, "num_attention_heads": 2}
    writer.write_siglip(
        row, folder, seed=seed, vocabulary=320, patch=16, encoder=encoder, tokenizer=tokenizer
    )
    return 320


def _row(*, dimension: int, **source: Any) -> RegistryRow:
    row = find_row("siglip-base-patch16-384")
    assert row.hub is not None
    hub = dataclasses.replace(row.hub, tokenizer_sha256=None, **source)
    return dataclasses.replace(row, name="small", dimension=dimension, hub=hub)


def _make_known(name: str, config: dict[str, Any], folder: Path) -> None:
    """Add a configuration to those that open_clip knows by name."""
    import open_clip

    path = folder / f"{name}.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(path)
