"""The files that install the service, held to what can read them here."""

from __future__ import annotations

import dataclasses
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from siglip_search.errors import ServiceError
from siglip_search.service.launchd import Launchd
from siglip_search.service.systemd import Systemd, command_line, quoted
from siglip_search.service.units import Unit, is_as_written, is_ours, sealed, unit_of
from siglip_search.service.windows_task import NAMESPACE, TaskScheduler
from siglip_search.settings import data_directory

# The order that the schema of version 1.2 demands. Source: Microsoft's reference "Task Scheduler
# Schema", triggerBaseType (xs:sequence) as extended by logonTriggerType (xs:sequence). taskType,
# settingsType, principalType, repetitionType and execActionType are xs:all: any order, each once.
LOGON_TRIGGER_ORDER = (
    *("Enabled", "StartBoundary", "EndBoundary", "Repetition", "ExecutionTimeLimit"),
    *("UserId", "Delay"),
)
TASK_CHILDREN = {"RegistrationInfo", "Triggers", "Settings", "Data", "Principals", "Actions"}
SETTINGS_CHILDREN = {
    *("AllowStartOnDemand", "RestartOnFailure", "MultipleInstancesPolicy"),
    *("DisallowStartIfOnBatteries", "StopIfGoingOnBatteries", "AllowHardTerminate"),
    *("StartWhenAvailable", "NetworkProfileName", "RunOnlyIfNetworkAvailable", "WakeToRun"),
    *("Enabled", "Hidden", "DeleteExpiredTaskAfter", "IdleSettings", "NetworkSettings"),
    *("ExecutionTimeLimit", "Priority", "RunOnlyIfIdle"),
}

ODD_PLACES = ["plain", "with space", "100% %h", "$HOME ${x}", "q\"u'o\\te", "é日本", "a;b #c"]


@pytest.fixture(autouse=True)
def windows_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERDOMAIN", "PC")
    monkeypatch.setenv("USERNAME", "someone")
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_default_library_has_the_plain_name() -> None:
    assert unit_of(data_directory() / "library").name == "siglip-search"


def test_each_library_has_a_service_of_its_own(tmp_path: Path) -> None:
    names = {unit_of(tmp_path / name).name for name in ("a", "b")}
    assert len(names) == 2
    assert all(name.startswith("siglip-search-") for name in names)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege there")
def test_library_has_one_service_by_whichever_path_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "link").symlink_to("library")
    assert unit_of(tmp_path / "link").name == unit_of(tmp_path / "library").name


def test_variables_that_decide_where_things_are_go_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data with space")
    monkeypatch.setenv("OTHER", "x")
    unit = unit_of(tmp_path)
    assert unit.environment == {"XDG_DATA_HOME": "/data with space"}
    assert b'Environment="XDG_DATA_HOME=/data with space"\n' in Systemd().definition(unit)
    agent = plistlib.loads(Launchd().definition(unit))
    assert agent["EnvironmentVariables"] == {"XDG_DATA_HOME": "/data with space"}


@pytest.mark.parametrize("supervisor", [Systemd(), Launchd(), TaskScheduler()])
def test_edited_file_is_told_from_one_as_written(
    supervisor: Systemd | Launchd | TaskScheduler, tmp_path: Path
) -> None:
    content = supervisor.definition(unit_of(tmp_path))
    assert is_as_written(content)
    encoding = "utf-16" if content.startswith(b"\xff\xfe") else "utf-8"
    text = content.decode(encoding)
    assert is_as_written(text.replace("\r\n", "\n").encode(encoding))  # line ends are no edit
    edited = text.replace("10", "11").encode(encoding)
    assert is_ours(edited)
    assert not is_as_written(edited)
    assert not is_ours(b"[Service]\nExecStart=/bin/true\n")


def test_text_without_the_seal_stays_as_it_is() -> None:
    assert sealed("[Unit]\n") == "[Unit]\n"


