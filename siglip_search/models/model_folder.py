"""A model folder on disk: what `model.toml` says, checked and typed.

A folder holds the two ONNX towers, the tokenizer and `model.toml`, which states every fact that
the towers need and that the ONNX files do not say themselves. Reading one costs a TOML parse and
the hash of the tokenizer: no tower is opened here.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, TypeVar, cast, get_args

from siglip_search.errors import ModelError
from siglip_search.models.spec import (
    MODEL_FILE,
    Canonicalization,
    ModelSpec,
    Precision,
    Resample,
    Resize,
    ScoreSpec,
    TextSpec,
    TokenizerKind,
    VisionSpec,
    space_key_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT: Final = 1
"""Newest layout of `model.toml` that this version reads."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_MAX_IMAGE_SIDE_PX: Final = 4096
_MAX_DIMENSION: Final = 65_536
_MAX_TEXT_LENGTH: Final = 4096

_T = TypeVar("_T")


def load_model_folder(directory: Path) -> ModelSpec:
    """Read and check a model folder.

    Args:
        directory: Folder that holds `model.toml` and the files that it names.

    Raises:
        ModelError: If a file is missing, a key is missing, wrong or impossible, or the layout is
            newer than this version; the message names the file and the key.
    """
    path = directory / MODEL_FILE
    return _spec(_read_toml(path), directory)


