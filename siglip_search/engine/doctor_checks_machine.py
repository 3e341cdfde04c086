"""The machine: what towers can run on, memory, battery and heat, open files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from siglip_search.engine.doctor_checks_models import weights_bytes
from siglip_search.engine.doctor_finding import Finding, readable_bytes
from siglip_search.engine.indexing import available_cores
from siglip_search.engine.machine_state import available_memory, read_machine
from siglip_search.engine.memory_share import EMBEDDING_BYTES, MIN_SHARE_BYTES, share_memory
from siglip_search.errors import ModelError
from siglip_search.photos.decode import DecodeLimits
from siglip_search.towers.device_probe import PROBE_MODEL
from siglip_search.towers.devices import automatic_device, list_devices
from siglip_search.towers.onnx_runtime import quiet_onnxruntime
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from siglip_search.engine.doctor_finding import Subject, Verdict

# Within so much of the point of switching itself off, indexing goes at half speed.
_HOT_DEGREES = 8.0
# What macOS gives, and enough.
FEW_OPEN_FILES = 256


def look_at_runtime(_: Subject) -> Iterable[Finding]:
    """Load ONNX Runtime and open a graph of one product with it."""
    try:
        version = quiet_onnxruntime().__version__
        CpuSession(PROBE_MODEL, threads=1)
    except (ImportError, OSError) as error:
        remedy = "Install it again: python -m pip install --force-reinstall onnxruntime"
        if sys.platform == "win32":
            remedy = "Install Microsoft's Visual C++ Redistributable, then onnxruntime again."
        what = f"cannot be loaded: {' '.join(str(error).split())}"
        return [Finding("ONNX Runtime", "bad", what, remedy)]
    except ModelError as error:
        return [Finding("ONNX Runtime", "bad", str(error), "Install siglip-search again.")]
    return [Finding("ONNX Runtime", "good", f"{version} runs")]


def look_at_devices(subject: Subject) -> Iterator[Finding]:
    """Tell which devices can be used, and why one that is there or was asked for cannot."""
    reports = list_devices()
    wanted = subject.settings.device
    for report in reports:
        about = "; ".join(part for part in (report.chip, report.notice) if part)
        if report.usable:
            what = f"usable: {about}" if about else "usable"
            yield Finding(f"device {report.name}", "good", what)
            continue
        what = f"not usable: {report.reason}"
        if report.name == wanted:
            what = f"the settings ask for it, but it is {what}"
            yield Finding(f"device {report.name}", "bad", what, report.hint or None)
        else:
            # A chip that is known to have one: most of the speed of this machine lies idle.
            has_npu = report.name == "npu" and report.target is not None
            verdict: Verdict = "note" if has_npu else "good"
            yield Finding(f"device {report.name}", verdict, what, report.hint or None)
    yield Finding("device auto", "good", f"takes {automatic_device(reports)}")


def look_at_memory(subject: Subject) -> Iterable[Finding]:
    """Compare the free memory with what an indexing run would use of it."""
    free = available_memory(subject.processes, subject.system / "fs" / "cgroup")
    if free is None:
        return [Finding("memory", "good", "the system does not tell how much is free")]
    weights = weights_bytes(subject)
    least = weights + EMBEDDING_BYTES + MIN_SHARE_BYTES
    room = f"{readable_bytes(free)} free"
    remedy = "Close other programs, or take a smaller model or `model quantize`."
    if free < least:
        what = f"{room}; towers and one picture need up to {readable_bytes(least)}"
        return [Finding("memory", "bad", what, remedy)]
    jobs = subject.settings.jobs or available_cores()
    share = share_memory(jobs, free - weights, DecodeLimits())
    at_a_time = min(share.decode_workers, share.embed_threads)
    if at_a_time < jobs:
        what = f"{room}: enough for {at_a_time} of {jobs} pictures at a time"
        return [Finding("memory", "note", what, remedy)]
    return [Finding("memory", "good", f"{room}, enough for {jobs} pictures at a time")]


def look_at_power(subject: Subject) -> Iterator[Finding]:
    """Tell what is known of battery and heat, and what `index` makes of it."""
    reading = read_machine(subject.system)
    percent = "" if reading.battery_percent is None else f" at {reading.battery_percent:.0f}%"
    if reading.on_battery:
        doing = {"pause": "pauses", "slow": "goes at half speed", "run": "goes at full speed"}
        what = f"on battery{percent}: `index` {doing[subject.settings.on_battery]}"
        yield Finding("battery", "good", what)
    else:
        there = "no battery" if not percent else f"connected, battery{percent}"
        yield Finding("battery", "good", there)
    margin = reading.degrees_to_critical
    if margin is None:
        yield Finding("heat", "good", "the system does not tell")
    elif margin < _HOT_DEGREES:
        what = f"{margin:.0f} °C below the point of switching off: `index` slows down or pauses"
        yield Finding("heat", "note", what, "Let air to the machine; clean its fan.")
    else:
        yield Finding("heat", "good", f"{margin:.0f} °C below the point of switching off")


def look_at_open_files(_: Subject) -> Iterable[Finding]:
    """Tell whether a process may open enough files at a time."""
    if sys.platform == "win32":
        return []
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FEW_OPEN_FILES:
        most = "unlimited" if hard == resource.RLIM_INFINITY else str(min(hard, 4096))
        what = f"a process may open {soft} files, which is few"
        return [Finding("open files", "note", what, f"ulimit -n {most}")]
    told = "any number of" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    return [Finding("open files", "good", f"a process may open {told} files")]
