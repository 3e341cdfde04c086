"""Facts about one model, checked and typed; reading them is `model_folder`'s job."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from pathlib import Path

MODEL_FILE: Final = "model.toml"
"""Name of the file that describes a model folder."""

CONTEXTS_FOLDER: Final = "contexts"
"""Where a model folder keeps its towers as compiled for NPUs."""

Resize = Literal["squash", "shortest-side-crop"]
Resample = Literal["bilinear", "bicubic"]
Canonicalization = Literal["lowercase", "lowercase-no-punctuation", "clip"]
TokenizerKind = Literal["sentencepiece", "clip-bpe"]
PublishedPrecision = Literal["fp32", "fp16", "int8"]
"""What towers are published in."""
Precision = Literal["fp32", "fp16", "int8", "w8a16"]
"""What towers come in: "w8a16", 8-bit weights and 16-bit activations, is made on this machine."""

MIN_MEAN_COSINE: Final = 0.99
"""A variant whose embeddings agree less with the reference's is a space of its own."""
MIN_RECALL_AT_10: Final = 0.95
"""Likewise for the share of the reference's ten best pictures that the variant finds."""
MIN_PICTURES: Final = 500
"""An agreement measured on fewer of the user's own pictures decides nothing."""


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
        start_id: Opens every text; None for a model without one.
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
    start_id: int | None = None


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
class Agreement:
    """How well a variant's embeddings agree with those of the towers that it was made from.

    Attributes:
        pictures: How many of the user's own pictures were compared.
        mean_cosine: Between the two embeddings of a picture or text, in [-1, 1].
        worst_cosine: The least of them.
        recall_at_10: Share of the reference's ten best pictures that are among the variant's ten
            best, mean over the queries, in [0, 1].
    """

    pictures: int
    mean_cosine: float
    worst_cosine: float
    recall_at_10: float

    @property
    def passed(self) -> bool:
        """Whether the variant may share the embedding space of its reference."""
        return (
            self.pictures >= MIN_PICTURES
            and self.mean_cosine >= MIN_MEAN_COSINE
            and self.recall_at_10 >= MIN_RECALL_AT_10
        )


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """Where towers of another precision came from.

    Attributes:
        of: Name of the model with the same checkpoint in full precision.
        recipe: How and by whom they were made; two recipes are two variants.
        agreement: With that model; None until it has been measured.
    """

    of: str
    recipe: str
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What `model.toml` says.

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
        variant: Set for towers that were made from others, of another precision, say.
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
    variant: VariantSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(ModelFacts):
    """One model folder whose facts have been checked.

    Attributes:
        directory: The folder.
        space_key: Identity of the embedding space, 64 hexadecimal digits: vectors are comparable
            if and only if their keys are equal. Covers checkpoint, preprocessing, text facts and
            the tokenizer's content; not the tower files, their precision, or the score. Only a
            variant that has not been shown to agree with its reference is a space of its own.
    """

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
        """Every file that makes the model, relative to its folder, `model.toml` first.

        Contexts are not among them: they are made of these, and can be made again.
        """
        named = (
            MODEL_FILE,
            self.vision.file,
            *self.vision.data_files,
            self.text.file,
            *self.text.data_files,
            self.text.tokenizer_file,
        )
        return tuple(dict.fromkeys(named))

    @property
    def disk_bytes(self) -> int:
        """How much its folder takes on disk: the model's files, and its towers as compiled."""
        contexts = (self.directory / CONTEXTS_FOLDER).glob("*/*")
        places = {*contexts, *(self.directory / name for name in self.files)}
        return sum(path.stat().st_size for path in places if path.is_file())


def space_key_of(
    *,
    checkpoint: str,
    dimension: int,
    preprocessing: int,
    vision: VisionSpec,
    text: TextSpec,
    tokenizer_sha256: str,
    variant: VariantSpec | None = None,
) -> str:
    """Return the identity of the embedding space that these facts make, 64 hexadecimal digits."""
    # Every line is part of a stored identity: a change of spelling here would orphan the vectors
    # of existing libraries. A test holds one key down.
    facts: tuple[object, ...] = (
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
    if text.start_id is not None:
        facts += (("start_id", text.start_id),)
    if variant is not None and not (variant.agreement and variant.agreement.passed):
        facts += (("variant", variant.recipe),)
    return hashlib.sha256("\n".join(map(repr, facts)).encode()).hexdigest()
