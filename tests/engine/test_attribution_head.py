"""The attention-pooling head of a tower, found in its graph and asked again without some patches.

The reference for what a head does without some patches is the same graph with minus infinity added
to their scores before the Softmax, made with the package onnx.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_search import demo
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.onnx_fields import open_fields
from siglip_search.towers.patch_attention import open_patch_attention
from siglip_search.towers.pooling_head import find_pooling_head
from siglip_search.towers.preprocess import normalise
from siglip_search.towers.session_cpu import CpuSession
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec

WIDTH, HEADS, DIMENSION = 8, 2, 6


@pytest.fixture(scope="module")
def demo_spec() -> ModelSpec:
    return load_model_folder(demo.model_directory())


def some_pixels(spec: ModelSpec, seed: int = 0) -> np.ndarray:
    height, width = spec.vision.image_size
    shape = (height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def masked_reference(spec: ModelSpec, pixels: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Return the embedding of a tower whose graph hides patches from its last Softmax."""
    model = onnx.load(str(spec.vision_path))
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"][-1]
    hidden = np.where(left_out, np.float32(-np.inf), np.float32(0))
    model.graph.initializer.append(numpy_helper.from_array(hidden, "hidden"))
    place = list(model.graph.node).index(softmax)
    mask = helper.make_node("Add", [softmax.input[0], "hidden"], ["masked"])
    model.graph.node.insert(place, mask)
    softmax.input[0] = "masked"
    session = CpuSession(spec.vision_path, content=model.SerializeToString())
    batch = session.inputs[0].shape[0] or 1
    values = normalise(pixels[None], mean=spec.vision.mean, std=spec.vision.std)
    feeds = {session.inputs[0].name: np.repeat(values, batch, axis=0)}
    embedding = np.asarray(session.run(feeds, [session.outputs[0].name])[0])[0]
    unit: np.ndarray = embedding / np.linalg.norm(embedding)
    return unit


