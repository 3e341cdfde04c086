"""Towers as ONNX graphs that can be changed: reading, constant weights, tidying up, writing.

What the makers of other precisions share. `onnx` is imported inside the functions: it belongs to
an extra, and only making towers needs it.
"""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

INLINE_BYTES: Final = 1_800_000_000
"""Weights above this go to a file of their own: a protocol buffer holds less than 2 GiB."""

_EXTERNAL_FROM_BYTES: Final = 1024

_REARRANGING: Final = frozenset(
    {"Cast", "Concat", "Constant", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"}
    | {"Transpose", "Unsqueeze"}
)
"""Operators that an exporter puts behind a stored weight."""


def import_onnx() -> Any:
    """Return the package `onnx`.

    Raises:
        ModelError: If it is not installed.
    """
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.numpy_helper
        import onnx.reference
    except ImportError as error:
        raise ModelError(
            "making towers of another precision needs the package onnx, which is not installed",
            hint='pip install "siglip-search[quantize]"',
        ) from error
    return onnx


def read_tower(path: Path) -> Any:
    """Return the graph in an ONNX file as an onnx.ModelProto, external weights included.

    Raises:
        ModelError: If it is damaged, or `onnx` is not installed.
        OSError: If a file cannot be read.
    """
    onnx = import_onnx()
    # Comes with onnx, and has no type stubs.
    protobuf = import_module("google.protobuf.message")
    try:
        return onnx.load(os.fspath(path))
    except (protobuf.DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path} cannot be read as an ONNX model: {str(error).strip().splitlines()[0]}",
            hint="The file is damaged or incomplete: fetch or add the model again.",
        ) from error


def write_tower(model: Any, path: Path, *, inline_bytes: int = INLINE_BYTES) -> tuple[str, ...]:
    """Write a graph, with its weights in a file beside it where they are too many for one.

    Args:
        model: An onnx.ModelProto.
        path: Its file, which does not exist yet.
        inline_bytes: Most bytes of weights that are kept in `path` itself.

    Returns:
        Names of the files with external weights, in the folder of `path`: none or one.

    Raises:
        OSError: If it cannot be written.
    """
    onnx = import_onnx()
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= inline_bytes:
        onnx.save(model, os.fspath(path))
        return ()
    data_file = f"{path.name}.data"
    onnx.save(
        model,
        os.fspath(path),
        save_as_external_data=True,
        location=data_file,
        size_threshold=_EXTERNAL_FROM_BYTES,
    )
    # onnx makes it readable by its owner only.
    shutil.copymode(path, path.with_name(data_file))
    return (data_file,)


class Constants:
    """The values in a graph that no input changes: stored tensors, and what is made of them.

    Exporters store a weight plainly, as fp16 with a Cast behind it, transposed, or as a part of a
    larger one (the projections of an attention, which are one tensor in the checkpoint).

    Args:
        model: An onnx.ModelProto.
    """

    def __init__(self, model: Any) -> None:
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        # An initializer that is an input too may be overridden: no constant.
        inputs = {value.name for value in model.graph.input}
        self._stored = {
            tensor.name: tensor for tensor in model.graph.initializer if tensor.name not in inputs
        }
        # Nodes stand in order of use, so one pass finds what is constant.
        self._makers: dict[str, Any] = {}
        for node in model.graph.node:
            if node.op_type in _REARRANGING and all(
                not name or name in self._stored or name in self._makers for name in node.input
            ):
                self._makers.update(dict.fromkeys(node.output, node))

    def value(self, name: str) -> NDArray[Any] | None:
        """Return the value called `name`, or None where it is not constant."""
        onnx = import_onnx()
        if name in self._stored:
            stored: NDArray[Any] = onnx.numpy_helper.to_array(self._stored[name])
            return stored
        node = self._makers.get(name)
        if node is None:
            return None
        feeds = {source: self.value(source) for source in node.input if source}
        results = onnx.reference.ReferenceEvaluator(node, opsets=self._opsets).run(None, feeds)
        made: NDArray[Any] = results[list(node.output).index(name)]
        return made


def drop_unused(graph: Any) -> None:
    """Remove nodes and weights that no output of an onnx.GraphProto depends on any more."""
    while True:
        used = set(names_used(graph))
        unused = [node for node in graph.node if used.isdisjoint(node.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def names_used(graph: Any) -> Iterator[str]:
    """Yield the name of every value that an onnx.GraphProto computes with or gives out."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            # The branches of an If or Loop use names of the graph around them.
            for branch in (attribute.g, *attribute.graphs):
                yield from names_used(branch)
