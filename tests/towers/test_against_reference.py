"""The towers against SigLIP's arithmetic in plain float64 numpy, with the same weights.

Written from the paper and transformers' `modeling_siglip.py`, loops over heads and all: it checks
the graphs that `scripts/random_tower.py` builds and everything of ours around the session.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from siglip_search.models.model_folder import load_model_folder
from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.preprocess import normalise
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec

Array = NDArray[np.float64]


class Reference:
    """One tower; `exact_gelu` and `epsilon` exist to be wrong on purpose."""

    def __init__(
        self, path: Path, *, heads: int, exact_gelu: bool = False, epsilon: float = 1e-6
    ) -> None:
        tensors = onnx.load(str(path)).graph.initializer
        self.weights = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in tensors}
        self.heads = heads
        self.exact_gelu = exact_gelu
        self.epsilon = epsilon
        self.depth = sum(name.endswith("self_attn.q.weight") for name in self.weights)

    def picture(self, pixel_values: Array, patch: int) -> Array:
        """One picture, shape (3, size, size) -> unit vector."""
        kernel = self.weights["patch.weight"].reshape(self.weights["patch.weight"].shape[0], -1)
        size = pixel_values.shape[1]
        rows = []
        for top in range(0, size, patch):
            for left in range(0, size, patch):
                window = pixel_values[:, top : top + patch, left : left + patch]
                rows.append(kernel @ window.ravel() + self.weights["patch.bias"])
        x = self.encode(np.stack(rows) + self.weights["position"][0])
        x = self.norm(x, "post_layernorm")
        pooled = self.attend(self.weights["head.probe"][0], x, "head.attention")
        pooled = pooled + self.mlp(self.norm(pooled, "head.layernorm"), "head.mlp")
        return unit(pooled[0])

    def words(self, ids: NDArray[np.int64]) -> Array:
        """One text, shape (length,) -> unit vector."""
        x = self.encode(self.weights["token_embedding"][ids] + self.weights["position"][0])
        x = self.norm(x, "final_layer_norm")
        return unit(self.linear(x[-1:], "head")[0])

    def encode(self, x: Array) -> Array:
        for layer in range(self.depth):
            normed = self.norm(x, f"layers.{layer}.layer_norm1")
            x = x + self.attend(normed, normed, f"layers.{layer}.self_attn")
            x = x + self.mlp(self.norm(x, f"layers.{layer}.layer_norm2"), f"layers.{layer}.mlp")
        return x

    def attend(self, queries: Array, keys: Array, name: str) -> Array:
        query, key, value = (
            self.linear(source, f"{name}.{part}")
            for source, part in ((queries, "q"), (keys, "k"), (keys, "v"))
        )
        width = query.shape[1] // self.heads
        mixed = []
        for head in range(self.heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[:, part] @ key[:, part].T / math.sqrt(width)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            mixed.append(weights @ value[:, part])
        return self.linear(np.concatenate(mixed, axis=1), f"{name}.out")

    def mlp(self, x: Array, name: str) -> Array:
        return self.linear(self.gelu(self.linear(x, f"{name}.fc1")), f"{name}.fc2")

    def gelu(self, x: Array) -> Array:
        if self.exact_gelu:
            return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred**2).mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt(variance + self.epsilon)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def linear(self, x: Array, name: str) -> Array:
        return x @ self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


TEXTS = ["a red cat", "blue boat on the sea", "", "umbrella"]


@pytest.fixture(scope="session")
def spec(tiny_model: Path) -> ModelSpec:
    return load_model_folder(tiny_model)


def test_text_embeddings_equal_an_independent_reference(spec: ModelSpec) -> None:
    embeddings = TextTower(spec).embed(TEXTS)
    assert embeddings.shape == (len(TEXTS), 32)
    ids = open_tokenizer(spec).encode(TEXTS)

    def worst(**mutant: Any) -> float:
        reference = Reference(spec.text_path, heads=2, **mutant)
        expected = np.stack([reference.words(row) for row in ids])
        return float(np.abs(embeddings - expected).max())

    assert worst() < 2e-6
    # Controls: what a wrong export gets wrong must be seen by this very comparison.
    assert worst(exact_gelu=True) > 2e-6
    assert worst(epsilon=1e-4) > 2e-6


def test_picture_embeddings_equal_an_independent_reference(spec: ModelSpec) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    pixels = coarse.repeat(12, axis=1).repeat(12, axis=2)
    embeddings = VisionTower(spec).embed(pixels)
    values = normalise(pixels, mean=spec.vision.mean, std=spec.vision.std).astype(np.float64)

    def worst(**mutant: Any) -> float:
        reference = Reference(spec.vision_path, heads=2, **mutant)
        expected = np.stack([reference.picture(row, 16) for row in values])
        return float(np.abs(embeddings - expected).max())

    assert worst() < 2e-6
    assert worst(exact_gelu=True) > 2e-6
    assert worst(epsilon=1e-4) > 2e-6
