"""What every kind of session takes from ONNX Runtime, and how its words become ours."""

from __future__ import annotations

import os
import re
from typing import Any, Final

from siglip_search.towers.session import TensorInfo

LOG_FATAL: Final = 4
"""Severity for sessions: every failure is raised as an exception, printing it too is noise."""

_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
}


def quiet_onnxruntime() -> Any:
    """Return the module onnxruntime, loaded with its reports to its maker switched off."""
    # Read when the library loads: without it, it keeps a device id in the user's cache and
    # reports to its maker. Nothing leaves this machine.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def run_errors() -> tuple[type[Exception], ...]:
    """Return what a session raises when it cannot run."""
    quiet_onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.InvalidArgument,
        state.Fail,
        state.RuntimeException,
        state.NotImplemented,
        state.EPFail,
    )


def load_errors() -> tuple[type[Exception], ...]:
    """Return what opening a file raises, whatever is wrong with it."""
    quiet_onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        *run_errors(),
        state.InvalidProtobuf,
        state.InvalidGraph,
        state.NoSuchFile,
        state.NoModel,
        state.ModelLoaded,
    )


def tensor_info(node: Any) -> TensorInfo:
    """Return an input or output as the towers see it."""
    return TensorInfo(
        name=node.name,
        dtype=_DTYPES.get(node.type, node.type),
        shape=tuple(size if isinstance(size, int) else None for size in node.shape),
    )


def first_line(error: BaseException) -> str:
    """Return an error's first line; ONNX Runtime's begin with numbers of its own, end in dumps."""
    line = str(error).strip().split("\n", 1)[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
