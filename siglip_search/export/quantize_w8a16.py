"""Towers for an NPU: 8-bit weights, 16-bit activations, every shape fixed.

Each value of the graph gets a range of its own, measured on samples (MinMax), and a pair of
QuantizeLinear and DequantizeLinear, from which a Qualcomm NPU makes arithmetic in integers; the
processor only simulates it. ONNX Runtime's own quantiser does it, with its settings for QNN:
unsigned weights, because HTP refuses signed ones in LayerNormalization; one scale per output
channel of a Conv, and one for the whole weight of a MatMul, because HTP takes no other there.
"""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.export.onnx_weights import import_onnx, write_tower
from siglip_search.export.quantization_data import PLAIN_LEVELS, digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from siglip_search.export.quantization_data import Samples

# What exceeds its range is cut off, and 64 pictures do not show how far others go; of 16 bits, half
# of one is not missed. Demonstration model, least cosine on other pictures and on queries: 0.9983
# and 0.9936 without, 0.9998 and 0.9978 with 1.25, 0.9998 and 0.9992 with 1.5; no mean fell.
_MARGIN: Final = 1.5
"""Ranges are this many times what was measured."""

_KNOWN_RANGES: Final = frozenset({"Sigmoid", "Softmax", "Tanh"})
"""Operators whose results need no measuring, and of which HTP asks for fixed scales."""

_LARGEST_BIAS: Final = 2**31 - 2
"""A stored bias that comes this far was cut off: the quantiser clips at the ends of 32 bits."""

_NAMED_BIASES: Final = 3


def recipe(pictures: Samples, captions: Samples, float_nodes: Collection[str] = ()) -> str:
    """Return the identity of what makes these towers; what moves embeddings gets another one."""
    made = (
        f"siglip-search w8a16 1, onnxruntime {metadata.version('onnxruntime')}, "
        f"onnx {metadata.version('onnx')}, minmax times {_MARGIN} over {len(pictures.rows)} "
        f"pictures (seed 0, {len(PLAIN_LEVELS) + 1} plain) and {len(captions.rows)} captions, "
        f"data {digest(pictures, captions)}"
    )
    return f"{made}; in float: {', '.join(sorted(float_nodes))}" if float_nodes else made


def quantize_w8a16(
    model: Any, samples: Samples, *, source: Path, float_nodes: Collection[str] = ()
) -> Any:
    """Return a static tower with 8-bit weights and 16-bit activations.

    Args:
        model: The static tower in fp32, an onnx.ModelProto; it stays as it is.
        samples: What the ranges of its activations are measured on.
        source: The file that it came from, for messages.
        float_nodes: Names of nodes that stay in floating point, which an NPU computes in half
            precision, if its chip can.

    Returns:
        An onnx.ModelProto.

    Raises:
        ModelError: If a bias does not fit, or `onnx` is not installed.
        OSError: If the disk is full.
    """
    onnx = import_onnx()
    quantized = _quantized(onnx, model, samples, float_nodes)
    saturated = saturated_biases(quantized)
    if saturated:
        more = f" and {len(saturated) - _NAMED_BIASES} more" * (len(saturated) > _NAMED_BIASES)
        raise ModelError(
            f"{source} cannot be quantised to w8a16: the bias "
            f"{', '.join(saturated[:_NAMED_BIASES])}{more} does not fit in 32 bits and would be "
            "cut off",
            hint="Its weights or activations are far smaller than its bias: fp32 and fp16 towers "
            "of this model run on an NPU as well.",
        )
    return quantized


def write_w8a16(model: Any, target: Path) -> tuple[str, ...]:
    """Write what `quantize_w8a16` returned; `target` does not exist yet.

    Returns:
        Names of the files with external weights, in the folder of `target`.

    Raises:
        OSError: If it cannot be written.
    """
    return write_tower(model, target)


def saturated_biases(model: Any) -> list[str]:
    """Return the names of the 32-bit weights of a quantised tower that were cut off."""
    onnx = import_onnx()
    dequantized = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    names = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.INT32 or tensor.name not in dequantized:
            continue
        # As 64 bits: in 32, the absolute value of the least number is itself.
        values = onnx.numpy_helper.to_array(tensor).astype(np.int64)
        if values.size and np.abs(values).max() >= _LARGEST_BIAS:
            names.append(tensor.name.removesuffix("_quantized"))
    return names


def _quantized(onnx: Any, model: Any, samples: Samples, float_nodes: Collection[str]) -> Any:
    from onnxruntime.quantization import QuantType, quantize
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

    # Given a graph in memory, the quantiser changes it, and it writes beside a file that it reads.
    with tempfile.TemporaryDirectory(prefix="siglip-search-") as folder, _quiet_root_logger():
        source, target = Path(folder, "float.onnx"), Path(folder, "w8a16.onnx")
        onnx.save(onnx.shape_inference.infer_shapes(model), os.fspath(source))
        config = get_qnn_qdq_config(
            os.fspath(source),
            # It insists on measuring, although every range is given: one sample is enough.
            samples.first(1),
            activation_type=QuantType.QUInt16,
            weight_type=QuantType.QUInt8,
            per_channel=True,
            nodes_to_exclude=sorted(float_nodes),
            init_overrides={
                name: [{"quant_type": QuantType.QUInt16, "rmin": least, "rmax": largest}]
                for name, (least, largest) in _ranges(model, source, samples).items()
            },
        )
        quantize(os.fspath(source), os.fspath(target), config)
        return onnx.load(os.fspath(target))


def _ranges(model: Any, source: Path, samples: Samples) -> dict[str, tuple[np.float32, np.float32]]:
    """Return the ranges of the activations, widened; those without one are known."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        source,
        sorted({node.op_type for node in model.graph.node}),
        augmented_model_path=os.fspath(source.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(samples)
    given = {tensor.name for tensor in model.graph.initializer}
    given |= {
        name for node in model.graph.node if node.op_type in _KNOWN_RANGES for name in node.output
    }
    ranges = {}
    for name, measured in calibrator.compute_data().data.items():
        if name not in given:
            least, largest = (np.float32(end.min()) for end in measured.range_value)
            ranges[name] = (least * np.float32(_MARGIN), largest * np.float32(_MARGIN))
    return ranges


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep the quantiser's advice for its own users, on the root logger, from ours.

    Without a handler there, its first word would also install one for good.
    """
    root = logging.getLogger()
    handler = logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_refuse)
    try:
        yield
    finally:
        root.removeFilter(_refuse)
        root.removeHandler(handler)


def _refuse(_: logging.LogRecord) -> bool:
    return False
