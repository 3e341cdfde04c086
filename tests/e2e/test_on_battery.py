"""The command on a laptop whose charger is pulled and put back: real processes, made-up /sys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from installed_command import CommandLine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stands in for Linux' /sys")

# The command itself, with another folder for /sys.
MAIN = """
import sys
from functools import partial
from pathlib import Path
from siglip_search.engine import indexing, machine_state
indexing.read_machine = partial(machine_state.read_machine, Path(sys.argv.pop(1)))
from siglip_search.cli import main
main()
"""


class Laptop:
    """A folder that says what /sys says on a laptop."""

    def __init__(self, system: Path) -> None:
        self.system = system
        self._supplies = system / "class" / "power_supply"
        for name, kind in (("AC", "Mains"), ("BAT0", "Battery")):
            (self._supplies / name).mkdir(parents=True)
            (self._supplies / name / "type").write_text(f"{kind}\n")
        self.set(charger=True, percent=80)

    def set(self, *, charger: bool, percent: int) -> None:
        (self._supplies / "BAT0" / "capacity").write_text(f"{percent}\n")
        (self._supplies / "BAT0" / "status").write_text("Charging" if charger else "Discharging")
        (self._supplies / "AC" / "online").write_text(f"{int(charger)}\n")


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path / "sys")


def start(cli: CommandLine, laptop: Laptop, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, laptop.system, *arguments],
        env=cli.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Heard:
    """What a command says on stderr, as it says it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self._process = process
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip())

    def end(self) -> None:
        self._process.kill()
        self._thread.join()
        self._process.communicate()

    def wait_for(self, words: str) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for line in self.lines:
                if words in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(self.lines)


@pytest.fixture
def paused(
    cli: CommandLine,
    laptop: Laptop,
    pictures: Path,
    cleanup: Callable[[Callable[[], object]], None],
) -> tuple[subprocess.Popen[str], Heard]:
    laptop.set(charger=False, percent=55)
    process = start(
        cli, laptop, "index", "--model", "demo", "--on-battery", "pause", "--json", pictures
    )
    heard = Heard(process)
    cleanup(heard.end)
    assert heard.wait_for("paused") == (
        "on battery (55%): paused until a charger is connected; --on-battery run goes on"
    )
    return process, heard


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stdout is not None
    out = process.stdout.read()
    return process.wait(60), out


def test_paused_until_the_charger_is_back(
    cli: CommandLine, laptop: Laptop, paused: tuple[subprocess.Popen[str], Heard]
) -> None:
    process, heard = paused
    time.sleep(1.5)
    assert process.poll() is None
    assert cli.status()["pictures"] == 0
    laptop.set(charger=True, percent=55)
    plugged_in = time.monotonic()
    heard.wait_for("going on at full speed")
    assert time.monotonic() - plugged_in < 3
    status, out = finish(process)
    assert (status, json.loads(out)["added"]) == (0, 12)
    assert sum("paused" in line for line in heard.lines) == 1


def test_a_stop_signal_ends_a_pause(paused: tuple[subprocess.Popen[str], Heard]) -> None:
    process, _ = paused
    started = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    status, out = finish(process)
    assert (status, json.loads(out)["pending"]) == (130, 12)
    assert time.monotonic() - started < 5


def test_slow_on_battery_finishes_and_says_so(
    cli: CommandLine, laptop: Laptop, pictures: Path
) -> None:
    laptop.set(charger=False, percent=55)
    process = start(cli, laptop, "index", "--model", "demo", "--jobs", "2", "--json", pictures)
    out, error = process.communicate(timeout=60)
    assert json.loads(out)["added"] == 12
    assert "on battery (55%): 1 picture at a time; --on-battery run goes on at full" in error


def test_the_setting_decides_and_the_option_wins(
    cli: CommandLine, laptop: Laptop, pictures: Path, isolated_home: Path
) -> None:
    laptop.set(charger=False, percent=5)
    settings = isolated_home / "config" / "siglip-search" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('on_battery = "pause"\n')
    process = start(
        cli, laptop, "index", "--model", "demo", "--on-battery", "run", "--json", pictures
    )
    out, error = process.communicate(timeout=60)
    assert json.loads(out)["added"] == 12
    assert "battery" not in error
