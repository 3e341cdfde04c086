"""A launchd agent of macOS; the keys are described in launchd.plist(5)."""

from __future__ import annotations

import os
import plistlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from siglip_search.errors import ServiceError
from siglip_search.service.programs import Step, run_program
from siglip_search.service.units import BASE_NAME, Unit, UnitState, seal_line, sealed

if TYPE_CHECKING:
    from siglip_search.service.programs import Outcome

# "state = running", "pid = 123", "last exit code = 0" of `launchctl print`, which its manual calls
# no interface: what is not found there is unknown.
_STATE: Final = re.compile(r"^\s*state = (.+)$", re.MULTILINE)
_PID: Final = re.compile(r"^\s*pid = (\d+)$", re.MULTILINE)
_EXIT: Final = re.compile(r"^\s*last exit code = (-?\d+)", re.MULTILINE)


class Launchd:
    """The launchd of this user's session."""

    title = "launchd"
    asks_to_end = True

    def check(self) -> None:
        """Raise ServiceError where nobody is logged in at the screen."""
        asked = run_program(("launchctl", "print", _domain()))
        if asked.status != 0:
            raise ServiceError(
                f"launchd has no session of this user ({asked.complaint})",
                hint="Log in at the screen first, or run `siglip-search watch` in the foreground.",
            )

    def file(self, unit: Unit) -> Path:
        """Return the path of the agent's property list."""
        return Path("~/Library/LaunchAgents").expanduser() / f"{unit.name}.plist"

    def definition(self, unit: Unit) -> bytes:
        """Return the agent's property list.

        Raises:
            ServiceError: A path in it is no text.
        """
        errors = str(_errors_file(unit))
        agent: dict[str, object] = {
            "Label": unit.name,
            # The file below has no end: what the log proper says need not be there as well.
            "ProgramArguments": [*unit.command, "--quiet"],
            "RunAtLoad": True,
            # Started again unless it ended as it was asked to.
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 30,
            "ExitTimeOut": 90,
            "ProcessType": "Background",
            "LowPriorityIO": True,
            "LowPriorityBackgroundIO": True,
            "Nice": 10,
            # The log proper rotates, in the library's folder; this is for what comes before it.
            "StandardErrorPath": errors,
            "StandardOutPath": errors,
        }
        if unit.environment:
            agent["EnvironmentVariables"] = dict(unit.environment)
        try:
            text = plistlib.dumps(agent, sort_keys=False).decode()
        except (ValueError, UnicodeEncodeError):
            raise ServiceError(
                f"the library's path {str(unit.library)!r}, or the program's, cannot stand in a "
                "property list",
                hint="Give the folder a name without control characters.",
            ) from None
        declaration, rest = text.split("\n", 1)
        return sealed(f"{declaration}\n<!-- {seal_line()} -->\n{rest}").encode()

    def folders(self, unit: Unit) -> tuple[Path, ...]:
        """Return the log's folder, which launchd does not make."""
        return (_errors_file(unit).parent,)

    def install_steps(self, unit: Unit, *, changed: bool) -> tuple[Step, ...]:
        """Return what makes launchd load it; RunAtLoad starts it."""
        load = (
            # One that was disabled once is refused by bootstrap.
            _launchctl("enable", _target(unit)),
            _launchctl("bootstrap", _domain(), str(self.file(unit)), may_fail=not changed),
        )
        if changed:
            return (_launchctl("bootout", _target(unit), may_fail=True), *load)
        return (*load, _launchctl("kickstart", _target(unit)))

    def steps_before_removal(self, unit: Unit) -> tuple[Step, ...]:
        """Return what stops it and makes launchd forget it."""
        return (_launchctl("bootout", _target(unit), may_fail=True),)

    def steps_after_removal(self, unit: Unit) -> tuple[Step, ...]:
        """Return nothing: it is forgotten already."""
        del unit
        return ()

    def start_steps(self, unit: Unit) -> tuple[Step, ...]:
        """Return what starts it."""
        return (_launchctl("kickstart", _target(unit)),)

    def stop_steps(self, unit: Unit) -> tuple[Step, ...]:
        """Return what asks it to end; having ended well, it stays down until the next login."""
        return (_launchctl("kill", "SIGTERM", _target(unit)),)

    def state(self, unit: Unit) -> UnitState:
        """Ask launchd how it is."""
        told = run_program(("launchctl", "print", _target(unit)))
        if told.status != 0:
            return UnitState(installed=self.file(unit).exists(), enabled=False, detail="not loaded")
        disabled = run_program(("launchctl", "print-disabled", _domain()))
        pid = int(found[1]) if (found := _PID.search(told.output)) else None
        ended = None if pid else _EXIT.search(told.output)
        state = _STATE.search(told.output)
        return UnitState(
            installed=True,
            enabled=_is_enabled(unit, disabled),
            running=pid is not None,
            pid=pid,
            since=_started_at(pid),
            exit_status=int(ended[1]) if ended else None,
            detail=state[1].strip() if state else "",
        )

    def log_command(self, unit: Unit, *, lines: int, follow: bool) -> tuple[str, ...] | None:
        """Return None: the daemon's own file is the log."""
        del unit, lines, follow
        return None

    def advice(self, unit: Unit) -> tuple[str, ...]:
        """Say what macOS asks of the user."""
        return (
            "It runs while you are logged in. If its folders look empty to it, give Python full "
            "disk access: System Settings, Privacy & Security.",
            f"What it says before its log is open goes to {_errors_file(unit)}",
        )


def _is_enabled(unit: Unit, told: Outcome) -> bool | None:
    if told.status != 0:
        return None
    # Older versions say "true" (it is disabled), newer ones "disabled".
    pattern = rf'"{re.escape(unit.name)}" => (disabled|true)\b'
    return re.search(pattern, told.output) is None


def _started_at(pid: int | None) -> float | None:
    if pid is None:
        return None
    import psutil  # a dependency everywhere but on Linux

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:  # it ended just now
        return None


def _errors_file(unit: Unit) -> Path:
    return platformdirs.user_log_path(BASE_NAME, appauthor=False) / f"{unit.name}.stderr.log"


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _target(unit: Unit) -> str:
    return f"{_domain()}/{unit.name}"


def _launchctl(*words: str, may_fail: bool = False) -> Step:
    return Step(("launchctl", *words), may_fail=may_fail)
