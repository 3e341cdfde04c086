"""The head of our own exports, asked without some patches, against the libraries' own modules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from siglip_search import demo
from siglip_search.export.to_onnx import write_onnx
from siglip_search.export.torch_towers import TorchTower
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.patch_attention import open_patch_attention
from siglip_search.towers.preprocess import normalise

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.patch_attention import PatchAttention

pytestmark = pytest.mark.reference

WIDTH, HEADS, SIDE, PATCH = 48, 4, 64, 16
PATCHES = (SIDE // PATCH) ** 2


def exported(
    folder: Path, tower: TorchTower, *, batch: int | None, opset: int = 17, normalised: bool = False
) -> tuple[ModelSpec, PatchAttention]:
    import torch

    example = torch.zeros(2, 3, SIDE, SIDE)
    write_onnx(
        tower,
        example,
        folder / "vision.onnx",
        input_name="pixel_values",
        normalised=normalised,
        batch=batch,
        opset=opset,
    )
    base = load_model_folder(demo.model_directory())
    vision = replace(base.vision, file="vision.onnx", image_size=(SIDE, SIDE))
    spec = replace(base, directory=folder, vision=vision, dimension=WIDTH)
    head = open_patch_attention(spec)
    assert head is not None
    return spec, head


def some_pixels() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def masks() -> np.ndarray:
    some = np.random.default_rng(3).random((4, PATCHES)) < 0.4
    return np.concatenate([np.zeros((1, PATCHES), dtype=bool), np.eye(PATCHES, dtype=bool), some])


def values_of(spec: ModelSpec) -> Any:
    import torch

    pixels = some_pixels()[None]
    return torch.from_numpy(normalise(pixels, mean=spec.vision.mean, std=spec.vision.std))


@pytest.mark.parametrize(
    ("batch", "opset", "normalised"), [(None, 17, False), (1, 20, False), (3, 17, True)]
)
def test_transformers_head(tmp_path: Path, batch: int | None, opset: int, normalised: bool) -> None:
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    torch.manual_seed(0)
    config = SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        image_size=SIDE,
        patch_size=PATCH,
    )
    model = SiglipVisionModel(config).eval()
    head_module = model.head if hasattr(model, "head") else model.vision_model.head
    with torch.no_grad():
        # A random probe sees all patches alike: larger, it prefers some.
        head_module.probe *= 20
    tower = TorchTower(model, lambda output: output.pooler_output)
    spec, head = exported(tmp_path, tower, batch=batch, opset=opset, normalised=normalised)
    tokens = head.look(some_pixels())
    assert tokens is not None
    assert tokens.grid == (4, 4)
    with torch.inference_mode():
        hidden = model(values_of(spec)).last_hidden_state
        for mask, found in zip(masks(), head.embed_without(tokens, masks()), strict=True):
            attended, shares = head_module.attention(
                head_module.probe,
                hidden,
                hidden,
                key_padding_mask=torch.from_numpy(mask[None]),
                average_attn_weights=False,
            )
            pooled = attended + head_module.mlp(head_module.layernorm(attended))
            wanted = torch.nn.functional.normalize(pooled[:, 0], dim=-1)[0].numpy()
            np.testing.assert_allclose(found, wanted, atol=2e-6)
            if not mask.any():
                np.testing.assert_allclose(tokens.shares, shares[0, :, 0].numpy(), atol=1e-6)
        _, _, weight = head_module.attention.in_proj_weight.chunk(3)
        _, _, bias = head_module.attention.in_proj_bias.chunk(3)
        brought = (hidden[0] @ weight.T + bias).reshape(PATCHES, HEADS, -1).permute(1, 0, 2)
        np.testing.assert_allclose(tokens.values, brought.numpy(), atol=2e-6)


def test_timms_head(tmp_path: Path) -> None:
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(
        "vit_base_patch16_siglip_224",
        pretrained=False,
        num_classes=0,
        embed_dim=WIDTH,
        depth=2,
        num_heads=HEADS,
        img_size=SIDE,
    ).eval()
    pool = model.attn_pool
    with torch.no_grad():
        pool.latent *= 20
    spec, head = exported(tmp_path, TorchTower(model, lambda output: output), batch=None)
    tokens = head.look(some_pixels())
    assert tokens is not None
    with torch.inference_mode():
        features = model.forward_features(values_of(spec))
        query = pool.q(pool.latent).reshape(1, 1, HEADS, -1).transpose(1, 2)
        key, brought = pool.kv(features).reshape(1, PATCHES, 2, HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        for mask, found in zip(masks(), head.embed_without(tokens, masks()), strict=True):
            shares = scores.masked_fill(torch.from_numpy(mask), -torch.inf).softmax(-1)
            attended = pool.proj((shares @ brought).transpose(1, 2).reshape(1, 1, WIDTH))
            pooled = attended + pool.mlp(pool.norm(attended))
            wanted = torch.nn.functional.normalize(pooled[:, 0], dim=-1)[0].numpy()
            np.testing.assert_allclose(found, wanted, atol=2e-6)
