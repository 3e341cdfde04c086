"""Commands in a Python without a console window, which has no standard streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# As pythonw leaves them; a pipe to see what is said nowhere shows that nothing is.
PYTHONW = (
    "import sys; sys.stdin = sys.stdout = sys.stderr = None; "
    "from siglip_search.cli import main; main()"
)


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PYTHONW, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.skipif(os.name == "nt", reason="sends SIGTERM")
def test_watch_runs_without_a_console(tmp_path: Path) -> None:
    library = tmp_path / "library"
    running = start("watch", "--library", str(library))
    log = library / "logs" / "watch.log"
    deadline = time.monotonic() + 30
    while running.poll() is None and not (log.exists() and "looks after" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=30)
    assert (running.returncode, said) == (0, b"")


def test_what_is_said_without_a_console_is_said_to_nobody(tmp_path: Path) -> None:
    for arguments, status in ((("status",), 0), (("query", "dog"), 2), (("nonsense",), 2)):
        running = start("--library", str(tmp_path / "library"), *arguments)
        said, _ = running.communicate(timeout=30)
        assert (running.returncode, said) == (status, b"")
