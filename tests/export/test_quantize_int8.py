"""8-bit towers: the same embeddings within a rounding, on every processor."""

from __future__ import annotations

import collections
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from siglip_search import demo
from siglip_search.errors import ModelError
from siglip_search.export.onnx_weights import read_tower, write_tower
from siglip_search.export.quantize_int8 import (
    FULL_LEVELS,
    SAFE_LEVELS,
    quantize_columns,
    quantize_int8,
    weight_levels,
)
from siglip_search.towers.onnx_header import token_table_rows
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray


def outputs_of(path: Path, values: NDArray[Any]) -> NDArray[np.float32]:
    """Return unit vectors of one input after the other: a batch is quantised together."""
    session = CpuSession(path, threads=1)
    (name,) = (tensor.name for tensor in session.inputs)
    (result,) = (tensor.name for tensor in session.outputs)
    batch = session.inputs[0].shape[0] or 1
    rows = [
        session.run({name: np.repeat(values[i : i + 1], batch, axis=0)}, [result])[0][:1]
        for i in range(len(values))
    ]
    stacked: NDArray[np.float32] = np.concatenate(rows).astype(np.float32)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.einsum("nd,nd->n", first, second)


def inputs_for(path: Path) -> NDArray[Any]:
    tensor = CpuSession(path, threads=1).inputs[0]
    chance = np.random.default_rng(1)
    if tensor.dtype == "int64":
        return chance.integers(3, 200, (6, *tensor.shape[1:]))
    return chance.uniform(-1, 1, (6, *tensor.shape[1:])).astype(np.float32)


def operators(path: Path) -> collections.Counter[str]:
    model = onnx.load(path)
    return collections.Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("tower", ["vision", "text"])
@pytest.mark.parametrize("levels", [FULL_LEVELS, SAFE_LEVELS])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_embeddings_hardly_move(
    random_tower: ModuleType, tmp_path: Path, tower: str, levels: int, batch: int | None
) -> None:
    model = random_tower.write_random_model(tmp_path / "model", batch=batch)
    source, target = model / f"{tower}.onnx", tmp_path / "int8.onnx"
    assert quantize_int8(source, target, levels=levels) == ()
    values = inputs_for(source)
    assert cosines(outputs_of(source, values), outputs_of(target, values)).min() > 0.997
    before, after = CpuSession(source).inputs, CpuSession(target).inputs
    assert before == after


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_towers_of_the_demonstration_whose_weights_lie_in_fp16(tmp_path: Path, tower: str) -> None:
    source, target = demo.model_directory() / f"{tower}.onnx", tmp_path / "int8.onnx"
    quantize_int8(source, target, levels=FULL_LEVELS)
    values = inputs_for(source)
    assert cosines(outputs_of(source, values), outputs_of(target, values)).min() > 0.999
    assert target.stat().st_size < source.stat().st_size


