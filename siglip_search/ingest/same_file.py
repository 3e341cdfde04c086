"""Whether what a scan sees at a known path is the file that the library read.

Size and time decide. They are compared as loosely as the two file systems make it necessary: a
drive that comes from another computer, or a copy of it, must not be read again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from siglip_index.records import KnownFile
    from siglip_search.photos.scan import SeenFile

_SECOND_NS = 1_000_000_000
_HOUR_NS = 3600 * _SECOND_NS

_GRAINS_NS = (2 * _SECOND_NS, _SECOND_NS, 10_000_000, 1_000_000, 1_000, 100)
"""Times are kept to 2 s on FAT, 1 s on HFS+ and some shares, 10 ms on exFAT, 100 ns on NTFS."""

NO_TIME_NS = -1
"""Recorded in place of a time where the file has to be read again in any case."""

_MOST_HOURS_APART = 14
"""FAT keeps the local time: between two time zones, and winter and summer, whole hours differ."""

_FEWEST_TO_DOUBT_INODES = 4


def same_time(before_ns: int, now_ns: int, *, elsewhere: bool) -> bool:
    """Tell whether two modification times, nanoseconds since the epoch, can be one file's.

    Args:
        before_ns: As the library recorded it.
        now_ns: As the scan saw it.
        elsewhere: The file lies on another device than when its time was recorded, so that a copy
            may have rounded the time. On the same one only FAT's change between winter and
            summer time is allowed for.
    """
    if before_ns in (now_ns, NO_TIME_NS):
        return before_ns == now_ns
    apart = abs(now_ns - before_ns)
    grains = (_grain(before_ns), _grain(now_ns))
    if not elsewhere:
        return min(grains) == _GRAINS_NS[0] and apart == _HOUR_NS
    slack = max(grains)
    hours = round(apart / _HOUR_NS) if slack == _GRAINS_NS[0] else 0
    return hours <= _MOST_HOURS_APART and abs(apart - hours * _HOUR_NS) < slack


def _grain(time_ns: int) -> int:
    """Return the coarsest unit of a known file system in which a time is a whole number."""
    return next((grain for grain in _GRAINS_NS if time_ns % grain == 0), 1)


class SameFile:
    """Compares known files with seen ones, after a look at all of them.

    Args:
        known: What the library remembers below a root, by path.
        seen: What the scan saw.
    """

    def __init__(self, known: Mapping[bytes, KnownFile], seen: Iterable[SeenFile]) -> None:
        kept: Counter[int] = Counter()
        renumbered: Counter[int] = Counter()
        for file in seen:
            before = known.get(file.path)
            if before is None or not _looks_same(before, file):
                continue
            if not _is_elsewhere(before, file):
                same = before.fingerprint.inode == file.fingerprint.inode
                (kept if same else renumbered)[file.device] += 1
        # FAT, exFAT and some shares number their files anew with each mount. One file that was
        # replaced by another of its size and time is news; most of a disk's files are not.
        self._without_inodes = {
            device
            for device, files in renumbered.items()
            if files >= _FEWEST_TO_DOUBT_INODES and files > kept[device]
        }

    def __call__(self, before: KnownFile, file: SeenFile) -> bool:
        """Tell whether the content cannot have changed since it was read."""
        return _looks_same(before, file) and (
            _is_elsewhere(before, file)
            or before.fingerprint.inode == file.fingerprint.inode
            or file.device in self._without_inodes
        )


def _is_elsewhere(before: KnownFile, file: SeenFile) -> bool:
    return before.device is not None and before.device != file.device


def _looks_same(before: KnownFile, file: SeenFile) -> bool:
    was, now = before.fingerprint, file.fingerprint
    elsewhere = _is_elsewhere(before, file)
    return was.size == now.size and same_time(was.mtime_ns, now.mtime_ns, elsewhere=elsewhere)
