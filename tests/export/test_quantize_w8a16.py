"""Towers for an NPU, on the processor: shapes, types, what is refused, and where they lose."""

from __future__ import annotations

import collections
import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_search import demo
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.errors import ModelError
from siglip_search.export.fp16_storage import store_weights_fp16
from siglip_search.export.layer_sensitivity import layer_losses, nodes_to_leave_in_float
from siglip_search.export.quantization_data import (
    CAPTIONS,
    Samples,
    caption_samples,
    digest,
    picture_samples,
    plain_pictures,
)
from siglip_search.export.quantize_w8a16 import (
    quantize_w8a16,
    recipe,
    saturated_biases,
    write_w8a16,
)
from siglip_search.export.static_shapes import OPSET, static_picture_tower, static_text_tower
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec

STATIC = {"picture": static_picture_tower, "text": static_text_tower}


@pytest.fixture(scope="module")
def gallery() -> ModelSpec:
    return load_model_folder(demo.model_directory())


@pytest.fixture
def tiny(tiny_model: Path) -> ModelSpec:
    return load_model_folder(tiny_model)


def noise(spec: ModelSpec, count: int, seed: int) -> list[NDArray[np.uint8]]:
    chance = np.random.default_rng(seed)
    return [
        chance.integers(0, 256, (1, *spec.vision.image_size, 3), np.uint8) for _ in range(count)
    ]


def samples(spec: ModelSpec, tower: str, model: Any) -> Samples:
    if tower == "picture":
        return picture_samples(spec, noise(spec, 24, 0), model)
    return caption_samples(spec, model)


def others(spec: ModelSpec, tower: str, model: Any) -> NDArray[Any]:
    """Inputs that were not used for quantising."""
    if tower == "picture":
        return picture_samples(spec, noise(spec, 12, 1), model).rows[:12]
    ids = np.random.default_rng(1).integers(2, 200, (12, spec.text.length))
    ids[:, 10:] = spec.text.pad_id
    return ids


def embeddings(model: Any, rows: NDArray[Any], path: Path) -> NDArray[np.float32]:
    onnx.save(model, path)
    session = CpuSession(path)
    (fed,), (given,) = session.inputs, session.outputs
    outputs = [session.run({fed.name: row[None]}, [given.name])[0] for row in rows]
    vectors: NDArray[np.float32] = np.concatenate(outputs).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosines(first: Any, second: Any, rows: NDArray[Any], folder: Path) -> NDArray[np.float32]:
    return np.einsum(
        "nd,nd->n",
        embeddings(first, rows, folder / "first.onnx"),
        embeddings(second, rows, folder / "second.onnx"),
    )


def planted(
    random_tower: ModuleType,
    folder: Path,
    changes: dict[str, Callable[[NDArray[np.float32]], None]],
) -> ModelSpec:
    """A tiny model of which some of the picture tower's weights were changed."""
    random_tower.write_random_model(folder)
    model = onnx.load(folder / "vision.onnx")
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            values = numpy_helper.to_array(tensor).copy()
            changes[tensor.name](values)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, folder / "vision.onnx")
    return load_model_folder(folder)


# Fixed shapes


@pytest.mark.parametrize("tower", ["picture", "text"])
def test_a_static_tower_takes_one_input_and_gives_the_same_numbers(
    tower: str, gallery: ModelSpec, tmp_path: Path
) -> None:
    path = gallery.vision_path if tower == "picture" else gallery.text_path
    model = STATIC[tower](gallery)
    (fed,), (given,) = model.graph.input, model.graph.output
    wanted = {"picture": [1, 3, 96, 96], "text": [1, 64]}[tower]
    assert [axis.dim_value for axis in fed.type.tensor_type.shape.dim] == wanted
    assert [axis.dim_value for axis in given.type.tensor_type.shape.dim] == [1, 128]
    rows = others(gallery, tower, model)
    assert cosines(onnx.load(path), model, rows, tmp_path).min() > 0.99999


def test_constants_are_folded_and_no_bias_joins_a_product(gallery: ModelSpec) -> None:
    for tower in STATIC:
        source = onnx.load(gallery.vision_path if tower == "picture" else gallery.text_path)
        model = STATIC[tower](gallery)
        counted = [
            collections.Counter(node.op_type for node in each.graph.node)
            for each in (source, model)
        ]
        assert counted[1]["Gemm"] == counted[0]["Gemm"]  # MatMul and Add stay two
        assert counted[1]["Gelu"] == counted[0]["Erf"] > 0  # one operator, which HTP takes
        assert not counted[1].keys() & {"Constant", "Shape", "Erf"}
        assert next(entry.version for entry in model.opset_import if not entry.domain) == OPSET
        # Weights that were stored in fp16 are what they are brought back to.
        stored = {tensor.data_type for tensor in model.graph.initializer}
        assert TensorProto.FLOAT16 not in stored
        assert counted[1]["Cast"] <= 1  # of a mask
        names = [node.name for node in model.graph.node]
        assert len(set(names)) == len(names)
        assert all(names)


