"""A model folder on disk: what `model.toml` says, checked and typed.

A folder holds the two ONNX towers, the tokenizer and `model.toml`, which states every fact that
the towers need and that the ONNX files do not say themselves. Reading one costs a TOML parse and
the hash of the tokenizer: no tower is opened here.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, cast, get_args

from siglip_search.errors import ModelError
from siglip_search.models.fact_table import FactTable, read_toml
from siglip_search.models.model_toml import FORMAT, PREPROCESSING_RULES
from siglip_search.models.spec import (
    MODEL_FILE,
    Agreement,
    Canonicalization,
    ModelSpec,
    Precision,
    Resample,
    Resize,
    ScoreSpec,
    TextSpec,
    TokenizerKind,
    VariantSpec,
    VisionSpec,
    space_key_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_MAX_IMAGE_SIDE_PX: Final = 4096
_MAX_DIMENSION: Final = 65_536
_MAX_TEXT_LENGTH: Final = 4096


def load_model_folder(directory: Path) -> ModelSpec:
    """Read and check a model folder.

    Args:
        directory: Folder that holds `model.toml` and the files that it names.

    Raises:
        ModelError: If a file is missing, a key is missing, wrong or impossible, or the layout is
            newer than this version; the message names the file and the key.
    """
    path = directory / MODEL_FILE
    return _spec(_read(path), directory)


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


def _read(path: Path) -> dict[str, object]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        raise ModelError(
            f"{path} does not exist: this is no model folder",
            hint="A model folder holds model.toml, two ONNX towers and a tokenizer.",
        ) from None


def _spec(values: Mapping[str, object], directory: Path) -> ModelSpec:
    top = FactTable(values, where=str(directory / MODEL_FILE), folder=directory)
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
    if preprocessing > PREPROCESSING_RULES:
        raise top.complain(
            "preprocessing",
            f"is {preprocessing}; this version knows the rules up to {PREPROCESSING_RULES}",
            "Upgrade siglip-search: the model was made for a newer version.",
        )
    vision = _vision(top.table("vision"))
    text = _text(top.table("text"))
    variant = _variant(top.table("variant")) if "variant" in values else None
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
        variant=variant,
        directory=directory,
        space_key=space_key_of(
            checkpoint=checkpoint,
            dimension=dimension,
            preprocessing=preprocessing,
            vision=vision,
            text=text,
            tokenizer_sha256=_tokenizer_sha256(directory / text.tokenizer_file),
            variant=variant,
        ),
    )


def _vision(table: FactTable) -> VisionSpec:
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


def _text(table: FactTable) -> TextSpec:
    tokenizer = cast(TokenizerKind, table.choice("tokenizer", get_args(TokenizerKind)))
    start_id = table.optional_integer("start_id", least=0, most=2**31 - 1)
    if tokenizer == "clip-bpe" and start_id is None:
        raise table.complain(
            "start_id", "is missing; with tokenizer = 'clip-bpe' every text opens with one"
        )
    return TextSpec(
        file=table.file("file"),
        data_files=table.files("data_files"),
        precision=cast(Precision, table.choice("precision", get_args(Precision), "fp32")),
        tokenizer=tokenizer,
        tokenizer_file=table.file("tokenizer_file"),
        canonicalize=cast(
            Canonicalization, table.choice("canonicalize", get_args(Canonicalization))
        ),
        length=table.integer("length", least=1, most=_MAX_TEXT_LENGTH),
        pad_id=table.integer("pad_id", least=0, most=2**31 - 1),
        end_id=table.integer("end_id", least=0, most=2**31 - 1),
        start_id=start_id,
    )


def _variant(table: FactTable) -> VariantSpec:
    agreement = None
    if "agreement" in table:
        measured = table.table("agreement")
        agreement = Agreement(
            pictures=measured.integer("pictures", least=0, most=2**31),
            mean_cosine=measured.number("mean_cosine", least=-1.0, most=1.0),
            worst_cosine=measured.number("worst_cosine", least=-1.0, most=1.0),
            recall_at_10=measured.number("recall_at_10", least=0.0, most=1.0),
        )
    return VariantSpec(
        of=check_model_name(table.text("of"), where=f"{table.where}: variant.of"),
        recipe=table.text("recipe"),
        agreement=agreement,
    )


def _score(table: FactTable) -> ScoreSpec:
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
