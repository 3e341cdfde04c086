"""What the operating system tells: what it is, its memory, power drawn from a battery."""

from __future__ import annotations

import platform
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