def test_a_second_output_is_left_out(gallery: ModelSpec, tmp_path: Path) -> None:
    model = onnx.load(gallery.vision_path)
    hidden = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    model.graph.output.append(helper.make_empty_tensor_value_info(hidden.output[0]))
    folder = tmp_path / "model"
    folder.mkdir()
    for name in gallery.files:
        (folder / name).write_bytes((gallery.directory / name).read_bytes())
    onnx.save(model, folder / "vision.onnx")
    static = static_picture_tower(load_model_folder(folder))
    assert [value.name for value in static.graph.output] == ["embedding"]


def test_a_damaged_tower_is_named(random_tower: ModuleType, tmp_path: Path) -> None:
    folder = random_tower.write_random_model(tmp_path / "model")
    whole = (folder / "text.onnx").read_bytes()
    (folder / "text.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"text\.onnx"):
        static_text_tower(load_model_folder(folder))


# Samples


def test_captions_are_none_of_the_queries_that_decide_and_fill_a_text_tower(
    gallery: ModelSpec,
) -> None:
    assert not {caption.lower() for caption in CAPTIONS} & {phrase.lower() for phrase in PHRASES}
    assert len(set(CAPTIONS)) == len(CAPTIONS) == 64
    rows = caption_samples(gallery, static_text_tower(gallery)).rows
    pieces = np.sum(rows != gallery.text.pad_id, axis=1)
    assert pieces.min() == 0
    assert pieces.max() >= gallery.text.length - 1


def test_samples_are_given_one_by_one_and_again(tiny: ModelSpec) -> None:
    given = caption_samples(tiny, static_text_tower(tiny))
    for _ in range(2):
        feeds = list(iter(given.get_next, None))
        assert len(feeds) == len(CAPTIONS)
        assert {feed["input_ids"].shape for feed in feeds} == {(1, tiny.text.length)}
    assert len(given.first(3).rows) == 3


def test_a_recipe_names_versions_and_tells_samples_apart(tiny: ModelSpec) -> None:
    model = static_picture_tower(tiny)
    pictures, more = (picture_samples(tiny, noise(tiny, 16, seed), model) for seed in (0, 1))
    captions = caption_samples(tiny, static_text_tower(tiny))
    said = recipe(pictures, captions)
    assert f"onnx {onnx.__version__}" in said
    assert "onnxruntime " in said
    assert "over 21 pictures (seed 0, 5 plain) and 64 captions" in said
    assert said == recipe(pictures, captions) != recipe(more, captions)
    assert digest(pictures) != digest(more)
    assert recipe(pictures, captions, ["text Gelu"]).endswith("; in float: text Gelu")
    assert plain_pictures((2, 3)).shape == (5, 2, 3, 3)


# Quantised towers


@pytest.mark.parametrize("tower", ["picture", "text"])
def test_weights_have_8_bits_activations_16_and_the_embedding_is_the_same(
    tower: str, tiny: ModelSpec, tmp_path: Path
) -> None:
    static = STATIC[tower](tiny)
    before = static.SerializeToString()
    quantized = quantize_w8a16(static, samples(tiny, tower, static), source=tiny.vision_path)
    assert static.SerializeToString() == before
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    kinds = collections.Counter()
    for node in quantized.graph.node:
        if node.op_type == "DequantizeLinear":
            zero = stored[node.input[2]].data_type
            kinds["weight" if node.input[0] in stored else "activation", zero] += 1
        assert node.op_type not in {"Gemm", "QLinearMatMul"}
    assert kinds["activation", TensorProto.UINT16] > 20
    assert kinds["weight", TensorProto.UINT8] > 10
    assert {kind for what, kind in kinds if what == "activation"} == {TensorProto.UINT16}
    # Reshapes' sizes and single numbers, such as the attention's scale, may have more.
    large = [one for one in stored.values() if np.prod(one.dims) >= 256]
    assert {one.data_type for one in large} <= {TensorProto.UINT8, TensorProto.UINT16}
    rows = others(tiny, tower, static)
    near = cosines(static, quantized, rows, tmp_path)
    assert near.mean() >= 0.9995
    assert near.min() < 1.0 - 1e-6  # something was quantised
    assert write_w8a16(quantized, tmp_path / "tower.onnx") == ()
    assert (tmp_path / "tower.onnx").stat().st_size > 0


def test_a_token_table_that_is_stored_in_fp16_is_quantised_as_one_in_fp32(
    random_tower: ModuleType, tmp_path: Path
) -> None:
    spec = load_model_folder(random_tower.write_random_model(tmp_path / "model"))
    whole = static_text_tower(spec)
    stored = onnx.load(spec.text_path)
    assert store_weights_fp16(stored) > 0
    onnx.save(stored, spec.text_path)
    halved = static_text_tower(spec)
    assert all(node.op_type != "Cast" for node in halved.graph.node)
    quantized = quantize_w8a16(halved, samples(spec, "text", halved), source=spec.text_path)
    rows = others(spec, "text", halved)
    assert cosines(whole, quantized, rows, tmp_path).mean() >= 0.9995


def test_one_input_beyond_what_was_measured_is_not_cut_off(tiny: ModelSpec, tmp_path: Path) -> None:
    static = static_picture_tower(tiny)
    given = samples(tiny, "picture", static)
    dim = Samples(given.name, given.rows * np.float32(0.85))
    quantized = quantize_w8a16(static, dim, source=tiny.vision_path)
    scale = next(
        numpy_helper.to_array(tensor)
        for tensor in quantized.graph.initializer
        if tensor.name == "pixel_values_scale"
    )
    assert scale * 65535 >= np.ptp(given.rows)
    assert cosines(static, quantized, given.rows[:8], tmp_path).mean() > 0.999


def test_the_quantiser_says_nothing_and_leaves_logging_as_it_was(
    tiny: ModelSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), list(root.filters))
    static = static_text_tower(tiny)
    quantize_w8a16(static, samples(tiny, "text", static), source=tiny.text_path)
    assert (list(root.handlers), list(root.filters)) == before
    assert capfd.readouterr() == ("", "")


