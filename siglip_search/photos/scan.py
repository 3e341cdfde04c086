"""Finding the files below a folder that may be pictures, one stat each."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from siglip_index.locations import relative_to
from siglip_search.photos.cloud_placeholder import (
    forget_mounts,
    is_online_only,
    is_stub,
)
from siglip_search.photos.file_rules import FileRules, Judgement
from siglip_search.photos.fingerprint import fingerprint
from siglip_search.photos.folder_files import FolderFiles
from siglip_search.photos.hidden_files import is_hidden
from siglip_search.photos.ignore_files import (
    IGNORE_FILE_NAME,
    IgnoreFile,
    UnusableIgnoreFileError,
    read_ignore_file,
)
from siglip_search.photos.path_rules import PathRules
from siglip_search.photos.scan_result import Part, ScanResult, ScanRules, SeenFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Part", "ScanResult", "ScanRules", "SeenFile", "scan", "scan_parts"]

# What asking for something that is not there (any more) gives, a link in a circle included.
_ABSENT_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

# How many entries of one folder may pass before `should_stop` is asked again.
_ENTRIES_BETWEEN_CHECKS = 2_000

_IS_WINDOWS = os.name == "nt"

_STOPPED = "the scan was stopped"
_LISTED_BY_CLOUD = "only the cloud knows what is in it; --download-cloud asks it"


def scan(
    root: bytes,
    rules: ScanRules,
    *,
    within: bytes = b"",
    subfolders: bool = True,
    should_stop: Callable[[], bool] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ScanResult:
    """Find the files that may be pictures at or below a root.

    Every folder is visited once, whatever symbolic links lead to it: under its own path when it
    lies below the root, under the path of a link otherwise. Links to files count as files.

    Args:
        root: Absolute path of a folder or of one file. Hidden or not, it is looked at.
        rules: What to leave out.
        within: Only look at this file or at and below this folder: root-relative,
            "/"-separated. Rules of the folders above it hold, and nothing there is no failure.
        subfolders: Look into the folders below that one as well.
        should_stop: Asked between folders and within large ones; True ends the scan at once.
        on_progress: Called between folders with the number of files found so far.

    Raises:
        PathError: If a pattern of `rules` is malformed.
    """
    part = Part(within, subfolders)
    return scan_parts(root, rules, [part], should_stop=should_stop, on_progress=on_progress)


def scan_parts(
    root: bytes,
    rules: ScanRules,
    parts: Sequence[Part],
    *,
    should_stop: Callable[[], bool] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ScanResult:
    """Find the files that may be pictures in some parts of a root, as one scan of all of it would.

    Args:
        root: As for `scan`, like all that follows.
        rules: What to leave out.
        parts: Where to look; none may lie in another one.
        should_stop: Asked now and then.
        on_progress: Called now and then.

    Raises:
        PathError: If a pattern of `rules` is malformed.
    """
    return _Scan(root, rules, should_stop, on_progress).run(parts)


class _Stopped(Exception):  # noqa: N818  a signal, not an error
    """The caller asked the scan to stop."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to be visited.

    Attributes:
        path: Root-relative.
        ignores: The .siglipignore files in force, outermost first.
    """

    path: bytes
    ignores: tuple[IgnoreFile, ...]


class _Scan:
    """One run of `scan`."""

    def __init__(
        self,
        root: bytes,
        rules: ScanRules,
        should_stop: Callable[[], bool] | None,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        self._root = root
        self._rules = rules
        self._hidden = rules.hidden
        self._paths = PathRules(root, rules.exclude)
        self._file_rules = FileRules(download_cloud=rules.download_cloud)
        self._should_stop = should_stop
        self._on_progress = on_progress
        self._visited: set[tuple[int, int]] = set()
        self._linked: deque[_Folder] = deque()
        self._result = ScanResult()
        self._ignored = 0
        self._companions = 0
        self._is_left_out = False
        self._unreadable = self._result.unreadable

    def run(self, parts: Sequence[Part]) -> ScanResult:
        forget_mounts()
        entries_at_root = self._count_entries_at_root()
        try:
            for part in parts:
                self._look_at(part)
            self._follow_links(is_whole=Part() in parts)
        except _Stopped:
            self._unreadable.extend((part.within, _STOPPED) for part in parts)
        return replace(
            self._result,
            ignored=self._ignored,
            companions=self._companions,
            entries_at_root=entries_at_root,
            left_out=self._is_left_out,
        )

    def _count_entries_at_root(self) -> int:
        try:
            with os.scandir(self._root) as entries:
                return sum(1 for _ in entries)
        except NotADirectoryError:
            return 1
        except OSError:
            return 0

    def _look_at(self, part: Part) -> None:
        folder = self._folder_at(part.within)
        if folder is None:
            return
        if part.subfolders:
            self._visit_all([folder])
        else:
            links = len(self._linked)
            self._visit(folder)
            while len(self._linked) > links:  # they lead to subfolders
                self._linked.pop()

    def _folder_at(self, within: bytes) -> _Folder | None:
        """Go to a folder; take what lies there if it is a file.

        Returns:
            None when there is no folder, or it is not to be visited under this path.
        """
        try:
            status = os.stat(self._root)
        except OSError as error:
            self._unreadable.append((b"", _reason(error)))
            return None
        if not stat.S_ISDIR(status.st_mode):
            if not within:
                self._take_file(b"", os.path.basename(self._root), status)
            return None

        folder = _Folder(b"", ())
        self._result.devices[b""] = status.st_dev
        is_linked = False
        for name in filter(None, within.split(b"/")):
            with_rules = self._with_own_ignore_file(folder)
            if with_rules is None:
                return None
            path = _join(folder.path, name)
            try:
                status = os.stat(self._absolute(path))
            except OSError as error:
                self._could_not_stat(path, error)
                return None
            is_folder = stat.S_ISDIR(status.st_mode)
            if (not self._hidden and is_hidden(name, status)) or self._paths.leaves_out(
                path, is_folder, with_rules.ignores
            ):
                self._is_left_out = True
                return None
            if not is_folder:
                if path == within:
                    self._take_file(path, name, status)
                return None
            folder = _Folder(path, with_rules.ignores)
            self._result.devices[path] = status.st_dev
            is_linked = is_linked or os.path.islink(self._absolute(path))
        return None if is_linked and self._has_own_path(folder.path) else folder

    def _visit_all(self, pending: list[_Folder]) -> None:
        """Visit folders and the real ones below them."""
        while pending:
            self._check_stop()
            pending.extend(self._visit(pending.pop()))
            if self._on_progress is not None:
                self._on_progress(len(self._result.files) + self._ignored)

    def _follow_links(self, *, is_whole: bool) -> None:
        # Real folders came first and to the end: what has a path of its own below the root was
        # found there, and a link to it, or in a circle, leads to a folder already visited.
        while self._linked:
            folder = self._linked.popleft()
            if is_whole or not self._has_own_path(folder.path):
                self._visit_all([folder])

    def _has_own_path(self, path: bytes) -> bool:
        """Tell whether a folder behind a link is visited by itself where the whole root is."""
        real = os.path.realpath(self._absolute(path))
        own = relative_to(real, os.path.realpath(self._root))
        if own is None or own == path:
            return False
        there = _Scan(self._root, self._rules, None, None)
        return there._folder_at(own) is not None

    def _visit(self, folder: _Folder) -> list[_Folder]:
        """Take the files of one folder; return its real subfolders."""
        absolute = self._absolute(folder.path)
        try:
            status = os.stat(absolute)
            identity = (status.st_dev, status.st_ino)
            # A file system without inode numbers gives 0 for all: there links are followed as
            # they come, and a circle ends where the path becomes too long.
            if status.st_ino and identity in self._visited:
                return []
            self._visited.add(identity)
            if self._is_listed_by_cloud(absolute, status):
                self._unreadable.append((folder.path, _LISTED_BY_CLOUD))
                return []
            self._result.devices[folder.path] = status.st_dev
            with os.scandir(absolute) as listing:
                entries = list(listing)
        except OSError as error:
            self._could_not_stat(folder.path, error)
            return []
        if any(entry.name == IGNORE_FILE_NAME for entry in entries):
            with_rules = self._with_own_ignore_file(folder)
            if with_rules is None:
                return []
            folder = with_rules
        return self._take_entries(folder, entries, status.st_dev)

    def _take_entries(
        self, folder: _Folder, entries: list[os.DirEntry[bytes]], device: int
    ) -> list[_Folder]:
        prefix = folder.path + b"/" if folder.path else b""
        judges_files = self._hidden or self._paths.judges_files(folder.ignores)
        files = FolderFiles(prefix, device, self._file_rules, hidden=self._hidden)
        subfolders: list[_Folder] = []
        linked: list[_Folder] = []
        for position, entry in enumerate(entries, 1):
            if position % _ENTRIES_BETWEEN_CHECKS == 0:
                self._check_stop()
            name = entry.name
            if name[:1] == b"." and not self._hidden and not is_stub(name):
                continue
            path = prefix + name
            try:
                is_folder = entry.is_dir()
                if (is_folder or judges_files) and self._paths.leaves_out(
                    path, is_folder, folder.ignores
                ):
                    continue
                if not is_folder:
                    files.take(entry)
                    continue
                if not self._hidden and is_hidden(name, entry.stat() if _IS_WINDOWS else None):
                    continue
                target = linked if _is_link(entry) else subfolders
                target.append(_Folder(path, folder.ignores))
            except OSError as error:
                self._could_not_stat(path, error)
        files.finish(lambda path: not self._paths.leaves_out(path, False, folder.ignores))
        self._add(files)
        # The order of a listing is arbitrary; with several links to one folder, it decides which
        # of their paths the files get, and they should keep it from one scan to the next.
        linked.sort(key=lambda link: link.path)
        self._linked.extend(linked)
        return subfolders

    def _add(self, files: FolderFiles) -> None:
        self._result.files.extend(files.files)
        self._result.online_only.extend(files.online_only)
        for extra, path in files.without_extra:
            self._result.without_extra.setdefault(extra, []).append(path)
        self._ignored += files.ignored
        self._companions += files.companions
        for path, error in files.failures:
            self._could_not_stat(path, error)

    def _take_file(self, path: bytes, name: bytes, status: os.stat_result) -> None:
        """Take a file that was asked for by its own path."""
        judgement = self._file_rules.judge(self._absolute(path), name, status)
        seen = SeenFile(path, fingerprint(status), status.st_dev)
        if judgement is Judgement.PICTURE:
            self._result.files.append(seen)
        elif judgement is Judgement.ONLINE_ONLY:
            self._result.online_only.append(seen)
        elif judgement is Judgement.MISSING_EXTRA:
            extra = self._file_rules.missing_extra(name)
            assert extra is not None  # the judgement says so
            self._result.without_extra.setdefault(extra, []).append(path)
        else:
            self._ignored += 1

    def _is_listed_by_cloud(self, absolute: bytes, status: os.stat_result) -> bool:
        # Only macOS has folders that are wholly elsewhere. On Windows the mark on a folder says
        # that something in it is, beside which there may be pictures; listing fetches names only.
        return (
            sys.platform == "darwin"
            and not self._file_rules.download_cloud
            and is_online_only(absolute, status)
        )

    def _with_own_ignore_file(self, folder: _Folder) -> _Folder | None:
        """Add a folder's .siglipignore, if it has one, to the rules in force in it.

        Returns:
            None when there is one that cannot be read: its owner wanted something left out, so
            nothing of the folder is looked at.
        """
        absolute = self._absolute(_join(folder.path, IGNORE_FILE_NAME))
        try:
            ignore = read_ignore_file(
                absolute, folder.path, download_cloud=self._file_rules.download_cloud
            )
        except UnusableIgnoreFileError as error:
            self._unreadable.append((folder.path, str(error)))
            return None
        if ignore is None:
            return folder
        return _Folder(folder.path, (*folder.ignores, ignore))

    def _could_not_stat(self, path: bytes, error: OSError) -> None:
        if error.errno not in _ABSENT_ERRNOS:
            self._unreadable.append((path, _reason(error)))
        elif os.path.islink(self._absolute(path)):
            self._result.dangling_links.append(path)
        # Otherwise it vanished after it was listed.

    def _check_stop(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise _Stopped

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self._root, path) if path else self._root


def _is_link(entry: os.DirEntry[bytes]) -> bool:
    # A junction is Windows' older link between folders; is_symlink() does not know it.
    is_junction = getattr(entry, "is_junction", None)
    return entry.is_symlink() or (is_junction is not None and is_junction())


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
