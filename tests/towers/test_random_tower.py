"""The maker of random towers for benchmarks and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from siglip_search.models.model_folder import load_model_folder

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def test_the_same_seed_gives_the_same_model(random_tower: ModuleType, tmp_path: Path) -> None:
    first = random_tower.write_random_model(tmp_path / "first", seed=3)
    second = random_tower.write_random_model(tmp_path / "second", seed=3)
    other = random_tower.write_random_model(tmp_path / "other", seed=4)
    assert load_model_folder(first).space_key == load_model_folder(second).space_key
    assert load_model_folder(first).space_key != load_model_folder(other).space_key
    for name in ("vision.onnx", "text.onnx", "tokenizer.model"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_the_base_shape_is_that_of_siglip_base(random_tower: ModuleType) -> None:
    shape = random_tower.SHAPES["base-384"]
    block = 4 * 768 * 768 + 2 * 768 * 3072 + 4 * 768 + 3072 + 768 + 4 * 768
    text = 32_000 * 768 + 64 * 768 + 12 * block + 2 * 768 + 768 * 768 + 768
    patches = (shape.image_size_px // shape.patch_px) ** 2
    assert patches == 576
    assert (shape.dimension, shape.depth, shape.heads, shape.mlp) == (768, 12, 12, 3072)
    # Published: the text tower of a base export is 441 MB in fp32.
    assert text * 4 / 1e6 == pytest.approx(441, abs=1)


def test_the_notice_says_that_it_means_nothing(tiny_model: Path) -> None:
    spec = load_model_folder(tiny_model)
    assert spec.notice is not None
    assert "means nothing" in spec.notice
    assert np.isclose(spec.score.logit_bias or 0.0, 0.0)
