"""A trained checkpoint becomes a model folder."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_search.errors import ModelError
from siglip_search.export.checkpoint import find_checkpoint
from siglip_search.export.open_clip_models import load_open_clip_towers
from siglip_search.export.reference_libraries import library_versions, require_libraries
from siglip_search.export.to_onnx import DEFAULT_OPSET, write_onnx
from siglip_search.export.tower_check import check_towers
from siglip_search.export.transformers_models import load_transformers_towers
from siglip_search.models.files import (
    install_folder,
    refuse_taken_name,
    staging_folder,
    storage_error,
)
from siglip_search.models.model_folder import check_model_name, load_model_folder
from siglip_search.models.model_toml import model_toml
from siglip_search.models.preprocessing_files import read_preprocessing
from siglip_search.models.row_facts import TowerPlaces, check_preprocessing, facts_of
from siglip_search.models.spec import MODEL_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from siglip_search.export.checkpoint import Checkpoint
    from siglip_search.export.torch_towers import TorchTowers
    from siglip_search.export.tower_check import TowerDifferences
    from siglip_search.models.preprocessing_files import Preprocessing
    from siglip_search.models.registry_row import HubSource, RegistryRow
    from siglip_search.models.spec import ModelSpec

_LOADERS = {"transformers": load_transformers_towers, "open_clip": load_open_clip_towers}


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How the towers are written.

    Attributes:
        name: Of the new model; None for the row's own.
        batch: The one batch size that the towers take; None for any.
        normalised: The graphs end with unit vectors.
        opset: Version of the ONNX operators.
    """

    name: str | None = None
    batch: int | None = None
    normalised: bool = False
    opset: int = DEFAULT_OPSET


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What an export made.

    Attributes:
        spec: The model folder.
        differences: Between its towers and the checkpoint's.
        made_with: Names and versions of the libraries.
    """

    spec: ModelSpec
    differences: TowerDifferences
    made_with: str


def export_model(
    row: RegistryRow,
    target: Path,
    *,
    weights: Path | None = None,
    options: ExportOptions | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> ExportedModel:
    """Export both towers of a checkpoint, prove them equal to it, and put the folder in place.

    Nothing is left behind by a failure.

    Args:
        row: The model that the checkpoint is of.
        target: The new folder; may exist if it is empty.
        weights: The user's own checkpoint, a folder or a file; None for the published one.
        options: How the towers are written.
        on_step: Called with a few words when the next step begins.

    Raises:
        ModelError: If a library is missing, the checkpoint is not one of this model, the towers
            differ from it, or the folder cannot be written.
        DownloadError: If something must come from the hub and cannot.
    """
    options = options or ExportOptions()
    if row.hub is None:
        raise ModelError(
            f"the model {row.name!r} comes with the program: it is exported already",
            hint="`siglip-search model list` shows the others.",
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(
            f"{target} is there already and not empty", hint="Name a new folder, or empty it."
        )
    require_libraries(row.hub.architecture)
    checkpoint = find_checkpoint(row, weights)
    preprocessing = read_preprocessing(checkpoint.preprocessor)
    check_preprocessing(preprocessing, row, where=str(checkpoint.preprocessor))
    on_step(f"loading {checkpoint.weights}")
    towers = _LOADERS[row.hub.architecture.library](row, checkpoint)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with staging_folder(target.parent, row.name) as staged:
            on_step("exporting the towers")
            _write(staged, row, row.hub, checkpoint, preprocessing, towers, options)
            on_step("comparing them with the checkpoint")
            differences = check_towers(load_model_folder(staged), towers)
            spec = install_folder(staged, target.parent, target.name)
    except OSError as error:
        raise storage_error(f"{target} cannot be written", error) from error
    return ExportedModel(spec, differences, library_versions(row.hub.architecture))


def refuse_installed(name: str, models_dir: Path) -> None:
    """Raise if an export cannot become the installed model called `name`.

    Raises:
        ModelError: If it is no name for a model, or taken.
    """
    check_model_name(name, where="--name")
    try:
        refuse_taken_name(name, models_dir, replace=False)
    except ModelError as error:
        hint = "Choose another with --name."
        if (models_dir / name).exists():
            hint += f" Or make room: `siglip-search model remove {name}`."
        raise ModelError(str(error), hint=hint) from error


def _write(
    staged: Path,
    row: RegistryRow,
    source: HubSource,
    checkpoint: Checkpoint,
    preprocessing: Preprocessing,
    towers: TorchTowers,
    options: ExportOptions,
) -> None:
    import torch

    data_files = {}
    for name, tower, input_name, example in (
        ("vision.onnx", towers.vision, "pixel_values", torch.zeros(2, 3, *source.image_size)),
        ("text.onnx", towers.text, "input_ids", _padding(source)),
    ):
        data_files[name] = write_onnx(
            tower,
            example,
            staged / name,
            input_name=input_name,
            normalised=options.normalised,
            batch=options.batch,
            opset=options.opset,
        )
    # A SentencePiece model has many names, and the folder one for all; merges tell by theirs
    # whether they are packed.
    sentencepiece = source.tokenizer == "sentencepiece"
    places = TowerPlaces(
        vision="vision.onnx",
        text="text.onnx",
        tokenizer="tokenizer.model" if sentencepiece else checkpoint.tokenizer.name,
        vision_data=data_files["vision.onnx"],
        text_data=data_files["text.onnx"],
    )
    shutil.copyfile(checkpoint.tokenizer, staged / places.tokenizer)
    facts = facts_of(
        row,
        name=options.name or row.name,
        checkpoint=checkpoint.identity,
        precision="fp32",
        places=places,
        preprocessing=preprocessing,
        scale_and_bias=(towers.logit_scale, towers.logit_bias),
    )
    if checkpoint.own:
        facts = dataclasses.replace(facts, title=f"{row.title}, own weights")
    (staged / MODEL_FILE).write_text(model_toml(facts), encoding="utf-8")


def _padding(source: HubSource) -> object:
    import torch

    return torch.full((2, source.length), source.end_id, dtype=torch.int64)
