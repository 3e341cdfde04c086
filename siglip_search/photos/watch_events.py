"""The events of one folder and all below it, as watchdog tells them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING

from watchdog.events import (
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from siglip_index.locations import join, relative_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.photos.watch_inotify import Inotify
    from siglip_search.photos.watch_rules import WatchRules

# Not among them: opening and closing for reading, which every scan does to every file, and a
# folder's own "modified", which only repeats what is told of its entries.
_WANTED: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileModifiedEvent, FileAttribEvent, FileClosedEvent),
    *(FileMovedEvent, FileDeletedEvent),
    *(DirCreatedEvent, DirMovedEvent, DirDeletedEvent, DirAttribEvent),
]

_ON_LINUX = sys.platform == "linux"

# A program that configures no logging would see watchdog's warnings on its screen; what they say
# is told in `FolderEvents.lost`.
logging.getLogger("watchdog").addHandler(logging.NullHandler())


class FolderEvents:
    """Follows a folder by events until closed; each folder has an observer of its own.

    So an overflow concerns one folder only, and one that went away takes no other with it.

    Args:
        folder: Absolute path, as it is to be reported.
        real: The same with no link in it.
        rules: What to leave out.
        on_path: Called in watchdog's thread with a file's path, and whether it was closed or got
            its name; None when only its attributes changed.
        on_folder: Called in watchdog's thread with the path of a folder that came, went, was
            renamed or got other permissions; on Windows also with what was deleted, because
            nobody knows what it was.

    Raises:
        OSError: If the folder cannot be followed. ENOSPC and EMFILE mean a limit of Linux.
    """

    def __init__(
        self,
        folder: bytes,
        real: bytes,
        rules: WatchRules,
        on_path: Callable[[bytes, bool | None], None],
        on_folder: Callable[[bytes], None],
    ) -> None:
        self._inotify: Inotify | None = None
        self._overflows = 0
        self._observer = self._new_observer(rules)
        handler = _Handler(folder, real, rules, on_path, on_folder)
        try:
            self._start(handler, real)
        except BaseException:
            self.close()
            raise

    def lost(self) -> str | None:
        """Return why events were lost since the last call, None if none were."""
        overflows = 0 if self._inotify is None else self._inotify.overflows
        if overflows == self._overflows:
            return None
        self._overflows = overflows
        return "more happened at once than the system could tell"

    def limit(self) -> OSError | None:
        """Return the error when a limit of Linux left some folder below unwatched."""
        return None if self._inotify is None else self._inotify.exhausted

    def end(self) -> str | None:
        """Return why nothing is followed any more, None while it is.

        An observer lives on when what it follows is gone; its other threads tell.
        """
        if self._inotify is not None and not self._inotify.is_alive():
            return f"the reader of events ended: {self._inotify.failure}"
        if self._inotify is not None and self._inotify.is_unmounted:
            return "a drive was unmounted"
        emitters = list(self._observer.emitters)
        if not self._observer.is_alive() or not all(emitter.is_alive() for emitter in emitters):
            return "the folder was deleted, or its watch ended"
        return None

    def close(self) -> None:
        """End all threads and give the system's handles back."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
        if self._inotify is not None:
            self._inotify.stop()
            self._inotify.join()

    def _new_observer(self, rules: WatchRules) -> BaseObserver:
        if not _ON_LINUX:
            return Observer()
        from watchdog.observers.inotify import InotifyEmitter

        from siglip_search.photos.watch_inotify import Inotify

        self._inotify = Inotify(rules.takes_folder)
        return BaseObserver(InotifyEmitter, inotify_fd=self._inotify)

    def _start(self, handler: FileSystemEventHandler, real: bytes) -> None:
        # A folder that was moved out and comes back is watched again under its new name, which
        # is right; watchdog warns of it.
        warnings.filterwarnings("ignore", "Callback with id", RuntimeWarning)
        if self._inotify is not None:
            self._inotify.start()
        self._observer.start()
        # Text names cannot carry every name on Linux, and only text is taken elsewhere.
        path = real if _ON_LINUX else os.fsdecode(real)
        self._observer.schedule(
            handler,
            path,  # type: ignore[arg-type]  # bytes do as well, see ObservedWatch
            recursive=True,
            event_filter=_WANTED,
        )
        limit = self.limit()
        if limit is not None:
            raise limit


class _Handler(FileSystemEventHandler):
    """Takes the events that may concern pictures, under the paths that the caller knows."""

    def __init__(
        self,
        folder: bytes,
        real: bytes,
        rules: WatchRules,
        on_path: Callable[[bytes, bool | None], None],
        on_folder: Callable[[bytes], None],
    ) -> None:
        self._folder = folder
        self._real = real
        self._rules = rules
        self._on_path = on_path
        self._on_folder = on_folder

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take one event; a moved file or folder has two ends."""
        if isinstance(event, DirDeletedEvent) and os.fsencode(event.src_path) == self._real:
            return  # `FolderEvents.end` tells; until the folder is back nothing can be seen
        is_of_attributes = isinstance(event, FileAttribEvent)
        closed = None if is_of_attributes else isinstance(event, FileClosedEvent)
        self._take(event, event.src_path, closed=closed)
        if event.dest_path:
            self._take(event, event.dest_path, closed=True)

    def _take(self, event: FileSystemEvent, text: bytes | str, *, closed: bool | None) -> None:
        if not text:
            return  # a move of which only one end is known
        path = os.fsencode(text)
        may_be_folder = event.is_directory or (
            sys.platform == "win32" and isinstance(event, FileDeletedEvent)
        )
        if may_be_folder and self._rules.takes_folder(path):
            self._on_folder(self._shown(path))
        if not event.is_directory and self._rules.takes_file(path):
            self._on_path(self._shown(path), closed)

    def _shown(self, path: bytes) -> bytes:
        relative = relative_to(path, self._real)
        return path if relative is None else join(self._folder, relative)