def check_model_name(name: str, *, where: str) -> str:
    """Return `name` if it can name a model and its folder on every platform.

    Args:
        name: The candidate.
        where: What to call its place in the message.

    Raises:
        ModelError: If it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"{where} is {name!r}, which cannot name a model",
            hint="Use lower-case letters, digits, `.`, `_` and `-`, beginning with a letter or "
            "a digit.",
        )
    return name


def _read_toml(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        raise ModelError(
            f"{path} does not exist: this is no model folder",
            hint="A model folder holds model.toml, two ONNX towers and a tokenizer.",
        ) from None
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} is not valid TOML: {error}", hint="Correct the file or fetch the model again."
        ) from error


class _Table:
    """One table of a TOML file; every complaint names the file and the key."""

    def __init__(self, values: Mapping[str, object], *, path: Path, prefix: str = "") -> None:
        self._values = values
        self._path = path
        self._prefix = prefix

    def complain(self, key: str, what: str, remedy: str = "") -> ModelError:
        return ModelError(
            f"{self._path}: {self._prefix}{key} {what}",
            hint=remedy or "Correct the file or fetch the model again.",
        )

    def table(self, key: str) -> _Table:
        return _Table(
            self._require(key, dict, "a table"), path=self._path, prefix=f"{self._prefix}{key}."
        )

    def text(self, key: str) -> str:
        value = self._require(key, str, "a text")
        if not value.strip():
            raise self.complain(key, "is empty")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self._values else None

    def integer(self, key: str, *, least: int, most: int) -> int:
        value = self._require(key, int, "a whole number")
        if not least <= value <= most:
            raise self.complain(key, f"is {value}; it must be from {least} to {most}")
        return value

    def number(self, key: str) -> float:
        value = self._values.get(key)
        if key in self._values and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        number = self._require(key, float, "a number")
        if not math.isfinite(number):
            raise self.complain(key, f"is {number}; it must be finite")
        return number

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if key in self._values else None

    def choice(self, key: str, choices: tuple[str, ...], default: str | None = None) -> str:
        if default is not None and key not in self._values:
            return default
        value = self._require(key, str, "a text")
        if value not in choices:
            raise self.complain(
                key,
                f"is {value!r}, which this version does not know",
                f"Known are {', '.join(choices)}.",
            )
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self._require(key, list, "a list of texts")
        if not all(isinstance(value, str) and value for value in values):
            raise self.complain(key, "must be a list of texts")
        return tuple(values)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        values = self._require(key, list, f"a list of {count} numbers")
        good = len(values) == count and all(
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            for value in values
        )
        if not good:
            raise self.complain(key, f"must be a list of {count} finite numbers")
        return tuple(float(value) for value in values)

    def integers(self, key: str, count: int, *, least: int, most: int) -> tuple[int, ...]:
        values = self._require(key, list, f"a list of {count} whole numbers")
        good = len(values) == count and all(
            isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
            for value in values
        )
        if not good:
            raise self.complain(
                key, f"must be a list of {count} whole numbers from {least} to {most}"
            )
        return tuple(values)

    def file(self, key: str) -> str:
        return self._existing(key, self.text(key))

    def files(self, key: str) -> tuple[str, ...]:
        if key not in self._values:
            return ()
        return tuple(self._existing(key, name) for name in self.texts(key))

    def _existing(self, key: str, name: str) -> str:
        relative = PurePosixPath(name)
        # A folder must stay whole when it is copied, so nothing outside it may be named.
        if relative.is_absolute() or ".." in relative.parts or "\\" in name or ":" in name:
            raise self.complain(
                key,
                f"is {name!r}; it must lie inside the model folder",
                "Use a relative path with forward slashes.",
            )
        path = self._path.parent / name
        if not path.is_file():
            raise self.complain(
                key,
                f"names {path}, which is missing",
                "Put the file there or fetch the model again.",
            )
        return name

    def _require(self, key: str, kind: type[_T], described: str) -> _T:
        if key not in self._values:
            raise self.complain(key, f"is missing; it must be {described}")
        value = self._values[key]
        # bool is an int in Python, never in a model's facts.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.complain(key, f"is {value!r}; it must be {described}")
        return value


def _spec(values: Mapping[str, object], directory: Path) -> ModelSpec:
    top = _Table(values, path=directory / MODEL_FILE)
    layout = top.integer("format", least=1, most=2**31)
    if layout > FORMAT:
        raise top.complain(
            "format",
            f"is {layout}; this version reads up to {FORMAT}",
            "Upgrade siglip-search: the model was made for a newer version.",
        )
    name = check_model_name(top.text("name"), where=f"{directory / MODEL_FILE}: name")
    dimension = top.integer("dimension", least=1, most=_MAX_DIMENSION)
    checkpoint = top.text("checkpoint")
    preprocessing = top.integer("preprocessing", least=1, most=2**31)
    vision = _vision(top.table("vision"))
    text = _text(top.table("text"))
    return ModelSpec(
        name=name,
        title=top.text("title"),
        licence=top.text("licence"),
        languages=top.texts("languages"),
        notice=top.optional_text("notice"),
        dimension=dimension,
        checkpoint=checkpoint,
        preprocessing=preprocessing,
        vision=vision,
        text=text,
        score=_score(top.table("score")),
        directory=directory,
        space_key=space_key_of(
            checkpoint=checkpoint,
            dimension=dimension,
            preprocessing=preprocessing,
            vision=vision,
            text=text,
            tokenizer_sha256=_tokenizer_sha256(directory / text.tokenizer_file),
        ),
    )


def _vision(table: _Table) -> VisionSpec:
    height, width = table.integers("image_size", 2, least=1, most=_MAX_IMAGE_SIDE_PX)
    resize = cast(Resize, table.choice("resize", get_args(Resize)))
    if resize == "shortest-side-crop" and height != width:
        raise table.complain("image_size", "must be square with resize = 'shortest-side-crop'")
    mean = cast(tuple[float, float, float], table.numbers("mean", 3))
    std = cast(tuple[float, float, float], table.numbers("std", 3))
    if min(std) <= 0:
        raise table.complain("std", f"is {list(std)}; every value must be above 0")
    return VisionSpec(
        file=table.file("file"),
        data_files=table.files("data_files"),
        precision=cast(Precision, table.choice("precision", get_args(Precision), "fp32")),
        image_size=(height, width),
        resize=resize,
        resample=cast(Resample, table.choice("resample", get_args(Resample))),
        mean=mean,
        std=std,
    )


def _text(table: _Table) -> TextSpec:
    return TextSpec(
        file=table.file("file"),
        data_files=table.files("data_files"),
        precision=cast(Precision, table.choice("precision", get_args(Precision), "fp32")),
        tokenizer=cast(TokenizerKind, table.choice("tokenizer", get_args(TokenizerKind))),
        tokenizer_file=table.file("tokenizer_file"),
        canonicalize=cast(
            Canonicalization, table.choice("canonicalize", get_args(Canonicalization))
        ),
        length=table.integer("length", least=1, most=_MAX_TEXT_LENGTH),
        pad_id=table.integer("pad_id", least=0, most=2**31 - 1),
        end_id=table.integer("end_id", least=0, most=2**31 - 1),
    )


def _score(table: _Table) -> ScoreSpec:
    logit_scale = table.number("logit_scale")
    if logit_scale <= 0:
        raise table.complain(
            "logit_scale",
            f"is {logit_scale}; it must be above 0 (a log-scale?)",
            "Write the scale after exp().",
        )
    min_probability = table.optional_number("min_probability")
    if min_probability is None:
        min_probability = 0.0
    if not 0.0 <= min_probability < 1.0:
        raise table.complain(
            "min_probability", f"is {min_probability}; it must be at least 0 and below 1"
        )
    return ScoreSpec(
        logit_scale=logit_scale,
        logit_bias=table.optional_number("logit_bias"),
        min_probability=min_probability,
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tokenizer_sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Check the file's permissions or fetch the model again.",
        ) from error
