"""The unit under a systemd of its own: a user's manager without any privilege.

It needs root to make a namespace in which that manager starts, and is skipped, visibly, without.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

MANAGER = Path("/lib/systemd/systemd")
SCRIPT = r"""
set -e
mount --make-rprivate /
mount -t tmpfs run /run
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
umount -R /sys/fs/cgroup
mount -t cgroup2 groups /sys/fs/cgroup
mkdir -p "$GROUP" && echo $$ > "$GROUP/cgroup.procs"
exec setpriv --bounding-set=-all --inh-caps=-all "$@"
"""

# What stands in for the daemon: it says what it finds, and waits to be stopped.
DAEMON = """
import json, os, signal, socket, sys, threading
from siglip_search.service.readiness import notify, watchdog_interval_seconds
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
def refused():
    try: socket.socket(socket.AF_INET).close()
    except OSError: return True
    return False
found = {"argv": sys.argv[1:], "sent": notify("READY=1"), "watchdog": watchdog_interval_seconds(),
    "nice": os.nice(0), "network_refused": refused(), "variable": os.environ.get("XDG_DATA_HOME")}
open(os.environ["HOME"] + "/found.json", "w").write(json.dumps(found))
stop.wait()
"""

# Runs beside the manager: installs, looks, kills, stops, removes.
DRIVER = """
import dataclasses, json, os, signal, subprocess, sys, time
from pathlib import Path
from siglip_search.service import installation
from siglip_search.service.units import unit_of
manager = subprocess.Popen(["/lib/systemd/systemd", "--user"], stderr=subprocess.DEVNULL)
here, home, states = installation.supervisor_here(), Path(os.environ["HOME"]), {}
def wait_until(reached):
    for _ in range(200):
        try:
            if reached(): return
        except Exception: pass
        time.sleep(0.05)
    raise SystemExit(f"waited in vain: {here.state(unit)}")
unit = unit_of(home / sys.argv[1])
unit = dataclasses.replace(unit, command=(sys.argv[2], "-P", str(home / "daemon.py"),
    *unit.command[5:]), environment={"XDG_DATA_HOME": sys.argv[1],
    "PYTHONPATH": os.pathsep.join(sys.path)})
wait_until(lambda: here.check() is None)
installation.install(here, installation.plan_installation(here, unit))
wait_until(lambda: here.state(unit).detail == "active (running)")
states["running"] = dataclasses.asdict(here.state(unit))
states["found"] = json.loads((home / "found.json").read_text())
os.kill(here.state(unit).pid, signal.SIGKILL)
wait_until(lambda: here.state(unit).exit_status == -9)
states["killed"] = dataclasses.asdict(here.state(unit))
installation.stop(here, unit)  # rather than wait for RestartSec
installation.start(here, unit)
wait_until(lambda: here.state(unit).detail == "active (running)")
installation.stop(here, unit)
states["stopped"] = dataclasses.asdict(here.state(unit))
installation.uninstall(here, installation.plan_removal(here, unit))
states["removed"] = dataclasses.asdict(here.state(unit))
print(json.dumps(states))
manager.kill()
manager.wait()
"""


@pytest.mark.parametrize("name", ["library", 'a b 100% %h $HOME ${x} "q" \'o\\t é\n'])
def test_service_lives_under_systemd_as_its_unit_says(name: str, tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() != 0 or not MANAGER.exists():
        pytest.skip("needs root and systemd's files")
    if shutil.which("setpriv") is None or not Path("/sys/fs/cgroup").is_mount():
        pytest.skip("needs setpriv and control groups")
    group = f"siglip-search-test-{os.getpid()}"
    (tmp_path / "daemon.py").write_text(DAEMON)
    python = tmp_path / f"py{name.strip()}"
    python.symlink_to(sys.executable)
    done = subprocess.run(
        [
            *("unshare", "-m", "-p", "-f", "--mount-proc", "sh", "-c", SCRIPT, "sh"),
            *(sys.executable, "-c", DRIVER, name, str(python)),
        ],
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("XDG_")},
            "HOME": str(tmp_path),
            "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}",
            "GROUP": f"/sys/fs/cgroup/{group}",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for groups in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        for folder, _, _ in os.walk(f"{groups}/{group}", topdown=False):
            with suppress(OSError):  # a process of it is still ending
                os.rmdir(folder)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    states = json.loads(done.stdout)
    running = states["running"]
    assert (running["installed"], running["enabled"], running["running"]) == (True, True, True)
    assert states["found"] == {
        "argv": ["--library", str(tmp_path / name)],
        "sent": True,
        "watchdog": 150.0,
        "nice": 10,
        "network_refused": True,
        "variable": name,
    }
    assert "auto-restart" in states["killed"]["detail"]
    stopped = states["stopped"]
    assert (stopped["running"], stopped["exit_status"]) == (False, 0)
    assert not states["removed"]["installed"]
