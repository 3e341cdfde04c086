"""Battery, heat and free memory of this machine.

Linux tells them in files, read here: psutil takes a battery of a wireless mouse for the laptop's,
and knows nothing of a container's limits. macOS and Windows are asked through psutil; what their
sensors say of heat they keep from ordinary programs, and slow down by themselves.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_search.ingest.pace import MachineReading

if TYPE_CHECKING:
    from collections.abc import Iterator

# Kernel zones that stand for the processor or the case; a disk's or a radio's heat is none of ours.
_PROCESSOR_ZONES = ("acpitz", "cpu", "pkg", "soc")
_PROCESSOR_SENSORS = ("coretemp", "k10temp", "zenpower")

MILLI = 1000.0


def read_machine(system: Path = Path("/sys")) -> MachineReading:
    """Return what the machine says of its battery and its heat.

    Args:
        system: Where Linux shows its devices.
    """
    if sys.platform == "linux":
        on_battery, percent = _linux_battery(system / "class" / "power_supply")
        return MachineReading(on_battery, percent, _linux_degrees_to_critical(system / "class"))
    import psutil

    battery = psutil.sensors_battery()
    if battery is None:
        return MachineReading()
    # power_plugged is None where the system does not know.
    return MachineReading(battery.power_plugged is False, float(battery.percent))


def available_memory(
    processes: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return how many bytes could be used now without pushing anything out; None if unknown.

    Args:
        processes: Where Linux shows its processes.
        groups: Where Linux shows its control groups, version 2; a container's limit is there.
    """
    if sys.platform != "linux":
        import psutil

        return int(psutil.virtual_memory().available)
    free = _memory_available(processes / "meminfo")
    limits = [_left_in(group) for group in _own_groups(processes, groups)]
    # A limit that is used up leaves 0, which is the tightest of all.
    return min((limit for limit in (free, *limits) if limit is not None), default=None)


def _linux_battery(supplies: Path) -> tuple[bool, float | None]:
    """Return whether the machine runs on its battery, and the charge in percent.

    The files are described in the kernel's Documentation/ABI/testing/sysfs-class-power.
    """
    is_charger_there = False
    is_discharging = False
    charges = []
    for supply in _entries(supplies):
        # "Device" is the battery of a mouse, a headset, a pen.
        if _text(supply / "scope") == "Device":
            continue
        if _text(supply / "type") != "Battery":
            is_charger_there |= _number(supply / "online") == 1
            continue
        is_discharging |= _text(supply / "status") == "Discharging"
        charge = _number(supply / "capacity")
        if charge is not None:
            charges.append(charge)
    # A charger too weak for the load leaves the battery discharging: that is not "on battery".
    percent = sum(charges) / len(charges) if charges else None
    return is_discharging and not is_charger_there, percent


def _linux_degrees_to_critical(classes: Path) -> float | None:
    margins = [*_zone_margins(classes / "thermal"), *_sensor_margins(classes / "hwmon")]
    return min(margins, default=None)


def _zone_margins(zones: Path) -> Iterator[float]:
    for zone in _entries(zones):
        kind = _text(zone / "type").lower()
        temperature = _number(zone / "temp")
        if temperature is None or not any(word in kind for word in _PROCESSOR_ZONES):
            continue
        for trip in zone.glob("trip_point_*_type"):
            critical = _number(trip.with_name(trip.name.replace("_type", "_temp")))
            # Firmware that has no such point says 0 or less.
            if _text(trip) == "critical" and critical is not None and critical > 0:
                yield (critical - temperature) / MILLI


def _sensor_margins(sensors: Path) -> Iterator[float]:
    for sensor in _entries(sensors):
        if _text(sensor / "name") not in _PROCESSOR_SENSORS:
            continue
        for file in sensor.glob("temp*_input"):
            temperature = _number(file)
            critical = _number(file.with_name(file.name.replace("_input", "_crit")))
            if temperature is not None and critical is not None and critical > 0:
                yield (critical - temperature) / MILLI


def _memory_available(meminfo: Path) -> int | None:
    for line in _text(meminfo).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _own_groups(processes: Path, groups: Path) -> Iterator[Path]:
    """Yield this process's control group and those around it: the tightest limit counts."""
    for line in _text(processes / "self" / "cgroup").splitlines():
        if line.startswith("0::"):
            own = groups / line.removeprefix("0::").lstrip("/")
            yield own
            yield from (group for group in own.parents if group.is_relative_to(groups))


def _left_in(group: Path) -> int | None:
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is None or used is None:  # "max", or no such file
        return None
    # What is only cached of files is given up when it is needed.
    cached = 0
    for line in _text(group / "memory.stat").splitlines():
        if line.startswith("inactive_file "):
            cached = int(line.split()[1])
    return max(0, int(limit - used + cached))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    """Return what a file of the kernel says, without the line's end; "" where it does not answer.

    A battery that is being taken out, or a sensor that sleeps, fails to be read now and then.
    """
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> float | None:
    try:
        return float(_text(file))
    except ValueError:
        return None
