"""Finding the files below a folder that may be pictures, one stat each."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siglip_search.errors import NotAPictureError, PathError
from siglip_search.photos.fingerprint import TryAgainError, fingerprint, open_regular
from siglip_search.photos.formats import (
    SIGNATURE_BYTES,
    has_picture_extension,
    sniff_format,
)
from siglip_search.photos.ignore_rules import IgnoreRules

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_index.records import Fingerprint


IGNORE_FILE_NAME = b".siglipignore"
"""Name of the file with gitignore-style patterns for the folder that it lies in, and below."""

_IGNORE_FILE_MAX_BYTES = 1024 * 1024

# What asking for something that is not there (any more) gives, a link in a circle included.
_ABSENT_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

# How many entries of one folder may pass before `should_stop` is asked again.
_ENTRIES_BETWEEN_CHECKS = 2_000

_IS_WINDOWS = os.name == "nt"
_WINDOWS_HIDDEN = getattr(stat, "FILE_ATTRIBUTE_HIDDEN", 0x2)

_STOPPED = "the scan was stopped"


@dataclass(frozen=True, slots=True)
class ScanRules:
    """Which files a scan leaves out.

    Attributes:
        exclude: gitignore-style patterns, relative to the root. They take precedence over
            every .siglipignore file; "!pattern" takes a file back in.
        hidden: Whether files and folders whose name begins with a dot (or that Windows marks as
            hidden) are looked at.
    """

    exclude: tuple[str, ...] = ()
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A regular file that may be a picture.

    Attributes:
        path: Relative to the root, "/"-separated; b"" when the root is itself a file.
        fingerprint: As of the scan.
        device: st_dev of the file.
    """

    path: bytes
    fingerprint: Fingerprint
    device: int


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What lies below a root. Files left out by rules, and hidden ones, appear nowhere.

    Attributes:
        files: Regular files that may be pictures, in no particular order.
        ignored: How many files are no pictures by their name (videos, sidecars, text), or by
            their first bytes where the name has no extension, or that are no regular files.
        unreadable: Folders and files that could not be listed or looked at: root-relative path
            and reason. Nothing at or below them may be taken for deleted. When the scan was
            stopped, its starting point is here.
        devices: st_dev of every folder visited, by root-relative path; b"" is the root.
        entries_at_root: How many names the root holds, hidden ones included; 0 when it is empty,
            as an unmounted drive looks, or missing.
        dangling_links: Root-relative paths of symbolic links that lead nowhere. A link to a
            folder on a drive that is not there looks like that, so nothing below them may be
            taken for deleted.
    """

    files: list[SeenFile] = field(default_factory=list)
    ignored: int = 0
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    devices: dict[bytes, int] = field(default_factory=dict)
    entries_at_root: int = 0
    dangling_links: list[bytes] = field(default_factory=list)


def scan(
    root: bytes,
    rules: ScanRules,
    *,
    within: bytes = b"",
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
        should_stop: Asked between folders and within large ones; True ends the scan at once.
        on_progress: Called between folders with the number of files found so far.

    Raises:
        PathError: If a pattern of `rules` is malformed.
    """
    return _Scan(root, rules, should_stop, on_progress).run(within)


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
    ignores: tuple[_IgnoreFile, ...]


