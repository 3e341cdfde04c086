"""Weights stored in half precision, half the file; the arithmetic stays fp32.

Each large weight becomes an fp16 tensor with a Cast to fp32 behind it, which ONNX Runtime carries
out once, when the tower is opened; of a token table, only the rows that a text needs are cast.
Processors gain nothing from fp16 arithmetic, and overflow in it would be silent; what is lost here
is only the rounding of the weights, at most 2**-11 of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.export.onnx_weights import (
    import_onnx,
    names_used,
    read_tower,
    write_tower,
)

if TYPE_CHECKING:
    from pathlib import Path

RECIPE: Final = "siglip-search fp16 storage 1"
"""Identity of what this module does; a change that moves embeddings gets another number."""

_SMALLEST: Final = 256
"""Elements; of smaller weights nothing is gained."""

_FP16_MAX: Final = float(np.finfo(np.float16).max)


def store_fp16(source: Path, target: Path) -> tuple[str, ...]:
    """Write the tower in `source` with its weights stored as fp16.

    Args:
        source: ONNX file of a tower in fp32.
        target: ONNX file to write; does not exist yet.

    Returns:
        Names of the files with external weights, in the folder of `target`.

    Raises:
        ModelError: If the file is no tower with fp32 weights, or `onnx` is not installed.
        OSError: If a file cannot be read or written.
    """
    model = read_tower(source)
    if store_weights_fp16(model) == 0:
        raise ModelError(
            f"{source} has no fp32 weights to store as fp16",
            hint="They are stored as fp16 or int8 already: take the fp32 export of this tower.",
        )
    return write_tower(model, target)


def store_weights_fp16(model: Any, *, look_up_first: bool = True) -> int:
    """Store the large fp32 weights of an onnx.ModelProto as fp16, in place.

    A weight with a value beyond the range of fp16, 65,504, stays as it is.

    Args:
        model: Changed in place.
        look_up_first: Cast only the rows of a table that are looked up, which saves memory with
            large ones. Quantisers of others do not understand it.

    Returns:
        How many weights were changed.
    """
    onnx = import_onnx()
    graph = model.graph
    inputs = {value.name for value in graph.input}
    stored = set()
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or tensor.name in inputs:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.size >= _SMALLEST and max(values.max(), -values.min()) <= _FP16_MAX:
            stored.add(tensor.name)
            name = f"{tensor.name}_fp16"
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), name))
    for node in list(graph.node):
        if look_up_first and node.op_type == "Gather" and node.input[0] in stored:
            _look_up_before_casting(graph, node)
    # Nodes stand in order of use, and these come first.
    nodes = [
        onnx.helper.make_node("Cast", [f"{name}_fp16"], [name], to=onnx.TensorProto.FLOAT)
        for name in sorted(stored.intersection(names_used(graph)))
    ]
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    return len(stored)


def _look_up_before_casting(graph: Any, node: Any) -> None:
    """Bring only the rows of a table that a Gather looks up back to fp32, not all of them."""
    onnx = import_onnx()
    result = node.output[0]
    node.input[0] += "_fp16"
    node.output[0] = f"{result}_fp16"
    cast = onnx.helper.make_node("Cast", [node.output[0]], [result], to=onnx.TensorProto.FLOAT)
    graph.node.insert(list(graph.node).index(node) + 1, cast)
