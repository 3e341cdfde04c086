"""Which root, and which part of it, a path given by the user means."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_index.locations import relative_to
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_index.records import Root


@dataclass(frozen=True, slots=True)
class Target:
    """Something to scan.

    Attributes:
        path: Absolute path of the root, bytes.
        within: Part of it to scan, root-relative; empty for all.
        root: The root as the library knows it, None for a new one.
    """

    path: bytes
    within: bytes
    root: Root | None


def find_targets(paths: Sequence[str | os.PathLike[str]], known: Sequence[Root]) -> list[Target]:
    """Return what has to be scanned for these paths, or for every known root if there are none.

    A path inside a known root means that part of the root; a path that lies in another of the
    given ones is dropped.

    Raises:
        PathError: A path does not exist and is no part of the library either.
    """
    if not paths:
        return [Target(root.path, b"", root) for root in known]
    wanted = sorted({_absolute(path) for path in paths})
    outermost = [
        path
        for path in wanted
        if not any(relative_to(path, other) for other in wanted)  # "" is the path itself
    ]
    return [_target(path, known) for path in outermost]


def _absolute(path: str | os.PathLike[str]) -> bytes:
    return os.fsencode(Path(os.path.abspath(Path(path).expanduser())))


def _target(path: bytes, known: Sequence[Root]) -> Target:
    if not os.path.lexists(path) and path not in {root.path for root in known}:
        raise _missing(path)
    for root in known:
        within = relative_to(path, root.path)
        if within is not None:
            return Target(root.path, within, root)
    return Target(path, b"", None)


def _missing(path: bytes) -> PathError:
    return PathError(
        f"there is no file or folder {os.fsdecode(path)!r}",
        hint="Check the spelling, or connect the drive that it is on.",
    )
