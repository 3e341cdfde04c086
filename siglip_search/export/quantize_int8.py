"""Towers with 8-bit weights: dynamic quantisation, per output channel.

The products with constant weights (MatMul, Gemm), which are nearly all of a transformer's work, are
computed in integers: the weights are quantised here, once, each output channel with a scale of its
own, the activations while the tower runs. Attention, normalisation and the patch convolution stay
fp32. The table of token embeddings is stored with one scale a row, and the rows that a text needs
are brought back to fp32: that costs nothing, and of a vocabulary of 256,000 words it saves 590 MB.

The graph is what ONNX Runtime's `quantize_dynamic` makes (a test holds the two together), but it is
written here, because that function does not see weights behind a Cast or a Transpose, leaves a
token table in fp32 or gives all its rows one scale, writes beside the file it reads, and takes
three times as long and 1.6 GB of memory where this takes 1.0 (SigLIP base, docs/precision.md).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.export.onnx_weights import (
    Constants,
    drop_unused,
    import_onnx,
    read_tower,
    write_tower,
)
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Signed weights: ONNX Runtime uses VNNI for them only, which takes 0.6 of the time of its way with
# unsigned ones. Processors without VNNI multiply 8-bit numbers in pairs (vpmaddubsw) and cut the
# sum of a pair off at 16 bits, in silence. Activations go up to 255, so there weights may go up to
# 64: 2 * 255 * 64 = 32,640 < 32,768. That rounds them more coarsely (least cosine to fp32 0.9987
# instead of 0.9996, random weights), so it is done only where it is needed.
FULL_LEVELS: Final = 127
SAFE_LEVELS: Final = 64

_SMALLEST_TABLE: Final = 4096
"""Elements; smaller tables (positions, say) gain nothing."""

_MIN_OPSET: Final = 11
"""The first with DynamicQuantizeLinear."""


def recipe(levels: int) -> str:
    """Return the identity of what this module does; what moves embeddings gets another one."""
    return f"siglip-search dynamic int8 1, weights up to {levels}"


def weight_levels() -> int:
    """Return the largest 8-bit weight with which this processor's products are exact.

    Asked of the runtime itself: which instructions it takes is for it to know.

    Returns:
        FULL_LEVELS or SAFE_LEVELS.

    Raises:
        ModelError: If `onnx` is not installed.
    """
    onnx = import_onnx()
    inputs, outputs = 64, 32
    weight = np.full((inputs, outputs), FULL_LEVELS, np.int8)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger", ["activations", "weight"], ["sums"])],
        "probe",
        [
            onnx.helper.make_tensor_value_info(
                "activations", onnx.TensorProto.UINT8, ["rows", inputs]
            )
        ],
        [onnx.helper.make_tensor_value_info("sums", onnx.TensorProto.INT32, ["rows", outputs])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", _MIN_OPSET)], ir_version=7
    )
    with tempfile.TemporaryDirectory(prefix="siglip-search-") as folder:
        path = Path(folder, "probe.onnx")
        onnx.save(model, str(path))
        session = CpuSession(path, threads=1)
        # One row and several take different ways through the runtime.
        sums = [
            session.run({"activations": np.full((rows, inputs), 255, np.uint8)}, ["sums"])[0]
            for rows in (1, 8)
        ]
    is_exact = all(bool(np.all(each == inputs * 255 * FULL_LEVELS)) for each in sums)
    return FULL_LEVELS if is_exact else SAFE_LEVELS


def quantize_int8(source: Path, target: Path, *, levels: int) -> tuple[str, ...]:
    """Write the tower in `source` with 8-bit weights.

    Args:
        source: ONNX file of a tower whose arithmetic is fp32.
        target: ONNX file to write; does not exist yet.
        levels: Largest weight as an integer, as `weight_levels` gives it.

    Returns:
        Names of the files with external weights, in the folder of `target`.

    Raises:
        ModelError: If the file is no such tower, or `onnx` is not installed.
        OSError: If a file cannot be read or written.
    """
    model = read_tower(source)
    opset = next((entry.version for entry in model.opset_import if entry.domain == ""), 0)
    if opset < _MIN_OPSET:
        raise ModelError(
            f"{source} was exported for opset {opset}; 8-bit weights need {_MIN_OPSET}",
            hint="Export the tower again with a newer opset.",
        )
    quantizer = _Quantizer(model, source, levels)
    quantizer.run()
    if quantizer.products == 0:
        raise ModelError(
            f"{source} has no product with constant fp32 weights to quantise",
            hint="It is quantised or computes in fp16 already: take the fp32 export of this tower.",
        )
    drop_unused(model.graph)
    return write_tower(model, target)


def quantize_columns(
    weight: NDArray[np.floating[Any]], levels: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return integers in [-levels, levels] and scales: weight ~ integers * scales.

    Args:
        weight: Shape (inputs, outputs), finite.
        levels: Largest integer, in [1, 127].

    Returns:
        int8 of the same shape, and one scale > 0 per column, shape (outputs,).
    """
    # Nothing is copied that need not be: a token table may have gigabytes.
    largest = np.maximum(weight.max(axis=0), -weight.min(axis=0)).astype(np.float32)
    steps = largest / np.float32(levels)
    # A column of zeros, or of next to nothing, becomes zeros whatever its scale is.
    scales = np.where(steps >= np.finfo(np.float32).tiny, steps, np.float32(1.0))
    scaled = weight / scales
    np.rint(scaled, out=scaled)
    np.clip(scaled, -levels, levels, out=scaled)
    return scaled.astype(np.int8), scales.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Stored:
    """Names of a quantised weight and its scales."""

    integers: str
    scales: str


