"""Installing and asking, with stand-ins for the system's programs that note each call."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from installed_command import CommandLine
from small_daemon import SmallDaemon, runtime_folder, serving

from siglip_search.errors import ServiceError
from siglip_search.service import installation
from siglip_search.service.journal import log_file
from siglip_search.service.launchd import Launchd
from siglip_search.service.log_tail import following_lines, last_lines
from siglip_search.service.systemd import Systemd
from siglip_search.service.units import UnitState, unit_of
from siglip_search.service.windows_task import TaskScheduler

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.service.units import Supervisor

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="asks this system's supervisor")

PROGRAMS = ("systemctl", "loginctl", "journalctl", "launchctl", "schtasks")


@dataclass
class Programs:
    """Stand-ins on the PATH."""

    folder: Path

    def answer(self, program: str, words: str, output: str = "", *, status: int = 0) -> None:
        """Let a program say something whenever its arguments contain these words."""
        rules = self.folder / f"{program}.rules"
        case = f"*{words}*".replace(" ", "' '").replace("\\", "\\\\")
        answer = self.folder / f"{program}.{len(list(self.folder.iterdir()))}.txt"
        answer.write_text(output)
        with rules.open("a") as file:
            file.write(f'case "$*" in {case}) cat {answer}; exit {status};; esac\n')

    def calls(self) -> list[str]:
        """Return what was called since the last time, in order."""
        log = self.folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / f"{name}.rules").touch()
        script = folder / name
        script.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n. {folder}/{name}.rules\nexit 0\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("USERNAME", "someone")
    return Programs(folder)


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "my library")


def alike(unit: str) -> str:
    """Return a unit as it would be whatever this and the command's interpreter are called."""
    unit = re.sub(r"checksum [0-9a-f]+", "checksum", unit)
    return re.sub(r'(ExecStart="[^"]*/python)[0-9.]*"', r'\1"', unit)


@linux_only
def test_install_writes_the_unit_and_starts_it(command: CommandLine, programs: Programs) -> None:
    unit = unit_of(command.library)
    file = Systemd().file(unit)
    done = command("service", "install")
    assert f"{file}: written" in done.text
    assert "loginctl enable-linger" in done.stderr
    assert "next: siglip-search service status" in done.stderr
    assert alike(file.read_text()) == alike(Systemd().definition(unit).decode())
    assert f"SIGLIP_SEARCH_LIBRARY={command.library}" not in file.read_text()
    assert f'"--library" "{command.library}"' in file.read_text()
    assert programs.calls() == [
        "systemctl --user show --property=Version",
        "systemctl --user daemon-reload",
        f"systemctl --user enable {file}",
        f"systemctl --user restart --no-block {unit.name}.service",
        f"loginctl show-user {os.getuid()} --property=Linger",
    ]
    # Once more: nothing is written, and what runs goes on running.
    written_ns = file.stat().st_mtime_ns
    assert f"{file}: unchanged" in command("service", "install").text
    assert file.stat().st_mtime_ns == written_ns
    assert f"systemctl --user start --no-block {unit.name}.service" in programs.calls()


@linux_only
def test_dry_run_shows_file_and_commands_and_does_nothing(
    command: CommandLine, programs: Programs
) -> None:
    unit = unit_of(command.library)
    shown = command("service", "install", "--dry-run").text
    assert alike(Systemd().definition(unit).decode()) in alike(shown)
    assert shown.startswith(f"# {Systemd().file(unit)}\n")
    assert f"systemctl --user enable {Systemd().file(unit)}\n" in shown
    assert not Systemd().file(unit).exists()
    assert programs.calls() == []


@linux_only
def test_edited_unit_is_kept_unless_forced(command: CommandLine, programs: Programs) -> None:
    command("service", "install")
    file = Systemd().file(unit_of(command.library))
    edited = file.read_text().replace("Nice=10", "Nice=15")
    file.write_text(edited)
    programs.calls()
    for verb in ("install", "uninstall"):
        refused = command("service", verb, expect=2)
        assert f"{file} was edited" in refused.stderr
        assert "--force" in refused.stderr
    assert file.read_text() == edited
    assert programs.calls() == []
    assert f"{file}: updated" in command("service", "install", "--force").text
    assert "Nice=10" in file.read_text()


