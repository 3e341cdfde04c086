"""Where commands reach the daemon of a library: one a library, open to its user alone."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from siglip_search.errors import DaemonRunningError, PathError
from siglip_search.service.address import address_file, hang_up, listen, uses_loopback
from siglip_search.service.channel import Channel
from siglip_search.service.client import DaemonClient, connect
from siglip_search.service.conversation import Conversation
from siglip_search.service.messages import PROTOCOL, Greeting
from siglip_search.service.version import installed_version, package_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from filelock import BaseFileLock

    from siglip_search.service.address import Line
    from siglip_search.service.served import Served

_LOG = logging.getLogger(__name__)

LOCK_NAME = "daemon.lock"
# Long enough for a daemon that is just ending.
_PATIENCE_SECONDS = 1.0

# Conversations at a time; whoever comes then works alone.
MAX_CONVERSATIONS = 32

# How often a daemon that nobody calls looks whether it can be called at all.
RENEWAL_SECONDS = 60.0

# For answers that are being made when the endpoint closes.
CLOSING_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 0.05
# For those that were broken off to notice.
_LAST_MOMENT_SECONDS = 0.1


class Endpoint:
    """Takes the requests of commands and gives each to the daemon in a thread of its own.

    Args:
        directory: Folder of the library; made if it is not there.
        served: The daemon.
    """

    def __init__(self, directory: Path, served: Served) -> None:
        self._directory = directory
        self._served = served
        self._lock: BaseFileLock | None = None
        self._line: Line | None = None
        self._accepting: threading.Thread | None = None
        self._version = installed_version()
        self._conversations: dict[Conversation, threading.Thread] = {}
        self._changed = threading.Condition()
        self._is_closing = False
        self._waking: socket.socket | None = None

    def start(self) -> None:
        """Take the daemon's lock of the library and begin to listen.

        Raises:
            DaemonRunningError: Another daemon has the lock.
            PathError: There is no place for the lock or the socket.
        """
        self._take_lock()
        try:
            self._line = listen(self._directory)
        except PathError:
            self._release_lock()
            raise
        self._waking, woken = socket.socketpair()
        self._accepting = threading.Thread(
            target=self._accept, args=(woken,), name="endpoint", daemon=True
        )
        self._accepting.start()

    def close(self) -> None:
        """Stop listening, give answers in work a moment, break the rest off, release the lock.

        Commands that wait for the daemon's end are let go last: the lock is theirs to take then.
        """
        with self._changed:
            self._is_closing = True
        if self._accepting is not None and self._waking is not None:
            self._waking.close()
            self._accepting.join()
            self._accepting = None
        if self._line is not None:
            self._line.socket.close()
            self._line = None
            hang_up(self._directory)
        self._end_conversations(lambda conversation: not conversation.awaits_end)
        self._release_lock()
        self._end_conversations(lambda _: True)

    def _end_conversations(self, which: Callable[[Conversation], bool]) -> None:
        deadline = time.monotonic() + CLOSING_SECONDS
        is_late = False
        with self._changed:
            while not is_late and (left := list(filter(which, self._conversations))):
                is_late = time.monotonic() >= deadline
                for conversation in left:
                    # Looked at again and again: some go on after their answer, and tell nobody.
                    if is_late or not conversation.is_answering:
                        conversation.shut()
                self._changed.wait_for(
                    lambda: not any(map(which, self._conversations)),
                    _LAST_MOMENT_SECONDS if is_late else _LOOK_EVERY_SECONDS,
                )

    def _take_lock(self) -> None:
        from filelock import FileLock, Timeout

        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Not per thread: whoever closes the endpoint may be another thread.
            lock = FileLock(self._directory / LOCK_NAME, thread_local=False)
            lock.acquire(timeout=_PATIENCE_SECONDS, poll_interval=0.05)
        except Timeout:
            raise self._running(connect(self._directory)) from None
        except OSError as error:
            raise PathError(
                f"{self._directory / LOCK_NAME} cannot be made: {error.strerror or error}",
                hint="Check the permissions of the library's folder, and the room on its disk.",
            ) from error
        # A lock file that was deleted, with its folder say, keeps nobody out; who answers does.
        other = connect(self._directory)
        if other is not None:
            lock.release()
            raise self._running(other)
        self._lock = lock

    def _running(self, other: DaemonClient | None) -> DaemonRunningError:
        who = "another process" if other is None else f"process {other.pid}"
        if other is not None:
            other.close()
        return DaemonRunningError(
            f"{who} looks after the library {self._directory} already",
            hint="`siglip-search status` shows what it is doing; `siglip-search index PATH` "
            "hands it a folder.",
        )

    def _release_lock(self) -> None:
        if self._lock is not None:
            # Only the lock counts; the file is removed so that a library of no pictures leaves
            # no folder behind. Windows removes none that is open, and does not have to.
            with suppress(OSError):
                os.unlink(self._lock.lock_file)
            self._lock.release()
            self._lock = None

    def _accept(self, woken: socket.socket) -> None:
        assert self._line is not None
        with woken, selectors.DefaultSelector() as selector:
            self._line.socket.setblocking(False)
            selector.register(self._line.socket, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not self._is_closing:
                if not selector.select(RENEWAL_SECONDS):
                    self._renew_address(selector)
                    continue
                try:
                    line, _ = self._line.socket.accept()
                except BlockingIOError:
                    continue  # woken, or whoever called has hung up again
                except OSError as error:
                    # Too many open files, say: those in use are given back before long.
                    _LOG.warning("a command could not be let in: %s", error)
                    time.sleep(0.1)
                    continue
                try:
                    self._let_in(line)
                # No room for a thread, say, or packages that are being exchanged: this command
                # works alone, and the next one finds the daemon listening.
                except Exception as error:  # noqa: BLE001
                    _LOG.warning("a command could not be let in: %s", error)
                    line.close()

    def _renew_address(self, selector: selectors.BaseSelector) -> None:
        """Listen anew if the address is gone: systems clear their temporary folders."""
        assert self._line is not None
        if os.path.lexists(address_file(self._directory)):
            return
        try:
            line = listen(self._directory)
        except PathError as error:
            _LOG.debug("%s", error)
            return
        selector.unregister(self._line.socket)
        self._line.socket.close()
        self._line = line
        line.socket.setblocking(False)
        selector.register(line.socket, selectors.EVENT_READ)

    def _let_in(self, line: socket.socket) -> None:
        assert self._line is not None
        with self._changed:
            is_full = len(self._conversations) >= MAX_CONVERSATIONS
        try:
            is_welcome = not is_full and (uses_loopback() or _is_same_user(line))
        except OSError:
            is_welcome = False
        if not is_welcome:
            line.close()
            return
        conversation = Conversation(
            Channel(line), self._served, self._greeting(), self._line.secret
        )
        thread = threading.Thread(
            target=self._hold, args=(conversation,), name="conversation", daemon=True
        )
        with self._changed:
            thread.start()  # which waits for this lock before it takes itself off the list
            self._conversations[conversation] = thread

    def _hold(self, conversation: Conversation) -> None:
        try:
            conversation.run()
        finally:
            with self._changed:
                del self._conversations[conversation]
                self._changed.notify_all()

    def _greeting(self) -> Greeting:
        is_current = installed_version() == self._version
        return Greeting(
            PROTOCOL, self._version, os.getpid(), package_folder() if is_current else ""
        )


def _is_same_user(line: socket.socket) -> bool:
    from siglip_search.service.peer import is_same_user

    return is_same_user(line)