def test_it_computes_what_the_runtimes_own_quantiser_makes(
    tiny_model: Path, tmp_path: Path
) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = tmp_path / "vision.onnx"  # a copy: that quantiser writes beside the file it reads
    shutil.copyfile(tiny_model / "vision.onnx", source)
    quantize_int8(source, tmp_path / "ours.onnx", levels=FULL_LEVELS)
    quantize_dynamic(
        source,
        tmp_path / "theirs.onnx",
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    ours, theirs = operators(tmp_path / "ours.onnx"), operators(tmp_path / "theirs.onnx")
    assert ours["MatMulInteger"] == theirs["MatMulInteger"] > 0
    assert ours["MatMul"] == theirs["MatMul"]
    values = inputs_for(source)
    agreement = cosines(
        outputs_of(tmp_path / "ours.onnx", values), outputs_of(tmp_path / "theirs.onnx", values)
    )
    # Half a rounding apart here and there: it takes 127.5 levels for the weights.
    assert agreement.min() > 0.9998


def test_products_of_activations_stay_fp32_and_shared_activations_are_quantised_once(
    tiny_model: Path, tmp_path: Path
) -> None:
    quantize_int8(tiny_model / "text.onnx", tmp_path / "int8.onnx", levels=FULL_LEVELS)
    found = operators(tmp_path / "int8.onnx")
    depth = 2
    assert found["MatMul"] == 2 * depth  # scores, and the mixing of values
    assert found["MatMulInteger"] == 6 * depth + 1
    assert found["DynamicQuantizeLinear"] == 4 * depth + 1  # query, key and value share one


def test_token_table_is_stored_in_8_bits_and_its_size_is_still_seen(
    tiny_model: Path, tmp_path: Path
) -> None:
    target = tmp_path / "int8.onnx"
    quantize_int8(tiny_model / "text.onnx", target, levels=FULL_LEVELS)
    assert token_table_rows(target, "input_ids") == 320
    tables = [t for t in onnx.load(target).graph.initializer if list(t.dims) == [320, 32]]
    assert [table.data_type for table in tables] == [TensorProto.INT8]


@pytest.mark.parametrize("levels", [FULL_LEVELS, SAFE_LEVELS])
def test_no_weight_exceeds_the_levels(tiny_model: Path, tmp_path: Path, levels: int) -> None:
    quantize_int8(tiny_model / "vision.onnx", tmp_path / "int8.onnx", levels=levels)
    model = onnx.load(tmp_path / "int8.onnx")
    weights = {node.input[1] for node in model.graph.node if node.op_type == "MatMulInteger"}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in weights:
        assert np.abs(numpy_helper.to_array(stored[name]).astype(int)).max() == levels


def test_sums_of_two_safe_products_fit_16_bits() -> None:
    assert 2 * 255 * SAFE_LEVELS <= np.iinfo(np.int16).max < 2 * 255 * FULL_LEVELS


def test_all_8_bits_are_used_where_the_processor_adds_them_up_exactly() -> None:
    levels = weight_levels()
    assert levels in {FULL_LEVELS, SAFE_LEVELS}
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file() and "avx512_vnni" in cpu.read_text(encoding="utf-8"):
        assert levels == FULL_LEVELS


def gemm_tower(path: Path, *, weight: str = "plain", opset: int = 17, **gemm: Any) -> Path:
    """Write x -> Gemm(x, w, b) -> MatMul(w2); `weight` says how w is stored."""
    chance = np.random.default_rng(0)
    w = chance.standard_normal((32, 24)).astype(np.float32)
    nodes, stored = [], [numpy_helper.from_array(chance.standard_normal(24).astype("f4"), "b")]
    if gemm.get("transB"):
        w = np.ascontiguousarray(w.T)
    match weight:
        case "plain":
            stored.append(numpy_helper.from_array(w, "w"))
        case "transposed":
            stored.append(numpy_helper.from_array(np.ascontiguousarray(w.T), "wt"))
            nodes.append(helper.make_node("Transpose", ["wt"], ["w"], perm=[1, 0]))
        case "fp16":
            stored.append(numpy_helper.from_array(w.astype(np.float16), "w16"))
            nodes.append(helper.make_node("Cast", ["w16"], ["w"], to=TensorProto.FLOAT))
        case "part":  # as torch exports the projections of its multi-head attention
            axis = 0 if gemm.get("transB") else 1
            whole = np.concatenate([np.zeros_like(w), w], axis=axis)
            stored.append(numpy_helper.from_array(whole, "whole"))
            bounds = {"start": 24, "end": 48, "axis": axis}
            stored += [
                numpy_helper.from_array(np.array([value]), name) for name, value in bounds.items()
            ]
            nodes.append(helper.make_node("Slice", ["whole", *bounds], ["w"]))
        case "constant":
            value = numpy_helper.from_array(w, "value")
            nodes.append(helper.make_node("Constant", [], ["w"], value=value))
    nodes.append(helper.make_node("Gemm", ["x", "w", "b"], ["y"], **gemm))
    graph = helper.make_graph(
        nodes,
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 24])],
        stored,
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("weight", ["plain", "transposed", "fp16", "part", "constant"])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_gemm_is_quantised_however_its_weight_is_stored(
    tmp_path: Path, weight: str, trans_b: int
) -> None:
    source = gemm_tower(tmp_path / "fp32.onnx", weight=weight, transB=trans_b)
    quantize_int8(source, tmp_path / "int8.onnx", levels=FULL_LEVELS)
    found = operators(tmp_path / "int8.onnx")
    assert found["MatMulInteger"] == 1
    assert not found.keys() & {"Gemm", "Transpose", "Constant", "Slice"}
    values = inputs_for(source)
    after = outputs_of(tmp_path / "int8.onnx", values)
    assert cosines(outputs_of(source, values), after).min() > 0.9995