@linux_only
def test_uninstall_removes_what_we_wrote_and_nothing_else(
    command: CommandLine, programs: Programs
) -> None:
    command("service", "install")
    name = unit_of(command.library).name
    file = Systemd().file(unit_of(command.library))
    own = file.with_name(file.name + ".d")
    own.mkdir()
    (own / "override.conf").write_text("[Service]\nNice=15\n")
    programs.calls()
    done = command("service", "uninstall")
    assert f"{file}: removed" in done.text
    assert f"{own} is yours and stays" in done.stderr
    assert sorted(path.name for path in file.parent.iterdir()) == [own.name]
    assert programs.calls()[1:] == [
        f"systemctl --user disable --now {name}.service",
        "systemctl --user daemon-reload",
        f"systemctl --user reset-failed {name}.service",
    ]
    assert "is not installed" in command("service", "uninstall").text


@linux_only
def test_file_of_someone_else_is_never_touched(command: CommandLine, programs: Programs) -> None:
    file = Systemd().file(unit_of(command.library))
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nExecStart=/bin/true\n")
    for words in (("install",), ("uninstall",), ("uninstall", "--force")):
        assert "was not written by siglip-search" in command("service", *words, expect=2).stderr
    assert file.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert programs.calls() == []


@linux_only
def test_without_systemd_there_is_one_line_and_the_way_in_the_foreground(
    command: CommandLine, programs: Programs
) -> None:
    programs.answer("systemctl", "", status=1)
    refused = command("service", "install", expect=2)
    assert len(refused.stderr.splitlines()) == 2  # the line and its hint
    assert "systemd does not answer" in refused.stderr
    assert "`siglip-search watch`" in refused.stderr
    assert not Systemd().file(unit_of(command.library)).exists()


@linux_only
def test_where_systemd_does_not_answer_the_hint_says_why(
    command: CommandLine, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.answer("systemctl", "", status=1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "someone")
    with pytest.raises(ServiceError) as caught:
        Systemd().check()
    assert "Leave out sudo" in caught.value.hint
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os.path, "exists", lambda path: str(path).endswith("/systemd"))
    with pytest.raises(ServiceError) as caught:
        Systemd().check()
    assert f"XDG_RUNTIME_DIR=/run/user/{os.getuid()}" in caught.value.hint


def test_without_the_program_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for supervisor in (Systemd(), Launchd(), TaskScheduler()):
        with pytest.raises(ServiceError) as caught:
            supervisor.check()
        assert "siglip-search watch" in caught.value.hint


@linux_only
def test_refusal_of_the_service_manager_names_the_command(
    command: CommandLine, programs: Programs
) -> None:
    programs.answer("systemctl", "enable", status=1)
    refused = command("service", "install", expect=2)
    file = Systemd().file(unit_of(command.library))
    assert f"`systemctl --user enable {file}` failed" in refused.stderr


@linux_only
def test_status_tells_what_systemd_says(command: CommandLine, programs: Programs) -> None:
    programs.answer(
        "systemctl",
        "--property=LoadState",
        "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nSubState=running\n"
        "Result=success\nMainPID=4711\nExecMainCode=0\nExecMainStatus=0\n"
        "ExecMainStartTimestamp=Sat 2026-11-21 14:27:54 UTC\nNeedDaemonReload=no\n",
    )
    state = command("service", "status", "--json").json
    assert state["supervisor"] == "systemd"
    assert (state["installed"], state["enabled"], state["running"]) == (True, True, True)
    assert (state["pid"], state["since"], state["exit_status"]) == (4711, 1795271274.0, None)
    assert "is running, process 4711, since " in command("service", "status").text


