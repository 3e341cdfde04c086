"""What `index` would do with one file or folder, and which rule decides."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siglip_index.locations import join, relative_to
from siglip_index.records import Root
from siglip_search.engine.roots import find_targets, scan_rules, typed_path
from siglip_search.errors import PathError
from siglip_search.ingest.plan import plan_changes
from siglip_search.ingest.raws_in_stead import with_raws_in_stead
from siglip_search.photos.cloud_placeholder import is_stub, name_behind_stub
from siglip_search.photos.file_rules import FileRules, Judgement
from siglip_search.photos.hidden_files import is_hidden
from siglip_search.photos.ignore_files import (
    IGNORE_FILE_NAME,
    UnusableIgnoreFileError,
    read_ignore_file,
)
from siglip_search.photos.optional_formats import install_line, raw_available
from siglip_search.photos.path_rules import PathRules
from siglip_search.photos.scan import scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.protocol import Store
    from siglip_index.records import KnownFile
    from siglip_search.engine.indexing import IndexOptions
    from siglip_search.ingest.plan import Plan
    from siglip_search.photos.ignore_files import IgnoreFile
    from siglip_search.photos.path_rules import PathDecision
    from siglip_search.photos.scan import ScanResult, ScanRules


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a file or folder.

    Attributes:
        path: Absolute path.
        taken: Whether it is in the library after the run or, of a folder, is looked into.
        rule: What decides, in a word: "not-indexed", "hidden", "default", "ignore-file",
            "exclude", "unreadable", "name", "content", "not-regular", "resource-fork",
            "linked", "stub", "missing-extra", "online-only", "known-failure", "companion", "new",
            "changed", "moved", "returned", "unchanged", "not-embedded" or "folder".
        reason: The same in a sentence.
        root: The indexed folder that it lies in, None if it lies in none.
        decided_at: Absolute path of the folder above it that is left out, None if it is not that.
        pattern: The pattern that decides.
        source: Absolute path of the .siglipignore file in which that stands.
        line: Line of that file, from 1.
        counts: Of a folder that is looked into: how many files there stand under which rule.
    """

    path: bytes
    taken: bool
    rule: str
    reason: str
    root: bytes | None = None
    decided_at: bytes | None = None
    pattern: str | None = None
    source: bytes | None = None
    line: int | None = None
    counts: dict[str, int] = field(default_factory=dict)


_BY_FILE: dict[Judgement, tuple[str, str]] = {
    Judgement.OTHER_NAME: ("name", "its name is not that of a picture"),
    Judgement.OTHER_CONTENT: (
        "content",
        "its name has no extension, and its first bytes are not those of a picture",
    ),
    Judgement.NOT_REGULAR: ("not-regular", "it is not a regular file"),
    Judgement.RESOURCE_FORK: ("resource-fork", "macOS laid it beside a picture; it is none itself"),
}

_BY_PLAN = {
    "added": ("new", "new: it is read and added"),
    "changed": ("changed", "it has changed since it was read: it is read again"),
    "unembedded": ("not-embedded", "known, and this model has not embedded it yet: it is read"),
    "unchanged": ("unchanged", "in the library, and unchanged: there is nothing to do"),
    "returned": ("returned", "it had vanished and is back: it is in the results again, unread"),
}


def explain(
    store: Store | None,
    path: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
    options: IndexOptions,
) -> Explanation:
    """Say what `index` would do with a file or folder; nothing is changed.

    Args:
        store: The library, None where there is none yet.
        path: What to explain.
        paths: What would be indexed; the known folders if nothing.
        options: How it would be.

    Raises:
        PathError: There is nothing at `path`.
    """
    absolute = typed_path(path)
    if not os.path.lexists(absolute):
        raise PathError(
            f"there is no file or folder {os.fsdecode(absolute)!r}", hint="Check the spelling."
        )
    known = store.roots() if store else []
    roots = [
        target.root or Root(id=0, path=target.path, device=None)
        for target in find_targets(paths, known)
    ]
    for root in (*roots, *known):
        within = relative_to(absolute, root.path)
        if within is not None:
            return _Explainer(store, root, within, options).explain()
    return Explanation(
        absolute,
        taken=False,
        rule="not-indexed",
        reason="no indexed folder holds it; to try one, name it: `siglip-search index --explain "
        "FILE FOLDER`",
    )


