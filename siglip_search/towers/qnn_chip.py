"""What this machine's processor is called, without loading any driver."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from siglip_search.towers.qnn_target import CHIPS, target_named_by

if TYPE_CHECKING:
    from siglip_search.towers.qnn_target import Target

_DEVICE_TREE: Final = Path("/proc/device-tree/compatible")
_CPUINFO: Final = Path("/proc/cpuinfo")
_REGISTRY_KEY: Final = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"

# Instructions that quantised and half-precision towers gain from, as Linux names them.
_TELLING_FEATURES: Final = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
)


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor of this machine.

    Attributes:
        description: What the system calls it; "" if it says nothing.
        arch: "x86-64", "arm64", or what the system says.
        target: The Qualcomm chip that it is, if it is a known one.
    """

    description: str
    arch: str
    target: Target | None


def this_processor() -> Processor:
    """Return what the system tells of its processor."""
    machine = platform.machine().lower()
    arch = {"amd64": "x86-64", "x86_64": "x86-64", "aarch64": "arm64"}.get(machine, machine)
    description = _described()
    target = target_named_by(description) if arch == "arm64" else None
    title = next((chip.title for chip in CHIPS.values() if chip.target == target), None)
    return Processor(title or description, arch, target)


def processor_features() -> tuple[str, ...]:
    """Return those of its instructions that speed towers up, as far as that costs nothing to know.

    Linux lists them in a file; elsewhere the answer is empty.
    """
    flags: set[str] = set()
    for line in _lines(_CPUINFO):
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            flags.update(value.split())
            break
    return tuple(feature for feature in _TELLING_FEATURES if feature in flags)


def _described() -> str:
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _REGISTRY_KEY) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    try:
        # The board's name comes first, the chip's last.
        return " ".join(_DEVICE_TREE.read_text(encoding="ascii", errors="replace").split("\0"))
    except OSError:
        pass
    for line in _lines(_CPUINFO):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