def small_tower(
    folder: Path,
    base: ModelSpec,
    *,
    batch: int | None = None,
    image_size: tuple[int, int] = (16, 24),
    grid: tuple[int, int] = (2, 3),
    bypass: bool = False,
    two_queries: bool = False,
    quantised: bool = False,
    external: bool = False,
    half: bool = False,
) -> ModelSpec:
    """Write a picture tower with SigLIP's head: 8-pixel patches, one projection, the probe."""
    rng = np.random.default_rng(5)
    rows: Any = "batch" if batch is None else batch
    weights: dict[str, np.ndarray] = {
        "patch": rng.standard_normal((WIDTH, 3, 8, 8)) * 0.1,
        "probe": rng.standard_normal((1, HEADS, 2 if two_queries else 1, WIDTH // HEADS)) * 3,
        "keys.weight": rng.standard_normal((WIDTH, WIDTH)),
        "values.weight": rng.standard_normal((WIDTH, WIDTH)),
        "out.weight": rng.standard_normal((WIDTH, DIMENSION)),
        "mlp.weight": rng.standard_normal((DIMENSION, DIMENSION)),
    }
    number, element = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    arrays = {name: array.astype(number) for name, array in weights.items()}
    patches = grid[0] * grid[1]
    integers = {
        "flat": [0, WIDTH, -1],
        "heads": [0, patches, HEADS, WIDTH // HEADS],
        "merged": [0, -1, WIDTH],
        "first": 0,
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["pixel_values", "patch"], ["convolved"], strides=[8, 8]),
        node("Reshape", ["convolved", "flat"], ["columns"]),
        node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
        # The probe is spread over the pictures, as transformers' repeat does it.
        node("Shape", ["tokens"], ["shape"], start=0, end=1),
        node("Concat", ["shape", "ones"], ["spread"], axis=0),
        node("Expand", ["probe", "spread"], ["query"]),
        node("MatMul", ["tokens", "keys.weight"], ["keys.flat"]),
        node("Reshape", ["keys.flat", "heads"], ["keys.split"]),
        node("Transpose", ["keys.split"], ["keys"], perm=[0, 2, 3, 1]),
        node("MatMul", ["tokens", "values.weight"], ["values.flat"]),
        node("Reshape", ["values.flat", "heads"], ["values.split"]),
        node("Transpose", ["values.split"], ["values"], perm=[0, 2, 1, 3]),
        node("MatMul", ["query", "keys"], ["scores"]),
        node("Softmax", ["scores"], ["weights"], axis=-1),
    ]
    weights_read = "weights"
    if quantised:
        weights_read = "weights.read"
        arrays["step"] = np.float32(1 / 255)
        nodes += [
            node("QuantizeLinear", ["weights", "step"], ["weights.q"]),
            node("DequantizeLinear", ["weights.q", "step"], [weights_read]),
        ]
    nodes += [
        node("MatMul", [weights_read, "values"], ["gathered"]),
        node("Transpose", ["gathered"], ["turned"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "merged"], ["joined"]),
        node("MatMul", ["joined", "out.weight"], ["projected"]),
        node("MatMul", ["projected", "mlp.weight"], ["hidden.layer"]),
        node("Tanh", ["hidden.layer"], ["bent"]),
        node("Add", ["projected", "bent"], ["pooled"]),
        node("Gather", ["pooled", "first"], ["head.output"], axis=1),
    ]
    last = "head.output"
    if bypass:
        nodes += [
            node("ReduceMean", ["tokens"], ["mean"], axes=[1], keepdims=0),
            node("MatMul", ["mean", "out.weight"], ["beside"]),
            node("Add", [last, "beside"], ["both"]),
        ]
        last = "both"
    nodes.append(node("Identity", [last], ["pooler_output"]))
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("pixel_values", element, [rows, 3, *image_size])],
        [helper.make_tensor_value_info("pooler_output", element, [rows, DIMENSION])],
        [
            *(numpy_helper.from_array(array, name) for name, array in arrays.items()),
            *(
                numpy_helper.from_array(np.array(value, dtype=np.int64), name)
                for name, value in integers.items()
            ),
            numpy_helper.from_array(np.ones(3, dtype=np.int64), "ones"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(exist_ok=True)
    onnx.save(
        model,
        str(folder / "vision.onnx"),
        save_as_external_data=external,
        location="vision.data",
        size_threshold=128,  # the runtime wants to see the sizes in the graph itself
    )
    vision = replace(base.vision, file="vision.onnx", image_size=image_size)
    return replace(base, directory=folder, vision=vision, dimension=DIMENSION)


def test_the_demo_models_head_is_found_and_its_parts_make_its_embedding(
    demo_spec: ModelSpec,
) -> None:
    head = open_patch_attention(demo_spec)
    assert head is not None
    pixels = some_pixels(demo_spec)
    tokens = head.look(pixels)
    assert tokens is not None
    assert (tokens.grid, tokens.covered) == ((6, 6), (96, 96))
    assert tokens.shares.shape == (4, 36)
    assert tokens.values.shape == (4, 36, 48)
    np.testing.assert_allclose(tokens.shares.sum(axis=1), 1, atol=1e-6)
    usual = VisionTower(demo_spec).embed(pixels[None])[0]
    np.testing.assert_allclose(tokens.embedding, usual, atol=2e-6)
    (again,) = head.embed_without(tokens, np.zeros((1, 36), dtype=bool))
    np.testing.assert_allclose(again, usual, atol=2e-6)


def test_leaving_out_patches_is_what_masking_them_in_the_graph_is(demo_spec: ModelSpec) -> None:
    head = open_patch_attention(demo_spec)
    assert head is not None
    pixels = some_pixels(demo_spec, 3)
    tokens = head.look(pixels)
    assert tokens is not None
    left_out = np.random.default_rng(1).random((5, 36)) < np.array([[0.03, 0.1, 0.5, 0.8, 0.9]]).T
    found = head.embed_without(tokens, left_out)
    for embedding, mask in zip(found, left_out, strict=True):
        np.testing.assert_allclose(embedding, masked_reference(demo_spec, pixels, mask), atol=2e-6)
    assert np.abs(found - tokens.embedding).max() > 1e-2


@pytest.mark.parametrize("batch", [None, 1, 3])
@pytest.mark.parametrize("external", [False, True])
def test_a_head_of_any_batch_with_its_weights_anywhere(
    demo_spec: ModelSpec, tmp_path: Path, batch: int | None, external: bool
) -> None:
    spec = small_tower(tmp_path / "tower", demo_spec, batch=batch, external=external)
    head = open_patch_attention(spec)
    assert head is not None
    pixels = some_pixels(spec)
    tokens = head.look(pixels)
    assert tokens is not None
    assert (tokens.grid, tokens.covered) == ((2, 3), (16, 24))
    masks = np.eye(6, dtype=bool)
    done: list[int] = []
    for embedding, mask in zip(
        head.embed_without(tokens, masks, on_done=done.append), masks, strict=True
    ):
        np.testing.assert_allclose(embedding, masked_reference(spec, pixels, mask), atol=2e-6)
    assert done[-1] == 6


def test_a_tower_in_half_precision(demo_spec: ModelSpec, tmp_path: Path) -> None:
    whole, half = (
        small_tower(tmp_path / str(is_half), demo_spec, half=is_half) for is_half in (False, True)
    )
    masks = np.eye(6, dtype=bool)
    found = []
    for spec in (whole, half):
        head = open_patch_attention(spec)
        assert head is not None
        tokens = head.look(some_pixels(spec))
        assert tokens is not None
        found.append(head.embed_without(tokens, masks))
    np.testing.assert_allclose(found[1], found[0], atol=5e-3)


def test_a_rim_that_no_patch_covers_is_told(demo_spec: ModelSpec, tmp_path: Path) -> None:
    spec = small_tower(tmp_path / "tower", demo_spec, image_size=(21, 26))
    head = open_patch_attention(spec)
    assert head is not None
    tokens = head.look(some_pixels(spec))
    assert tokens is not None
    # 21 // 8 = 2 rows of 8 pixels, 26 // 8 = 3 columns: as a convolution without padding does it.
    assert (tokens.grid, tokens.covered) == ((2, 3), (16, 24))


@pytest.mark.parametrize("flaw", ["bypass", "quantised"])
def test_where_patches_reach_the_embedding_otherwise_no_head_is_claimed(
    demo_spec: ModelSpec, tmp_path: Path, flaw: str
) -> None:
    spec = small_tower(tmp_path / "tower", demo_spec, **{flaw: True})  # type: ignore[arg-type]
    assert open_patch_attention(spec) is None


def test_two_queries_are_not_one_probe(demo_spec: ModelSpec, tmp_path: Path) -> None:
    spec = small_tower(tmp_path / "tower", demo_spec, two_queries=True)
    head = open_patch_attention(spec)
    assert head is not None
    assert head.look(some_pixels(spec)) is None


def test_a_text_tower_and_what_is_no_graph_have_no_head(
    demo_spec: ModelSpec, tmp_path: Path
) -> None:
    with open_fields(demo_spec.text_path) as reader:
        assert find_pooling_head(reader, "embedding") is None
    file = tmp_path / "vision.onnx"
    file.write_bytes(b"no model at all")
    broken = replace(demo_spec, directory=tmp_path)
    assert open_patch_attention(broken) is None
    file.unlink()
    assert open_patch_attention(broken) is None
