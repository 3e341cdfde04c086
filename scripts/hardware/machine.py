"""What the operating system tells: system, memory of a process, power drawn from a battery."""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

_SUPPLIES = Path("/sys/class/power_supply")
_MEMINFO = Path("/proc/meminfo")


def system() -> str:
    """Return the operating system with its version."""
    return f"{platform.system()} {platform.release()} ({platform.machine()})"


def memory_gb() -> str:
    """Return the machine's memory, "not told" where that takes more than reading a file."""
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemTotal:"):
                return f"{int(line.split()[1]) / 1e6:.1f} GB"
    except OSError:
        pass
    return "not told"


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    if sys.platform == "win32":
        return _windows_peak_bytes()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _ProcessMemoryCounters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of psapi.h."""

    _fields_ = [
        ("size", ctypes.c_ulong),
        ("page_faults", ctypes.c_ulong),
        ("peak_working_set", ctypes.c_size_t),
        *[(f"other_{number}", ctypes.c_size_t) for number in range(7)],
    ]


def _windows_peak_bytes() -> int:
    counters = _ProcessMemoryCounters(size=ctypes.sizeof(_ProcessMemoryCounters))
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]  # Windows only
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.K32GetProcessMemoryInfo.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_ProcessMemoryCounters),
        ctypes.c_ulong,
    ]
    if not kernel.K32GetProcessMemoryInfo(
        kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size
    ):
        raise OSError("Windows does not tell the memory of this process")
    return int(counters.peak_working_set)


def battery_watts() -> float | None:
    """Return what the machine draws from its battery now; None if it draws nothing or does not say.

    Of the whole machine, by Linux (power_now in µW, or current_now in µA and voltage_now in µV).
    """
    for supply in sorted(_SUPPLIES.glob("*")):
        try:
            if (supply / "status").read_text(encoding="ascii").strip() != "Discharging":
                continue
            if (supply / "power_now").exists():
                return int((supply / "power_now").read_text()) / 1e6
            current = int((supply / "current_now").read_text())
            return current * int((supply / "voltage_now").read_text()) / 1e12
        except (OSError, ValueError):
            continue
    return None
