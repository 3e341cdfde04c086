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
    above = next((root for root in known if relative_to(path, root.path) is not None), None)
    if above is not None and path == above.path:
        return Target(path, b"", above)
    if not _is_there(path):
        hint = "Check the spelling, or connect the drive that it is on."
        if above is not None:
            hint = f"If it was deleted, index the whole folder again: {os.fsdecode(above.path)}"
        raise PathError(f"there is no file or folder {os.fsdecode(path)!r}", hint=hint)
    if above is None:
        return Target(path, b"", None)
    return Target(above.path, relative_to(path, above.path) or b"", above)
