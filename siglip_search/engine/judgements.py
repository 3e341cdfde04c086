"""What a person said about pairs of query and picture: kept in the library, or read from a file.

A judgement is about words and a content. It outlives renames, copies and a change of the model.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_index.locations import relative_to
from siglip_search.errors import PathError
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from siglip_index.protocol import Store, StoreWriter
    from siglip_index.records import Root

RECORD_KIND: Final = "judgement"

_EXAMPLE: Final = '{"query": "a dog", "path": "2024/rex.jpg", "matches": true}'


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody said.

    Attributes:
        query: The words.
        content_hash: Of the picture.
        matches: Whether the words describe the picture.
    """

    query: str
    content_hash: bytes
    matches: bool


@dataclass(frozen=True, slots=True)
class Label:
    """One line of a labels file.

    Attributes:
        query: The words.
        path: Absolute path of the picture.
        matches: Whether the words describe the picture.
        line: Its number in the file, from 1.
    """

    query: str
    path: Path
    matches: bool
    line: int


def kept_judgements(store: Store) -> list[Judgement]:
    """Return everything that was said about this library's pictures."""
    found = []
    for key, value in store.records(RECORD_KIND).items():
        digest, query = key.split(" ", 1)
        found.append(Judgement(query, bytes.fromhex(digest), json.loads(value) is True))
    return found


def keep(writer: StoreWriter, judgements: Iterable[Judgement]) -> None:
    """Keep judgements; a later one about the same pair replaces the former."""
    for judgement in judgements:
        key = f"{judgement.content_hash.hex()} {judgement.query}"
        writer.put_record(RECORD_KIND, key, json.dumps(judgement.matches))


def forget_judgements(store: Store) -> int:
    """Delete all judgements of a library; return how many there were."""
    keys = list(store.records(RECORD_KIND))
    with store.write() as writer:
        for key in keys:
            writer.put_record(RECORD_KIND, key, None)
    return len(keys)


def as_judgements(
    store: Store, space_key: str, labels: Sequence[Label]
) -> tuple[list[Judgement], list[Label]]:
    """Return what labels say of a library's pictures, and the labels of files that it has not.

    Args:
        store: The library.
        space_key: The embedding space in which the pictures must be.
        labels: As `read_labels` returned them.
    """
    roots = store.roots()
    photo_of: dict[Path, int | None] = {}
    for label in labels:
        if label.path not in photo_of:
            photo_of[label.path] = _photo_at(store, roots, os.fsencode(label.path))
    known = [photo for photo in photo_of.values() if photo is not None]
    usable = store.photos_in_space(space_key, known)
    hashes = {photo.id: photo.content_hash for photo in store.photos(sorted(usable))}
    judgements, unknown = [], []
    for label in labels:
        content_hash = hashes.get(photo_of[label.path] or -1)
        if content_hash is None:
            unknown.append(label)
        else:
            judgements.append(Judgement(label.query, content_hash, label.matches))
    return judgements, unknown


def _photo_at(store: Store, roots: Sequence[Root], path: bytes) -> int | None:
    for root in roots:
        inside = relative_to(path, root.path)
        if inside is not None:
            for file in store.files(root.id, inside, subfolders=False):
                if file.present and file.path == inside:
                    return file.photo_id
    return None


def read_labels(file: str | os.PathLike[str]) -> list[Label]:
    """Read a file of labels: JSON lines, each an object with query, path and matches.

    Args:
        file: Paths in it are absolute, or relative to its folder. Empty lines are passed over.

    Raises:
        PathError: It cannot be read, holds no label, or a line of it cannot be understood.
    """
    path = absolute_path(file)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise PathError(
            f"the labels file {path} is no UTF-8 text (byte {error.start + 1})",
            hint="Save it as UTF-8.",
        ) from error
    except OSError as error:
        raise PathError(
            f"the labels file {path} cannot be read: {error.strerror}",
            hint=f"Name a text file with one label a line: {_EXAMPLE}",
        ) from error
    labels = [
        _label(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()
    ]
    if not labels:
        raise PathError(
            f"the labels file {path} holds no label", hint=f"Write one a line: {_EXAMPLE}"
        )
    return labels


def _label(line: str, file: Path, number: int) -> Label:
    def refuse(reason: str) -> PathError:
        return PathError(f"{file}, line {number}: {reason}", hint=f"Write for example: {_EXAMPLE}")

    try:
        values = json.loads(line)
    except ValueError:
        raise refuse("this is no JSON object") from None
    if not isinstance(values, dict):
        raise refuse("this is no JSON object")
    query, path, matches = (values.get(name) for name in ("query", "path", "matches"))
    if not isinstance(query, str) or not query.strip():
        raise refuse('"query" must be words')
    if not isinstance(path, str) or not path:
        raise refuse('"path" must be the path of a picture')
    if not isinstance(matches, bool):
        raise refuse('"matches" must be true or false')
    return Label(" ".join(query.split()), absolute_path(file.parent / path), matches, number)