def test_gemm_that_scales_is_left_alone(tmp_path: Path) -> None:
    source = gemm_tower(tmp_path / "fp32.onnx", alpha=0.5)
    with pytest.raises(ModelError, match="no product"):
        quantize_int8(source, tmp_path / "int8.onnx", levels=FULL_LEVELS)


def test_external_weights_are_read_and_written(tiny_model: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    inside = read_tower(tiny_model / "vision.onnx")
    assert write_tower(inside, source, inline_bytes=0) == ("fp32.onnx.data",)
    quantize_int8(source, target, levels=FULL_LEVELS)
    quantize_int8(tiny_model / "vision.onnx", tmp_path / "same.onnx", levels=FULL_LEVELS)
    (tmp_path / "fp32.onnx.data").unlink()  # nothing of it is needed any more
    values = inputs_for(tiny_model / "vision.onnx")
    assert np.array_equal(outputs_of(target, values), outputs_of(tmp_path / "same.onnx", values))
    assert write_tower(read_tower(target), tmp_path / "out.onnx", inline_bytes=0) == (
        "out.onnx.data",
    )
    assert np.array_equal(outputs_of(tmp_path / "out.onnx", values), outputs_of(target, values))


def test_what_cannot_be_quantised_is_named_in_one_line(tiny_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.onnx"
    quantize_int8(tiny_model / "text.onnx", tmp_path / "int8.onnx", levels=FULL_LEVELS)
    (tmp_path / "damaged.onnx").write_bytes((tiny_model / "text.onnx").read_bytes()[:5000])
    (tmp_path / "garbage.onnx").write_bytes(b"\xff" * 3000)
    gemm_tower(tmp_path / "old.onnx", opset=10)
    for name, what in [
        ("int8.onnx", "no product"),
        ("damaged.onnx", "cannot be read as an ONNX model"),
        ("garbage.onnx", "cannot be read as an ONNX model"),
        ("old.onnx", "opset 10"),
    ]:
        with pytest.raises(ModelError, match=what) as caught:
            quantize_int8(tmp_path / name, target, levels=FULL_LEVELS)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.hint
        assert not target.exists()


def test_weights_that_are_not_finite_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_model / "vision.onnx")
    (weight,) = (t for t in model.graph.initializer if t.name == "layers.0.mlp.fc1.weight")
    values = numpy_helper.to_array(weight).copy()
    values[3, 5] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(ModelError, match=r"not finite, in layers\.0\.mlp\.fc1\.weight"):
        quantize_int8(tmp_path / "nan.onnx", tmp_path / "int8.onnx", levels=FULL_LEVELS)


def test_without_the_extra_the_way_to_get_it_is_named(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not installed
    with pytest.raises(ModelError) as caught:
        quantize_int8(tiny_model / "text.onnx", tmp_path / "int8.onnx", levels=FULL_LEVELS)
    assert caught.value.hint == 'pip install "siglip-search[quantize]"'


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    st.integers(1, 127),
)
def test_a_quantised_weight_is_off_by_half_a_step_at_most(
    weight: NDArray[np.float32], levels: int
) -> None:
    integers, scales = quantize_columns(weight, levels)
    assert np.abs(integers.astype(int)).max() <= levels
    assert (scales > 0).all()
    assert np.isfinite(scales).all()
    error = np.abs(integers.astype(np.float64) * scales - weight)
    assert (error <= 0.5001 * scales + 1e-30).all()
