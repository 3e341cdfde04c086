"""Captions files of the usual forms become pictures with their captions."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from siglip_search.errors import SiglipSearchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Benchmark = Literal["coco", "flickr30k"]

_FLICKR_HEADINGS = {
    "|": ["image_name", "comment_number", "comment"],
    ",": ["image", "caption"],
}


class InputError(SiglipSearchError):
    """A file of the evaluation cannot be understood."""


@dataclass(frozen=True)
class CaptionedPicture:
    """A picture and what people said of it.

    Attributes:
        files: Where it may lie, relative to the pictures' folder; the first that exists counts.
        captions: At least one, none blank.
    """

    files: tuple[str, ...]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class CaptionSet:
    """What a captions file holds.

    Attributes:
        form: Name of its form, for people.
        benchmark: Whose published figures it could be compared with, None if unknown.
        is_test_split: The file itself says that these pictures are the benchmark's test split.
        pictures: In the file's order; those without a caption are left out.
    """

    form: str
    benchmark: Benchmark | None
    is_test_split: bool
    pictures: tuple[CaptionedPicture, ...]


def read_captions(path: Path, *, split: str = "test") -> CaptionSet:
    """Read COCO's captions, Karpathy's splits, or Flickr's results.csv or captions.txt.

    Args:
        path: The file; its form is seen from its content.
        split: Which of Karpathy's splits; other forms have none.

    Raises:
        InputError: It cannot be read or is of none of these forms; names line or entry.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: no UTF-8 text", hint="Save it as UTF-8.") from error
    found = _from_json(path, text, split) if text.lstrip()[:1] == "{" else _from_lines(path, text)
    if not found.pictures:
        raise InputError(f"{path} holds no captions", hint="Is it the right file, or --split?")
    return found


def _from_json(path: Path, text: str, split: str) -> CaptionSet:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: no JSON: {error.msg}") from error
    if "annotations" in content and "images" in content:
        return _coco(path, content)
    if "images" in content:
        return _karpathy(path, content, split)
    raise InputError(
        f"{path} has neither COCO's `images` and `annotations` nor Karpathy's `images`",
        hint="Give a captions file, not one of instances or keypoints.",
    )


def _coco(path: Path, content: dict[str, Any]) -> CaptionSet:
    files: dict[Any, str] = {}
    captions: dict[Any, list[str]] = {}
    for where, image in _entries(path, content, "images"):
        number = _value(where, image, "id", (int, str))
        if number in files:
            raise InputError(f"{where}: another picture has the id {number!r}, too")
        files[number] = _value(where, image, "file_name", str)
        captions[number] = []
    for where, annotation in _entries(path, content, "annotations"):
        number = _value(where, annotation, "image_id", (int, str))
        if number not in files:
            raise InputError(f"{where}: no picture has the id {number!r}")
        captions[number].append(_caption(where, _value(where, annotation, "caption", str)))
    pictures = [((files[number],), captions[number]) for number in files]
    return CaptionSet("COCO's captions", "coco", False, _with_captions(pictures))


def _karpathy(path: Path, content: dict[str, Any], split: str) -> CaptionSet:
    name = content.get("dataset")
    benchmark: Benchmark | None = (
        "coco" if name == "coco" else "flickr30k" if name == "flickr30k" else None
    )
    pictures = []
    splits = set()
    for where, image in _entries(path, content, "images"):
        own = _value(where, image, "split", str)
        splits.add(own)
        if own != split:
            continue
        file = _value(where, image, "filename", str)
        folder = image.get("filepath")
        files = (f"{folder}/{file}", file) if folder else (file,)
        sentences = _entries(where, image, "sentences")
        captions = [_caption(at, _value(at, sentence, "raw", str)) for at, sentence in sentences]
        pictures.append((files, captions))
    if not pictures:
        raise InputError(
            f"{path} has no split {split!r}", hint=f"It has {', '.join(sorted(splits)) or 'none'}."
        )
    form = f"Karpathy's split {split!r}"
    return CaptionSet(form, benchmark, split == "test", _with_captions(pictures))


def _from_lines(path: Path, text: str) -> CaptionSet:
    # Not splitlines(), which also ends a line where no editor does.
    lines = re.split("\r\n|\n|\r", text)
    heading = lines[0]
    for separator, columns in _FLICKR_HEADINGS.items():
        if [column.strip() for column in heading.split(separator)] == columns:
            break
    else:
        raise InputError(
            f"{path}, line 1: {heading[:60]!r} is no known heading",
            hint='Known are "image_name| comment_number| comment", "image,caption", and the JSON '
            "of COCO and Karpathy.",
        )
    captions: dict[str, list[str]] = {}
    for number, fields in _rows(path, lines, separator):
        where = f"{path}, line {number}"
        if len(fields) != len(columns):
            raise InputError(
                f"{where}: {len(fields)} fields between {separator!r}, not {len(columns)}",
                hint="Correct the line.",
            )
        file = fields[0].strip()
        if not file:
            raise InputError(f"{where}: names no picture", hint="Correct the line.")
        captions.setdefault(file, []).append(_caption(where, fields[-1]))
    form = "Flickr's results.csv" if separator == "|" else "Flickr's captions.txt"
    benchmark: Benchmark | None = "flickr30k" if separator == "|" else None
    pictures = [((file,), said) for file, said in captions.items()]
    return CaptionSet(form, benchmark, False, _with_captions(pictures))


def _rows(path: Path, lines: list[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of what is below the heading; blank lines are left out."""
    if separator == "|":
        # Not quoted, and the comment itself may hold the separator.
        for number, line in enumerate(lines[1:], start=2):
            if line.strip():
                yield number, line.split("|", 2)
        return
    # Strict: else a quote that is never closed would swallow the rest of the file.
    reader = csv.reader(lines[1:], strict=True)
    start = 2
    try:
        for fields in reader:
            if fields:
                # The file's name holds no comma, so further ones are the caption's own.
                yield start, [fields[0], ",".join(fields[1:])] if fields[1:] else fields
            start = reader.line_num + 2
    except csv.Error as error:
        raise InputError(f"{path}, line {start}: {error}", hint="Correct its quotes.") from error


def _entries(
    where: object, content: dict[str, Any], key: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise InputError(f"{where}: {key} is no list")
    for number, entry in enumerate(entries):
        name = f"{where}: {key}[{number}]"
        if not isinstance(entry, dict):
            raise InputError(f"{name} is no object")
        yield name, entry


def _value(where: str, entry: dict[str, Any], key: str, kind: Any) -> Any:
    value = entry.get(key)
    if not isinstance(value, kind) or value == "":
        raise InputError(f"{where}: {key} is {'missing' if value is None else repr(value)}")
    return value


def _caption(where: str, text: str) -> str:
    caption = text.strip()
    if not caption:
        raise InputError(f"{where}: the caption is blank", hint="Correct or delete it.")
    return caption


def _with_captions(
    pictures: Iterable[tuple[tuple[str, ...], list[str]]],
) -> tuple[CaptionedPicture, ...]:
    return tuple(CaptionedPicture(files, tuple(said)) for files, said in pictures if said)