@linux_only
@pytest.mark.parametrize(
    ("code", "status", "words", "number"),
    [(1, 2, "exit status 2", 2), (2, 9, "signal 9", -9), (3, 6, "signal 6", -6)],
)
def test_status_tells_how_it_ended(
    code: int, status: int, words: str, number: int, command: CommandLine, programs: Programs
) -> None:
    programs.answer(
        "systemctl",
        "--property=LoadState",
        "LoadState=loaded\nUnitFileState=enabled\nActiveState=failed\nSubState=failed\n"
        f"Result=watchdog\nMainPID=0\nExecMainCode={code}\nExecMainStatus={status}\n"
        "ExecMainStartTimestamp=\n",
    )
    done = command("service", "status", expect=1)
    assert f"not running, ended with {words}" in done.text
    assert "failed (failed), watchdog" in done.text
    assert Systemd().state(unit_of(command.library)).exit_status == number


@linux_only
def test_start_and_stop_need_an_installed_service(command: CommandLine, programs: Programs) -> None:
    for verb in ("start", "stop"):
        refused = command("service", verb, expect=2)
        words = f"service install --library '{command.library}'"
        assert words in refused.stderr
    assert programs.calls() == []
    command("service", "install")
    programs.calls()
    command("service", "stop")
    name = unit_of(command.library).name
    assert programs.calls()[-1] == f"systemctl --user stop {name}.service"
    command("service", "start")
    assert programs.calls()[-1] == f"systemctl --user start --no-block {name}.service"


@linux_only
def test_logs_are_the_journal(command: CommandLine, programs: Programs) -> None:
    programs.answer("journalctl", "", "line of the journal\n")
    assert command("service", "logs", "-n", "7").text == "line of the journal\n"
    name = unit_of(command.library).name
    assert programs.calls() == [
        f"journalctl --user -q -u {name}.service -n {lines} --no-pager" for lines in (1, 7)
    ]


def install_and_remove(supervisor: Supervisor, library: Path) -> None:
    unit = unit_of(library)
    plan = installation.plan_installation(supervisor, unit)
    installation.install(supervisor, plan)
    assert plan.change == "written"
    assert supervisor.file(unit).read_bytes() == plan.content
    again = installation.plan_installation(supervisor, unit)
    assert again.change == "unchanged"
    installation.install(supervisor, again)
    installation.stop(supervisor, unit)
    installation.start(supervisor, unit)
    installation.uninstall(supervisor, installation.plan_removal(supervisor, unit))
    assert not supervisor.file(unit).exists()


def test_launchd_is_asked_in_the_right_order(programs: Programs, tmp_path: Path) -> None:
    install_and_remove(Launchd(), tmp_path)
    domain = f"gui/{os.getuid()}"
    name = unit_of(tmp_path).name
    file = Launchd().file(unit_of(tmp_path))
    calls = [call.removeprefix("launchctl ") for call in programs.calls()]
    assert [call for call in calls if call != f"print {domain}"] == [
        f"bootout {domain}/{name}",
        f"enable {domain}/{name}",
        f"bootstrap {domain} {file}",
        f"enable {domain}/{name}",
        f"bootstrap {domain} {file}",
        f"kickstart {domain}/{name}",
        f"kill SIGTERM {domain}/{name}",
        f"kickstart {domain}/{name}",
        f"bootout {domain}/{name}",
    ]


