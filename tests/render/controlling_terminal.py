"""A process with a terminal of its own, which a test plays: stdin and stdout, size and answers."""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEVICE_ATTRIBUTES = b"\x1b[c"

# In a session of its own, the child takes the pseudo-terminal for its controlling terminal, as a
# shell's children have one; then it becomes the program.
_BEGIN = """
import fcntl, os, sys, termios
terminal = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
os.dup2(terminal, 0)
os.dup2(terminal, 1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Outcome:
    """What a program did.

    Attributes:
        status: Its exit status.
        screen: Every byte that it wrote to the terminal.
        stderr: What it said.
        seconds: How long it took.
        modes_kept: Whether the terminal's modes were the same before and after.
        unread: What had been typed, and nobody read.
    """

    status: int
    screen: bytes
    stderr: str
    seconds: float
    modes_kept: bool
    unread: bytes


def run_with_terminal(
    program: Sequence[str],
    *,
    environment: Mapping[str, str],
    answers: Mapping[bytes, bytes] | None = None,
    typed: bytes = b"",
    size: tuple[int, int, int, int] = (100, 40, 0, 0),
    interrupt_on: bytes | None = None,
) -> Outcome:
    """Run a program with a terminal that answers what it is told to.

    Args:
        program: To run, with its arguments.
        environment: Added to this process's own.
        answers: What is written when a question has arrived: each once.
        typed: What a person has typed before the program begins.
        size: Columns, lines, and the same in pixels.
        interrupt_on: Send SIGINT when these bytes have arrived.
    """
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    columns, lines, width, height = size
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, width, height))
    modes = termios.tcgetattr(theirs)
    os.write(ours, typed)
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", _BEGIN, os.ttyname(theirs), *program],
        env={**os.environ, "PYTHONWARNINGS": "error", **environment},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    waiting = dict(answers or {})
    screen = b""
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if not select.select([ours], [], [], 0.02)[0]:
            continue
        screen += os.read(ours, 65536)
        for question in [question for question in waiting if question in screen]:
            os.write(ours, waiting.pop(question))
        if interrupt_on and interrupt_on in screen:
            interrupt_on = None
            process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    seconds = time.monotonic() - begun
    kept = termios.tcgetattr(theirs) == modes
    unread = _unread(theirs)
    os.close(ours)
    os.close(theirs)
    return Outcome(process.returncode, screen, stderr.decode(), seconds, kept, unread)


def shown_text(screen: bytes) -> str:
    """Return what a person reads: without sequences, and with plain newlines."""
    without = re.sub(
        rb"\x1b(?:[P_\]X^].*?(?:\x1b\\|\x07)|\[[0-?]*[ -/]*[@-~]|.)", b"", screen, flags=re.DOTALL
    )
    return without.decode().replace("\r", "")


def _unread(terminal: int) -> bytes:
    import termios

    modes = termios.tcgetattr(terminal)
    modes[3] &= ~termios.ICANON
    termios.tcsetattr(terminal, termios.TCSANOW, modes)
    return os.read(terminal, 65536) if select.select([terminal], [], [], 0)[0] else b""
