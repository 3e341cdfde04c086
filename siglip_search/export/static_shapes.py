"""Towers as an NPU's compiler wants them: for one input, every shape fixed, constants folded."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.export.onnx_weights import INLINE_BYTES, drop_unused, import_onnx, read_tower
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.onnx_runtime import (
    LOG_FATAL,
    first_line,
    load_errors,
    quiet_onnxruntime,
)
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.embedding import EmbeddingGraph

OPSET: Final = 21
"""The first with 16-bit QuantizeLinear. Gelu (20) matters as well: from there on ONNX Runtime makes
one node of the five of an exported GELU, and of these five HTP refuses Erf."""

# With it, MatMul and Add become a Gemm, whose bias is stored in 32 bits in units of the scales of
# its activations times its weights. At 16-bit activations these are so small that large biases do
# not fit and are cut off in silence (cosine 0.9945 instead of 0.99995 with one planted).
_HARMFUL_OPTIMIZERS: Final = ("MatMulAddFusion",)


def static_picture_tower(spec: ModelSpec) -> Any:
    """Return the picture tower for one picture, as an onnx.ModelProto with fp32 weights.

    Raises:
        ModelError: If the tower is damaged, too large, or is none; or `onnx` is not installed.
        OSError: If a file cannot be read.
    """
    shape = (3, *spec.vision.image_size)
    return _static(spec, spec.vision_path, ("pixel_values", "image"), shape)


def static_text_tower(spec: ModelSpec) -> Any:
    """Return the text tower for one text, as an onnx.ModelProto with fp32 weights.

    Raises:
        ModelError: If the tower is damaged, too large, or is none; or `onnx` is not installed.
        OSError: If a file cannot be read.
    """
    return _static(spec, spec.text_path, ("input_ids", "text"), (spec.text.length,))


def _static(
    spec: ModelSpec, path: Path, input_names: tuple[str, ...], shape: tuple[int, ...]
) -> Any:
    onnx = import_onnx()
    model = read_tower(path)
    # In fp32, in which they may be stored as half of that.
    weights = 4 * sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    if weights > INLINE_BYTES:
        raise ModelError(
            f"{path} has {weights / 1e6:,.0f} MB of weights; at most {INLINE_BYTES / 1e6:,.0f} MB "
            "can be brought to fixed shapes",
            hint="Take a smaller model, or its int8 variant, which runs on the processor.",
        )
    ends = embedding_graph(
        CpuSession(path, one_shot=True),
        path=path,
        dimension=spec.dimension,
        input_names=input_names,
        input_shape=shape,
    )
    _fix_shapes(model.graph, ends, shape)
    _widen_weights(onnx, model.graph)
    opset = next((entry.version for entry in model.opset_import if entry.domain == ""), 0)
    if opset < OPSET:
        model = _converted(onnx, model, path)
    folded = _folded(onnx, model, path)
    _name_nodes(folded.graph)
    return folded


def _fix_shapes(graph: Any, ends: EmbeddingGraph, shape: tuple[int, ...]) -> None:
    """Take one input row, and give out its embedding alone."""
    kept = [value for value in graph.output if value.name == ends.output.name]
    del graph.output[:]
    graph.output.extend(kept)
    (fed,) = (value for value in graph.input if value.name == ends.input.name)
    for value, sizes in ((fed, (1, *shape)), (kept[0], (1, ends.dimension))):
        axes = value.type.tensor_type.shape.dim
        for axis, size in zip(axes, sizes, strict=True):
            axis.Clear()
            axis.dim_value = size
    # What an exporter noted about shapes in between speaks of any batch.
    del graph.value_info[:]
    drop_unused(graph)


def _widen_weights(onnx: Any, graph: Any) -> None:
    """Turn weights that are stored in fp16 into fp32; the Casts behind them then do nothing.

    Folding does that too, but for a table of which rows are looked up before they are cast. The
    quantiser would give such rows a scale in fp16, in which it is 0: all texts became alike.
    """
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _converted(onnx: Any, model: Any, path: Path) -> Any:
    import onnx.version_converter

    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{path} cannot be brought to opset {OPSET}: {first_line(error)}",
            hint=f"Export the tower again with opset {OPSET}.",
        ) from error


def _folded(onnx: Any, model: Any, path: Path) -> Any:
    """Let ONNX Runtime compute what no input changes, fp16 weights' casts and shapes included."""
    onnxruntime = quiet_onnxruntime()
    with tempfile.TemporaryDirectory(prefix="siglip-search-") as folder:
        raw, folded = Path(folder, "raw.onnx"), Path(folder, "folded.onnx")
        onnx.save(model, os.fspath(raw))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_FATAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = os.fspath(folded)
        try:
            onnxruntime.InferenceSession(
                os.fspath(raw),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(_HARMFUL_OPTIMIZERS),
            )
        except load_errors() as error:
            raise ModelError(
                f"{path} cannot be brought to fixed shapes: {first_line(error)}",
                hint="Export the tower again: siglip-search model export NAME --batch 1",
            ) from error
        return onnx.load(os.fspath(folded))


def _name_nodes(graph: Any) -> None:
    """Give every node a name of its own: fused ones are all called alike."""
    taken: set[str] = set()
    for number, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}#{number}"
        taken.add(node.name)
