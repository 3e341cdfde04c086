"""watchdog's reader of inotify, made to tell what it keeps to itself.

watchdog 7.1 passes over folders that could not be watched and reports a queue that overflowed in
a log record only. Both are known in the two methods that are extended here.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from watchdog.observers.inotify_c import InotifyConstants, InotifyFD

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.observers.inotify_c import (
        CallbackId,
        InotifyEvent,
        Mask,
        WatchCallback,
        WatchDescriptor,
    )

_LIMIT_ERRNOS = frozenset({errno.ENOSPC, errno.EMFILE})


class Inotify(InotifyFD):
    """One inotify instance and the thread that reads it.

    Args:
        takes_folder: Tells of an absolute path whether the folder is to be watched.

    Attributes:
        exhausted: The error when a limit of the system was reached, so that not all is watched.
        overflows: How many times the queue overflowed, counted once watchdog has watched
            everything anew: a look from then on misses nothing.
        is_unmounted: Something that was watched was unmounted.
        failure: What ended the thread, if it was not stopped.

    Raises:
        OSError: If there are too many instances.
    """

    def __init__(self, takes_folder: Callable[[bytes], bool]) -> None:
        super().__init__()
        self._takes_folder = takes_folder
        self.exhausted: OSError | None = None
        self.overflows = 0
        self.is_unmounted = False
        self.failure: str | None = None

    def run(self) -> None:
        """Read until stopped.

        Two watches under one path, as after a folder was moved out of the tree and another took
        its place, can confuse watchdog's books; the thread then ends, and whoever looks after it
        starts another.
        """
        try:
            super().run()
        except (KeyError, OSError, RuntimeError, AssertionError) as error:
            self.failure = repr(error)

    def add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        """Watch a folder, unless nothing in it is wanted.

        Raises:
            OSError: If it is not watched. Of folders below the first, watchdog goes on without.
        """
        if not self._takes_folder(path):
            raise OSError(errno.ECANCELED, "not wanted", os.fsdecode(path))
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if error.errno in _LIMIT_ERRNOS:
                self.exhausted = error
            raise

    def handle_event(self, event: InotifyEvent) -> None:
        """Pass an event on; after an overflow, have everything watched anew."""
        if event.mask & InotifyConstants.IN_UNMOUNT:
            self.is_unmounted = True
        super().handle_event(event)
        if event.is_queue_overflow:
            self.overflows += 1
