"""Which root, and which part of it, a path given by the user means."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_index.locations import comparable, relative_to
from siglip_search.errors import PathError
from siglip_search.photos.ignore_rules import IgnoreRules
from siglip_search.photos.name_folding import disk_spelling, folded
from siglip_search.photos.scan_result import Part, ScanRules
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.records import Root

# How names on a drive that is away were meant cannot be asked; most drives there know no case.
NAMES_USUALLY_FOLD = sys.platform in {"win32", "darwin"}


@dataclass(frozen=True, slots=True)
class Target:
    """Something to scan.

    Attributes:
        path: Absolute path of the root, bytes.
        within: Part of it to scan, root-relative; empty for all.
        root: The root as the library knows it, None for a new one.
        subfolders: Also what lies deeper than in that folder.
        is_gone: Nothing can lie there, so it is not looked for, and what was known there is not.
    """

    path: bytes
    within: bytes
    root: Root | None
    subfolders: bool = True
    is_gone: bool = False

    @property
    def part(self) -> Part:
        """The part of the root that is judged."""
        return Part(self.within, self.subfolders)


def refuse_to_hide(targets: Sequence[Target], known: Sequence[Root]) -> None:
    """Refuse a new root that would swallow a hidden folder which was indexed by name.

    The new root would not look into it, and so its pictures would leave the results.

    Raises:
        PathError: There is such a folder.
    """
    for target in targets:
        for root in known:
            below = relative_to(root.path, target.path)
            if below and any(part.startswith(b".") for part in below.split(b"/")):
                raise PathError(
                    f"{os.fsdecode(root.path)} is a hidden folder that was indexed by name, and "
                    f"{os.fsdecode(target.path)} would swallow it",
                    hint="Add --hidden to keep its pictures, or `siglip-search forget` it first.",
                )


def find_targets(paths: Sequence[str | os.PathLike[str]], known: Sequence[Root]) -> list[Target]:
    """Return what has to be scanned for these paths, or for every known root if there are none.

    A path inside a known root means that part of the root; a path that lies in another of the
    given ones is dropped. Where the file system takes a name in any case or normalisation, so
    does this.

    Raises:
        PathError: A path does not exist and is no part of the library either.
    """
    if not paths:
        return [Target(root.path, b"", root) for root in known]
    wanted = sorted({typed_path(path) for path in paths})
    outermost = [
        path
        for path in wanted
        if not any(relative_to(path, other) for other in wanted)  # "" is the path itself
    ]
    return [_target(path, known) for path in outermost]


def typed_path(path: str | os.PathLike[str]) -> bytes:
    """Return the absolute path that a typed one means, spelled as it is on disk."""
    return disk_spelling(bytes(absolute_path(path)))


def root_called(typed: str | os.PathLike[str], known: Sequence[Root]) -> Root:
    """Return the root that a typed path names.

    Raises:
        PathError: It names none.
    """
    root = _root_at(typed_path(typed), known)
    if root is not None:
        return root
    names = ", ".join(os.fsdecode(root.path) for root in known) or "none"
    raise PathError(
        f"{os.fspath(typed)} is not an indexed folder", hint=f"The indexed folders are: {names}"
    )


def scan_rules(
    root: Root | None, *, exclude: tuple[str, ...], hidden: bool, download_cloud: bool = False
) -> ScanRules:
    """Return what a scan of a root leaves out.

    Args:
        root: As the library knows it, None for a new one.
        exclude: The patterns of this run; they come last and so decide over the root's own.
        hidden: Take hidden files and folders as well.
        download_cloud: Take also what only the cloud has.
    """
    return ScanRules(
        exclude=(*(root.exclude if root else ()), *exclude),
        hidden=hidden,
        download_cloud=download_cloud,
    )


def changed_patterns(
    known: tuple[str, ...], typed: Sequence[str], *, remove: bool
) -> tuple[str, ...]:
    """Return a root's patterns after some were added, or taken away.

    Raises:
        PathError: A pattern is malformed or matches nothing, or one to be taken away is not there.
    """
    for pattern in typed:
        if remove and pattern not in known:
            raise PathError(
                f"there is no pattern {pattern!r}",
                hint=f"The patterns are: {' '.join(known) or 'none'}",
            )
        if not remove and (pattern.startswith("#") or not pattern.strip()):
            raise PathError(
                f"the pattern {pattern!r} matches nothing",
                hint="Is a variable of the shell unset? A name that begins with # is written \\#.",
            )
        try:
            IgnoreRules([os.fsencode(pattern)])
        except ValueError as error:
            raise PathError(
                f"the pattern {pattern!r} is malformed: {error}",
                hint='Patterns are written as in .gitignore files, such as "*.gif" or "drafts/".',
            ) from None
    kept = tuple(pattern for pattern in known if pattern not in typed)
    # Added again, a pattern moves to the end: the last one that matches decides.
    return kept if remove else (*kept, *dict.fromkeys(typed))


def _root_at(
    path: bytes, known: Sequence[Root], *, names_fold: bool = NAMES_USUALLY_FOLD
) -> Root | None:
    for root in known:
        if comparable(path) in (comparable(root.path), comparable(disk_spelling(root.path))):
            return root
    if names_fold and not os.path.lexists(path):
        wanted = folded(comparable(path))
        alike = [root for root in known if folded(comparable(root.path)) == wanted]
        return alike[0] if len(alike) == 1 else None
    return None


def _is_there(path: bytes) -> bool:
    try:
        os.lstat(path)
    except PermissionError as error:
        raise PathError(
            f"{os.fsdecode(path)!r} cannot be looked at: {error.strerror}",
            hint="Check the permissions of the folders above it.",
        ) from None
    except OSError:
        return False
    return True


def _target(path: bytes, known: Sequence[Root]) -> Target:
    itself = _root_at(path, known)
    if itself is not None:
        return Target(itself.path, b"", itself)
    above, within = next(
        (
            (root, below)
            for root in known
            if (below := relative_to(path, disk_spelling(root.path))) is not None
        ),
        (None, b""),
    )
    if not _is_there(path):
        hint = "Check the spelling, or connect the drive that it is on."
        if above is not None:
            hint = f"If it was deleted, index the whole folder again: {os.fsdecode(above.path)}"
        raise PathError(f"there is no file or folder {os.fsdecode(path)!r}", hint=hint)
    if above is None:
        return Target(path, b"", None)
    return Target(above.path, within, above)
