"""Which layers a quantised tower loses most in.

The quantised tower and the one in fp32 compute the same samples on the processor; at each node the
two are compared by the cosine of what it read, what it made of that, and what the next nodes read.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.export.onnx_weights import import_onnx
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from siglip_search.export.quantization_data import Samples

# As ONNX Runtime's quantiser names what it inserts.
_READ_SUFFIX: Final = "_DequantizeLinear_Output"

WORST_NODES: Final = 5
"""Nodes that a second try leaves in floating point, at most; those beside them come to it."""

_LEAST_LOSS: Final = 1e-4
"""A cosine that fell by less is not worth an exception."""


@dataclass(frozen=True, slots=True)
class LayerLoss:
    """What one node of a quantised tower loses; cosines to fp32, mean over the samples.

    Attributes:
        node: Its name.
        operator: What it computes.
        read: Of what it reads; the worst of its inputs.
        computed: Of what it makes of that: the difference is due to its weights.
        passed_on: Of what the next nodes read: the difference is due to the rounding to 16 bits.
    """

    node: str
    operator: str
    read: float
    computed: float
    passed_on: float

    @property
    def lost(self) -> float:
        """By how much the cosine falls from its inputs to its output; below 0 if it rises."""
        return self.read - self.passed_on


def layer_losses(model: Any, quantized: Any, samples: Samples) -> list[LayerLoss]:
    """Compare a quantised tower with the one that it was made from, node by node.

    Args:
        model: The static tower in fp32, an onnx.ModelProto whose nodes have names of their own.
        quantized: What `quantize_w8a16` made of it.
        samples: Some inputs; every value of the tower is kept for one of them at a time.

    Returns:
        The nodes that compute with floating-point numbers, those that lose most first.
    """
    made = [name for node in model.graph.node for name in node.output if name]
    there = {name for node in quantized.graph.node for name in node.output}
    # The name of a value is that of what its node computed; the next nodes read another one.
    computed = [name for name in made if name in there]
    read = {name: f"{name}{_READ_SUFFIX}" for name in made if f"{name}{_READ_SUFFIX}" in there}
    cosines = _cosines(model, quantized, samples, computed, read)
    losses = []
    for node in model.graph.node:
        inputs = [cosines[name][1] for name in node.input if name in cosines]
        outputs = [cosines[name] for name in node.output if name in cosines]
        if outputs:
            losses.append(
                LayerLoss(
                    node=node.name,
                    operator=node.op_type,
                    read=min(inputs, default=1.0),
                    computed=min(own for own, _ in outputs),
                    passed_on=min(passed_on for _, passed_on in outputs),
                )
            )
    return sorted(losses, key=lambda loss: -loss.lost)


def nodes_to_leave_in_float(model: Any, losses: Sequence[LayerLoss]) -> set[str]:
    """Return the names of the nodes that a second try should not quantise.

    Args:
        model: The static tower in fp32, an onnx.ModelProto.
        losses: What `layer_losses` found.
    """
    nodes = {node.name: node for node in model.graph.node}
    weights = {tensor.name for tensor in model.graph.initializer}
    chosen = set()
    for loss in losses[:WORST_NODES]:
        if loss.lost < _LEAST_LOSS:
            break
        node = nodes[loss.node]
        chosen.add(loss.node)
        is_due_to_weights = loss.read - loss.computed > loss.computed - loss.passed_on
        if not (is_due_to_weights and weights.intersection(node.input)):
            # What it reads and what it makes are rounded as long as a node beside it is quantised.
            chosen |= {other.name for other in nodes.values() if _touch(node, other)}
    return chosen


def _touch(one: Any, other: Any) -> bool:
    return bool(set(one.output) & set(other.input) or set(one.input) & set(other.output))


def _cosines(
    model: Any,
    quantized: Any,
    samples: Samples,
    computed: Sequence[str],
    read: Mapping[str, str],
) -> dict[str, tuple[float, float]]:
    """Return for each floating-point value the cosines of what was computed and what is read."""
    sums: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="siglip-search-") as folder:
        reference = _showing(model, computed, Path(folder, "float.onnx"))
        variant = _showing(quantized, [*computed, *read.values()], Path(folder, "w8a16.onnx"))
        for feed in samples.feeds():
            wanted = dict(zip(computed, reference.run(feed, computed), strict=True))
            names = [*computed, *read.values()]
            found = dict(zip(names, variant.run(feed, names), strict=True))
            for name in computed:
                if wanted[name].dtype == np.float32:
                    own = _cosine(wanted[name], found[name])
                    passed_on = _cosine(wanted[name], found[read[name]]) if name in read else own
                    # Less than what is passed on: it lacks a Relu, which the rounding does too.
                    sums.setdefault(name, []).append((max(own, passed_on), passed_on))
    return {
        name: (sum(own for own, _ in pairs) / len(pairs), sum(on for _, on in pairs) / len(pairs))
        for name, pairs in sums.items()
    }


def _showing(model: Any, names: Sequence[str], path: Path) -> CpuSession:
    """Open a tower that gives out the named values."""
    onnx = import_onnx()
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    given_out = {value.name for value in shown.graph.output}
    # Without a type: the runtime infers it.
    shown.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in given_out
    )
    onnx.save(shown, str(path))
    return CpuSession(path)


def _cosine(first: NDArray[Any], second: NDArray[Any]) -> float:
    one, other = (values.astype(np.float64).ravel() for values in (first, second))
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    if lengths == 0.0:
        # Nothing but zeros: alike if both are, else all is lost.
        return float(not one.any() and not other.any())
    return float(one @ other) / lengths
