"""Which devices towers can run on here, why each can or cannot be used, and choosing one."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from siglip_search.errors import DeviceError, ModelError
from siglip_search.towers.qnn_graph import graph_facts
from siglip_search.towers.qnn_runtime import INSTALL_HINT, PACKAGE, is_installed
from siglip_search.towers.qnn_target import CHIPS, DEFAULT_TARGET

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from siglip_search.towers.device_probe import NpuKind
    from siglip_search.towers.qnn_chip import Processor
    from siglip_search.towers.qnn_target import Target
    from siglip_search.towers.session import Assignment, Device, Session

EMULATOR_NOTICE: Final = "its time says nothing about an NPU's"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """A device, and whether it can be used here.

    Attributes:
        name: What to ask for.
        usable: Whether towers can run on it.
        reason: Why not; "" if they can.
        hint: What can be done about that; "" if nothing.
        notice: What must be known about what runs there; "" if nothing.
        chip: What the chip is called; "" if nothing tells.
        target: Name of the chip that graphs are prepared for; None for the processor, and for a
            chip that is not known.
        threads: How many this process may use; None where that has no meaning.
        features: Instructions that speed towers up.
        hardware: What the runtime says of an NPU, after it was tried.
    """

    name: Literal["npu", "cpu", "npu-emulator"]
    usable: bool
    reason: str = ""
    hint: str = ""
    notice: str = ""
    chip: str = ""
    target: str | None = None
    threads: int | None = None
    features: tuple[str, ...] = ()
    hardware: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A tower on the device that was chosen for it.

    Attributes:
        session: The open tower.
        device: Where it runs: "cpu", "npu" or "npu-emulator".
        path: The file that runs there.
        why: One line: why this device.
        steps_down: One line for each better choice that was not taken, with its reason.
        assignment: Where the graph's nodes run; None on the processor, where all of them do.
    """

    session: Session
    device: Device
    path: Path
    why: str
    steps_down: tuple[str, ...] = ()
    assignment: Assignment | None = None

    def precision_of(self, weights: str) -> str:
        """Return the precision to note with a vector.

        Args:
            weights: That of the tower's weights.
        """
        # An NPU computes float graphs in half precision, whatever their weights are stored in.
        return "fp16" if self.device != "cpu" and weights == "fp32" else weights


def list_devices() -> list[DeviceReport]:
    """Return every kind of device with its state, the best first.

    Takes a second where the extra `npu` is installed: each is tried in a process of its own.
    """
    from siglip_search.towers.qnn_chip import this_processor

    processor = this_processor()
    return [
        _npu_report("npu", processor, target=None),
        _cpu_report(processor),
        _npu_report("npu-emulator", processor, target=None),
    ]


def automatic_device(reports: Sequence[DeviceReport]) -> str:
    """Return what "auto" takes for a tower that every device takes; never the emulator."""
    return next(one.name for one in reports if one.usable and one.name != "npu-emulator")


def open_session(
    path: Path,
    *,
    device: Device = "auto",
    threads: int | None = None,
    one_shot: bool = False,
    compiled: Sequence[Path] = (),
    target: Target | None = None,
    model: str = "NAME",
) -> OpenedSession:
    """Open a tower on the device that was asked for, or on the best that takes it.

    "auto" tries, where there is an NPU: a context that was compiled for this very chip and runtime,
    then `path` on the NPU, then `path` on the processor. It never takes the emulator. For a single
    question it takes the processor at once, which has answered before an NPU is ready: trying one
    and preparing a tower for it cost more than a text on the processor does. A compiled context,
    which no processor runs, is the exception.

    Args:
        path: ONNX file of the tower.
        device: One of `DEVICES`.
        threads: Threads that one run uses on the processor; None for every one.
        one_shot: Open fast for a single run.
        compiled: Contexts of the same tower that were compiled for NPUs, whichever.
        target: The chip to prepare for; None for the one that is found (the emulator plays
            `DEFAULT_TARGET`).
        model: Name of the model, for the commands in hints.

    Raises:
        DeviceError: If the device was asked for by name and cannot be used.
        ModelError: If the tower cannot run there, or is missing or damaged.
    """
    if device == "cpu":
        return _on_cpu(path, threads=threads, one_shot=one_shot, why="asked for")
    steps_down: list[str] = []
    if device != "auto":
        return _on_npu(device, path, steps_down, compiled=compiled, target=target, model=model)
    if one_shot and not is_compiled(path):
        return _on_cpu(path, threads=threads, one_shot=True, why="the fastest for one question")
    # Imported here, as is all that a question on the processor can do without.
    from siglip_search.towers.qnn_chip import this_processor

    report = _npu_report("npu", this_processor(), target=target)
    if not report.usable:
        why = f"no NPU: {report.reason}"
        _log.info("%s runs on the CPU: %s", path, why)
    else:
        try:
            return _on_npu("npu", path, steps_down, compiled=compiled, target=target, model=model)
        except (ModelError, DeviceError) as error:
            why = f"the NPU does not take it: {error}"
            _log.warning("%s; the tower runs on the CPU. %s", error, error.hint)
    steps_down.append(why)
    return _on_cpu(path, threads=threads, one_shot=False, why=why, steps_down=steps_down)


