"""A scheduled task of Windows, in the Task Scheduler's XML of version 1.2.

The schema is published with the Task Scheduler's reference ("Task Scheduler Schema"). Most of its
elements may stand in any order; those of a trigger, and of its repetition, may not.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from siglip_search.errors import ServiceError
from siglip_search.service.programs import NOT_FOUND, Step, run_program
from siglip_search.service.units import DESCRIPTION, Unit, UnitState, seal_line, sealed
from siglip_search.settings import data_directory

NAMESPACE: Final = "http://schemas.microsoft.com/windows/2004/02/mit/task"

_FOLDER: Final = "siglip-search"
"""Folder in the Task Scheduler's library."""

_SETTINGS: Final = (
    ("MultipleInstancesPolicy", "IgnoreNew"),
    # Work on battery is the daemon's own matter (`on_battery`): it slows down or pauses.
    ("DisallowStartIfOnBatteries", "false"),
    ("StopIfGoingOnBatteries", "false"),
    ("AllowHardTerminate", "true"),
    ("StartWhenAvailable", "true"),
    ("RunOnlyIfNetworkAvailable", "false"),
    ("AllowStartOnDemand", "true"),
    ("Enabled", "true"),
    ("Hidden", "true"),
    ("RunOnlyIfIdle", "false"),
    ("WakeToRun", "false"),
    # No time limit; three days is the default.
    ("ExecutionTimeLimit", "PT0S"),
    # Below normal, for memory and disk as well.
    ("Priority", "7"),
)

# A column of `schtasks /Query /FO CSV /V`: names and words there follow the system's language.
_LAST_RESULT_COLUMN: Final = 6

# winerror.h, SCHED_S_TASK_...
_RUNNING, _HAS_NOT_RUN, _TERMINATED = 0x41301, 0x41303, 0x41306

_DISABLED: Final = re.compile(r"<Settings>.*?<Enabled>\s*false\s*</Enabled>", re.DOTALL)


