"""The thread that goes on while pictures are indexed: watcher, new folders, room on the disk."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from siglip_index.errors import StoreError
from siglip_search.service.followed_roots import FollowedRoots
from siglip_search.service.library_standing import LibraryStanding, Standing
from siglip_search.service.thrift import DiskSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from siglip_search.photos.settling import Settling
    from siglip_search.service.activity import Activity
    from siglip_search.service.journal import Journal
    from siglip_search.service.state import FolderState
    from siglip_search.service.watch_options import WatchOptions
    from siglip_search.settings import Settings


CARE_SECONDS = 1.0
CLOSING_SECONDS = 1.0


class Care:
    """Keeps the watcher in step with the library, and knows what stands in the way of a run.

    Args:
        settings: Which library.
        options: How to follow.
        settling: Takes what happens in the folders.
        activity: Counts it.
        journal: Takes what is worth a line.
        on_turn: Called about every second, in this thread.
        on_drives: Called there when a folder that is away may be at another place now.
        on_end: Called there when the thread ends, also when it dies of a defect.
    """

    def __init__(
        self,
        settings: Settings,
        options: WatchOptions,
        settling: Settling,
        activity: Activity,
        journal: Journal,
        *,
        on_turn: Callable[[], None],
        on_drives: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._settling = settling
        self._activity = activity
        self._journal = journal
        self._on_turn = on_turn
        self._on_drives = on_drives
        self._on_end = on_end
        self._disk = DiskSpace(settings.library, options.min_free_bytes)
        self._reader = LibraryStanding(settings.library)
        self._roots = FollowedRoots(
            settings.library,
            settling,
            activity,
            journal,
            poll=options.poll,
            poll_seconds=options.poll_seconds,
            hidden=settings.hidden,
        )
        self._stop = threading.Event()
        self._has_begun = threading.Event()
        self._reading = threading.Lock()
        self._thread: threading.Thread | None = None
        self._standing = Standing({})
        self._shortage: str | None = None

    @property
    def standing(self) -> Standing:
        """What the library said last."""
        return self._standing

    @property
    def shortage(self) -> str | None:
        """Why nothing may be written now, as one line; None while there is room."""
        return self._shortage

    def folders(self) -> tuple[FolderState, ...]:
        """Return how each folder is followed; from any thread, never waits."""
        return self._roots.states()

    def start(self, stop: threading.Event) -> None:
        """Begin; `has_begun` tells when the folders are followed.

        Args:
            stop: Ends the thread, which then wakes whoever waits for something to settle: a
                signal's handler may set an event, and must not take locks.
        """
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="care", daemon=True)
        self._thread.start()

    def has_begun(self, timeout_seconds: float) -> bool:
        """Wait until the folders known so far are followed; tell whether they are.

        Raises:
            RuntimeError: The thread has died, which is a defect; its traceback was told.
        """
        if self._thread is not None and not self._thread.is_alive() and not self._stop.is_set():
            raise RuntimeError("the thread that looks after the watcher has ended")
        return self._has_begun.wait(timeout_seconds)

    @contextmanager
    def hands_off(self) -> Iterator[None]:
        """Keep no file of the library open meanwhile: another may be put in its place."""
        with self._reading:
            self._reader.start_afresh()
            yield
            self._reader.start_afresh()

    def close(self) -> None:
        """End the thread and follow nothing any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CLOSING_SECONDS)
            if self._thread.is_alive():
                return  # listing a large folder, or a drive that does not answer: it ends with us
        self._roots.close()
        self._reader.start_afresh()

    def _run(self) -> None:
        try:
            self._turn()
            self._has_begun.set()
            while not self._stop.wait(CARE_SECONDS):
                self._turn()
        finally:
            self._has_begun.set()
            self._on_end()
            self._settling.wake()

    def _turn(self) -> None:
        self._shortage = self._disk.shortage()
        if self._reading.acquire(blocking=False):  # it is held while another command writes
            try:
                self._standing = self._reader.read()
            except (StoreError, OSError) as error:
                # The working thread meets it as well and does something about it.
                self._activity.warn(str(error))
            finally:
                self._reading.release()
        # What is there at the start is looked through anyway.
        self._roots.update(self._standing, look=self._has_begun.is_set())
        if self._roots.check():
            self._on_drives()
        self._on_turn()
