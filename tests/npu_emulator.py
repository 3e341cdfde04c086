"""The NPU's emulator, where it is there: which tests need it, and contexts compiled by it."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

HAS_EMULATOR = (
    importlib.util.find_spec("onnxruntime_qnn") is not None
    and sys.platform in {"linux", "win32"}
    and platform.machine().lower() in {"x86_64", "amd64"}
)

needs_emulator = [
    pytest.mark.npu,
    pytest.mark.skipif(
        not HAS_EMULATOR, reason="needs onnxruntime-qnn (the extra npu) on x86-64 Linux or Windows"
    ),
]

# The library keeps the first chip that it is told: one process for each.
_COMPILE = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime, onnxruntime_qnn
source, made, soc_model, htp_arch = sys.argv[1:]
name = "QNNExecutionProvider"
onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == name]
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
options.add_provider_for_devices(
    devices, {"backend_type": "htp", "soc_model": soc_model, "htp_arch": htp_arch}
)
onnxruntime.ModelCompiler(
    options, source, embed_compiled_data_into_model=False
).compile_to_file(made)
"""


def compile_context(source: Path, made: Path, *, soc_model: int, htp_arch: int) -> Path:
    """Compile an ONNX file for a chip, in a process of its own; return `made`."""
    made.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [sys.executable, "-c", _COMPILE, source, made, str(soc_model), str(htp_arch)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return made
