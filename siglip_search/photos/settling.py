"""Waiting until files are whole: paths to which something happened become places to look at.

What watchers tell is not reliable enough to act on (events get lost, repeated and mixed up), so
an event means only that its path is worth a look, once it has come to rest.
"""

from __future__ import annotations

import math
import os
import stat
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_search.photos.ignore_files import IGNORE_FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Who closed a file, or gave it its name, is most likely done with it.
_CLOSED_PART = 0.25
# Readings are taken this many times a settling time, so that a burst does not wake the reader
# for each of its files.
_READINGS_PER_SETTLE = 8
# The part of a step by which a reader may be late without waiting for another step.
_SLACK = 0.25

_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 600.0

_SEPARATOR = os.fsencode(os.sep)


@dataclass(frozen=True, slots=True, order=True)
class Look:
    """A place to look at.

    Attributes:
        path: Absolute. It may have vanished, or lie outside of every root: a vanished root is
            asked for together with the folder that it was in.
        subfolders: Also everything below; otherwise this file, or the files directly in this
            folder.
    """

    path: bytes
    subfolders: bool


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a path was like at one moment; all None when nothing was there."""

    size: int | None = None
    mtime_ns: int | None = None
    is_folder: bool = False


@dataclass(slots=True)
class _Waiting:
    """A path that is not handed over yet; times are the clock's.

    Attributes:
        since: Of its first event.
        pause: How long nothing may happen before it counts as quiet.
        check_at: When it is to be read next.
        deep: Everything below is meant, whatever it is.
        reading: The last one, None before the first.
        read_at: When a reading first showed what `reading` does.
        quiet_at: When it was found quiet; None if it is not.
    """

    since: float
    pause: float
    check_at: float
    deep: bool
    reading: _Reading | None = None
    read_at: float = 0.0
    quiet_at: float | None = None


class Settling:
    """Gathers paths until they are quiet, and hands them over as few places to look at.

    A path is quiet when nothing was heard of it for `settle_seconds` and its size and mtime were
    the same at two readings so far apart; after its file was closed a quarter of that does. Files
    become their folders, because companions are judged folder by folder. Folders and what has
    vanished, which may have been a folder, become deep looks. A place is held back for up to
    another `settle_seconds` while something in it is busy, so that a burst is looked at in
    few pieces and a picture beside the one that is being written does not take that along. What
    has vanished is handed over with what came, since it may be its former name: a move of which
    both ends are looked at together costs no reading.

    Everything may be called from any thread, `due` from one at a time.

    Args:
        settle_seconds: See above.
        max_wait_seconds: What is never quiet is handed over after this time; who reads a file
            notices when it changes meanwhile.
        max_paths: If more are waiting, those that lie deepest become a deep look at their folder.
        clock: Tells the time in seconds, never going back.
    """

    def __init__(
        self,
        *,
        settle_seconds: float = 1.0,
        max_wait_seconds: float = 60.0,
        max_paths: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settle = settle_seconds
        self._max_wait = max_wait_seconds
        self._max_paths = max_paths
        self._clock = clock
        self._waiting: dict[bytes, _Waiting] = {}
        self._later: dict[bytes, float] = {}
        self._later_folders: dict[bytes, float] = {}
        self._tries: dict[bytes, tuple[int, float]] = {}
        self._sift_tries_at = -math.inf
        self._next_at = math.inf
        self._is_woken = False
        self._changed = threading.Condition()

    def touch(self, path: bytes, *, closed: bool | None = False) -> None:
        """Something happened to a path.

        Args:
            path: Absolute.
            closed: A writer closed it, or it was given its name: it is likely to be whole. None
                when only its attributes changed, which tells nothing about that.
        """
        self._note(path, closed=closed, deep=False)

    def touch_folder(self, path: bytes) -> None:
        """Ask for a folder and everything below it.

        For a folder that came, went or was renamed, a new root, and lost events.
        """
        self._note(path, closed=False, deep=True)

    def try_later(self, path: bytes) -> int | None:
        """Ask for a path again after 2 s, twice as long each time in a row, at most 10 minutes.

        Returns:
            How many times in a row that has been asked for; None if there are too many paths to
            count: its folder is asked for after 10 minutes.
        """
        now = self._clock()
        with self._changed:
            if path not in self._tries and self._has_too_many_tries(now):
                # So much fails, a drive say, that it would be tried all the time.
                at = now + _LAST_RETRY_SECONDS
                self._expect(self._later_folders.setdefault(os.path.dirname(path), at))
                return None
            tries, last = self._tries.get(path, (0, now))
            # What went well for long starts anew.
            tries = 0 if now - last > 2 * _LAST_RETRY_SECONDS else tries
            # The exponent is kept small: a float would overflow after a thousand tries.
            pause = min(_FIRST_RETRY_SECONDS * 2.0 ** min(tries, 20), _LAST_RETRY_SECONDS)
            self._tries[path] = tries + 1, now + pause
            self._later[path] = now + pause
            self._expect(now + pause)
            return tries + 1

    def due(self) -> list[Look]:
        """Hand over what is quiet, each place once and none that lies below a deep look."""
        now = self._clock()
        with self._changed:
            late = [path for path, at in self._later.items() if at <= now]
            for path in late:
                del self._later[path]
            late_folders = [path for path, at in self._later_folders.items() if at <= now]
            for path in late_folders:
                del self._later_folders[path]
            to_read = [
                (path, waiting, waiting.check_at)
                for path, waiting in self._waiting.items()
                if waiting.check_at <= now and waiting.quiet_at is None
            ]
        # A file system may take its time, and events must not wait for it.
        readings = [(path, _read(path)) for path in late]
        read = [(path, waiting, at, _read(path)) for path, waiting, at in to_read]
        with self._changed:
            for path, waiting, at, reading in read:
                is_untouched = waiting.check_at == at
                if self._waiting.get(path) is waiting and is_untouched:
                    self._judge(waiting, reading, now)
            quiet = self._take_quiet(now)
            later = min(self._later.values(), default=math.inf)
            later_folders = min(self._later_folders.values(), default=math.inf)
            self._next_at = min(self._next_reading_at(now), later, later_folders)
        looks = [Look(path, subfolders=False) for path in late_folders]
        looks += [look for path, reading in readings for look in _looks(path, reading, deep=False)]
        for path, waiting in quiet:
            looks.extend(_looks(path, _read(path), deep=waiting.deep))
        return _without_covered(looks)

    def wait(self, timeout_seconds: float) -> None:
        """Wait until something may be due, `wake` is called or the time is over."""
        end = self._clock() + timeout_seconds
        with self._changed:
            while not self._is_woken:
                pause = min(end, self._next_at) - self._clock()
                if pause <= 0:
                    return
                self._changed.wait(pause)
            self._is_woken = False

    def wake(self) -> None:
        """End a `wait`, or the next one if nobody is waiting."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def __len__(self) -> int:
        """Return how many paths are waiting, those for later included."""
        with self._changed:
            return len(self._waiting) + len(self._later) + len(self._later_folders)

    def _note(self, path: bytes, *, closed: bool | None, deep: bool) -> None:
        now = self._clock()
        pause = self._settle * (_CLOSED_PART if closed else 1)
        with self._changed:
            self._later.pop(path, None)
            waiting = self._waiting.get(path)
            if waiting is None:
                # The first reading comes early, so that one event alone costs little more than
                # one pause.
                check_at = self._on_grid(now + (0.0 if closed else self._settle * _CLOSED_PART))
                self._waiting[path] = _Waiting(now, pause, check_at, deep)
                if len(self._waiting) > self._max_paths:
                    self._merge_deepest(now)
            elif deep and waiting.deep:
                return  # the look will come after this: a polled folder must not wait for ever
            else:
                if closed is not None:
                    waiting.pause = pause
                if closed:  # what was read before the last byte was written says nothing
                    waiting.reading = None
                check_at = self._on_grid(now + (0.0 if closed else waiting.pause))
                waiting.check_at = check_at
                waiting.deep = waiting.deep or deep
                waiting.quiet_at = None
            self._expect(check_at)

    def _on_grid(self, at: float) -> float:
        step = self._settle / _READINGS_PER_SETTLE
        return math.ceil(at / step - _SLACK) * step if step else at

    def _expect(self, at: float) -> None:
        if at < self._next_at:
            self._next_at = at
            self._changed.notify_all()

    def _judge(self, waiting: _Waiting, reading: _Reading, now: float) -> None:
        if reading != waiting.reading:
            waiting.reading, waiting.read_at = reading, now
        slack = _SLACK * self._settle / _READINGS_PER_SETTLE
        if now - waiting.read_at >= waiting.pause - slack:
            waiting.quiet_at = now
        else:
            waiting.check_at = self._on_grid(waiting.read_at + waiting.pause)

    def _take_quiet(self, now: float) -> list[tuple[bytes, _Waiting]]:
        """Take out what is to be handed over now."""
        quiet, busy = [], []
        for path, waiting in self._waiting.items():
            if waiting.quiet_at is not None or now - waiting.since >= self._max_wait:
                quiet.append((path, waiting))
            else:
                busy.append(path)
        if not quiet:
            return []
        is_something_coming = not all(_is_gone(self._waiting[path]) for path in busy)
        busy_folders = {os.path.dirname(path) for path in busy}
        with_busy_below = _and_all_above(busy)
        places, free = [], set()
        for path, waiting in quiet:
            is_folder = waiting.deep or _is_folder(waiting)
            place = path if is_folder else os.path.dirname(path)
            is_held = place in (with_busy_below if is_folder else busy_folders) or (
                is_something_coming and _is_gone(waiting)
            )
            if not is_held or self._is_held_too_long(waiting, now):
                free.add(place)
            places.append(place)
        taken = {
            path: waiting
            for (path, waiting), place in zip(quiet, places, strict=True)
            if place in free
        }
        if not all(map(_is_gone, taken.values())):
            taken |= {path: waiting for path, waiting in self._waiting.items() if _is_gone(waiting)}
        for path in taken:
            del self._waiting[path]
        return list(taken.items())

    def _is_held_too_long(self, waiting: _Waiting, now: float) -> bool:
        held = 0.0 if waiting.quiet_at is None else now - waiting.quiet_at
        return held >= self._settle or now - waiting.since >= self._max_wait

    def _next_reading_at(self, now: float) -> float:
        """Return when a waiting path may be due; what is quiet and held has its own end."""
        times = (
            min(
                waiting.check_at if waiting.quiet_at is None else waiting.quiet_at + self._settle,
                waiting.since + self._max_wait,
            )
            for waiting in self._waiting.values()
        )
        soonest = min(times, default=math.inf)
        return soonest if soonest > now else self._on_grid(now + self._settle / 100)

    def _merge_deepest(self, now: float) -> None:
        """Put folders in the place of what lies deepest, until half as many paths wait."""
        while len(self._waiting) > self._max_paths // 2:
            depth = max(path.count(_SEPARATOR) for path in self._waiting)
            if depth <= 1:
                return
            for path in [path for path in self._waiting if path.count(_SEPARATOR) == depth]:
                since = self._waiting.pop(path).since
                folder = os.path.dirname(path)
                merged = self._waiting.get(folder)
                if merged is None:
                    check_at = self._on_grid(now + self._settle)
                    merged = _Waiting(since, self._settle, check_at, deep=True)
                    self._waiting[folder] = merged
                merged.deep = True
                merged.quiet_at = None
                merged.since = min(merged.since, since)

    def _has_too_many_tries(self, now: float) -> bool:
        if len(self._tries) >= 2 * self._max_paths and now >= self._sift_tries_at:
            self._sift_tries_at = now + _LAST_RETRY_SECONDS
            oldest = now - 2 * _LAST_RETRY_SECONDS
            self._tries = {path: seen for path, seen in self._tries.items() if seen[1] >= oldest}
        return len(self._tries) >= 2 * self._max_paths


