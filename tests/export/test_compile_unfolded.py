"""Towers that compute their own shapes, as torch exports MobileCLIP2-S3's, and contexts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from npu_emulator import needs_emulator
from onnx import helper, numpy_helper

from siglip_search.export.compile_context import compile_model
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.qnn_target import DEFAULT_TARGET
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from siglip_search.models.spec import ModelSpec

pytestmark = needs_emulator

WORST_COSINE = 0.9995  # of half precision to fp32
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)


def with_computed_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let each Reshape that keeps its first axis ask for that axis' size, as exporters do."""
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Reshape" and stored[node.input[1]][0] == 0:
            source, sizes = node.input
            rest, made = f"{sizes}.rest", f"{sizes}.computed"
            model.graph.initializer.append(numpy_helper.from_array(stored[sizes][1:], rest))
            nodes += [
                helper.make_node("Shape", [source], [f"{made}.shape"]),
                helper.make_node("Gather", [f"{made}.shape", "first"], [f"{made}.size"]),
                helper.make_node("Concat", [f"{made}.size", rest], [made], axis=0),
            ]
            node.input[1] = made
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    return model


@pytest.fixture
def spec(random_tower: ModuleType, tmp_path: Path) -> ModelSpec:
    directory = random_tower.write_random_model(tmp_path / "mine", batch=1)
    for name in ("vision.onnx", "text.onnx"):
        path = str(directory / name)
        onnx.save(with_computed_shapes(onnx.load(path)), path)
    return load_model_folder(directory)


def test_they_run_whole_and_compile_into_contexts_with_the_very_same_results(
    spec: ModelSpec,
) -> None:
    fresh = VisionTower(spec, device="npu-emulator")
    assert fresh.opened.assignment is not None
    assert fresh.opened.assignment.cpu == 0
    vectors = fresh.embed(PIXELS)
    cosines = np.einsum("nd,nd->n", vectors, VisionTower(spec).embed(PIXELS))
    assert cosines.min() >= WORST_COSINE
    made = compile_model(spec, DEFAULT_TARGET)
    compiled = VisionTower(load_model_folder(spec.directory), device="npu-emulator")
    assert compiled.opened.path == made.directory / "vision.onnx"
    # The compiler sees the graph that a session sees, after the same optimisations.
    assert np.array_equal(compiled.embed(PIXELS), vectors)