@dataclass(frozen=True, slots=True)
class _IgnoreFile:
    """Patterns that apply below a folder.

    Attributes:
        prefix_length: Length of the folder's root-relative path with its "/".
        rules: Judge paths relative to the folder.
    """

    prefix_length: int
    rules: IgnoreRules


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
        self._hidden = rules.hidden
        self._exclude = _compile_excludes(rules.exclude)
        self._should_stop = should_stop
        self._on_progress = on_progress
        self._visited: set[tuple[int, int]] = set()
        self._linked: deque[_Folder] = deque()
        self._files: list[SeenFile] = []
        self._ignored = 0
        self._unreadable: list[tuple[bytes, str]] = []
        self._devices: dict[bytes, int] = {}
        self._dangling: list[bytes] = []

    def run(self, within: bytes) -> ScanResult:
        entries_at_root = self._count_entries_at_root()
        try:
            self._start(within)
        except _Stopped:
            self._unreadable.append((within, _STOPPED))
        return ScanResult(
            files=self._files,
            ignored=self._ignored,
            unreadable=self._unreadable,
            devices=self._devices,
            entries_at_root=entries_at_root,
            dangling_links=self._dangling,
        )

    def _count_entries_at_root(self) -> int:
        try:
            with os.scandir(self._root) as entries:
                return sum(1 for _ in entries)
        except NotADirectoryError:
            return 1
        except OSError:
            return 0

    def _start(self, within: bytes) -> None:
        try:
            status = os.stat(self._root)
        except OSError as error:
            self._unreadable.append((b"", _reason(error)))
            return
        if not stat.S_ISDIR(status.st_mode):
            if not within:
                self._take_file(b"", os.path.basename(self._root), status)
            return

        folder = _Folder(b"", ())
        for name in filter(None, within.split(b"/")):
            with_rules = self._with_own_ignore_file(folder)
            if with_rules is None:
                return
            path = _join(folder.path, name)
            try:
                status = os.stat(self._absolute(path))
            except OSError as error:
                self._could_not_stat(path, error)
                return
            is_folder = stat.S_ISDIR(status.st_mode)
            if self._is_hidden(name, status) or self._is_left_out(
                path, is_folder, with_rules.ignores
            ):
                return
            if not is_folder:
                if path == within:
                    self._take_file(path, name, status)
                return
            folder = _Folder(path, with_rules.ignores)

        self._visit_all(folder)

    def _visit_all(self, start: _Folder) -> None:
        # Real folders first and to the end: what has a path of its own below the root is found
        # there, and a link to it, or in a circle, then leads to a folder already visited.
        pending = [start]
        while pending or self._linked:
            self._check_stop()
            folder = pending.pop() if pending else self._linked.popleft()
            pending.extend(self._visit(folder))
            if self._on_progress is not None:
                self._on_progress(len(self._files) + self._ignored)

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
            self._devices[folder.path] = status.st_dev
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
        has_rules = bool(folder.ignores) or self._exclude is not None
        subfolders: list[_Folder] = []
        linked: list[_Folder] = []
        for position, entry in enumerate(entries, 1):
            if position % _ENTRIES_BETWEEN_CHECKS == 0:
                self._check_stop()
            name = entry.name
            if name[:1] == b"." and not self._hidden:
                continue
            path = prefix + name
            try:
                is_folder = entry.is_dir()
                if has_rules and self._is_left_out(path, is_folder, folder.ignores):
                    continue
                if is_folder:
                    if _IS_WINDOWS and self._is_hidden(name, entry.stat()):
                        continue
                    target = linked if _is_link(entry) else subfolders
                    target.append(_Folder(path, folder.ignores))
                    continue
                self._take_entry(entry, path, device)
            except OSError as error:
                self._could_not_stat(path, error)
        # The order of a listing is arbitrary; with several links to one folder, it decides which
        # of their paths the files get, and they should keep it from one scan to the next.
        linked.sort(key=lambda link: link.path)
        self._linked.extend(linked)
        return subfolders

    def _take_entry(self, entry: os.DirEntry[bytes], path: bytes, device: int) -> None:
        name = entry.name
        if has_picture_extension(name) is False and not _IS_WINDOWS:
            # The common case of a video or sidecar: no stat needed, the listing knows the type.
            if entry.is_symlink() and not entry.is_file():
                entry.stat()  # tells a link that leads nowhere from one to a pipe
            self._ignored += 1
            return
        status = entry.stat()
        if self._is_hidden(name, status):
            return
        # A listing gives no device number on Windows.
        self._take_file(path, name, status, device if _IS_WINDOWS else status.st_dev)

    def _take_file(
        self, path: bytes, name: bytes, status: os.stat_result, device: int | None = None
    ) -> None:
        if stat.S_ISREG(status.st_mode) and self._may_be_picture(path, name):
            device = status.st_dev if device is None else device
            self._files.append(SeenFile(path, fingerprint(status), device))
        else:
            self._ignored += 1

    def _may_be_picture(self, path: bytes, name: bytes) -> bool:
        # macOS lays "._name" beside files on foreign disks: resources, never the picture.
        if name.startswith(b"._"):
            return False
        by_name = has_picture_extension(name)
        if by_name is not None:
            return by_name
        try:
            with open_regular(self._absolute(path)) as file:
                return sniff_format(file.read(SIGNATURE_BYTES)) is not None
        except (OSError, NotAPictureError, TryAgainError):
            return False

    def _is_hidden(self, name: bytes, status: os.stat_result) -> bool:
        if self._hidden:
            return False
        attributes: int = getattr(status, "st_file_attributes", 0)
        return name.startswith(b".") or bool(attributes & _WINDOWS_HIDDEN)

    def _is_left_out(self, path: bytes, is_folder: bool, ignores: tuple[_IgnoreFile, ...]) -> bool:
        # As in git: the command line decides first, then the ignore file nearest to the path; in
        # each of them the last pattern that matches.
        if self._exclude is not None:
            verdict = self._exclude.leaves_out(path, is_folder=is_folder)
            if verdict is not None:
                return verdict
        for ignore in reversed(ignores):
            relative = path[ignore.prefix_length :]
            verdict = ignore.rules.leaves_out(relative, is_folder=is_folder)
            if verdict is not None:
                return verdict
        return False

    def _with_own_ignore_file(self, folder: _Folder) -> _Folder | None:
        """Add a folder's .siglipignore, if it has one, to the rules in force in it.

        Returns:
            None when there is one that cannot be read: its owner wanted something left out, so
            nothing of the folder is looked at.
        """
        path = _join(folder.path, IGNORE_FILE_NAME)
        try:
            with open_regular(self._absolute(path)) as file:
                text = file.read(_IGNORE_FILE_MAX_BYTES + 1)
        except FileNotFoundError:
            return folder
        except (NotAPictureError, TryAgainError) as error:
            self._unreadable.append((folder.path, f"its .siglipignore file: {error}"))
            return None
        except OSError as error:
            self._unreadable.append((folder.path, _reason(error)))
            return None
        if len(text) > _IGNORE_FILE_MAX_BYTES:
            self._unreadable.append((folder.path, "its .siglipignore file is larger than 1 MiB"))
            return None
        lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        ignore = _IgnoreFile(
            prefix_length=len(folder.path) + 1 if folder.path else 0,
            rules=IgnoreRules(lines, lenient=True),
        )
        return _Folder(folder.path, (*folder.ignores, ignore))

    def _could_not_stat(self, path: bytes, error: OSError) -> None:
        if error.errno not in _ABSENT_ERRNOS:
            self._unreadable.append((path, _reason(error)))
        elif os.path.islink(self._absolute(path)):
            self._dangling.append(path)
        # Otherwise it vanished after it was listed.

    def _check_stop(self) -> None:
        if self._should_stop is not None and self._should_stop():
            raise _Stopped

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self._root, path) if path else self._root


def _compile_excludes(patterns: tuple[str, ...]) -> IgnoreRules | None:
    if not patterns:
        return None
    for pattern in patterns:
        try:
            IgnoreRules([os.fsencode(pattern)])
        except ValueError as error:
            raise PathError(
                f"the pattern {pattern!r} is malformed: {error}",
                hint='Patterns are written as in .gitignore files, such as "*.gif" or "drafts/".',
            ) from None
    return IgnoreRules(map(os.fsencode, patterns))


def _is_link(entry: os.DirEntry[bytes]) -> bool:
    # A junction is Windows' older link between folders; is_symlink() does not know it.
    is_junction = getattr(entry, "is_junction", None)
    return entry.is_symlink() or (is_junction is not None and is_junction())


def _join(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
