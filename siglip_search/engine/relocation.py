"""Roots that are at another place now: recognised, or told by the user; no picture is read.

A root is known by its path and, where the system identifies volumes, by its place on its volume.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from siglip_index.locations import join, relative_to
from siglip_search.engine.library_place import beside_library
from siglip_search.engine.roots import root_called, typed_path
from siglip_search.errors import PathError
from siglip_search.photos.name_folding import disk_spelling
from siglip_search.photos.volumes import MountedVolumes, VolumePlace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from siglip_index.protocol import Store
    from siglip_index.records import KnownFile, Root

RootState = Literal["there", "missing", "another volume"]

# So many known files tell whether a folder is the one that was indexed; half of them suffice,
# for some may have been deleted since.
SAMPLE_FILES = 50
SHARE_FOUND = 0.5


@dataclass(frozen=True, slots=True)
class Relocation:
    """A root that is somewhere else now.

    Attributes:
        old: Absolute path at which the library knew it.
        new: Absolute path at which it is.
    """

    old: bytes
    new: bytes

    def __str__(self) -> str:
        return (
            f"{os.fsdecode(self.old)} is at {os.fsdecode(self.new)} now: recognised, "
            "its pictures are not read again"
        )


def root_state(store: Store, root: Root, volumes: MountedVolumes) -> RootState:
    """Tell whether a root's path still shows what was indexed there.

    A path that shows another volume than before is the root all the same if the known files are
    there: the drive was replaced by a copy. An empty folder there is the mount point of a drive
    that is missing. Without a known volume, a path that exists is the root.
    """
    if not os.path.exists(root.path):
        return "missing"
    place = volumes.place_of(root.path) if root.volume is not None else None
    if place is None or place.volume == root.volume or _holds_files_of(store, root, root.path):
        return "there"
    return "missing" if _is_empty_folder(root.path) else "another volume"


class RootPlaces:
    """Where the roots of a library are now.

    Args:
        store: Opened for writing where a method says so.
        library: Folder of the library.
    """

    def __init__(self, store: Store, library: Path) -> None:
        self._store = store
        self._library = os.fsencode(library)
        self._volumes = MountedVolumes()

    def state(self, root: Root) -> RootState:
        """Tell whether a root's path still shows what was indexed there; see `root_state`."""
        return root_state(self._store, root, self._volumes)

    def moved(self) -> list[tuple[Root, bytes]]:
        """Return the roots that are elsewhere now, each with the path at which it was found."""
        roots = self._store.roots()
        states = {root.id: self.state(root) for root in roots}
        moved = [
            (root, path)
            for root in roots
            if (path := self._found(root, states[root.id])) is not None
        ]
        # A place at which another root is known, whose drive is away, cannot be taken from it.
        moving = {root.id for root, _ in moved}
        away = [root for root in roots if root.id not in moving and states[root.id] != "there"]
        return [
            (root, path)
            for root, path in moved
            if not any(_overlap(path, other.path) for other in away)
        ]

    def recognise(self) -> list[Relocation]:
        """Record where those of the roots are that are elsewhere now; writes."""
        return self._relocate(self.moved())

    def remember(self) -> None:
        """Record on which volume each root lies, for the day on which it is elsewhere; writes."""
        news = [
            (root, place)
            for root in self._store.roots()
            if self.state(root) == "there"
            and (place := self._volumes.place_of(root.path)) is not None
            and place != _recorded_place(root)
        ]
        if not news and self._store.former_directory() == self._library:
            return
        with self._store.write() as writer:
            for root, place in news:
                writer.set_root_volume(root.id, place.volume, place.path, _device_of(root.path))
            writer.remember_directory(self._library)

    def relocate(
        self, old: str | os.PathLike[str], new: str | os.PathLike[str]
    ) -> list[Relocation]:
        """Record that a root, or every root below a folder, is at another place now; writes.

        Args:
            old: Path of a root, or of a folder above some; nothing needs to be there.
            new: Where that is now. If it is indexed already, the two become one.

        Raises:
            PathError: There is no such root, nothing is at the new place, or something else is.
        """
        former, now = typed_path(old), typed_path(new)
        roots = self._store.roots()
        moved = [
            (root, join(now, below))
            for root in roots
            if (below := relative_to(root.path, former)) is not None
        ]
        if not moved:
            moved = [(root_called(old, roots), now)]
        for root, path in moved:
            self._refuse_wrong_place(root, path)
        return self._relocate([(root, path) for root, path in moved if path != root.path])

    def _refuse_wrong_place(self, root: Root, path: bytes) -> None:
        if not os.path.exists(path):
            raise PathError(
                f"there is no file or folder {os.fsdecode(path)!r}",
                hint="Check the spelling, or connect the drive that it is on.",
            )
        if not _holds_files_of(self._store, root, path, share=0.0):
            raise PathError(
                f"none of the pictures of {os.fsdecode(root.path)} is in {os.fsdecode(path)}",
                hint="Name the folder that holds them now, or index it as a new one.",
            )

    def _relocate(self, moved: Sequence[tuple[Root, bytes]]) -> list[Relocation]:
        if not moved:
            return []
        with self._store.write() as writer:
            # Drives may have exchanged their places, so all leave before the first arrives.
            for root, _ in moved:
                writer.relocate_root(root.id, b"moving/%d" % root.id)
            for root, path in moved:
                if writer.relocate_root(root.id, path) != root.id:
                    continue  # joined another root, whose own place is known
                place = self._volumes.place_of(path)
                if place is not None:
                    writer.set_root_volume(root.id, place.volume, place.path, _device_of(path))
        return [Relocation(root.path, path) for root, path in moved]

    def _found(self, root: Root, state: RootState) -> bytes | None:
        """Return where a root is now, None when that is its known path, or unknown."""
        if state == "there":
            spelling = disk_spelling(root.path)
            return spelling if spelling != root.path else None
        place = _recorded_place(root)
        if place is not None:
            for path in self._volumes.paths_of(place):
                if path != root.path:
                    return path
        former = self._store.former_directory()
        beside = beside_library(root.path, former, self._library) if former is not None else None
        if beside is None or beside == root.path or not os.path.exists(beside):
            return None
        return beside if _holds_files_of(self._store, root, beside) else None


