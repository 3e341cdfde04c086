"""A Qualcomm NPU, or its emulator, through onnxruntime-qnn.

Everything runs there or nothing: a graph of which a part would go back to the processor is refused,
with the operators that the NPU does not take.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import DeviceError, ModelError
from siglip_search.models.spec import CONTEXTS_FOLDER
from siglip_search.towers.onnx_header import token_table_rows
from siglip_search.towers.onnx_runtime import (
    LOG_FATAL,
    first_line,
    load_errors,
    quiet_onnxruntime,
    run_errors,
    tensor_info,
)
from siglip_search.towers.qnn_context import refusal
from siglip_search.towers.qnn_graph import graph_facts
from siglip_search.towers.qnn_runtime import (
    PROVIDER,
    claim_target,
    qairt_version,
    qnn_devices,
    stdout_guarded,
)
from siglip_search.towers.qnn_target import provider_options
from siglip_search.towers.session import Assignment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.towers.qnn_graph import GraphFacts, GraphInput
    from siglip_search.towers.qnn_target import Target
    from siglip_search.towers.session import TensorInfo

_PROGRAM: Final = Path(__file__).resolve().parents[1]
"""A tower in here came with the program, whose files stay as they are: nothing is compiled."""

_REFUSED_SHOWN: Final = 3
"""How many of the operators that the NPU does not take an error names."""


class QnnSession:
    """An ONNX file, or a compiled context, that is ready to run on the NPU.

    `run` may be called from several threads at once.
    """

    def __init__(
        self,
        path: Path,
        *,
        target: Target | None,
        emulator: bool,
        options: Mapping[str, str] | None = None,
        library: Path | None = None,
        model: str = "NAME",
    ) -> None:
        """Open the ONNX file at `path`.

        Args:
            path: The file; shapes must be fixed, and the batch 1. Float graphs are computed in half
                precision.
            target: The chip, the same for the whole process; None lets the driver find it, which
                only quantised graphs bear.
            emulator: Run on the wheel's emulator (x86-64 only): same code, same numbers, its time
                says nothing.
            options: More of the provider's options, such as `htp_performance_mode`.
            library: The provider's library; by default the wheel's.
            model: Name of the model, for the commands in hints.

        Raises:
            ModelError: If the file is missing, damaged, not of fixed shapes and batch 1,
                compiled for another chip or runtime, or has operators that the NPU does not take.
            DeviceError: If there is no such device, an option is not known, or this process has
                prepared an NPU for another chip.
        """
        self._path = path
        self._emulator = emulator
        self._target = target
        self._options = provider_options(target, options or {})
        facts = graph_facts(path)
        if facts is not None:
            _check_facts(path, facts, target=target, model=model)
        claim_target(target)
        self._devices = qnn_devices(emulator=emulator, library=library)
        self._session = self._open(model)
        self._inputs = tuple(tensor_info(node) for node in self._session.get_inputs())
        self._outputs = tuple(tensor_info(node) for node in self._session.get_outputs())
        self._assignment = _assignment(_nodes(self._session))
        self._id_limits = {
            tensor.name: token_table_rows(path, tensor.name)
            for tensor in self._inputs
            if tensor.dtype.startswith("int")
        }

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Inputs that must be fed."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Outputs that can be asked for."""
        return self._outputs

    @property
    def device(self) -> str:
        """Either "npu" or "npu-emulator"."""
        return "npu-emulator" if self._emulator else "npu"

    @property
    def assignment(self) -> Assignment:
        """Where the nodes run."""
        return self._assignment

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.generic]]:
        """Return the named outputs for the given inputs.

        Raises:
            ModelError: If the graph refuses them: an id outside its vocabulary, say.
            DeviceError: If the NPU fails.
        """
        self._check_ids(feeds)
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        try:
            results: list[NDArray[np.generic]] = self._session.run(list(outputs), dict(feeds))
        except state.InvalidArgument as error:
            raise ModelError(
                f"{self._path} failed to run: {first_line(error)}",
                hint="The tower does not fit its model.toml: fetch or add the model again.",
            ) from error
        except (*run_errors(), *_restart_errors()) as error:
            # The libraries' own words about it lie in C's buffer now, on their way to stdout.
            with stdout_guarded():
                pass
            raise DeviceError(
                f"{self._path} failed on the {self.device}: {_qnn_reason(error)}",
                hint="Try again, or use --device cpu.",
            ) from error
        return results

    def _check_ids(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        # Of an id that is not in the table, the NPU takes another row or fails, with a note of its
        # own on stdout: -1 is the last row for 64-bit ids and a failure for 32-bit ones.
        for name, limit in self._id_limits.items():
            ids = feeds.get(name)
            if ids is None or not ids.size:
                continue
            wrong = ids.min() if ids.min() < 0 else ids.max()
            if wrong < 0 or (limit is not None and wrong >= limit):
                known = "" if limit is None else f"; it knows 0 to {limit - 1}"
                raise ModelError(
                    f"{self._path} cannot look up the id {wrong}{known}",
                    hint="The tokenizer is another model's: fetch or add the model again.",
                )

    def _open(self, model: str) -> Any:
        try:
            return self._create(strict=True)
        except _restart_errors() as error:
            raise DeviceError(
                f"{self._path} cannot be opened on the {self.device}: {_qnn_reason(error)}",
                hint="Try again, or use --device cpu.",
            ) from error
        except load_errors() as error:
            reason = first_line(error)
            refused = self._refused() if "assigned to the default CPU EP" in reason else []
            if refused:
                raise ModelError(
                    f"{self._path} cannot run on the NPU as a whole: it does not take "
                    f"{_named(refused)}",
                    hint=f"`siglip-search model export {model} --batch 1` writes towers that it "
                    "takes; this one runs with --device cpu.",
                ) from error
            if "EpContext" in reason:
                raise ModelError(
                    f"{self._path} is a compiled context that cannot be read: {_qnn_reason(error)}",
                    hint=_another_context(self._path, model, self._target),
                ) from error
            if "QNN" in reason:
                raise ModelError(
                    f"{self._path} cannot be prepared for the NPU: {_qnn_reason(error)}",
                    hint=self._preparation_hint(model),
                ) from error
            # The runtime names the file once more: "Load model from FILE failed:REASON."
            reason = reason.rpartition(" failed:")[2].rstrip(".")
            raise ModelError(
                f"{self._path} cannot be loaded as an ONNX model: {reason}",
                hint="The file is damaged or incomplete: fetch or add the model again.",
            ) from error

    def _create(self, *, strict: bool) -> Any:
        onnxruntime = quiet_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_FATAL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        if strict:
            # The only proof that nothing falls back: the list of providers names the CPU always.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        # `providers=[...]` would be ignored for a plugin, and everything run on the processor.
        options.add_provider_for_devices(self._devices, self._options)
        with stdout_guarded():
            return onnxruntime.InferenceSession(os.fspath(self._path), options, enable_fallback=0)

    def _refused(self) -> list[Any]:
        """Return the nodes that stay on the processor, by opening the file once more, leniently."""
        try:
            nodes = _nodes(self._create(strict=False))
        except (*load_errors(), *_restart_errors()):
            return []
        return [node for provider, node in nodes if provider != PROVIDER]

    def _preparation_hint(self, model: str) -> str:
        if self._target is None:
            return "A tower of floating-point numbers needs a known chip; a quantised one does not."
        return (
            f"`siglip-search model quantize {model}` makes towers that need less of it; this one "
            "runs with --device cpu."
        )


def _restart_errors() -> tuple[type[Exception], ...]:
    """Return what is raised when the NPU's firmware has crashed and started again.

    EngineError by onnxruntime-qnn 2.7; DeviceReset by what comes after it
    (github.com/onnxruntime/onnxruntime-qnn, pull request 700). Older runtimes do not know both.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    known = (getattr(state, name, None) for name in ("EngineError", "DeviceReset"))
    return tuple(error for error in known if error is not None)


def _check_facts(path: Path, facts: GraphFacts, *, target: Target | None, model: str) -> None:
    if facts.compiled:
        reason = refusal(facts.compatibility, target, qairt_version() or "")
        if reason is not None:
            raise ModelError(
                f"{path} is a compiled context that does not fit: {reason}",
                hint=_another_context(path, model, target),
            )
    dynamic = facts.dynamic_input
    if dynamic is not None:
        raise ModelError(
            f"{path} takes {dynamic.name} of shape {_shape(dynamic)}, and an NPU only fixed shapes",
            hint=f"Quantising fixes them: siglip-search model quantize {model} --precision w8a16"
            if path.is_relative_to(_PROGRAM)
            else f"Compiling fixes them: siglip-search model compile {model} --target "
            f"{target or 'CHIP'}",
        )
    batched = facts.batched_input
    if batched is not None:
        # onnxruntime-qnn 2.7.0 computes the first row of a batch rightly and says nothing of the
        # others, which came out wrong in a text tower (LayerNormalization after Gather and Add).
        raise ModelError(
            f"{path} takes {batched.name} of shape {_shape(batched)}, and an NPU's numbers can be "
            "wrong beyond the first row",
            hint=f"Make static towers: siglip-search model export {model} --batch 1",
        )


def _another_context(path: Path, model: str, target: Target | None) -> str:
    """Return the hint that tells how to come by a context that fits."""
    if path.parent.parent.name == CONTEXTS_FOLDER:
        return (
            f"Make one that does: siglip-search model compile {model} --target {target or 'CHIP'}"
        )
    return (
        "Import a binary for this chip and runtime: siglip-search model import FILE.bin --as NAME"
    )


def _shape(tensor: GraphInput) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in tensor.shape) + ")"


def _nodes(session: Any) -> list[tuple[str, Any]]:
    return [
        (part.ep_name, node)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def _assignment(nodes: list[tuple[str, Any]]) -> Assignment:
    on_npu = sum(provider == PROVIDER for provider, _ in nodes)
    return Assignment(npu=on_npu, cpu=len(nodes) - on_npu)


def _named(nodes: list[Any]) -> str:
    """Return "Shrink (2 nodes), Det", the most frequent operators first."""
    counts = Counter(node.op_type for node in nodes).most_common()
    named = [
        operator if number == 1 else f"{operator} ({number} nodes)"
        for operator, number in counts[:_REFUSED_SHOWN]
    ]
    rest = len(counts) - _REFUSED_SHOWN
    return ", ".join(named) + (f" and {rest} more kinds" if rest > 0 else "")


def _qnn_reason(error: BaseException) -> str:
    """Return the part of an error that is not about where in the runtime it was noticed."""
    return first_line(error).rpartition("Status Message: ")[2].rpartition(" : ")[2]
