"""A command with a person in front of it: stdin and stderr are a pseudo-terminal."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from installed_command import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine


def run_on_terminal(
    cli: CommandLine, *arguments: str | Path, answer: bytes = b""
) -> tuple[int, str, bytes]:
    """Run a command with stdin and stderr on a terminal; return status, screen and stdout."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *arguments],
        env={**cli.environment(), "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
    )
    os.close(theirs)
    os.write(ours, answer)
    screen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not data:
            break
        screen += data
    os.close(ours)
    stdout, _ = process.communicate(timeout=60)
    return process.returncode, screen.decode(errors="replace"), stdout
