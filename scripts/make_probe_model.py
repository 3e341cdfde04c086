"""Write siglip_search/towers/data/npu_probe.onnx, which the device probe runs on an NPU.

One quantised product of a vector and a matrix, for it must open on every chip, known or not; float
graphs need the chip's number.

    python scripts/make_probe_model.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TARGET = (
    Path(__file__).resolve().parents[1] / "siglip_search" / "towers" / "data" / "npu_probe.onnx"
)
WIDTH_IN, WIDTH_OUT = 16, 8


def probe_model() -> onnx.ModelProto:
    """Return the model: `x` float32 (1, 16) in [-1, 1] to `y` float32 (1, 8)."""
    weights = np.random.default_rng(0).integers(30, 226, (WIDTH_IN, WIDTH_OUT))
    constants = {
        "x_scale": np.float32(2 / 65_535),
        "x_zero": np.uint16(32_768),
        "w": weights.astype(np.uint8),
        "w_scale": np.float32(1 / 64),
        "w_zero": np.uint8(128),
        "y_scale": np.float32(64 / 65_535),
        "y_zero": np.uint16(32_768),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x_d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"]),
        helper.make_node("MatMul", ["x_d", "w_d"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "y_scale", "y_zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "npu_probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTH_IN])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH_OUT])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    # Opset 21 is the first in which 16-bit quantisation belongs to ONNX itself.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(probe_model().SerializeToString(deterministic=True))
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
