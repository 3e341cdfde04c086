"""Models by name: the rows of `registry.toml`, and the folders that are on this machine."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from siglip_search.errors import ModelError, NoModelError, UnknownModelError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.spec import MODEL_FILE, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from siglip_search.models.spec import Canonicalization, Resize, TokenizerKind

OFFLINE_REMARK = "`--model demo` works offline."


@dataclass(frozen=True, slots=True)
class HubSource:
    """Where a model's files lie on the hub and the facts that they do not state themselves.

    Attributes:
        checkpoint_repo: Repository of the trained weights.
        weights_file: safetensors file in it, which holds `logit_scale` and `logit_bias`.
        preprocessor_file: JSON file in it with size, resampling filter, mean and deviation.
        onnx_repo: Repository of the exported towers.
        vision_file: Picture tower in it.
        text_file: Text tower in it.
        tokenizer_repo: Repository of the tokenizer.
        tokenizer_file: Tokenizer in it.
        tokenizer_sha256: Its content, where it is known.
        image_size: Height and width in pixels; the preprocessor file must agree.
        resize: How a picture is brought to that size.
        tokenizer: Kind of the tokenizer.
        canonicalize: What is done to the words first.
        length: Number of ids per text.
        pad_id: Padding.
        end_id: End of the text.
        min_probability: Default cut; in [0, 1).
    """

    checkpoint_repo: str
    weights_file: str
    preprocessor_file: str
    onnx_repo: str
    vision_file: str
    text_file: str
    tokenizer_repo: str
    tokenizer_file: str
    tokenizer_sha256: str | None
    image_size: tuple[int, int]
    resize: Resize
    tokenizer: TokenizerKind
    canonicalize: Canonicalization
    length: int
    pad_id: int
    end_id: int
    min_probability: float


@dataclass(frozen=True, slots=True)
class RegistryRow:
    """One known model.

    Attributes:
        name: What the user types.
        title: One line for people.
        licence: SPDX expression or a short name.
        licence_url: Text of the licence.
        languages: Language codes, or "multilingual".
        help: When to take it, one sentence.
        bundled: It comes with the program; nothing is fetched.
        dimension: Length of an embedding; None for a bundled model, whose folder says it.
        parameters_millions: Of both towers together; None for a bundled model.
        download_bytes: About how much `pull` fetches; None for a bundled model.
        sources: Where the facts of the row were found.
        hub: Where the files lie; None for a bundled model.
    """

    name: str
    title: str
    licence: str
    licence_url: str | None
    languages: tuple[str, ...]
    help: str
    bundled: bool
    dimension: int | None
    parameters_millions: int | None
    download_bytes: int | None
    sources: tuple[str, ...]
    hub: HubSource | None


@dataclass(frozen=True, slots=True)
class BrokenModel:
    """A folder among the installed models that cannot be used, and why."""

    directory: Path
    error: ModelError


def registry_rows() -> list[RegistryRow]:
    """Return every known model, the default first."""
    return [_row(values) for values in _registry()["model"]]


def default_row() -> RegistryRow:
    """Return the model that is offered when none was chosen."""
    name = _registry()["default"]
    return next(row for row in registry_rows() if row.name == name)


def find_row(name: str) -> RegistryRow:
    """Return the known model called `name`.

    Raises:
        UnknownModelError: If there is none.
    """
    for row in registry_rows():
        if row.name == name:
            return row
    raise UnknownModelError(
        f"no model called {name!r}", hint="`siglip-search model list` shows them all."
    )


def installed_models(models_dir: Path, bundled: Mapping[str, Path]) -> list[ModelSpec]:
    """Return the models that are ready to be used, bundled ones first, then by name.

    A folder that cannot be used is left out here; `broken_models` lists those.

    Args:
        models_dir: Folder with one folder per model; may not exist.
        bundled: Folders of models that come with the program, by name.

    Raises:
        ModelError: If a bundled folder is broken: the installation itself is.
    """
    specs = [load_model_folder(directory) for directory in bundled.values()]
    taken = {spec.name for spec in specs}
    for directory in _folders(models_dir):
        try:
            spec = load_model_folder(directory)
        except ModelError:
            continue
        if spec.name not in taken:
            specs.append(spec)
            taken.add(spec.name)
    return specs


def broken_models(models_dir: Path) -> list[BrokenModel]:
    """Return the folders in `models_dir` that `installed_models` leaves out, with the reason."""
    broken = []
    for directory in _folders(models_dir):
        try:
            load_model_folder(directory)
        except ModelError as error:
            broken.append(BrokenModel(directory, error))
    return broken


def find_model(name: str, models_dir: Path, bundled: Mapping[str, Path]) -> ModelSpec:
    """Return the model called `name`, ready to be used.

    Args:
        name: As typed.
        models_dir: Folder with one folder per model; may not exist.
        bundled: Folders of models that come with the program, by name.

    Raises:
        NoModelError: If the model is known but not on this machine; the hint says how to get it.
        UnknownModelError: If no model of this name is known.
        ModelError: If its folder is broken.
    """
    if name in bundled:
        return load_model_folder(bundled[name])
    for directory in _folders(models_dir):
        # Usually the folder has the model's name: then the others need not be read at all.
        if directory.name == name:
            spec = load_model_folder(directory)
            if spec.name == name:
                return spec
    for spec in installed_models(models_dir, {}):
        if spec.name == name:
            return spec
    try:
        row = find_row(name)
    except UnknownModelError as error:
        raise UnknownModelError(
            str(error),
            hint="`siglip-search model list` shows them all; `siglip-search model add DIR` adds "
            "one of your own.",
        ) from None
    if row.bundled:
        raise NoModelError(
            f"the model {name!r} comes with the program but is missing from this installation",
            hint="Install siglip-search again.",
        )
    raise NoModelError(
        f"the model {name!r} is not on this machine yet",
        hint=f"`siglip-search model pull {name}` fetches it ({_size(row)}); {OFFLINE_REMARK}",
    )


def _size(row: RegistryRow) -> str:
    return f"about {(row.download_bytes or 0) / 1e6:.0f} MB"


def _folders(models_dir: Path) -> Iterator[Path]:
    if not os.path.isdir(models_dir):
        return
    try:
        directories = sorted(models_dir.iterdir())
    except OSError as error:
        raise ModelError(
            f"the folder of the models, {models_dir}, cannot be read: {error.strerror}",
            hint="Check its permissions.",
        ) from error
    for directory in directories:
        # A leading dot marks a folder that is being filled or taken away.
        if not directory.name.startswith(".") and (directory / MODEL_FILE).is_file():
            yield directory


def _registry() -> dict[str, Any]:
    text = resources.files("siglip_search.models").joinpath("registry.toml").read_text("utf-8")
    return tomllib.loads(text)


def _row(values: Mapping[str, Any]) -> RegistryRow:
    return RegistryRow(
        name=values["name"],
        title=values["title"],
        licence=values["licence"],
        licence_url=values.get("licence_url"),
        languages=tuple(values["languages"]),
        help=values["help"],
        bundled=values.get("bundled", False),
        dimension=values.get("dimension"),
        parameters_millions=values.get("parameters_millions"),
        download_bytes=values.get("download_bytes"),
        sources=tuple(values["sources"]),
        hub=None if values.get("bundled", False) else _hub_source(values),
    )


def _hub_source(values: Mapping[str, Any]) -> HubSource:
    checkpoint, onnx, vision, text = (
        values[key] for key in ("checkpoint", "onnx", "vision", "text")
    )
    height, width = vision["image_size"]
    return HubSource(
        checkpoint_repo=checkpoint["repo"],
        weights_file=checkpoint["weights"],
        preprocessor_file=checkpoint["preprocessor"],
        onnx_repo=onnx["repo"],
        vision_file=onnx["vision"],
        text_file=onnx["text"],
        tokenizer_repo=text["tokenizer_repo"],
        tokenizer_file=text["tokenizer_file"],
        tokenizer_sha256=text.get("tokenizer_sha256"),
        image_size=(height, width),
        resize=vision["resize"],
        tokenizer=text["tokenizer"],
        canonicalize=text["canonicalize"],
        length=text["length"],
        pad_id=text["pad_id"],
        end_id=text["end_id"],
        min_probability=values["score"]["min_probability"],
    )
