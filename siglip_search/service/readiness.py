"""Tell the service manager how the daemon is, as systemd's sd_notify(3) describes it.

The protocol is one datagram to a Unix socket whose name stands in NOTIFY_SOCKET. Where nobody
listens (a terminal, macOS, Windows) everything here does nothing.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Final

_ABSTRACT: Final = "@"
"""How an address in Linux's abstract namespace begins; the kernel wants a zero byte there."""

_MICROSECONDS: Final = 1_000_000


def notify(state: str) -> bool:
    r"""Send a state to the service manager; never raises for its sake.

    Args:
        state: Assignments, one a line: "READY=1", "STATUS=...", "WATCHDOG=1", "STOPPING=1",
            "READY=1\nSTATUS=following 3 folders".

    Returns:
        Whether it was sent: False without a service manager, or when it does not listen.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    # Other kinds of address (vsock, for a virtual machine's first process) are not for services.
    if sys.platform == "win32" or not address.startswith(("/", _ABSTRACT)):
        return False
    if address.startswith(_ABSTRACT):
        address = "\0" + address.removeprefix(_ABSTRACT)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # A manager whose queue is full must not hold up the daemon.
            sender.setblocking(False)
            sender.connect(os.fsencode(address))
            sender.send(state.encode("utf-8", "replace"))
    except OSError:
        return False
    return True


def watchdog_interval_seconds() -> float | None:
    """Return how often "WATCHDOG=1" is to be sent: half the time after which the manager acts.

    Returns:
        Seconds, > 0; None where no watchdog waits for this very process.
    """
    try:
        limit_microseconds = int(os.environ["WATCHDOG_USEC"])
        # Processes below the daemon inherit the variables, and are not meant.
        process = int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    if limit_microseconds <= 0 or process != os.getpid() or "NOTIFY_SOCKET" not in os.environ:
        return None
    return limit_microseconds / _MICROSECONDS / 2
