"""Does an NPU work? Asked in a process of its own, because a broken driver may take it down.

    python -m siglip_search.towers.device_probe npu-emulator --target x-elite

The child loads the library, opens a graph of one product, runs it and compares with the processor.
It says on stdout how far it got, one JSON object a line, and the parent draws its conclusion even
if the child aborts or never comes back.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import faulthandler
import functools
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.spawn import get_executable
from pathlib import Path
from typing import Any, Final, Literal

from siglip_search.errors import SiglipSearchError
from siglip_search.towers.qnn_target import Target, find_target

NpuKind = Literal["npu", "npu-emulator"]

_MODULE: Final = "siglip_search.towers.device_probe"  # not __name__, which is __main__ in the child

PROBE_MODEL: Final = Path(__file__).parent / "data" / "npu_probe.onnx"
"""Made by scripts/make_probe_model.py."""

# The emulator needs 0.7 s on an idle machine; a cold disk and a busy machine many times that.
_TIMEOUT_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 5.0
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
    command = [get_executable(), "-P", "-m", _MODULE, device]
    if target is not None:
        command += ["--target", target.name]
    if library is not None:
        command += ["--library", os.fspath(library)]
    command += ["--seconds", str(timeout_seconds + _GRACE_SECONDS)]
    # The child finds this package where this process did, and nothing in the current folder.
    search_path = os.pathsep.join(entry for entry in sys.path if entry)
    child = subprocess.Popen(  # noqa: S603 - this very module
        command,
        env={**os.environ, "PYTHONPATH": search_path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        said, _ = child.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        last = _last(_killed(child))
        stage = "its end" if "usable" in last else last.get("stage", "the start")
        return Found(False, f"the driver hangs: no answer in {timeout_seconds:g} s at {stage}")
    except BaseException:
        _killed(child)
        raise
    last = _last(said)
    if child.returncode == 0 and "usable" in last:
        return Found(bool(last["usable"]), last["reason"], dict(last["hardware"]))
    stage = "its end" if "usable" in last else last.get("stage", "the start")
    return Found(False, f"the driver crashed at {stage} ({_ending(child.returncode)})")


def _killed(child: subprocess.Popen[bytes]) -> bytes:
    """Kill the child and return what it had said, but do not wait for one that cannot die."""
    child.kill()
    try:
        return child.communicate(timeout=_GRACE_SECONDS)[0]
    except subprocess.TimeoutExpired as late:
        return late.stdout or b""


def _last(said: bytes) -> dict[str, Any]:
    """Return the last object that the child said; libraries may have said other things after it."""
    for line in reversed(said.split(b"\n")[:-1]):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return {}


def _ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}" if status < 256 else f"exit status 0x{status:X}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def main() -> None:
    """Be the child: try the device that the command line names."""
    parser = argparse.ArgumentParser(description="Try an NPU.")
    parser.add_argument("device", choices=["npu", "npu-emulator"])
    parser.add_argument("--target", type=find_target)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--seconds", type=float, default=_TIMEOUT_SECONDS)
    arguments = parser.parse_args()
    # A driver that hangs must not outlive a parent that was killed before it could kill us.
    faulthandler.dump_traceback_later(arguments.seconds, exit=True)
    try:
        hardware = _try_device(arguments.device, arguments.target, arguments.library)
    except SiglipSearchError as error:
        _say(usable=False, reason=str(error), hardware={})
    else:
        _say(usable=True, reason="", hardware=hardware)


def _try_device(device: NpuKind, target: Target | None, library: Path | None) -> dict[str, str]:
    _say(stage="importing onnxruntime")
    import numpy as np

    from siglip_search.errors import DeviceError
    from siglip_search.towers.qnn_runtime import qnn_devices
    from siglip_search.towers.session_cpu import CpuSession
    from siglip_search.towers.session_qnn import QnnSession

    x = np.linspace(-1.0, 1.0, 16, dtype=np.float32)[None]
    expected = CpuSession(PROBE_MODEL, threads=1).run({"x": x}, ["y"])[0].astype(np.float64)
    emulator = device == "npu-emulator"
    _say(stage="loading the provider's library")
    (found,) = qnn_devices(emulator=emulator, library=library)
    _say(stage="opening a graph")
    session = QnnSession(PROBE_MODEL, target=target, emulator=emulator, library=library)
    _say(stage="running a graph")
    got = session.run({"x": x}, ["y"])[0].astype(np.float64)
    off = float(np.abs(got - expected).max())
    if not off <= _MOST_OFF:
        raise DeviceError(f"its numbers are wrong: off by {off:.3g}")
    hardware = found.device
    return {
        "kind": hardware.type.name,
        "vendor": hardware.vendor,
        "vendor_id": f"0x{hardware.vendor_id:X}",
        "device_id": f"0x{hardware.device_id:X}",
        "provider": found.ep_metadata.get("version", ""),
        **{str(key): str(value) for key, value in hardware.metadata.items()},
    }


def _say(**what: object) -> None:
    # By the descriptor, at once: nothing said may be lost in a buffer when the driver crashes.
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main()