def _read(path: bytes) -> _Reading:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return _Reading()
    return _Reading(status.st_size, status.st_mtime_ns, stat.S_ISDIR(status.st_mode))


def _is_gone(waiting: _Waiting) -> bool:
    return waiting.reading is not None and waiting.reading.size is None


def _is_folder(waiting: _Waiting) -> bool:
    return waiting.reading is not None and waiting.reading.is_folder


def _looks(path: bytes, reading: _Reading, *, deep: bool) -> Iterable[Look]:
    folder, name = os.path.split(path)
    if name == IGNORE_FILE_NAME:
        yield Look(folder, True)  # its rules hold for everything below
    elif deep or reading.is_folder:
        yield Look(path, True)
    else:
        yield Look(folder, False)
        if reading.size is None:
            yield Look(path, True)  # nobody knows any more whether it was a folder


def _without_covered(looks: Iterable[Look]) -> list[Look]:
    """Return the looks in order, each once, without those that a deep look covers."""
    wanted = set(looks)
    deep = {look.path for look in wanted if look.subfolders}
    return (
        sorted(
            look
            for look in wanted
            if not (look.path in deep and not look.subfolders)
            and deep.isdisjoint(_and_all_above([os.path.dirname(look.path)]))
        )
        if deep
        else sorted(wanted)
    )


def _and_all_above(paths: Iterable[bytes]) -> frozenset[bytes]:
    """Return the paths and every folder above them."""
    found: set[bytes] = set()
    for path in paths:
        while path not in found:
            found.add(path)
            path = os.path.dirname(path)
    return frozenset(found)
