"""The writer's lock: held by one process at a time, and by none once that process is gone."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from siglip_index.errors import LibraryBusyError

if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock

_LOCK_NAME = "writer.lock"
_HOLDER_NAME = "writer.json"
# Long enough for a process that is just closing, or for verify's short look at the lock.
_PATIENCE_S = 1.0


class WriterLock:
    """A lock of the operating system on a file in the library's folder.

    The lock ends with the process whatever becomes of it; the file stays and means nothing.

    Args:
        directory: Folder of the library; it must exist.

    Attributes:
        path: The file.
    """

    def __init__(self, directory: Path) -> None:
        # Imported here: readers never need it.
        from filelock import FileLock

        self.path = directory / _LOCK_NAME
        self._directory = directory
        self._holder_path = directory / _HOLDER_NAME
        # Not per thread: whoever closes the store may be another thread than who opened it.
        self._lock: BaseFileLock = FileLock(self.path, thread_local=False)

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LibraryBusyError: Another process has it.
            OSError: The lock file cannot be made.
        """
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=_PATIENCE_S, poll_interval=0.05)
            while not self.path.exists():
                # The library was deleted meanwhile, its lock file with it: take the new one.
                self._lock.release()
                self._lock.acquire(timeout=_PATIENCE_S, poll_interval=0.05)
        except Timeout as error:
            raise LibraryBusyError(
                f"the library {self._directory} is being written by {_holder(self._holder_path)}",
                hint="Wait until it is done or stop it, then try again; searching works meanwhile.",
            ) from error
        # Only for the message to others: a full disk must not keep anyone from making room here.
        with suppress(OSError):
            self._holder_path.unlink(missing_ok=True)
            content = json.dumps({"pid": os.getpid(), "command": " ".join(sys.argv)})
            self._holder_path.write_text(content, encoding="utf-8")

    def release(self) -> None:
        """Give the lock back."""
        with suppress(OSError):
            self._holder_path.unlink(missing_ok=True)
        self._lock.release()


def is_held(directory: Path) -> bool:
    """Tell whether some process is writing at this moment, this one included.

    Raises:
        OSError: The folder cannot be written, so nobody here can hold the lock.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(directory / _LOCK_NAME, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _holder(path: Path) -> str:
    try:
        content = json.loads(path.read_bytes())
        return f"process {int(content['pid'])} ({content['command']})"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