# A bias that does not fit


def _bias_model(values: list[int]) -> Any:
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["b_quantized", "scale"], ["b"])],
        "bias",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [len(values)])],
        [
            numpy_helper.from_array(np.array(values, np.int32), "b_quantized"),
            numpy_helper.from_array(np.float32(1.0), "scale"),
            numpy_helper.from_array(np.array([2**31 - 1], np.int32), "of something else"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])


@pytest.mark.parametrize(
    ("value", "is_cut_off"),
    [(2**31 - 1, True), (-(2**31), True), (2**31 - 2, True), (2**31 - 3, False), (-5, False)],
)
def test_a_bias_at_the_end_of_32_bits_was_cut_off(value: int, is_cut_off: bool) -> None:
    assert saturated_biases(_bias_model([0, value])) == (["b"] if is_cut_off else [])


@pytest.mark.parametrize(
    ("weight", "bias"),
    [("post_layernorm.weight", "post_layernorm.bias"), ("patch.weight", "patch.bias")],
)
def test_a_tower_whose_bias_would_be_cut_off_is_refused(
    random_tower: ModuleType, tmp_path: Path, weight: str, bias: str
) -> None:
    def shrink(values: NDArray[np.float32]) -> None:
        values *= 1e-6

    def grow(values: NDArray[np.float32]) -> None:
        values[:] = 10.0

    spec = planted(random_tower, tmp_path / "model", {weight: shrink, bias: grow})
    static = static_picture_tower(spec)
    with pytest.raises(ModelError, match=rf"the bias {bias} does not fit in 32 bits") as caught:
        quantize_w8a16(static, samples(spec, "picture", static), source=spec.vision_path)
    assert str(spec.vision_path) in str(caught.value)
    assert caught.value.hint


# Where it loses


def _outlier(values: NDArray[np.float32]) -> None:
    values[0, 0] = 60.0  # all other weights share 8 bits with it


def _compensate(values: NDArray[np.float32]) -> None:
    values[0] *= 0.001


OUTLIER = {"head.mlp.fc1.weight": _outlier, "head.mlp.fc2.weight": _compensate}


def test_the_layer_that_loses_is_found_and_stays_in_float(
    random_tower: ModuleType, tmp_path: Path
) -> None:
    spec = planted(random_tower, tmp_path / "model", OUTLIER)
    static = static_picture_tower(spec)
    given = samples(spec, "picture", static)
    quantized = quantize_w8a16(static, given, source=spec.vision_path)
    losses = layer_losses(static, quantized, given.first(4))
    assert losses == sorted(losses, key=lambda loss: -loss.lost)
    nodes = {node.name: node for node in static.graph.node}
    assert {loss.node for loss in losses} <= nodes.keys()
    assert losses[0].lost > 0.01
    assert losses[0].read > losses[0].computed >= losses[0].passed_on
    chosen = nodes_to_leave_in_float(static, losses)
    assert any("head.mlp.fc1.weight" in nodes[name].input for name in chosen)
    again = quantize_w8a16(static, given, source=spec.vision_path, float_nodes=chosen)
    rows = others(spec, "picture", static)
    assert cosines(static, quantized, rows, tmp_path).mean() < 0.99
    assert cosines(static, again, rows, tmp_path).mean() > 0.9995


def test_a_good_tower_has_no_layer_that_stands_out(tiny: ModelSpec) -> None:
    static = static_text_tower(tiny)
    losses = layer_losses(static, static, samples(tiny, "text", static).first(2))
    assert losses
    assert max(abs(loss.lost) for loss in losses) < 1e-6
    assert nodes_to_leave_in_float(static, losses) == set()


def test_without_onnx_the_extra_is_named(tiny: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match="needs the package onnx") as caught:
        static_text_tower(tiny)
    assert "siglip-search[quantize]" in caught.value.hint