class TaskScheduler:
    """The Task Scheduler of Windows."""

    title = "the Task Scheduler"
    asks_to_end = False

    def check(self) -> None:
        """Raise ServiceError where there is no Task Scheduler."""
        if run_program(("schtasks", "/Query", "/?")).status == NOT_FOUND:
            raise ServiceError(
                "there is no Task Scheduler on this system",
                hint="`siglip-search watch` does the same in the foreground.",
            )

    def file(self, unit: Unit) -> Path:
        """Return the path of the XML file from which the task is made."""
        return data_directory() / "services" / f"{unit.name}.xml"

    def definition(self, unit: Unit) -> bytes:
        """Return the task's XML: UTF-16, as the Task Scheduler itself writes it.

        Raises:
            ServiceError: A path in it is no text.
        """
        task = ET.Element("Task", {"version": "1.2", "xmlns": NAMESPACE})
        _add(task, "RegistrationInfo", ("Description", DESCRIPTION))
        trigger = ET.SubElement(_add(task, "Triggers"), "LogonTrigger")
        _text(trigger, "Enabled", "true")
        # A program that ends with an error is no failure to the Task Scheduler, which starts again
        # only what it could not start. So it is started every ten minutes unless it runs.
        _add(trigger, "Repetition", ("Interval", "PT10M"), ("StopAtDurationEnd", "false"))
        # Without a user it is everyone's logon, which only an administrator may register.
        _text(trigger, "UserId", _user())
        principal = _add(
            _add(task, "Principals"),
            "Principal",
            ("UserId", _user()),
            ("LogonType", "InteractiveToken"),
            ("RunLevel", "LeastPrivilege"),
        )
        principal.set("id", "Author")
        settings = _add(task, "Settings", *_SETTINGS)
        _add(settings, "RestartOnFailure", ("Interval", "PT1M"), ("Count", "5"))
        actions = _add(task, "Actions")
        actions.set("Context", "Author")
        program, *arguments = unit.command
        _add(
            actions,
            "Exec",
            ("Command", _without_window(program)),
            ("Arguments", subprocess.list2cmdline(arguments)),
        )
        ET.indent(task)
        body = ET.tostring(task, encoding="unicode")
        declaration = '<?xml version="1.0" encoding="UTF-16"?>'
        text = sealed(f"{declaration}\n<!-- {seal_line()} -->\n{body}\n")
        try:
            return text.replace("\n", "\r\n").encode("utf-16")
        except UnicodeEncodeError:
            raise ServiceError(
                f"the library's path {str(unit.library)!r} cannot stand in a task",
                hint="Give the folder a name that is text.",
            ) from None

    def folders(self, unit: Unit) -> tuple[Path, ...]:
        """Return no folders: the daemon makes that of its log."""
        del unit
        return ()

    def install_steps(self, unit: Unit, *, changed: bool) -> tuple[Step, ...]:
        """Return what registers and starts it."""
        create = Step(("schtasks", "/Create", "/F", *_task(unit), "/XML", str(self.file(unit))))
        # A new definition holds from the next start on.
        end = (Step(("schtasks", "/End", *_task(unit)), may_fail=True),) if changed else ()
        return (*end, create, Step(("schtasks", "/Run", *_task(unit))))

    def steps_before_removal(self, unit: Unit) -> tuple[Step, ...]:
        """Return what stops and deletes the task."""
        return (
            Step(("schtasks", "/End", *_task(unit)), may_fail=True),
            Step(("schtasks", "/Delete", "/F", *_task(unit)), may_fail=True),
        )

    def steps_after_removal(self, unit: Unit) -> tuple[Step, ...]:
        """Return nothing: it is forgotten already."""
        del unit
        return ()

    def start_steps(self, unit: Unit) -> tuple[Step, ...]:
        """Return what starts it, and lets it start by itself."""
        return (
            Step(("schtasks", "/Change", *_task(unit), "/ENABLE")),
            Step(("schtasks", "/Run", *_task(unit))),
        )

    def stop_steps(self, unit: Unit) -> tuple[Step, ...]:
        """Return what ends it, and keeps the repetition from starting it again.

        A process that has not ended by then is ended at once: pictures in work are read again, what
        is committed stays.
        """
        return (
            Step(("schtasks", "/Change", *_task(unit), "/DISABLE")),
            Step(("schtasks", "/End", *_task(unit)), may_fail=True),
        )

    def state(self, unit: Unit) -> UnitState:
        """Ask the Task Scheduler how it is; it does not tell the process."""
        told = run_program(("schtasks", "/Query", *_task(unit), "/FO", "CSV", "/V", "/NH"))
        if told.status != 0:
            return UnitState(installed=False, detail="no such task")
        definition = run_program(("schtasks", "/Query", *_task(unit), "/XML"))
        result = _last_result(told.output)
        is_over = result not in {None, _RUNNING, _HAS_NOT_RUN, _TERMINATED}
        return UnitState(
            installed=True,
            enabled=_DISABLED.search(definition.output) is None,
            running=result == _RUNNING,
            exit_status=result if is_over else None,
            detail="ended by the Task Scheduler" if result == _TERMINATED else "",
        )

    def log_command(self, unit: Unit, *, lines: int, follow: bool) -> tuple[str, ...] | None:
        """Return None: the daemon's own file is the log."""
        del unit, lines, follow
        return None

    def advice(self, unit: Unit) -> tuple[str, ...]:
        """Say when it runs."""
        del unit
        return ("It starts when you log on, and again within ten minutes should it end.",)


def _add(parent: ET.Element, name: str, *texts: tuple[str, str]) -> ET.Element:
    element = ET.SubElement(parent, name)
    for child, text in texts:
        _text(element, child, text)
    return element


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = text


def _without_window(program: str) -> str:
    """Return the Python that opens no console window, where there is one beside this one."""
    python = Path(program)
    windowless = python.with_name(python.name.lower().replace("python", "pythonw", 1))
    return str(windowless) if windowless.exists() else program


def _user() -> str:
    domain, name = os.environ.get("USERDOMAIN", ""), os.environ.get("USERNAME", "")
    if not name:
        raise ServiceError(
            "Windows does not say who you are: USERNAME is not set", hint="Set it: set USERNAME=..."
        )
    return f"{domain}\\{name}" if domain else name


def _task(unit: Unit) -> tuple[str, str]:
    return "/TN", f"\\{_FOLDER}\\{unit.name}"


def _last_result(output: str) -> int | None:
    for row in csv.reader(output.splitlines()):
        if len(row) > _LAST_RESULT_COLUMN:
            try:
                return int(row[_LAST_RESULT_COLUMN])
            except ValueError:
                return None
    return None