def test_the_daemon_is_asked_to_end_where_the_system_would_kill_it(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with runtime_folder(monkeypatch):
        served = SmallDaemon(tmp_path / "library")
        unit = unit_of(tmp_path / "library")
        supervisor = TaskScheduler()
        installation.install(supervisor, installation.plan_installation(supervisor, unit))
        programs.calls()
        with serving(served, unit.library) as endpoint:
            stopping = threading.Thread(target=installation.stop, args=(supervisor, unit))
            stopping.start()
            assert served.stopped.wait(10)
            assert not [call for call in programs.calls() if "/End" in call]
            endpoint.close()
            stopping.join(10)
        served.library.close()
    assert programs.calls()[-1].startswith("schtasks /End")


def test_launchd_tells_how_it_is(programs: Programs, tmp_path: Path) -> None:
    unit = unit_of(tmp_path)
    programs.answer("launchctl", "print-disabled", f'\t"{unit.name}" => disabled\n')
    programs.answer("launchctl", "print gui", f"\tstate = running\n\tpid = {os.getpid()}\n")
    state = Launchd().state(unit)
    assert (state.installed, state.enabled, state.running) == (True, False, True)
    assert state.pid == os.getpid()
    assert state.since is not None


def test_launchd_tells_how_it_ended(programs: Programs, tmp_path: Path) -> None:
    programs.answer("launchctl", "print-disabled", "")
    programs.answer("launchctl", "print gui", "\tstate = not running\n\tlast exit code = 2\n")
    assert Launchd().state(unit_of(tmp_path)) == UnitState(
        installed=True, enabled=True, exit_status=2, detail="not running"
    )


def test_task_scheduler_is_asked_in_the_right_order(programs: Programs, tmp_path: Path) -> None:
    install_and_remove(TaskScheduler(), tmp_path)
    unit = unit_of(tmp_path)
    task = f"/TN \\siglip-search\\{unit.name}"
    create = f"/Create /F {task} /XML {TaskScheduler().file(unit)}"
    calls = [call.removeprefix("schtasks ") for call in programs.calls()]
    assert [call for call in calls if call != "/Query /?"] == [
        *(f"/End {task}", create, f"/Run {task}"),
        *(create, f"/Run {task}"),
        *(f"/Change {task} /DISABLE", f"/End {task}"),
        *(f"/Change {task} /ENABLE", f"/Run {task}"),
        *(f"/End {task}", f"/Delete /F {task}"),
    ]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (0x41301, UnitState(installed=True, enabled=True, running=True)),
        (0x41303, UnitState(installed=True, enabled=True)),
        (2, UnitState(installed=True, enabled=True, exit_status=2)),
        (
            0x41306,
            UnitState(installed=True, enabled=True, detail="ended by the Task Scheduler"),
        ),
    ],
)
def test_task_is_understood_in_any_language(
    result: int, expected: UnitState, programs: Programs, tmp_path: Path
) -> None:
    programs.answer(
        "schtasks",
        "/FO CSV",
        f'"PC","\\siglip-search\\x","Nie","Wird, ausgeführt","I","?","{result}","x"\n',
    )
    assert TaskScheduler().state(unit_of(tmp_path)) == expected


def test_log_file_is_shown_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "watch.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(30_000)))
    assert last_lines(log, 2) == [b"line 29998", b"line 29999"]
    assert last_lines(log, 0) == []
    assert len(last_lines(log, 20_000)) == 20_000
    assert len(last_lines(log, 40_000)) == 30_000


def test_log_is_followed_through_a_rotation(tmp_path: Path) -> None:
    log, stop = tmp_path / "watch.log", threading.Event()
    log.write_bytes(b"one\ntwo\n")
    lines = following_lines(log, count=1, stop=stop, pause_seconds=0.01)
    assert next(lines) == b"two"

    def write() -> None:
        with log.open("ab") as file:
            file.write(b"three\nfo")
            file.flush()
            file.write(b"ur\n")
        log.rename(tmp_path / "watch.log.1")
        log.write_bytes(b"five\n")

    writer = threading.Thread(target=write)
    writer.start()
    assert [next(lines) for _ in range(3)] == [b"three", b"four", b"five"]
    writer.join()
    stop.set()
    assert list(lines) == []


@linux_only
@pytest.mark.parametrize("status", [127, 1, 0], ids=["no program", "refused", "no journal"])
def test_logs_without_a_journal_are_the_daemons_own_file(
    status: int, command: CommandLine, programs: Programs
) -> None:
    programs.answer("journalctl", "", status=status)
    assert "there is no log yet" in command("service", "logs", expect=2).stderr
    log = log_file(command.library)
    log.parent.mkdir(parents=True)
    log.write_text("first\nsecond \x1b[31mred\n")
    assert command("service", "logs", "-n", "1").text == "second \\x1b[31mred\n"


@linux_only
def test_units_of_two_libraries_stand_side_by_side(
    command: CommandLine, programs: Programs, tmp_path: Path
) -> None:
    command("service", "install")
    command("service", "install", "--library", tmp_path / "other")
    files = list(Systemd().file(unit_of(command.library)).parent.glob("*.service"))
    assert len(files) == 2
    assert json.dumps([file.name for file in files]).count("siglip-search-") == 2
