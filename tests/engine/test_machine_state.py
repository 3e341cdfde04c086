"""What Linux' files say of battery, heat and memory, read from trees made for the test."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from siglip_search.engine.machine_state import available_memory, read_machine
from siglip_search.ingest.pace import MachineReading

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' files")


def write(folder: Path, **texts: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text + "\n")


@pytest.fixture
def supplies(tmp_path: Path) -> Path:
    return tmp_path / "class" / "power_supply"


def test_a_machine_without_any_of_it(tmp_path: Path) -> None:
    assert read_machine(tmp_path) == MachineReading()


def test_this_machine_answers() -> None:
    read_machine()
    assert (available_memory() or 0) > 2**20


@pytest.mark.parametrize(
    ("status", "online", "on_battery"),
    [
        ("Discharging", "0", True),
        ("Charging", "1", False),
        ("Full", "1", False),
        ("Not charging", "0", False),  # a charge threshold holds it
        ("Discharging", "1", False),  # the charger is too weak for the load
    ],
)
def test_battery_and_charger(
    tmp_path: Path, supplies: Path, status: str, online: str, on_battery: bool
) -> None:
    write(supplies / "AC", type="Mains", online=online)
    write(supplies / "BAT0", type="Battery", status=status, capacity="64")
    assert read_machine(tmp_path) == MachineReading(on_battery, 64.0)


def test_a_charger_by_usb_counts(tmp_path: Path, supplies: Path) -> None:
    write(supplies / "ucsi-source-psy-USBC000:001", type="USB", online="1")
    write(supplies / "BAT0", type="Battery", status="Discharging", capacity="64")
    assert not read_machine(tmp_path).on_battery


def test_the_battery_of_a_mouse_is_not_the_machines(tmp_path: Path, supplies: Path) -> None:
    write(
        supplies / "hidpp_battery_0",
        type="Battery",
        scope="Device",
        status="Discharging",
        capacity="7",
    )
    assert read_machine(tmp_path) == MachineReading()


def test_two_batteries(tmp_path: Path, supplies: Path) -> None:
    write(supplies / "BAT0", type="Battery", status="Not charging", capacity="10")
    write(supplies / "BAT1", type="Battery", status="Discharging", capacity="80")
    assert read_machine(tmp_path) == MachineReading(True, 45.0)


def test_a_battery_that_cannot_be_read_is_left_out(tmp_path: Path, supplies: Path) -> None:
    write(supplies / "BAT0", type="Battery", capacity="not a number")
    assert read_machine(tmp_path) == MachineReading()


def test_the_hottest_sensor_of_the_processor_counts(tmp_path: Path) -> None:
    thermal, sensors = tmp_path / "class" / "thermal", tmp_path / "class" / "hwmon"
    write(
        thermal / "thermal_zone0",
        type="acpitz",
        temp="60000",
        trip_point_0_type="passive",
        trip_point_0_temp="65000",
        trip_point_1_type="critical",
        trip_point_1_temp="105000",
    )
    write(
        thermal / "thermal_zone1",
        type="cpu0-thermal",
        temp="40000",
        trip_point_0_type="critical",
        trip_point_0_temp="-274000",
    )
    assert read_machine(tmp_path).degrees_to_critical == 45.0
    write(sensors / "hwmon0", name="nvme", temp1_input="80000", temp1_crit="81000")
    write(sensors / "hwmon1", name="coretemp", temp1_input="94000", temp1_crit="100000")
    write(sensors / "hwmon1", temp2_input="91000", temp2_crit="100000")
    assert read_machine(tmp_path).degrees_to_critical == 6.0


def test_memory_is_what_the_tightest_group_leaves(tmp_path: Path) -> None:
    processes, groups = tmp_path / "proc", tmp_path / "cgroup"
    write(processes, meminfo="MemTotal: 8000 kB\nMemAvailable:    4000 kB")
    write(processes / "self", cgroup="0::/user.slice/app")
    assert available_memory(processes, groups) == 4000 * 1024
    write(groups / "user.slice", **{"memory.max": "max", "memory.current": "5"})
    write(
        groups / "user.slice" / "app",
        **{
            "memory.max": "2000000",
            "memory.current": "1500000",
            "memory.stat": "anon 1100000\ninactive_file 400000",
        },
    )
    assert available_memory(processes, groups) == 900_000
    write(groups / "user.slice", **{"memory.max": "600000", "memory.current": "500000"})
    assert available_memory(processes, groups) == 100_000


def test_memory_that_nothing_tells_is_unknown(tmp_path: Path) -> None:
    assert available_memory(tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("percent", "plugged_in", "expected"),
    [
        (41, False, MachineReading(True, 41.0)),
        (41, True, MachineReading(False, 41.0)),
        (41, None, MachineReading(False, 41.0)),
    ],
)
def test_other_systems_are_asked_through_psutil(
    monkeypatch: pytest.MonkeyPatch,
    percent: float,
    plugged_in: bool | None,
    expected: MachineReading,
) -> None:
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert (available_memory() or 0) > 2**20
    answer = SimpleNamespace(percent=percent, secsleft=-1, power_plugged=plugged_in)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: answer)
    assert read_machine() == expected
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None)
    assert read_machine() == MachineReading()


def test_a_containers_limit_that_is_used_up_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "proc", meminfo="MemAvailable:  8000000 kB")
    write(tmp_path / "proc" / "self", cgroup="0::/")
    write(tmp_path / "groups", **{"memory.max": "500000", "memory.current": "500000"})
    assert available_memory(tmp_path / "proc", tmp_path / "groups") == 0