def is_compiled(path: Path) -> bool:
    """Tell whether a tower's file is a context compiled for an NPU, which no processor runs."""
    facts = graph_facts(path)
    return facts is not None and facts.compiled


def refuse_missing_device(device: Device) -> None:
    """Raise if a device that was asked for by name cannot be used here.

    Takes a second the first time, where the extra `npu` is installed. "auto" and "cpu" always can.

    Raises:
        DeviceError: Why it cannot, with what can be done about that.
    """
    match device:
        case "npu" | "npu-emulator":
            from siglip_search.towers.qnn_chip import this_processor

            _refuse_unusable(_npu_report(device, this_processor(), target=None))


def forget_probes() -> None:
    """Let the next opening try the NPU again: what worked when it was tried has failed since."""
    from siglip_search.towers.device_probe import probe

    probe.cache_clear()


def _on_cpu(
    path: Path,
    *,
    threads: int | None,
    one_shot: bool,
    why: str,
    steps_down: Sequence[str] = (),
) -> OpenedSession:
    from siglip_search.towers.session_cpu import CpuSession

    if is_compiled(path):
        raise ModelError(
            f"{path} is compiled for an NPU and cannot run on the CPU",
            hint="Use the model that it was made from, or --device npu.",
        )
    session = CpuSession(path, threads=threads, one_shot=one_shot)
    return OpenedSession(session, "cpu", path, why, tuple(steps_down))


def _on_npu(
    device: NpuKind,
    path: Path,
    steps_down: list[str],
    *,
    compiled: Sequence[Path],
    target: Target | None,
    model: str,
) -> OpenedSession:
    """Open a tower there; each context that is not used is noted in `steps_down`."""
    from siglip_search.models.compiled_contexts import chip_folder
    from siglip_search.towers.qnn_chip import this_processor
    from siglip_search.towers.session_qnn import QnnSession

    processor = this_processor()
    _refuse_unusable(_npu_report(device, processor, target=target))
    emulator = device == "npu-emulator"
    chip = _target(device, processor, target)
    # The chip's own first: none of the others is looked at then.
    own = None if chip is None else chip_folder(chip.name)
    for context in sorted(compiled, key=lambda one: one.parent.name != own):
        try:
            session = QnnSession(context, target=chip, emulator=emulator, model=model)
        except ModelError as error:
            steps_down.append(str(error))
            # That other chips' are left alone is as it should be.
            level = logging.WARNING if context.parent.name == own else logging.INFO
            _log.log(level, "%s. %s", error, error.hint)
        else:
            why, steps = f"compiled for {chip}", tuple(steps_down)
            return OpenedSession(session, device, context, why, steps, session.assignment)
    session = QnnSession(path, target=chip, emulator=emulator, model=model)
    why = f"prepared for {chip or 'the chip in place'}"
    return OpenedSession(session, device, path, why, tuple(steps_down), session.assignment)


def _refuse_unusable(report: DeviceReport) -> None:
    if not report.usable:
        raise DeviceError(
            f"--device {report.name} cannot be used: {report.reason}", hint=report.hint
        )


def _cpu_report(processor: Processor) -> DeviceReport:
    from siglip_search.towers.qnn_chip import processor_features
    from siglip_search.towers.session_cpu import available_processors

    return DeviceReport(
        name="cpu",
        usable=True,
        chip=processor.description,
        threads=available_processors(),
        features=processor_features(),
    )


def _npu_report(device: NpuKind, processor: Processor, *, target: Target | None) -> DeviceReport:
    chip = _target(device, processor, target)
    if device == "npu":
        arch, title, notice = "arm64", processor.description, ""
        where = "a Qualcomm NPU is in arm64 machines"
        elsewhere = "Use --device cpu; --device npu-emulator runs the NPU's code on x86-64."
        if sys.platform == "win32":  # where a Python for x86-64 runs on arm64 too
            elsewhere += " On a Snapdragon machine install Python for arm64."
    else:
        arch, notice = "x86-64", EMULATOR_NOTICE
        title = next((known.title for known in CHIPS.values() if known.target == chip), str(chip))
        where = "the emulator is for x86-64"
        elsewhere = "Use --device cpu."
    report = DeviceReport(device, False, notice=notice)
    if sys.platform not in {"linux", "win32"} or processor.arch != arch:
        reason = f"{where} under Linux or Windows; this is {processor.arch} under {sys.platform}"
        return replace(report, reason=reason, hint=elsewhere)
    report = replace(report, chip=title, target=None if chip is None else chip.name)
    if not is_installed():
        return replace(report, reason=f"{PACKAGE} is not installed", hint=INSTALL_HINT)
    from siglip_search.towers.device_probe import probe

    found = probe(device, chip)
    if not found.usable:
        hint = f"Update the driver and {PACKAGE}, or use --device cpu."
        return replace(report, reason=found.reason, hint=hint, hardware=found.hardware)
    return replace(report, usable=True, hardware=found.hardware)


def _target(device: NpuKind, processor: Processor, asked_for: Target | None) -> Target | None:
    if asked_for is not None:
        return asked_for
    return DEFAULT_TARGET if device == "npu-emulator" else processor.target
