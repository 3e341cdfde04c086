"""What a row knows and what a repository or folder says, put together to a model's facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from siglip_search.errors import ModelError
from siglip_search.models.model_toml import PREPROCESSING_RULES
from siglip_search.models.spec import ModelFacts, ScoreSpec, TextSpec, VisionSpec

if TYPE_CHECKING:
    from siglip_search.models.preprocessing_files import Preprocessing
    from siglip_search.models.registry_row import HubSource, RegistryRow, TowerFiles
    from siglip_search.models.spec import Precision


@dataclass(frozen=True, slots=True)
class TowerPlaces:
    """Where a model's files lie in its folder, with forward slashes.

    Attributes:
        vision: Picture tower.
        text: Text tower.
        tokenizer: Tokenizer.
        vision_data: The picture tower's external weights.
        text_data: The text tower's external weights.
    """

    vision: str
    text: str
    tokenizer: str
    vision_data: tuple[str, ...] = ()
    text_data: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: HubSource, towers: TowerFiles) -> TowerPlaces:
        """Return our names for files that are called in many ways on the hub."""
        vision, vision_data = _tower("vision", towers.vision_data)
        text, text_data = _tower("text", towers.text_data)
        sentencepiece = source.tokenizer == "sentencepiece"
        tokenizer = "tokenizer.model" if sentencepiece else _base_name(source.tokenizer_file)
        return cls(vision, text, tokenizer, vision_data, text_data)


def _tower(role: str, data: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    if not data:
        return f"{role}.onnx", ()
    # The tower names its data files itself, and both towers may call theirs the same.
    return f"{role}/{role}.onnx", tuple(f"{role}/{_base_name(name)}" for name in data)


def _base_name(path: str) -> str:
    return PurePosixPath(path).name


def check_preprocessing(said: Preprocessing, row: RegistryRow, *, where: str) -> None:
    """Compare what a file says about pictures with the row.

    Raises:
        ModelError: If they differ; the message names the file.
    """
    assert row.hub is not None
    remedy = "It is another model's file, or its repository has changed: upgrade siglip-search."
    if said.image_size != row.hub.image_size:
        raise ModelError(
            f"{where} says {said.image_size[0]} x {said.image_size[1]} pixels, but {row.name} "
            f"takes {row.hub.image_size[0]} x {row.hub.image_size[1]}",
            hint=remedy,
        )
    if said.resize != row.hub.resize:
        raise ModelError(
            f"{where} says {said.resize!r}, but {row.name} takes {row.hub.resize!r}", hint=remedy
        )


def facts_of(
    row: RegistryRow,
    *,
    name: str,
    checkpoint: str,
    precision: Precision,
    places: TowerPlaces,
    preprocessing: Preprocessing,
    scale_and_bias: tuple[float, float | None],
) -> ModelFacts:
    """Return the facts of a row's model as its folder will state them.

    Args:
        row: The model; one whose files lie on the hub.
        name: What the folder's model is called.
        checkpoint: Identity of the trained weights.
        precision: Of the towers' weights.
        places: Where the files are in the folder.
        preprocessing: What the checkpoint's own file says.
        scale_and_bias: The scale after exp(), and the bias or None.
    """
    source = row.hub
    assert source is not None
    assert row.dimension is not None
    scale, bias = scale_and_bias
    return ModelFacts(
        name=name,
        title=row.title if precision == "fp32" else f"{row.title}, {precision}",
        licence=row.licence,
        languages=row.languages,
        notice=None,
        dimension=row.dimension,
        checkpoint=checkpoint,
        preprocessing=PREPROCESSING_RULES,
        vision=VisionSpec(
            file=places.vision,
            data_files=places.vision_data,
            precision=precision,
            image_size=preprocessing.image_size,
            resize=preprocessing.resize,
            resample=preprocessing.resample,
            mean=preprocessing.mean,
            std=preprocessing.std,
        ),
        text=TextSpec(
            file=places.text,
            data_files=places.text_data,
            precision=precision,
            tokenizer=source.tokenizer,
            tokenizer_file=places.tokenizer,
            canonicalize=source.canonicalize,
            length=source.length,
            pad_id=source.pad_id,
            end_id=source.end_id,
            start_id=source.start_id,
        ),
        score=ScoreSpec(scale, bias, source.min_probability),
    )