def _device_of(path: bytes) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:  # gone since
        return None


def _recorded_place(root: Root) -> VolumePlace | None:
    if root.volume is None or root.volume_path is None:
        return None
    return VolumePlace(root.volume, root.volume_path)


def _overlap(one: bytes, other: bytes) -> bool:
    return relative_to(one, other) is not None or relative_to(other, one) is not None


def _is_empty_folder(path: bytes) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:  # not a folder, or not ours to list
        return False


def _holds_files_of(store: Store, root: Root, path: bytes, *, share: float = SHARE_FOUND) -> bool:
    """Tell whether a folder holds the files of a root, by the names and sizes of some.

    Args:
        store: Knows the files.
        root: To which they belong.
        path: The folder, or picture.
        share: Of the files looked for, in [0, 1]; one at least has to be there. A root without
            files is anywhere.
    """
    sample = _sample(store, root)
    found = sum(_is_at(join(path, file.path), file) for file in sample)
    return not sample or (found > 0 and found >= share * len(sample))


def _sample(store: Store, root: Root) -> list[KnownFile]:
    """Return some present files of a root, spread evenly over the order of their paths."""

    def present() -> Iterator[KnownFile]:
        return (file for file in store.files(root.id) if file.present)

    step = max(1, sum(1 for _ in present()) // SAMPLE_FILES)
    return list(islice(present(), 0, step * SAMPLE_FILES, step))


def _is_at(path: bytes, file: KnownFile) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == file.fingerprint.size
