"""Paths as links: URLs of files, and text that a terminal opens when it is clicked on."""

from __future__ import annotations

import os
import socket
from pathlib import PureWindowsPath
from urllib.parse import quote_from_bytes


def file_url(path: str, *, host: str = "") -> str:
    """Return the URL of a file (RFC 8089), in ASCII.

    Args:
        path: Absolute path, as os.fsdecode gives it.
        host: Name of the machine that holds it; "" for this one.
    """
    if os.name == "nt":
        # A share becomes the host: //server/share/a.jpg
        return PureWindowsPath(path).as_uri()
    return f"file://{host}{quote_from_bytes(os.fsencode(path))}"


def terminal_link(text: str, path: str) -> str:
    """Return text that leads to a file (OSC 8).

    Args:
        text: What is shown, in printable characters.
        path: Absolute path, as os.fsdecode gives it.
    """
    # The name of this machine lets a terminal at the other end of ssh see that the file is not
    # one of its own.
    url = file_url(path, host=_host_name())
    return f"\x1b]8;;{url}\x1b\\{text}\x1b]8;;\x1b\\"


def _host_name() -> str:
    name = socket.gethostname()
    return name if name.isascii() and name.isprintable() and "/" not in name else ""
