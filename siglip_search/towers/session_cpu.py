"""ONNX Runtime on the processor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from siglip_search.errors import ModelError
from siglip_search.towers.onnx_runtime import (
    LOG_FATAL,
    first_line,
    load_errors,
    quiet_onnxruntime,
    run_errors,
    tensor_info,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.towers.session import TensorInfo


class CpuSession:
    """An ONNX file that is ready to run on the processor.

    `run` may be called from several threads at once: with one thread per session they share the
    weights and work side by side.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        one_shot: bool = False,
        content: bytes | None = None,
    ) -> None:
        """Open the ONNX file at `path`.

        Args:
            path: The file; its external weights, if any, lie beside it.
            threads: Threads that one `run` uses, >= 1; None for every processor of this process.
            one_shot: Open fast for a single run, at 10 to 30 % slower runs.
            content: Another graph to open in the file's place, with the same external weights.

        Raises:
            ModelError: If the file is missing, damaged or uses operators that are not known.
        """
        onnxruntime = quiet_onnxruntime()
        self._path = path
        self._run_errors = run_errors()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_FATAL
        options.intra_op_num_threads = threads or available_processors()
        options.inter_op_num_threads = 1
        # Waiting threads that spin take the processor from the threads that decode pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if one_shot:
            options.add_session_config_entry("session.disable_prepacking", "1")
        if content is not None:
            # A graph that comes from no file has no folder of its own.
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", os.fspath(path.parent)
            )
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(path) if content is None else content,
                options,
                providers=["CPUExecutionProvider"],
            )
        except load_errors() as error:
            raise ModelError(
                f"{path} cannot be loaded as an ONNX model: {first_line(error)}",
                hint="The file is damaged or incomplete: fetch or add the model again.",
            ) from error
        self._inputs = tuple(tensor_info(node) for node in self._session.get_inputs())
        self._outputs = tuple(tensor_info(node) for node in self._session.get_outputs())

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
        """Always "cpu"."""
        return "cpu"

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> list[NDArray[np.generic]]:
        """Return the named outputs for the given inputs.

        Raises:
            ModelError: If the graph refuses them: an id outside its vocabulary, say.
        """
        try:
            results: list[NDArray[np.generic]] = self._session.run(list(outputs), dict(feeds))
        except self._run_errors as error:
            raise ModelError(
                f"{self._path} failed to run: {first_line(error)}",
                hint="The tower does not fit its model.toml or tokenizer: fetch or add the model "
                "again.",
            ) from error
        return results


def available_processors() -> int:
    """Return how many processors this process may use."""
    # ONNX Runtime's own default counts the machine's cores, also those a container may not use.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
