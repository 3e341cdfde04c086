"""Which root, and which part of it, a path given by the user means."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_index.locations import relative_to
from siglip_search.errors import PathError
from siglip_search.typed_paths import absolute_path

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
    wanted = sorted({bytes(absolute_path(path)) for path in paths})
    outermost = [
        path
        for path in wanted
        if not any(relative_to(path, other) for other in wanted)  # "" is the path itself
    ]
    return [_target(path, known) for path in outermost]


def _target(path: bytes, known: Sequence[Root]) -> Target:
    above = next((root for root in known if relative_to(path, root.path) is not None), None)
    if above is not None and path == above.path:
        return Target(path, b"", above)
    if not os.path.lexists(path):
        hint = "Check the spelling, or connect the drive that it is on."
        if above is not None:
            hint = f"If it was deleted, index the whole folder again: {os.fsdecode(above.path)}"
        raise PathError(f"there is no file or folder {os.fsdecode(path)!r}", hint=hint)
    if above is None:
        return Target(path, b"", None)
    return Target(above.path, relative_to(path, above.path) or b"", above)
