"""The last lines of a log that rotates, and those that come."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK_BYTES: Final = 65_536


def last_lines(file: Path, count: int) -> list[bytes]:
    """Return the last lines of a file, without reading what is before them.

    Args:
        file: The log.
        count: How many lines at most, >= 0.

    Raises:
        OSError: It cannot be read.
    """
    with file.open("rb") as log:
        return _last_lines(log, count, end=log.seek(0, os.SEEK_END))


def following_lines(
    file: Path, *, count: int, stop: threading.Event, pause_seconds: float = 0.5
) -> Iterator[bytes]:
    """Yield the last lines of a log and then each that comes, through its rotations.

    Args:
        file: The log; it may be away for a moment.
        count: How many of the lines that are there, >= 0.
        stop: Ends it.
        pause_seconds: How long to wait where nothing is new.

    Raises:
        OSError: It cannot be read.
    """
    log = file.open("rb")
    try:
        end = log.seek(0, os.SEEK_END)
        yield from _last_lines(log, count, end=end)
        # Not its end by now: lines came meanwhile.
        log.seek(end)
        begun = b""
        while True:
            # Asked before reading: what is written until the rotation is read to its end.
            was_rotated = _is_another(log, file)
            for part in log:
                begun += part
                if begun.endswith(b"\n"):
                    yield begun.rstrip(b"\r\n")
                    begun = b""
            if stop.is_set():
                return
            if was_rotated:
                log.close()
                log = file.open("rb")
            else:
                time.sleep(pause_seconds)
    finally:
        log.close()


def _is_another(log: BinaryIO, file: Path) -> bool:
    """Return whether the name now stands for another file, or the file was cut short."""
    try:
        now = file.stat()
    except FileNotFoundError:
        return False
    return not os.path.samestat(now, os.fstat(log.fileno())) or now.st_size < log.tell()


def _last_lines(log: BinaryIO, count: int, *, end: int) -> list[bytes]:
    position = end
    tail = b""
    # One line end more than lines: the one before the first of them.
    while position and tail.count(b"\n") <= count:
        step = min(_BLOCK_BYTES, position)
        position -= step
        log.seek(position)
        tail = log.read(step) + tail
    lines = tail.splitlines()
    return lines[-count:] if count else []
