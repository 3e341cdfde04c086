"""A folder under construction that writes down what must become of each file."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from photo_tree.truth import Fate, FileTruth, Truth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# 2021-01-01; each file is half an hour and a bit younger than the one before. No whole seconds:
# those are what a drive keeps that knows no better.
_FIRST_MTIME_NS = 1_609_459_200 * 10**9 + 123_456_700
_MTIME_STEP_NS = 1_861 * 10**9 + 1_300

_TRIED_NAME = "name-that-is-tried"


class Tree:
    """Files below a folder, each made once.

    Attributes:
        root: The folder.
        random: Where everything random comes from.
        truth: What has been written so far.
    """

    def __init__(self, root: Path, seed: int) -> None:
        root.mkdir(parents=True)
        self.root = root
        self.random = np.random.default_rng(seed)
        self.truth = Truth(seed)
        self._counters: dict[str, int] = {}
        self._folders: set[bytes] = set()
        self._newest_ns = _FIRST_MTIME_NS

    def __len__(self) -> int:
        return len(self.truth.files)

    def next_number(self, what: str) -> int:
        """Count from 1, for each thing that is numbered."""
        self._counters[what] = self._counters.get(what, 0) + 1
        return self._counters[what]

    def chance(self, probability: float) -> bool:
        """Throw a die."""
        return bool(self.random.random() < probability)

    def picture(self, path: str, content: bytes, **truth: Any) -> str:
        """Make a file that must become a picture, or the copy of one; return its path.

        Args:
            path: Relative to the root.
            content: The file's bytes.
            truth: Fields of `FileTruth`.
        """
        return self.write(path, content, "picture", content=content_hash(content), **truth)

    def companion(self, path: str, content: bytes, kind: str, *of: str, **truth: Any) -> str:
        """Make a file that belongs to these pictures' files."""
        return self.write(path, content, "companion", kind, of=of, **truth)

    def ignored(self, path: str, why: str, content: bytes = b"no picture") -> str:
        """Make a file that is no picture, and is counted as such."""
        return self.write(path, content, "ignored", why)

    def failed(self, path: str, content: bytes, *, reason: str, **truth: Any) -> str:
        """Make a file that claims to be a picture and cannot be read; `reason` is in its reason."""
        return self.write(path, content, "failed", reason, **truth)

    def left_out(self, path: str, content: bytes, why: str) -> str:
        """Make a file that a rule leaves out: it is not even counted."""
        return self.write(path, content, "left-out", why)

    def online_only(self, path: str, content: bytes, why: str) -> str:
        """Make a cloud's placeholder."""
        return self.write(path, content, "online-only", why)

    def write(self, path: str, data: bytes, fate: Fate, detail: str = "", **truth: Any) -> str:
        """Make a file and write its truth down.

        Raises:
            FileExistsError: There is such a file; on a file system that folds names, perhaps
                under another spelling.
        """
        place = self.place(path)
        with open(place, "xb") as file:
            file.write(data)
        self._date(place)
        self.truth.files.append(FileTruth(path, fate, detail, **truth))
        return path

    def note(self, path: str, fate: Fate, detail: str = "", **truth: Any) -> None:
        """Write down the truth of a file that was made otherwise."""
        self.truth.files.append(FileTruth(path, fate, detail, **truth))

    def link(self, path: str, target: str, **truth: Any) -> None:
        """Make a symbolic link; without truth it is no picture's file, and unseen."""
        os.symlink(os.fsencode(target), self.place(path))
        self.note(path, truth.pop("fate", "unseen"), truth.pop("detail", "a link"), **truth)

    def place(self, path: str) -> bytes:
        """Return where a file goes, with the folders above it made."""
        place = os.path.join(os.fsencode(self.root), os.fsencode(path))
        folder = os.path.dirname(place)
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        return place

    def keeps_apart(self, one: str, other: str) -> bool:
        """Tell whether the file system has room for both names in one folder."""
        try:
            first = self.place(f"{_TRIED_NAME}/{one}")
            with open(first, "xb"):
                pass
            try:
                return not os.path.lexists(self.place(f"{_TRIED_NAME}/{other}"))
            finally:
                os.remove(first)
        except (OSError, ValueError):
            return False
        finally:
            folder = os.path.join(os.fsencode(self.root), _TRIED_NAME.encode())
            os.rmdir(folder)
            self._folders.discard(folder)

    def takes(self, name: str) -> bool:
        """Tell whether the file system takes a name."""
        return self.keeps_apart(name, "another name")

    def choose(self, options: Sequence[Any]) -> Any:
        """Return one of some."""
        return options[int(self.random.integers(len(options)))]

    def _date(self, place: bytes) -> None:
        self._newest_ns += _MTIME_STEP_NS
        os.utime(place, ns=(self._newest_ns, self._newest_ns))


def content_hash(content: bytes) -> str:
    """Return what tells contents apart."""
    return hashlib.sha256(content).hexdigest()
