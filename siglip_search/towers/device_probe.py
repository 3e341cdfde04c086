"""Does an NPU work? Asked in a process of its own, because a broken driver may take it down.

    python -m siglip_search.towers.device_probe npu-emulator --target x-elite

The child loads the library, opens a graph of one product, runs it and compares with the processor.
It says how far it got, and the parent draws its conclusion even if the child aborts or never comes
back.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from siglip_search.towers.child_process import answer_parent, run_child, say_to_parent
from siglip_search.towers.qnn_target import Target, find_target

NpuKind = Literal["npu", "npu-emulator"]

_MODULE: Final = "siglip_search.towers.device_probe"  # not __name__, which is __main__ in the child

PROBE_MODEL: Final = Path(__file__).parent / "data" / "npu_probe.onnx"
"""Made by scripts/make_probe_model.py."""

# The emulator needs 0.7 s on an idle machine; a cold disk and a busy machine many times that.
_TIMEOUT_SECONDS: Final = 60.0
_MOST_OFF: Final = 0.01
"""Results are up to 24; half precision is 0.01 off there at most."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the probe found.

    Attributes:
        usable: Whether a graph ran and its numbers were right.
        reason: Why not; "" if usable.
        hardware: What the runtime says of the device: kind, vendor, numbers; "" of each it omits.
    """

    usable: bool
    reason: str
    hardware: dict[str, str] = dataclasses.field(default_factory=dict)


@functools.cache
def probe(
    device: NpuKind,
    target: Target | None,
    *,
    library: Path | None = None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> Found:
    """Try a device in a process of its own; the answer is kept for the life of this one.

    Args:
        device: Which.
        target: The chip; None lets the driver find it.
        library: The provider's library; by default the wheel's.
        timeout_seconds: After it, the driver counts as hanging and the child is killed.
    """
    arguments: list[str] = [device]
    if target is not None:
        arguments += ["--target", target.name]
    if library is not None:
        arguments += ["--library", os.fspath(library)]
    child = run_child(_MODULE, arguments, timeout_seconds=timeout_seconds)
    answer = child.last.get("answer")
    stage = "its end" if answer else child.last.get("stage", "the start")
    if child.status is None:
        return Found(False, f"the driver hangs: no answer in {timeout_seconds:g} s at {stage}")
    if child.status != 0 or not answer:
        return Found(False, f"the driver crashed at {stage} ({child.ending})")
    if "error" in answer:
        return Found(False, answer["error"])
    return Found(True, "", answer["hardware"])


def main() -> None:
    """Be the child: try the device that the command line names."""
    parser = argparse.ArgumentParser(description="Try an NPU.")
    parser.add_argument("device", choices=["npu", "npu-emulator"])
    parser.add_argument("--target", type=find_target)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--seconds", type=float, default=_TIMEOUT_SECONDS)
    asked = parser.parse_args()
    answer_parent(
        lambda: _try_device(asked.device, asked.target, asked.library), limit_seconds=asked.seconds
    )


def _try_device(device: NpuKind, target: Target | None, library: Path | None) -> dict[str, Any]:
    say_to_parent(stage="importing onnxruntime")
    import numpy as np

    from siglip_search.errors import DeviceError
    from siglip_search.towers.qnn_runtime import qnn_devices
    from siglip_search.towers.session_cpu import CpuSession
    from siglip_search.towers.session_qnn import QnnSession

    x = np.linspace(-1.0, 1.0, 16, dtype=np.float32)[None]
    expected = CpuSession(PROBE_MODEL, threads=1).run({"x": x}, ["y"])[0].astype(np.float64)
    emulator = device == "npu-emulator"
    say_to_parent(stage="loading the provider's library")
    (found,) = qnn_devices(emulator=emulator, library=library)
    say_to_parent(stage="opening a graph")
    session = QnnSession(PROBE_MODEL, target=target, emulator=emulator, library=library)
    say_to_parent(stage="running a graph")
    got = session.run({"x": x}, ["y"])[0].astype(np.float64)
    off = float(np.abs(got - expected).max())
    if not off <= _MOST_OFF:
        raise DeviceError(f"its numbers are wrong: off by {off:.3g}")
    device_found = found.device
    hardware = {
        "kind": device_found.type.name,
        "vendor": device_found.vendor,
        "vendor_id": f"0x{device_found.vendor_id:X}",
        "device_id": f"0x{device_found.device_id:X}",
        "provider": found.ep_metadata.get("version", ""),
        **{str(key): str(value) for key, value in device_found.metadata.items()},
    }
    return {"usable": True, "hardware": hardware}


if __name__ == "__main__":
    main()
