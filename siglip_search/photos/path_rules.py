"""Which files and folders the rules leave out, by their paths alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from siglip_search.errors import PathError
from siglip_search.photos.default_ignores import DEFAULT_IGNORES
from siglip_search.photos.ignore_files import IgnoreFile
from siglip_search.photos.ignore_rules import IgnoreRules

if TYPE_CHECKING:
    from typing import Literal

    from siglip_search.photos.ignore_rules import Pattern


@dataclass(frozen=True, slots=True)
class PathDecision:
    """What one pattern says about a path.

    Attributes:
        leaves_out: Whether the path is left out; otherwise the pattern has taken it back in.
        source: Where the pattern stands.
        pattern: As it stands there.
        number: Which of the source's patterns or lines it is, from 1.
        ignore_file_in: Root-relative folder of the ignore file, where it stands in one.
        reason: What the default list says about it.
    """

    leaves_out: bool
    source: Literal["exclude", "ignore-file", "default"]
    pattern: str
    number: int
    ignore_file_in: bytes = b""
    reason: str = ""


class PathRules:
    """The patterns of a run and those that everybody gets.

    As in git, the command line decides first, then the ignore file nearest to the path, in each of
    them the last pattern that matches. Where all are silent, the default list decides.

    Args:
        root: Absolute path of the root.
        exclude: gitignore-style patterns, relative to the root.

    Raises:
        PathError: If a pattern is malformed.
    """

    def __init__(self, root: bytes, exclude: tuple[str, ...]) -> None:
        self._exclude = _compiled(exclude)
        self._root_name = os.path.basename(root) + b"/"
        self._defaults = _defaults()

    def judges_files(self, ignores: tuple[IgnoreFile, ...]) -> bool:
        """Tell whether anything is said about files whose names begin with no dot."""
        return bool(ignores) or self._exclude is not None

    def leaves_out(self, path: bytes, is_folder: bool, ignores: tuple[IgnoreFile, ...]) -> bool:
        """Judge a file or folder; the folders above it are taken to be let in.

        Args:
            path: Root-relative, "/"-separated.
            is_folder: Whether it is a folder, or a link to one.
            ignores: The ignore files in force, outermost first.
        """
        _, pattern = self._deciding(path, is_folder, ignores)
        return pattern is not None and not pattern.takes_back_in

    def decision(
        self, path: bytes, is_folder: bool, ignores: tuple[IgnoreFile, ...]
    ) -> PathDecision | None:
        """Return what `leaves_out` goes by; None when no pattern says anything."""
        source, pattern = self._deciding(path, is_folder, ignores)
        if pattern is None:
            return None
        leaves_out = not pattern.takes_back_in
        text = os.fsdecode(pattern.text)
        if isinstance(source, IgnoreFile):
            folder = source.folder
            return PathDecision(leaves_out, "ignore-file", text, pattern.number, folder)
        if source is self._exclude:
            return PathDecision(leaves_out, "exclude", text, pattern.number)
        entry = DEFAULT_IGNORES[pattern.number - 1]
        return PathDecision(
            leaves_out, "default", entry.pattern, pattern.number, reason=entry.reason
        )

    def _deciding(
        self, path: bytes, is_folder: bool, ignores: tuple[IgnoreFile, ...]
    ) -> tuple[IgnoreRules | IgnoreFile | None, Pattern | None]:
        if self._exclude is not None:
            pattern = self._exclude.deciding(path, is_folder=is_folder)
            if pattern is not None:
                return self._exclude, pattern
        for ignore in reversed(ignores):
            pattern = ignore.rules.deciding(path[ignore.prefix_length :], is_folder=is_folder)
            if pattern is not None:
                return ignore, pattern
        # Nothing in the default list is about other files, which are many.
        if is_folder or path[path.rfind(b"/") + 1 :].startswith(b"."):
            full = (self._root_name + path).lower()
            return self._defaults, self._defaults.deciding(full, is_folder=is_folder)
        return None, None


@cache
def _defaults() -> IgnoreRules:
    return IgnoreRules(entry.pattern.lower().encode() for entry in DEFAULT_IGNORES)


def _compiled(patterns: tuple[str, ...]) -> IgnoreRules | None:
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