class _Explainer:
    """Goes down from a root to a path as a scan does."""

    def __init__(
        self, store: Store | None, root: Root, within: bytes, options: IndexOptions
    ) -> None:
        self._store = store
        self._root = root
        self._within = within
        self._options = options
        self._rules: ScanRules = scan_rules(
            root,
            exclude=options.exclude,
            hidden=options.hidden,
            download_cloud=options.download_cloud,
        )
        self._paths = PathRules(root.path, self._rules.exclude)

    def explain(self) -> Explanation:
        left_out = self._above()
        if left_out is not None:
            return left_out
        absolute = join(self._root.path, self._within)
        elsewhere = self._own_path(absolute)
        if elsewhere is not None:
            return elsewhere
        if os.path.isdir(absolute):
            return self._folder()
        return self._file(absolute)

    def _above(self) -> Explanation | None:
        """Explain what leaves out the path, or a folder above it; None if nothing does."""
        at = b""
        ignores: tuple[IgnoreFile, ...] = ()
        for name in filter(None, self._within.split(b"/")):
            folder = join(self._root.path, at)
            try:
                ignore = read_ignore_file(
                    os.path.join(folder, IGNORE_FILE_NAME),
                    at,
                    download_cloud=self._rules.download_cloud,
                )
            except UnusableIgnoreFileError as error:
                return self._left_out("unreadable", f"{error}: nothing beside it is looked at", at)
            if ignore is not None:
                ignores = (*ignores, ignore)
            at = at + b"/" + name if at else name
            absolute = join(self._root.path, at)
            shown = name_behind_stub(name) if is_stub(name) else name
            status = os.stat(absolute) if os.path.exists(absolute) else None
            if not self._rules.hidden and is_hidden(shown, status):
                return self._left_out("hidden", "it is hidden: --hidden takes it", at)
            decision = self._paths.decision(at, os.path.isdir(absolute), ignores)
            if decision is not None and decision.leaves_out:
                return self._by_pattern(decision, at)
        return None

    def _own_path(self, absolute: bytes) -> Explanation | None:
        """Explain what a link to a folder of the same root leads to; None where none does.

        A scan visits every folder once: under its own path where it has one below the root.
        """
        folder = absolute if os.path.isdir(absolute) else os.path.dirname(absolute)
        real = os.path.realpath(folder)
        within = relative_to(real, os.path.realpath(self._root.path))
        folder_within = relative_to(folder, self._root.path)
        if within is None or folder_within is None or within == folder_within:
            return None
        name = b"" if folder == absolute else os.path.basename(absolute)
        path = join(within, name) if within and name else within or name
        there = _Explainer(self._store, self._root, path, self._options)
        if there._above() is not None:
            return None  # the scan does not come upon it there
        return self._left_out(
            "linked",
            f"a link leads there; it is looked at as {os.fsdecode(join(self._root.path, path))}",
        )

    def _left_out(
        self,
        rule: str,
        reason: str,
        at: bytes | None = None,
        *,
        pattern: str | None = None,
        source: bytes | None = None,
        line: int | None = None,
    ) -> Explanation:
        above = None if at is None or at == self._within else join(self._root.path, at)
        return Explanation(
            join(self._root.path, self._within),
            taken=False,
            rule=rule,
            reason=reason,
            root=self._root.path,
            decided_at=above,
            pattern=pattern,
            source=source,
            line=line,
        )

    def _by_pattern(self, decision: PathDecision, at: bytes) -> Explanation:
        pattern, source, line = decision.pattern, None, None
        if decision.source == "default":
            reason = f"{decision.reason}; --exclude '!{pattern}' takes it back in"
        elif decision.source == "ignore-file":
            source = join(join(self._root.path, decision.ignore_file_in), IGNORE_FILE_NAME)
            line = decision.number
            reason = f"line {line} of {os.fsdecode(source)} leaves it out: {pattern}"
        elif decision.number <= len(self._root.exclude):
            reason = f"`siglip-search roots exclude` was told to leave it out: {pattern}"
        else:
            reason = f"--exclude, or exclude in the settings, leaves it out: {pattern}"
        return self._left_out(
            decision.source, reason, at, pattern=pattern, source=source, line=line
        )

    def _folder(self) -> Explanation:
        known = self._known(self._within)
        scanned = self._scanned(self._within, known)
        plan = self._plan(scanned, known, self._within)
        counts = {rule: len(getattr(plan, part)) for part, (rule, _) in _BY_PLAN.items()}
        counts |= {
            "moved": len(plan.moved),
            "known-failure": len(plan.failed),
            "companion": scanned.companions,
            "online-only": len(plan.online_only),
            "missing-extra": sum(map(len, plan.without_extra.values())),
            "no-picture": scanned.ignored,
            "unreadable": len(scanned.unreadable),
        }
        unreadable = dict(scanned.unreadable).get(self._within)
        if unreadable is not None:
            return self._left_out("unreadable", f"it cannot be looked into: {unreadable}")
        return Explanation(
            join(self._root.path, self._within),
            taken=True,
            rule="folder",
            reason="it is looked into",
            root=self._root.path,
            counts={rule: number for rule, number in counts.items() if number},
        )

    def _file(self, absolute: bytes) -> Explanation:
        folder, _, name = self._within.rpartition(b"/")
        path = self._within
        if is_stub(name):
            path = join(folder, name_behind_stub(name)) if folder else name_behind_stub(name)
        # With what lies beside it, which it may belong to.
        beside = [file for file in self._known(folder) if file.path.rpartition(b"/")[0] == folder]
        scanned = self._scanned(folder, beside, subfolders=False)
        if path != self._within and any(file.path == path for file in scanned.files):
            here = os.fsdecode(join(self._root.path, path))
            return self._left_out("stub", f"it stands for {here}, which is here")
        plan = self._plan(scanned, beside, folder)
        for part, (rule, reason) in _BY_PLAN.items():
            if any(file.path == path for file in getattr(plan, part)):
                return self._taken(rule, reason)
        for before, seen in plan.moved:
            if seen.path == path:
                was = os.fsdecode(join(self._root.path, before.path))
                return self._taken("moved", f"it is {was} under a new name: it is not read again")
        for seen in (*scanned.files, *scanned.online_only):
            if any(companion.path == path for companion in seen.companions):
                main = os.fsdecode(join(self._root.path, seen.path))
                return self._taken("companion", f"it belongs to {main}, which stands for both")
        for file in plan.failed:
            if file.path == path:
                return self._left_out(
                    "known-failure",
                    f"it could not be read ({file.failure}) and has not changed since: "
                    "--retry-failed tries again",
                )
        if any(seen.path == path for seen in plan.online_only):
            advice = (
                "its client has to download it" if is_stub(name) else "--download-cloud reads it"
            )
            return self._left_out("online-only", f"only the cloud has it: {advice}")
        for extra, waiting in plan.without_extra.items():
            if path in waiting:
                return self._left_out("missing-extra", f"to read such: {install_line(extra)}")
        return self._no_picture(absolute, scanned)

    def _no_picture(self, absolute: bytes, scanned: ScanResult) -> Explanation:
        for path, reason in scanned.unreadable:
            if path in (self._within, self._within.rpartition(b"/")[0]):
                return self._left_out("unreadable", f"it cannot be looked at: {reason}")
        try:
            status = os.stat(absolute)
        except OSError as error:
            return self._left_out("unreadable", f"it cannot be looked at: {error.strerror}")
        judge = FileRules(download_cloud=self._rules.download_cloud).judge
        judgement = judge(absolute, os.path.basename(absolute), status)
        return self._left_out(*_BY_FILE[judgement])

    def _taken(self, rule: str, reason: str) -> Explanation:
        path = join(self._root.path, self._within)
        return Explanation(path, taken=True, rule=rule, reason=reason, root=self._root.path)

    def _scanned(
        self, within: bytes, known: list[KnownFile], *, subfolders: bool = True
    ) -> ScanResult:
        """Look at a folder as a survey does."""
        scanned = scan(self._root.path, self._rules, within=within, subfolders=subfolders)
        if not raw_available():
            return scanned
        return with_raws_in_stead(
            scanned, known, self._root.path, download_cloud=self._rules.download_cloud
        )

    def _known(self, within: bytes) -> list[KnownFile]:
        if self._store is None or not self._root.id:
            return []
        return [
            file
            for file in self._store.files(self._root.id)
            if not within or relative_to(file.path, within) is not None
        ]

    def _plan(self, scanned: ScanResult, known: list[KnownFile], within: bytes) -> Plan:
        active = self._store.active_space() if self._store else None
        return plan_changes(
            known,
            scanned,
            embedded=self._store.photos_in_space(active.key) if self._store and active else None,
            within=within,
            retry_failed=self._options.retry_failed,
        )
