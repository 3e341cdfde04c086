"""Is this Python made for another processor than this machine's, and emulated?

An x86-64 Python runs on ARM machines, slowly, without ARM's instructions for small numbers and
without the NPU. Each system tells in another way: Windows by IsWow64Process2 (whose native machine
is ARM64 for an emulated x86-64 process too), macOS by the sysctl `sysctl.proc_translated` (Apple's
"About the Rosetta translation environment"), Linux by no call: what emulates a process there shows
in /proc/cpuinfo, or in what binfmt_misc has registered.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

_IMAGE_FILE_MACHINE_ARM64 = 0xAA64
_X86_64_INTERPRETER = re.compile(r"qemu-x86_64|rosetta|fex-x86_64|box64", re.IGNORECASE)
_SYSCTL_SECONDS = 5.0


def emulated_on_arm(processes: Path = Path("/proc")) -> str | None:
    """Return how it is known that this x86-64 Python runs on an ARM machine; None if it does not.

    Args:
        processes: Where Linux shows its processes.
    """
    if not is_made_for_x86_64(sysconfig.get_platform()):
        return None
    if sys.platform == "win32":
        return "Windows says that the machine is ARM64" if _windows_is_arm() else None
    if sys.platform == "darwin":
        return "it runs under Rosetta" if _runs_under_rosetta() else None
    return emulated_on_linux(processes)


def is_made_for_x86_64(build: str) -> bool:
    """Tell whether a Python of this build has x86-64 code.

    Args:
        build: What `sysconfig.get_platform` says: "win-amd64", "macosx-11.0-universal2".
    """
    # A universal Python has both halves; which of them runs, only Rosetta's flag tells.
    return build.endswith(("amd64", "x86_64", "universal2"))


def emulated_on_linux(processes: Path) -> str | None:
    """Return what in /proc shows that x86-64 code is emulated; None where nothing does."""
    cpuinfo = _text(processes / "cpuinfo")
    if re.search(r"^CPU implementer\s*:", cpuinfo, re.MULTILINE):
        return "/proc/cpuinfo describes an ARM processor"
    if "VirtualApple" in cpuinfo:
        return "/proc/cpuinfo names VirtualApple: it runs under Rosetta"
    registered = processes / "sys" / "fs" / "binfmt_misc"
    try:
        names = sorted(entry.name for entry in registered.iterdir())
    except OSError:
        return None
    # Nobody registers an emulator of the processor that the machine has.
    for name in names:
        if _X86_64_INTERPRETER.search(name) and _text(registered / name).startswith("enabled"):
            return f"binfmt_misc runs x86-64 programs by {name}"
    return None


def _windows_is_arm() -> bool:
    if sys.platform != "win32":
        return False
    import ctypes

    kernel = ctypes.WinDLL("kernel32")
    if not hasattr(kernel, "IsWow64Process2"):  # Windows before 1709, which no such machine runs
        return False
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process_machine, native_machine = ctypes.c_ushort(), ctypes.c_ushort()
    answered = kernel.IsWow64Process2(
        ctypes.c_void_p(kernel.GetCurrentProcess()),
        ctypes.byref(process_machine),
        ctypes.byref(native_machine),
    )
    return bool(answered) and native_machine.value == _IMAGE_FILE_MACHINE_ARM64


def _runs_under_rosetta() -> bool:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "sysctl.proc_translated"],
            capture_output=True,
            check=False,
            timeout=_SYSCTL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout.strip() == b"1"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