class _Quantizer:
    """Rewrites a model's graph; `products` counts what was quantised."""

    def __init__(self, model: Any, source: Path, levels: int) -> None:
        self._onnx = import_onnx()
        self._graph = model.graph
        self._source = source
        self._levels = levels
        self._constants = Constants(model)
        self._nodes: list[Any] = []
        self._weights: dict[tuple[str, bool], _Stored | None] = {}
        self._tables: dict[str, _Stored | None] = {}
        self._activations: dict[str, tuple[str, str, str]] = {}
        self._names = 0
        self.products = 0

    def run(self) -> None:
        for node in self._graph.node:
            match node.op_type:
                case "MatMul":
                    is_done = self._matmul(node)
                case "Gemm":
                    is_done = self._gemm(node)
                case "Gather":
                    is_done = self._gather(node)
                case _:
                    is_done = False
            if not is_done:
                self._nodes.append(node)
        nodes = list(self._nodes)
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _matmul(self, node: Any) -> bool:
        weight = self._weight(node.input[1], is_transposed=False)
        if weight is None:
            return False
        self._product(node.input[0], weight, node.output[0])
        return True

    def _gemm(self, node: Any) -> bool:
        attributes = {
            attribute.name: self._onnx.helper.get_attribute_value(attribute)
            for attribute in node.attribute
        }
        is_plain = (
            attributes.get("alpha", 1.0) == 1.0
            and attributes.get("beta", 1.0) == 1.0
            and not attributes.get("transA", 0)
        )
        if not is_plain:
            return False
        weight = self._weight(node.input[1], is_transposed=bool(attributes.get("transB", 0)))
        if weight is None:
            return False
        has_bias = len(node.input) > 2 and node.input[2] != ""
        product = self._name("product") if has_bias else node.output[0]
        self._product(node.input[0], weight, product)
        if has_bias:
            self._emit("Add", [product, node.input[2]], [node.output[0]])
        return True

    def _gather(self, node: Any) -> bool:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        table = self._table(node.input[0]) if axis == 0 else None
        if table is None:
            return False
        rows, scales, values = (self._name(what) for what in ("rows", "scales", "values"))
        self._emit("Gather", [table.integers, node.input[1]], [rows], axis=0)
        self._emit("Gather", [table.scales, node.input[1]], [scales], axis=0)
        self._emit("Cast", [rows], [values], to=self._onnx.TensorProto.FLOAT)
        self._emit("Mul", [values, scales], [node.output[0]])
        return True

    def _product(self, activation: str, weight: _Stored, output: str) -> None:
        integers, scale, zero_point = self._activation(activation)
        summed, as_float, scales = (self._name(what) for what in ("sum", "float", "scales"))
        self._emit("MatMulInteger", [integers, weight.integers, zero_point], [summed])
        self._emit("Cast", [summed], [as_float], to=self._onnx.TensorProto.FLOAT)
        self._emit("Mul", [scale, weight.scales], [scales])
        # In this order: it is the pattern that ONNX Runtime fuses into one operator.
        self._emit("Mul", [as_float, scales], [output])
        self.products += 1

    def _activation(self, name: str) -> tuple[str, str, str]:
        # Queries, keys and values come from the same activations: those are quantised once.
        if name not in self._activations:
            names = (self._name("activation"), self._name("scale"), self._name("zero_point"))
            self._emit("DynamicQuantizeLinear", [name], list(names))
            self._activations[name] = names
        return self._activations[name]

    def _weight(self, name: str, *, is_transposed: bool) -> _Stored | None:
        key = (name, is_transposed)
        if key not in self._weights:
            values = self._matrix(name)
            if values is not None and is_transposed:
                values = values.T
            self._weights[key] = (
                None
                if values is None
                else self._store(name, *quantize_columns(values, self._levels))
            )
        return self._weights[key]

    def _table(self, name: str) -> _Stored | None:
        if name not in self._tables:
            values = self._matrix(name)
            if values is None or values.size < _SMALLEST_TABLE:
                self._tables[name] = None
            else:
                # A looked-up row meets nothing but its scale: all 8 bits are safe.
                integers, scales = quantize_columns(values.T, FULL_LEVELS)
                self._tables[name] = self._store(name, integers.T, scales[:, None])
        return self._tables[name]

    def _matrix(self, name: str) -> NDArray[np.float32] | None:
        values = self._constants.value(name)
        if values is None or values.ndim != 2 or values.dtype != np.float32:
            return None
        if not np.isfinite(values).all():
            raise ModelError(
                f"{self._source} has weights that are not finite, in {name}",
                hint="The file is damaged: fetch or add the model again.",
            )
        return values

    def _store(self, name: str, integers: NDArray[np.int8], scales: NDArray[np.float32]) -> _Stored:
        stored = _Stored(self._name(f"{name}/integers"), self._name(f"{name}/scales"))
        for stored_name, values in ((stored.integers, integers), (stored.scales, scales)):
            tensor = self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), stored_name)
            self._graph.initializer.append(tensor)
        return stored

    def _emit(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, outputs, **attributes))

    def _name(self, what: str) -> str:
        self._names += 1
        return f"int8/{self._names}/{what}"
