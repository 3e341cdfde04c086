"""A folder with one sub-folder a class becomes pictures with their classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from retrieval.captions import InputError
from siglip_search.photos.scan import ScanRules, scan

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class LabelledSet:
    """Pictures that are each of one class.

    Attributes:
        classes: What each class is called, in the order of the folders' names.
        paths: Absolute paths, one picture of each class in turn: a part of them is a fair part.
        class_of: For each path the number of its class.
    """

    classes: tuple[str, ...]
    paths: tuple[bytes, ...]
    class_of: tuple[int, ...]


def read_labelled(folder: Path, names_file: Path | None = None) -> LabelledSet:
    """Find the classes and pictures of a folder.

    Args:
        folder: Holds one folder a class. A class is called as its folder, "_" read as a space.
        names_file: What the folders stand for where their names say nothing (ImageNet's): on each
            line folder, tab, name.

    Raises:
        InputError: There are fewer than two classes, or the names do not fit the folders.
    """
    try:
        found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    folders = [name for name in found if not name.startswith(".")]
    if len(folders) < 2:
        raise InputError(
            f"{folder} holds {len(folders)} folders: too few classes to choose from",
            hint="Put the pictures of each class into a folder of its own.",
        )
    names = {name: name.replace("_", " ") for name in folders}
    if names_file is not None:
        names = _read_names(names_file)
        if missing := [name for name in folders if name not in names]:
            raise InputError(f"{names_file} does not name the folder {missing[0]!r}")
    pictures = [_pictures_of(folder / name) for name in folders]
    in_turn = [
        (path, number)
        for row in zip_longest(*pictures)
        for number, path in enumerate(row)
        if path is not None
    ]
    if not in_turn:
        raise InputError(f"there are no pictures in the folders of {folder}")
    paths, class_of = zip(*in_turn, strict=True)
    return LabelledSet(tuple(names[name] for name in folders), paths, class_of)


def _pictures_of(folder: Path) -> list[bytes]:
    root = os.path.abspath(os.fsencode(folder))
    return [
        os.path.join(root, path) for path in sorted(f.path for f in scan(root, ScanRules()).files)
    ]


def _read_names(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        folder, _, name = line.partition("\t")
        if not name.strip() or folder.strip() in names:
            raise InputError(
                f"{path}, line {number}: no new folder, tab and name: {line[:60]!r}",
                hint="Write for example: n01440764<tab>tench",
            )
        names[folder.strip()] = name.strip()
    return names
