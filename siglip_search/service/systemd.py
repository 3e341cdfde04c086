"""A systemd user service.

The directives are in `_UNIT`, with the reason for each and for those that are left out.
"""

from __future__ import annotations

import calendar
import os
import time
from pathlib import Path
from typing import Final

from siglip_search.errors import ServiceError
from siglip_search.service.programs import NOT_FOUND, Step, run_program
from siglip_search.service.units import DESCRIPTION, Unit, UnitState, seal_line, sealed

_UNIT: Final = """\
# {seal}
# Once it is edited, `siglip-search service install` leaves it alone unless --force is given.
# Better: `systemctl --user edit {name}` keeps your changes in a file of their own.

[Unit]
Description={description}
# Five failures in ten minutes: it stays down, and `siglip-search service status` says why.
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{environment}
# Opening a library on a slow disk takes what it takes; from READY=1 on the watchdog looks after it.
TimeoutStartSec=infinity
WatchdogSec=300
# The watchdog's SIGABRT shows where it hung. A dump of all towers in memory would show no more.
LimitCORE=0
Restart=on-failure
RestartSec=10
# Only the daemon is asked to stop: a decoding process that ended first would look like one that a
# picture had killed.
KillMode=mixed
# Computed vectors are committed: a second, and what the largest tower takes for one picture.
TimeoutStopSec=90
# Stopped by a signal.
SuccessExitStatus=130

# Whatever else runs on the machine comes first.
Slice=background.slice
Nice=10
CPUWeight=20
IOSchedulingClass=best-effort
IOSchedulingPriority=7
# Only where the system hands the io controller to users, which is not the default.
IOWeight=20

# The program reads this limit and adapts the pictures in work to it.
MemoryMax=75%
# A decoding process that was killed for its memory is replaced; the daemon goes on.
OOMPolicy=continue
# If the whole machine runs out of memory, this goes before what is on the screen.
OOMScoreAdjust=300

# What the kernel refuses to the daemon and the decoders, by seccomp and no_new_privs. A user's own
# service manager can do that much without any privilege.
NoNewPrivileges=yes
# No network: nothing leaves the machine. QIPCRTR is how an NPU's driver reaches its processor.
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_QIPCRTR
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
# Left out, because they would do harm here:
# - ProtectSystem, ProtectHome, ReadWritePaths, PrivateTmp, InaccessiblePaths: they give the service
#   mounts of its own. Setting them up waits for every network drive that does not answer; a
#   library's folder that is bound there keeps its drive from being unmounted; and a user's manager
#   can do it only inside a user namespace, which many systems forbid (then they do nothing).
# - PrivateUsers: the user namespace itself. Other users' files would belong to nobody, and network
#   drives with Kerberos may lose their keys.
# - PrivateDevices, DeviceAllow: the NPU is a device.
# - MemoryDenyWriteExecute: runtimes and drivers may compile code.
# - UMask: others who may read the library now would lose what is written from now on.
# Left out, because a user's manager has no right to them: CapabilityBoundingSet, IPAddressDeny,
# DynamicUser, ProtectClock, ProtectHostname, ProtectKernelLogs, ProtectKernelModules.

[Install]
WantedBy=default.target
"""

_PROPERTIES: Final = (
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "ExecMainStartTimestamp",
    "ExecMainCode",
    "ExecMainStatus",
    "NeedDaemonReload",
)

_IN_FOREGROUND: Final = (
    "`siglip-search watch` does the same in the foreground: start it from what starts programs "
    "here (a container's command, OpenRC, cron's @reboot)."
)

_EXITED, _KILLED, _DUMPED = "1", "2", "3"  # CLD_EXITED and so on, of <signal.h>


