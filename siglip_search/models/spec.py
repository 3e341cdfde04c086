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
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast, get_args

from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL_FILE: Final = "model.toml"
"""Name of the file that describes a model folder."""

FORMAT: Final = 1
"""Newest layout of `model.toml` that this version reads."""

Resize = Literal["squash", "shortest-side-crop"]
Resample = Literal["bilinear", "bicubic"]
Canonicalization = Literal["lowercase", "lowercase-no-punctuation"]
TokenizerKind = Literal["sentencepiece"]
Precision = Literal["fp32", "fp16", "int8"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_MAX_IMAGE_SIDE_PX: Final = 4096
_MAX_DIMENSION: Final = 65_536
_MAX_TEXT_LENGTH: Final = 4096

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class VisionSpec:
    """Facts about the picture tower.

    Attributes:
        file: ONNX file, relative to the model folder, with forward slashes.
        data_files: Files that hold the ONNX file's external weights, relative to the folder.
        precision: Of the weights in `file`: provenance, no part of the embedding space.
        image_size: Height and width in pixels.
        resize: "squash" ignores the aspect ratio; "shortest-side-crop" keeps it and takes the
            middle.
        resample: Filter of the resize.
        mean: Per channel (red, green, blue), of values in [0, 1].
        std: As `mean`; each > 0.
    """

    file: str
    data_files: tuple[str, ...]
    precision: Precision
    image_size: tuple[int, int]
    resize: Resize
    resample: Resample
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TextSpec:
    """Facts about the text tower and its tokenizer.

    Attributes:
        file: ONNX file, relative to the model folder, with forward slashes.
        data_files: Files that hold the ONNX file's external weights, relative to the folder.
        precision: Of the weights in `file`: provenance, no part of the embedding space.
        tokenizer: Kind of the tokenizer.
        tokenizer_file: Its file, relative to the model folder.
        canonicalize: What is done to the words before they are cut into pieces.
        length: Number of ids per text, end and padding included.
        pad_id: Fills up to `length`; part of the model, for SigLIP pools the last position.
        end_id: Closes every text.
    """

    file: str
    data_files: tuple[str, ...]
    precision: Precision
    tokenizer: TokenizerKind
    tokenizer_file: str
    canonicalize: Canonicalization
    length: int
    pad_id: int
    end_id: int


@dataclass(frozen=True, slots=True)
class ScoreSpec:
    """How a cosine becomes a probability (arXiv:2303.15343, section 3.2).

    Attributes:
        logit_scale: Temperature after exp(); dimensionless, > 0.
        logit_bias: Learned bias; None for a model without one, whose probabilities are null.
        min_probability: Matches below it are not shown unless asked for; in [0, 1).
    """

    logit_scale: float
    logit_bias: float | None
    min_probability: float


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model folder whose facts have been checked.

    Attributes:
        name: Name that the user types; lower case, safe as a folder name.
        title: One line for people.
        licence: SPDX expression or a short name.
        languages: Language codes the text tower understands; "multilingual" is one too.
        notice: What a user should be told with every answer; None if nothing.
        dimension: Length of an embedding.
        checkpoint: Identity of the trained weights, whatever the precision.
        preprocessing: Version of the preprocessing rules.
        vision: The picture tower.
        text: The text tower.
        score: From cosine to probability.
        directory: The folder.
        space_key: Identity of the embedding space, 64 hexadecimal digits: vectors are comparable
            if and only if their keys are equal. Covers checkpoint, preprocessing, text facts and
            the tokenizer's content; not the tower files, their precision, or the score.
    """

    name: str
    title: str
    licence: str
    languages: tuple[str, ...]
    notice: str | None
    dimension: int
    checkpoint: str
    preprocessing: int
    vision: VisionSpec
    text: TextSpec
    score: ScoreSpec
    directory: Path
    space_key: str

    @property
    def vision_path(self) -> Path:
        """ONNX file of the picture tower."""
        return self.directory / self.vision.file

    @property
    def text_path(self) -> Path:
        """ONNX file of the text tower."""
        return self.directory / self.text.file

    @property
    def tokenizer_path(self) -> Path:
        """File of the tokenizer."""
        return self.directory / self.text.tokenizer_file

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the folder, relative to it, `model.toml` first."""
        named = (
            MODEL_FILE,
            self.vision.file,
            *self.vision.data_files,
            self.text.file,
            *self.text.data_files,
            self.text.tokenizer_file,
        )
        return tuple(dict.fromkeys(named))


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
        space_key=_space_key(
            checkpoint=checkpoint,
            dimension=dimension,
            preprocessing=preprocessing,
            vision=vision,
            text=text,
            tokenizer_sha256=_sha256(directory / text.tokenizer_file),
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


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Check the file's permissions or fetch the model again.",
        ) from error


def _space_key(
    *,
    checkpoint: str,
    dimension: int,
    preprocessing: int,
    vision: VisionSpec,
    text: TextSpec,
    tokenizer_sha256: str,
) -> str:
    # Every line is part of a stored identity: a change of spelling here would orphan the vectors
    # of existing libraries. A test holds one key down.
    facts = (
        "siglip-search embedding space 1",
        checkpoint,
        dimension,
        preprocessing,
        list(vision.image_size),
        vision.resize,
        vision.resample,
        list(vision.mean),
        list(vision.std),
        text.tokenizer,
        tokenizer_sha256,
        text.canonicalize,
        text.length,
        text.pad_id,
        text.end_id,
    )
    return hashlib.sha256("\n".join(map(repr, facts)).encode()).hexdigest()
