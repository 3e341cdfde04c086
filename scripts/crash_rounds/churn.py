"""A folder of small pictures to which one thing after another happens."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import random
    from pathlib import Path

MOST_PICTURES = 900
BURST = 60


class Churn:
    """Adds, changes, moves and deletes pictures, and renames folders.

    Args:
        root: The folder, which exists and is empty.
        chance: Decides what happens.

    Attributes:
        disk: SHA-256 of what lies under each path.
        touched: Paths to which something happened since the last `forget_touched`.
        counts: How often each thing was done.
    """

    def __init__(self, root: Path, chance: random.Random) -> None:
        self._root = root
        self._chance = chance
        self._number = 0
        self._folders = [root]
        self.disk: dict[Path, bytes] = {}
        self.touched: set[Path] = set()
        self.counts: dict[str, int] = {}

    def forget_touched(self) -> None:
        """Begin to gather touched paths anew."""
        self.touched.clear()

    def step(self) -> None:
        """Do something."""
        deeds = [self.burst, self.change, self.change, self.move, self.delete, self.delete]
        deeds += [self.rename_folder, self.burst] if len(self._folders) > 2 else [self.burst] * 2
        if len(self.disk) > MOST_PICTURES:
            deeds = [self.delete_folder] if len(self._folders) > 1 else [self.delete]
        deed = self._chance.choice(deeds)
        self.counts[deed.__name__] = self.counts.get(deed.__name__, 0) + 1
        deed()

    def burst(self) -> None:
        """Put new pictures into a folder, which may be new as well."""
        folder = self._chance.choice(self._folders)
        if self._chance.random() < 0.4:
            folder = folder / f"folder-{self._next()}"
            folder.mkdir()
            self._folders.append(folder)
        for _ in range(self._chance.randrange(1, BURST)):
            self._write(folder / f"{self._next()}.{self._chance.choice(('bmp', 'png', 'jpg'))}")

    def change(self) -> None:
        """Give some pictures another content, half of them by way of a temporary file."""
        for path in self._some(5):
            if self._chance.random() < 0.5:
                self._write(path)
            else:
                part = path.with_name(f"{path.name}.part")
                content = self._content(path.suffix)
                part.write_bytes(content)
                part.replace(path)
                self._holds(path, content)

    def move(self) -> None:
        """Rename some pictures, also into other folders."""
        for path in self._some(5):
            new = self._chance.choice(self._folders) / f"{self._next()}{path.suffix}"
            path.rename(new)
            self.disk[new] = self.disk.pop(path)
            self.touched |= {path, new}

    def delete(self) -> None:
        """Remove some pictures."""
        for path in self._some(8):
            path.unlink()
            del self.disk[path]
            self.touched.add(path)

    def rename_folder(self) -> None:
        """Rename a folder with everything in it."""
        folder = self._chance.choice(self._folders[1:])
        new = folder.with_name(f"renamed-{self._next()}")
        folder.rename(new)
        self._folders = [
            new / path.relative_to(folder) if _is_in(path, folder) else path
            for path in self._folders
        ]
        for path in [path for path in self.disk if _is_in(path, folder)]:
            moved = new / path.relative_to(folder)
            self.disk[moved] = self.disk.pop(path)
            self.touched |= {path, moved}

    def delete_folder(self) -> None:
        """Remove a folder with everything in it."""
        folder = self._chance.choice(self._folders[1:])
        for path in [path for path in self.disk if _is_in(path, folder)]:
            path.unlink()
            del self.disk[path]
            self.touched.add(path)
        inside = [path for path in self._folders if _is_in(path, folder)]
        for path in sorted(inside, key=lambda path: len(path.parts), reverse=True):
            path.rmdir()
        self._folders = [path for path in self._folders if path not in inside]

    def _some(self, most: int) -> list[Path]:
        paths = sorted(self.disk)
        return self._chance.sample(paths, min(len(paths), self._chance.randrange(1, most + 1)))

    def _write(self, path: Path) -> None:
        content = self._content(path.suffix)
        path.write_bytes(content)
        self._holds(path, content)

    def _holds(self, path: Path, content: bytes) -> None:
        self.disk[path] = hashlib.sha256(content).digest()
        self.touched.add(path)

    def _content(self, suffix: str) -> bytes:
        return picture(self._chance, suffix)

    def _next(self) -> int:
        self._number += 1
        return self._number


def picture(chance: random.Random, suffix: str) -> bytes:
    """Return a small picture that no other is like.

    Args:
        chance: Gives its colours.
        suffix: `.bmp`, `.png` or `.jpg`.
    """
    image = Image.frombytes("RGB", (6, 6), chance.randbytes(108)).resize((24, 24))
    file = io.BytesIO()
    image.save(file, {".bmp": "BMP", ".png": "PNG", ".jpg": "JPEG"}[suffix])
    return file.getvalue()


def _is_in(path: Path, folder: Path) -> bool:
    return os.path.commonpath([path, folder]) == str(folder)