def verified(unit: Unit, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let systemd itself read the unit."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    file = folder / f"{unit.name}.service"
    file.write_bytes(Systemd().definition(unit))
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(file)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", ODD_PLACES)
def test_systemd_understands_every_line(name: str, tmp_path: Path) -> None:
    done = verified(unit_of(tmp_path / name), tmp_path)
    # An unknown directive is only a warning to it, and ends with 0.
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_systemd_would_tell_of_a_directive_that_it_does_not_know(tmp_path: Path) -> None:
    unit = unit_of(tmp_path)
    odd = dataclasses.replace(unit, environment={"A": 'b"\nNoSuchDirective=1\nEnvironment="C=d'})
    assert verified(odd, tmp_path).stderr == ""  # what is escaped adds no line
    file = tmp_path / "other.service"
    file.write_bytes(Systemd().definition(unit).replace(b"\nNice=", b"\nNoSuchDirective=1\nNice="))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(file)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "NoSuchDirective" in done.stderr


def test_every_directive_stands_in_the_section_that_systemd_reads_it_in(tmp_path: Path) -> None:
    sections: dict[str, set[str]] = {}
    section = ""
    for line in Systemd().definition(unit_of(tmp_path)).decode().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            sections.setdefault(section, set()).add(line.partition("=")[0])
    # man systemd.unit
    assert sections.pop("Unit") == {"Description", "StartLimitIntervalSec", "StartLimitBurst"}
    assert sections.pop("Install") == {"WantedBy"}
    # man systemd.service, systemd.exec, systemd.kill, systemd.resource-control
    assert sections.pop("Service") == {
        *("Type", "NotifyAccess", "ExecStart", "TimeoutStartSec", "WatchdogSec", "Restart"),
        *("RestartSec", "TimeoutStopSec", "SuccessExitStatus", "OOMPolicy"),
        *("LimitCORE", "Nice", "IOSchedulingClass", "IOSchedulingPriority", "OOMScoreAdjust"),
        *("NoNewPrivileges", "RestrictAddressFamilies", "SystemCallArchitectures"),
        *("SystemCallFilter", "SystemCallErrorNumber", "RestrictNamespaces", "RestrictRealtime"),
        *("RestrictSUIDSGID", "LockPersonality", "KillMode"),
        *("Slice", "CPUWeight", "IOWeight", "MemoryMax"),
    }
    assert not sections


def test_words_are_quoted_as_systemd_reads_them() -> None:
    assert quoted('a "b" %h \\ \n') == '"a \\"b\\" %%h \\\\ \\x0a"'
    assert command_line(("/bin/p", "a b")) == '"/bin/p" "a b"'
    assert command_line(("/bin/p", "$x")) == ':"/bin/p" "$x"'
    assert command_line(('/b"n/p', "x")) == (
        ':"/bin/sh" "-c" "exec \\"$0\\" \\"$@\\"" "/b\\"n/p" "x"'
    )


@pytest.mark.skipif(sys.platform != "linux", reason="paths elsewhere are text")
def test_path_that_is_no_text_is_refused_with_what_to_do() -> None:
    unit = unit_of(Path(os.fsdecode(b"/pictures/\xff")))
    for supervisor in (Systemd(), Launchd(), TaskScheduler()):
        with pytest.raises(ServiceError, match="udcff") as caught:
            supervisor.definition(unit)
        assert caught.value.hint


@pytest.mark.parametrize("name", [*ODD_PLACES, "<&>"])
def test_property_list_says_what_was_meant(name: str, tmp_path: Path) -> None:
    agent = plistlib.loads(Launchd().definition(unit_of(tmp_path / name)))
    assert agent["ProgramArguments"] == [
        *(sys.executable, "-P", "-m", "siglip_search", "watch"),
        *("--library", str(tmp_path / name)),
        "--quiet",  # nobody rotates the file that takes what is said
    ]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ProcessType"] == "Background"
    assert agent["LowPriorityIO"] is True
    assert agent["RunAtLoad"] is True
    assert Path(agent["StandardErrorPath"]).parent in Launchd().folders(unit_of(tmp_path / name))


def test_property_list_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="property list"):
        Launchd().definition(unit_of(tmp_path / "bell\a"))


def task(place: Path) -> ET.Element:
    content = TaskScheduler().definition(unit_of(place))
    assert content.startswith(b"\xff\xfe")  # the declaration says UTF-16
    return ET.fromstring(content)


def found(parent: ET.Element, *names: str) -> ET.Element:
    for name in names:
        child = parent.find(f"{{{NAMESPACE}}}{name}")
        assert child is not None, name
        parent = child
    return parent


def children(element: ET.Element) -> list[str]:
    names = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in element]
    assert len(names) == len(set(names))
    return names


@pytest.mark.parametrize("name", [*ODD_PLACES, "<&>"])
def test_task_is_what_the_schema_demands(name: str, tmp_path: Path) -> None:
    root = task(tmp_path / name)
    assert (root.tag, root.get("version")) == (f"{{{NAMESPACE}}}Task", "1.2")
    assert set(children(root)) <= TASK_CHILDREN
    assert set(children(found(root, "Settings"))) <= SETTINGS_CHILDREN
    trigger = children(found(root, "Triggers", "LogonTrigger"))
    assert trigger == sorted(trigger, key=LOGON_TRIGGER_ORDER.index)
    assert set(children(found(root, "Actions", "Exec"))) == {"Command", "Arguments"}
    principal = found(root, "Principals", "Principal")
    assert found(root, "Actions").get("Context") == principal.get("id")
    assert found(principal, "UserId").text == "PC\\someone"
    assert found(root, "Actions", "Exec", "Command").text == sys.executable
    arguments = found(root, "Actions", "Exec", "Arguments").text
    assert arguments == subprocess.list2cmdline(
        ["-P", "-m", "siglip_search", "watch", "--library", str(tmp_path / name)]
    )


def test_task_runs_for_ever_quietly_and_alone(tmp_path: Path) -> None:
    settings = found(task(tmp_path), "Settings")
    said = {name: found(settings, name).text for name in children(settings)}
    assert said["ExecutionTimeLimit"] == "PT0S"
    assert said["MultipleInstancesPolicy"] == "IgnoreNew"
    assert said["StopIfGoingOnBatteries"] == said["DisallowStartIfOnBatteries"] == "false"
    assert said["Priority"] in {"7", "8"}  # below normal
    assert said["Hidden"] == "true"


def test_task_takes_the_python_without_a_window(tmp_path: Path) -> None:
    for name in ("python.exe", "pythonw.exe"):
        (tmp_path / name).touch()
    unit = dataclasses.replace(unit_of(tmp_path), command=(str(tmp_path / "python.exe"), "watch"))
    command = found(ET.fromstring(TaskScheduler().definition(unit)), "Actions", "Exec", "Command")
    assert (command.text or "").endswith("pythonw.exe")
