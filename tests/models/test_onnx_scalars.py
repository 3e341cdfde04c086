"""Scale and bias out of an ONNX graph of both towers, as exporters arrange it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_search.errors import ModelError
from siglip_search.models.onnx_fields import FieldReader
from siglip_search.models.onnx_scalars import read_onnx_file_scalars, read_onnx_scale_and_bias

if TYPE_CHECKING:
    from pathlib import Path

LOG_SCALE, BIAS = math.log(112.5), -16.25
EXP = helper.make_node("Exp", ["logit_scale"], ["scale"])
MATMUL = helper.make_node("MatMul", ["text", "image"], ["cosine"])
PER_IMAGE = helper.make_node("Transpose", ["logits_per_text"], ["logits_per_image"], perm=[1, 0])


def graph(nodes: list[Any], numbers: dict[str, Any], *, outputs: tuple[str, ...] = ()) -> bytes:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("text", "image")
    ]
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["m", "n"])
        for name in outputs or ("logits_per_image", "logits_per_text")
    ]
    weights = [numpy_helper.from_array(np.zeros((512, 512), np.float32), "a.weight")]
    weights += [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    weights += [numpy_helper.from_array(np.zeros((512, 512), np.float32), "b.weight")]
    made = helper.make_graph([MATMUL, *nodes], "whole", values, results, weights)
    content: bytes = helper.make_model(made).SerializeToString()
    return content


def read(content: bytes) -> tuple[float, float | None]:
    reader = FieldReader(lambda begin, count: content[begin : begin + count], len(content))
    return read_onnx_scale_and_bias(reader, where="model.onnx")


def constant(name: str, value: np.generic) -> Any:
    return helper.make_node(
        "Constant", [], [name], value=numpy_helper.from_array(np.asarray(value))
    )


def scaled(scale: str, bias: str) -> list[Any]:
    return [
        helper.make_node("Mul", ["cosine", scale], ["scaled"]),
        helper.make_node("Add", ["scaled", bias], ["logits_per_text"]),
        PER_IMAGE,
    ]


F32 = np.float32
ARRANGEMENTS = {
    "as the checkpoint has them": graph(
        [EXP, *scaled("scale", "logit_bias")],
        {"logit_scale": F32([LOG_SCALE]), "logit_bias": F32([BIAS])},
    ),
    "exp already computed": graph(scaled("x1", "x2"), {"x1": F32(112.5), "x2": F32(BIAS)}),
    "constants among the nodes": graph(
        [constant("x1", F32([112.5])), constant("x2", F32([BIAS])), *scaled("x1", "x2")], {}
    ),
    "numbers on the left": graph(
        [
            helper.make_node("Mul", ["x1", "cosine"], ["scaled"]),
            helper.make_node("Add", ["x2", "scaled"], ["logits_per_text"]),
        ],
        {"x1": F32(112.5), "x2": F32(BIAS)},
    ),
    "half precision, cast": graph(
        [
            helper.make_node("Cast", ["logit_scale"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Exp", ["wide"], ["scale"]),
            *scaled("scale", "logit_bias"),
        ],
        {"logit_scale": np.float16([LOG_SCALE]), "logit_bias": np.float16([BIAS])},
    ),
    "scaled before the product": graph(
        [
            EXP,
            helper.make_node("Mul", ["text", "scale"], ["stretched"]),
            helper.make_node("MatMul", ["stretched", "image"], ["product"]),
            helper.make_node("Add", ["product", "logit_bias"], ["logits_per_text"]),
        ],
        {"logit_scale": F32([LOG_SCALE]), "logit_bias": F32([BIAS])},
    ),
    "probabilities as the output": graph(
        [*scaled("x1", "x2"), helper.make_node("Sigmoid", ["logits_per_image"], ["probability"])],
        {"x1": F32(112.5), "x2": F32(BIAS)},
        outputs=("probability",),
    ),
}


@pytest.mark.parametrize("content", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_both_numbers_are_found_however_they_are_arranged(content: bytes) -> None:
    scale, bias = read(content)
    assert scale == pytest.approx(112.5, rel=1e-3)
    assert bias == pytest.approx(BIAS)


def test_a_model_that_adds_nothing_has_no_bias() -> None:
    nodes = [helper.make_node("Mul", ["cosine", "x1"], ["logits_per_text"]), PER_IMAGE]
    assert read(graph(nodes, {"x1": F32(100.0)})) == (100.0, None)


@pytest.mark.parametrize(
    "content",
    [
        graph([helper.make_node("Identity", ["cosine"], ["pooler_output"])], {}),
        graph(scaled("a.weight", "b.weight"), {}),
        graph(scaled("x1", "x2"), {"x1": F32(-3.0), "x2": F32(0.0)}),
    ],
    ids=["one tower", "weights in place of numbers", "a negative scale"],
)
def test_a_graph_without_a_scale_says_which_export_has_one(content: bytes) -> None:
    with pytest.raises(ModelError, match=r"model\.onnx has no logit_scale") as caught:
        read(content)
    assert "the whole model" in caught.value.hint


@pytest.mark.parametrize("content", [b"<!doctype html><html></html>", b"\xff" * 40, b"\x3a\x7f"])
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"is not an ONNX file|has no logit_scale") as caught:
        read_onnx_file_scalars(path)
    assert str(path) in str(caught.value)


def test_an_empty_or_absent_file_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match="is not an ONNX file"):
        read_onnx_file_scalars(tmp_path / "empty.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        read_onnx_file_scalars(tmp_path / "absent.onnx")


def test_weights_are_skipped_not_read() -> None:
    content = ARRANGEMENTS["as the checkpoint has them"]
    asked = 0

    def read_range(begin: int, count: int) -> bytes:
        nonlocal asked
        asked += count
        return content[begin : begin + count]

    read_onnx_scale_and_bias(FieldReader(read_range, len(content)), where="model.onnx")
    assert asked < len(content) / 5


def test_the_graph_is_one_that_onnx_itself_accepts() -> None:
    onnx.checker.check_model(onnx.load_from_string(ARRANGEMENTS["as the checkpoint has them"]))
