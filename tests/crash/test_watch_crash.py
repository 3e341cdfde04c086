"""A short form of scripts/crash_watch.py: a daemon and its commands, killed at random moments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")


def run(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_nothing_acknowledged_is_lost_whenever_the_daemon_is_killed() -> None:
    run("crash_watch.py", "--kills", "7", "--seed", "5")


@pytest.mark.slow
def test_a_restart_costs_a_batch_at_most() -> None:
    run("restart_cost.py", "--pictures", "1500", "--kills", "8")
