"""Weights stored as fp16: half the size, the arithmetic as before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_search import demo
from siglip_search.errors import ModelError
from siglip_search.export.fp16_storage import store_fp16, store_weights_fp16
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.onnx_header import token_table_rows
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.mark.parametrize("batch", [None, 2])
def test_embeddings_move_by_the_rounding_of_the_weights(
    random_tower: ModuleType, tmp_path: Path, batch: int | None
) -> None:
    model = random_tower.write_random_model(tmp_path / "model", batch=batch)
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 3, 48, 48)).astype(np.float32)
    ids = np.random.default_rng(0).integers(3, 200, (2, 16))
    for name, feed in (("vision", {"pixel_values": pixels}), ("text", {"input_ids": ids})):
        source, target = model / f"{name}.onnx", tmp_path / f"{name}.onnx"
        assert store_fp16(source, target) == ()
        before, after = (
            CpuSession(path).run(feed, ["pooler_output"])[0].astype(np.float64)
            for path in (source, target)
        )
        norms = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        cosine = np.einsum("nd,nd->n", before, after) / norms
        assert cosine.min() > 0.99999
        assert not np.array_equal(before, after)
        assert target.stat().st_size < 0.75 * source.stat().st_size
    assert token_table_rows(tmp_path / "text.onnx", "input_ids") == 320


def test_size_of_the_base_towers_halves(random_tower: ModuleType) -> None:
    shape = random_tower.SHAPES["base-224"]
    small = type(shape)(768, 1, 12, 3072, 224, 16, 1000, 64)
    model = random_tower.text_tower(small, np.random.default_rng(0))
    before = model.ByteSize()
    assert store_weights_fp16(model) > 10
    assert model.ByteSize() == pytest.approx(before / 2, rel=0.01)
    onnx.checker.check_model(model)


def test_weight_beyond_the_range_of_fp16_stays(tmp_path: Path) -> None:
    large = np.full((32, 32), 70_000.0, np.float32)
    fine = np.full((32, 32), 0.5, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["h"]),
        helper.make_node("MatMul", ["h", "fine"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(large, "large"), numpy_helper.from_array(fine, "fine")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert store_weights_fp16(model) == 1
    onnx.save(model, tmp_path / "fp16.onnx")
    x = np.full((1, 32), 1e-3, np.float32)
    (y,) = CpuSession(tmp_path / "fp16.onnx").run({"x": x}, ["y"])
    assert np.allclose(y, 1e-3 * 32 * 70_000 * 32 * 0.5)


def test_towers_that_are_stored_so_already_are_named(tmp_path: Path) -> None:
    spec = load_model_folder(demo.model_directory())
    for path in (spec.vision_path, spec.text_path):
        with pytest.raises(ModelError, match="no fp32 weights to store") as caught:
            store_fp16(path, tmp_path / "out.onnx")
        assert path.name in str(caught.value)
        assert not (tmp_path / "out.onnx").exists()
