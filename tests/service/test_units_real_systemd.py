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
from typing import Any

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


# As a user has it, from `service install` on; XDG_CONFIG_HOME is set in the shell alone.
USER = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from PIL import Image
import pillow_heif
from siglip_search import demo
from siglip_search.service import installation
from siglip_search.service.units import unit_of
manager = subprocess.Popen(["/lib/systemd/systemd", "--user"], stderr=subprocess.DEVNULL)
home = Path(os.environ["HOME"])
os.environ["XDG_CONFIG_HOME"] = str(home / "of the shell")
library, pictures = home / "library", home / "pictures"
here, found = installation.supervisor_here(), {}
unit = unit_of(library)
def run(*words):
    words = (sys.executable, "-m", "siglip_search", *words, "--library", library)
    return subprocess.run(words, capture_output=True, text=True)
def wait_until(reached):
    until = time.monotonic() + 40
    while time.monotonic() < until:
        try:
            if reached(): return
        except Exception: pass
        time.sleep(0.1)
    raise SystemExit(f"waited in vain: {here.state(unit)} {run('status').stdout}")
def service():
    return json.loads(run("status", "--json").stdout)["service"]
def shown():
    return sorted(os.path.basename(hit["path"]) for hit in json.loads(
        run("query", "--json", "--min-probability", "0", "drawing").stdout))
wait_until(lambda: here.check() is None)
pictures.mkdir()
drawing = Image.open(sorted(demo.gallery_directory().rglob("*.webp"))[0]).convert("RGB")
drawing.save(pictures / "first.webp")
run("index", "--model", "demo", pictures).check_returncode()
changes = here.file(unit).with_name(here.file(unit).name + ".d")
changes.mkdir(parents=True)
(changes / "quick.conf").write_text("[Service]\\nRestartSec=0.2\\nWatchdogSec=4\\n")
done = run("service", "install")
assert done.returncode == 0, done.stderr
# A drop-in belongs where systemd looks by itself.
(home / ".config/systemd/user").mkdir(parents=True, exist_ok=True)
changes.rename(home / ".config/systemd/user" / changes.name)
subprocess.run(["systemctl", "--user", "daemon-reload"], check=True)
run("service", "stop"), run("service", "start")
wait_until(lambda: service()["folders"][0]["how"] == "events")
found["ready"] = here.state(unit).detail
pid = here.state(unit).pid
drawing.rotate(90).save(pictures / "second.png")
pillow_heif.from_pillow(drawing.rotate(180)).save(pictures / "third.heic")
wait_until(lambda: len(shown()) == 3)
found["shown"] = shown()
time.sleep(5)  # longer than the watchdog waits
found["alive"] = service()["pid"] == pid
found["queries"] = service()["queries"] > 0
os.kill(pid, signal.SIGKILL)
wait_until(lambda: service()["pid"] != pid)
pid = service()["pid"]
os.kill(pid, signal.SIGSTOP)  # it hangs
wait_until(lambda: service()["pid"] != pid)
found["stop"] = run("service", "stop").returncode
found["ended"] = here.state(unit).exit_status
found["log"] = run("service", "logs").stdout
found["uninstall"] = run("service", "uninstall").returncode
found["left"] = here.state(unit).installed
print(json.dumps(found))
manager.kill()
manager.wait()
"""


def beside_a_manager(driver: str, *arguments: str, home: Path) -> Any:
    """Run a program beside a service manager of its own, and return the JSON that it prints."""
    if sys.platform != "linux" or os.geteuid() != 0 or not MANAGER.exists():
        pytest.skip("needs root and systemd's files")
    if shutil.which("setpriv") is None or not Path("/sys/fs/cgroup").is_mount():
        pytest.skip("needs setpriv and control groups")
    group = f"siglip-search-test-{os.getpid()}"
    done = subprocess.run(
        [
            *("unshare", "-m", "-p", "-f", "--mount-proc", "sh", "-c", SCRIPT, "sh"),
            *(sys.executable, "-c", driver, *arguments),
        ],
        env={
            **{key: value for key, value in os.environ.items() if not key.startswith("XDG_")},
            "HOME": str(home),
            "XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}",
            "GROUP": f"/sys/fs/cgroup/{group}",
        },
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    for groups in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        for folder, _, _ in os.walk(f"{groups}/{group}", topdown=False):
            with suppress(OSError):  # a process of it is still ending
                os.rmdir(folder)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["library", 'a b 100% %h $HOME ${x} "q" \'o\\t é\n'])
def test_service_lives_under_systemd_as_its_unit_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "daemon.py").write_text(DAEMON)
    python = tmp_path / f"py{name.strip()}"
    python.symlink_to(sys.executable)
    states = beside_a_manager(DRIVER, name, str(python), home=tmp_path)
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


def test_the_daemon_lives_under_systemd(tmp_path: Path) -> None:
    found = beside_a_manager(USER, home=tmp_path)
    log = found.pop("log")
    assert found == {
        "ready": "active (running)",
        "shown": ["first.webp", "second.png", "third.heic"],  # decoded under the seccomp filter
        "alive": True,
        "queries": True,
        "stop": 0,
        "ended": 0,
        "uninstall": 0,
        "left": False,
    }
    assert log.splitlines()[-1].endswith(" stopped")
    # Started, killed, hung; the one that `install` started may have been stopped before its log.
    assert log.count("looks after") >= 3
