"""The files of one folder: which may be pictures, and what belongs to them."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from siglip_index.records import Companion
from siglip_search.photos.cloud_placeholder import is_stub, name_behind_stub
from siglip_search.photos.file_rules import Judgement
from siglip_search.photos.fingerprint import fingerprint
from siglip_search.photos.hidden_files import is_hidden
from siglip_search.photos.scan_result import SeenFile
from siglip_search.photos.stacks import may_accompany, stacked_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_index.records import CompanionKind
    from siglip_search.photos.file_rules import FileRules

_IS_WINDOWS = os.name == "nt"


class FolderFiles:
    """Takes what a folder lists, file by file, then brings together what belongs together.

    Args:
        prefix: Root-relative path of the folder with its "/"; empty for the root.
        device: st_dev of the folder.
        rules: What is taken for a picture.
        hidden: Whether hidden files are taken.

    Attributes:
        without_extra: Extra and root-relative path of each picture that cannot be read.
        ignored: See `ScanResult`, as is `companions`.
        companions: How many files belong to one of the pictures.
        failures: Root-relative paths that could not be looked at, with the error.
    """

    def __init__(self, prefix: bytes, device: int, rules: FileRules, *, hidden: bool) -> None:
        self._prefix = prefix
        self._device = device
        self._rules = rules
        self._hidden = hidden
        self._pictures: dict[bytes, SeenFile] = {}
        self._placeholders: dict[bytes, SeenFile] = {}
        self._stubs: list[os.DirEntry[bytes]] = []
        # No pictures, but may belong to one.
        self._others: dict[bytes, os.DirEntry[bytes]] = {}
        self.without_extra: list[tuple[str, bytes]] = []
        self.ignored = 0
        self.companions = 0
        self.failures: list[tuple[bytes, OSError]] = []

    @property
    def files(self) -> list[SeenFile]:
        """See `ScanResult`."""
        return list(self._pictures.values())

    @property
    def online_only(self) -> list[SeenFile]:
        """See `ScanResult`."""
        return list(self._placeholders.values())

    def take(self, entry: os.DirEntry[bytes]) -> None:
        """Take one file, pipe or the like that the rules for paths let in."""
        name = entry.name
        try:
            by_name = self._rules.by_name(name)
            if by_name is False:
                self._take_other(entry)
                return
            status = entry.stat()
            if _IS_WINDOWS and not self._hidden and is_hidden(name, status):
                return
            judgement = self._rules.judge_named(entry.path, name, status, by_name)
            if judgement is Judgement.PICTURE:
                self._pictures[name] = self._seen(name, status)
            elif judgement is Judgement.ONLINE_ONLY:
                self._placeholders[name] = self._seen(name, status)
            elif judgement is Judgement.MISSING_EXTRA:
                self._add_without_extra(name)
            else:
                self.ignored += 1
        except OSError as error:
            self.failures.append((self._prefix + name, error))

    def finish(self, lets_in: Callable[[bytes], bool]) -> None:
        """Bring together what belongs together, once everything was taken.

        Args:
            lets_in: Tells whether the rules let in a root-relative path.
        """
        for entry in self._stubs:
            with contextlib.suppress(OSError):  # gone since it was listed
                self._take_stub(entry, lets_in)
        self._stack()

    def _take_other(self, entry: os.DirEntry[bytes]) -> None:
        name = entry.name
        if may_accompany(name):
            self._others[name] = entry
        elif is_stub(name):
            self._stubs.append(entry)
        else:
            self._leave_alone(entry)

    def _seen(self, name: bytes, status: os.stat_result) -> SeenFile:
        # A listing gives no device number on Windows.
        device = self._device if _IS_WINDOWS else status.st_dev
        return SeenFile(self._prefix + name, fingerprint(status), device)

    def _add_without_extra(self, name: bytes) -> None:
        extra = self._rules.missing_extra(name)
        assert extra is not None  # the judgement says so
        self.without_extra.append((extra, self._prefix + name))

    def _take_stub(self, entry: os.DirEntry[bytes], lets_in: Callable[[bytes], bool]) -> None:
        name = name_behind_stub(entry.name)
        if name.startswith(b".") and not self._hidden:
            return
        if name in self._pictures or name in self._placeholders:
            self.ignored += 1  # what it stands for is there, or stands there already
            return
        by_name = self._rules.by_name(name)
        needs_extra = self._rules.names_missing_extra(name)
        status = entry.stat()
        if (by_name is False and not needs_extra) or not stat.S_ISREG(status.st_mode):
            self.ignored += 1
        elif not lets_in(self._prefix + name):
            pass
        elif needs_extra:
            self._add_without_extra(name)
        else:
            self._placeholders[name] = self._seen(name, status)

    def _leave_alone(self, entry: os.DirEntry[bytes]) -> None:
        """Count a file that is no picture by its name; the listing knows whether it is one."""
        if _IS_WINDOWS and not self._hidden and is_hidden(entry.name, entry.stat()):
            return
        is_file = entry.is_file()
        if not is_file and entry.is_symlink():
            entry.stat()  # tells a link that leads nowhere from one to a pipe
        if is_file and self._rules.names_missing_extra(entry.name):
            self._add_without_extra(entry.name)
        else:
            self.ignored += 1

    def _stack(self) -> None:
        """Give the pictures what belongs to them."""
        seen = self._placeholders | self._pictures if self._placeholders else self._pictures
        stacks = stacked_names(seen, self._others)
        companions: dict[bytes, Companion] = {}
        by_themselves: list[tuple[bytes, bytes]] = []
        for main, members in stacks.items():
            for name, kind in members:
                # A RAW that is here must not wait for a picture that only the cloud has.
                if name in self._pictures and main not in self._pictures:
                    by_themselves.append((name, main))
                    continue
                companion = self._companion(name, seen.get(name), kind)
                if companion is not None:
                    companions[name] = companion
        for main, members in stacks.items():
            home = self._pictures if main in self._pictures else self._placeholders
            own = sorted(name for name, _ in members if name in companions)
            home[main] = replace(home[main], companions=tuple(companions[name] for name in own))
        for name, main in by_themselves:
            # What sidecars say of the shot holds for its RAW as well.
            shared = (item for item in self._placeholders[main].companions if _is_sidecar(item))
            self._pictures[name] = replace(self._pictures[name], companions=tuple(shared))
        for name in companions:
            self._pictures.pop(name, None)
            self._placeholders.pop(name, None)
        self.companions = len(companions)
        for name, entry in self._others.items():
            if name not in companions:
                try:
                    self._leave_alone(entry)
                except OSError as error:
                    self.failures.append((self._prefix + name, error))

    def _companion(
        self, name: bytes, seen: SeenFile | None, kind: CompanionKind
    ) -> Companion | None:
        if seen is not None:
            return Companion(seen.path, kind, seen.fingerprint)
        entry = self._others[name]
        try:
            status = entry.stat()
        except OSError:
            return None  # a link that leads nowhere
        if not stat.S_ISREG(status.st_mode):
            return None
        if _IS_WINDOWS and not self._hidden and is_hidden(name, status):
            return None
        return Companion(self._prefix + name, kind, fingerprint(status))


def _is_sidecar(companion: Companion) -> bool:
    return companion.kind == "sidecar"