class Systemd:
    """The systemd of the user, not the one of the system."""

    title = "systemd"
    asks_to_end = True

    def check(self) -> None:
        """Raise ServiceError where this user has no systemd that answers."""
        asked = run_program(("systemctl", "--user", "show", "--property=Version"))
        if asked.status == 0:
            return
        if asked.status == NOT_FOUND:
            raise ServiceError("there is no systemd on this system", hint=_IN_FOREGROUND)
        why = f"systemd does not answer this user ({asked.complaint})"
        raise ServiceError(why, hint=_way_out())

    def file(self, unit: Unit) -> Path:
        """Return the path of the unit."""
        configuration = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
        return Path(configuration) / "systemd" / "user" / f"{unit.name}.service"

    def definition(self, unit: Unit) -> bytes:
        """Return the unit's text.

        Raises:
            ServiceError: A path in it is not UTF-8.
        """
        try:
            "".join((*unit.command, *unit.environment.values())).encode()
        except UnicodeEncodeError:
            # It would start it, and then answer no question about it: D-Bus carries UTF-8 only.
            raise ServiceError(
                f"the library's path {str(unit.library)!r}, or the program's, is not UTF-8, which "
                "systemd wants",
                hint="Make a symbolic link with another name, and give it as --library.",
            ) from None
        return sealed(
            _UNIT.format(
                seal=seal_line(),
                name=unit.name,
                description=DESCRIPTION,
                command=command_line(unit.command),
                environment="".join(
                    f"Environment={quoted(f'{name}={value}')}\n"
                    for name, value in sorted(unit.environment.items())
                ),
            )
        ).encode()

    def folders(self, unit: Unit) -> tuple[Path, ...]:
        """Return no folders: systemd's journal takes what is said."""
        del unit
        return ()

    def install_steps(self, unit: Unit, *, changed: bool) -> tuple[Step, ...]:
        """Return what makes systemd know, enable and start it."""
        start = "restart" if changed else "start"
        return (
            _systemctl("daemon-reload"),
            # By its path: where XDG_CONFIG_HOME is set for the shell alone, systemd does not look
            # there, and this makes a link for it.
            _systemctl("enable", str(self.file(unit))),
            # It is ready once the library is open: nobody waits for that.
            _systemctl(start, "--no-block", _service(unit)),
        )

    def steps_before_removal(self, unit: Unit) -> tuple[Step, ...]:
        """Return what stops and disables it."""
        return (_systemctl("disable", "--now", _service(unit), may_fail=True),)

    def steps_after_removal(self, unit: Unit) -> tuple[Step, ...]:
        """Return what makes systemd forget it."""
        return (
            _systemctl("daemon-reload"),
            _systemctl("reset-failed", _service(unit), may_fail=True),
        )

    def start_steps(self, unit: Unit) -> tuple[Step, ...]:
        """Return what starts it, also after too many failures."""
        return (
            _systemctl("reset-failed", _service(unit), may_fail=True),
            _systemctl("start", "--no-block", _service(unit)),
        )

    def stop_steps(self, unit: Unit) -> tuple[Step, ...]:
        """Return what stops it."""
        return (_systemctl("stop", _service(unit)),)

    def state(self, unit: Unit) -> UnitState:
        """Ask systemd how it is."""
        asked = run_program(
            (
                *("systemctl", "--user", "show", _service(unit)),
                f"--property={','.join(_PROPERTIES)}",
            ),
            environment={"TZ": "UTC", "LC_ALL": "C"},  # times as `_seconds` reads them
        )
        if asked.status != 0:
            raise ServiceError(
                f"systemd does not say how {unit.name} is: {asked.complaint}",
                hint=f"Try: systemctl --user status {_service(unit)}",
            )
        told = dict(line.partition("=")[::2] for line in asked.output.splitlines())
        pid = int(told.get("MainPID") or 0)
        return UnitState(
            installed=told.get("LoadState") == "loaded",
            enabled=told.get("UnitFileState") in {"enabled", "enabled-runtime", "linked"},
            running=pid > 0,
            pid=pid or None,
            since=_seconds(told.get("ExecMainStartTimestamp", "")) if pid else None,
            exit_status=None if pid else _exit_status(told),
            detail=_detail(told),
        )

    def log_command(self, unit: Unit, *, lines: int, follow: bool) -> tuple[str, ...] | None:
        """Return the command that shows what the journal has of it."""
        return (
            *("journalctl", "--user", "-q", "-u", _service(unit), "-n", str(lines)),
            *(("-f",) if follow else ("--no-pager",)),
        )

    def advice(self, unit: Unit) -> tuple[str, ...]:
        """Say how long it runs, where that is not as long as the machine does."""
        del unit
        asked = run_program(("loginctl", "show-user", str(os.getuid()), "--property=Linger"))
        if asked.output.strip() == "Linger=yes":
            return ("It runs from the machine's start on (lingering is enabled).",)
        return (
            "It runs while you are logged in; `loginctl enable-linger` lets it run from the "
            "machine's start on, and after you log out.",
        )


def command_line(words: tuple[str, ...]) -> str:
    r"""Return the value of ExecStart= that runs these words as they are.

    systemd replaces $NAME unless the line begins with ":" (since version 244), and takes no program
    whose path has quotes, backslashes or control characters in it, which a shell runs in its stead.
    """
    if not all(character.isprintable() and character not in "\"'\\" for character in words[0]):
        words = ("/bin/sh", "-c", 'exec "$0" "$@"', *words)
    literal = ":" if any("$" in word for word in words) else ""
    first, *others = map(quoted, words)
    return " ".join((literal + first, *others))


def quoted(word: str) -> str:
    r"""Return a word as systemd reads it back: in quotes, % doubled, control characters as \xNN.

    `$` is left as it is: it means something in ExecStart= alone.
    """
    return '"' + "".join(map(_escaped, word)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character == "%":
        return "%%"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def _way_out() -> str:
    """Return what somebody can do whom systemd does not answer."""
    if os.geteuid() == 0 and "SUDO_USER" in os.environ:
        return "Leave out sudo: the service is yours, and needs no administrator."
    folder = f"/run/user/{os.getuid()}"
    if os.environ.get("XDG_RUNTIME_DIR") != folder and os.path.exists(f"{folder}/systemd"):
        return f"Set XDG_RUNTIME_DIR={folder} first: this shell was not opened by logging in."
    return _IN_FOREGROUND


def _service(unit: Unit) -> str:
    return f"{unit.name}.service"


def _systemctl(*words: str, may_fail: bool = False) -> Step:
    return Step(("systemctl", "--user", *words), may_fail=may_fail)


def _seconds(timestamp: str) -> float | None:
    """Return what "Sat 2026-11-21 14:27:54 UTC" is in seconds since the epoch."""
    try:
        return float(calendar.timegm(time.strptime(timestamp[4:], "%Y-%m-%d %H:%M:%S UTC")))
    except ValueError:
        return None


def _exit_status(told: dict[str, str]) -> int | None:
    match told.get("ExecMainCode"), told.get("ExecMainStatus", "0"):
        case str(code), status if code == _EXITED:
            return int(status)
        case str(code), status if code in {_KILLED, _DUMPED}:
            return -int(status)
    return None


def _detail(told: dict[str, str]) -> str:
    detail = f"{told.get('ActiveState', 'unknown')} ({told.get('SubState', 'unknown')})"
    if (result := told.get("Result", "success")) != "success":
        detail += f", {result}"
    if told.get("NeedDaemonReload") == "yes":
        detail += "; the unit has changed: systemctl --user daemon-reload"
    return detail
