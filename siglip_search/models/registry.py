"""Models by name: the rows of the registry, and the folders that are on this machine."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from siglip_search.errors import ModelError, NoModelError, UnknownModelError
from siglip_search.models.fact_table import read_toml
from siglip_search.models.folder_locks import restore_replaced
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.registry_file import REMEDY, read_rows
from siglip_search.models.registry_row import (
    Architecture,
    HubSource,
    Published,
    RegistryRow,
    TowerFiles,
)
from siglip_search.models.spec import MODEL_FILE, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = [
    "OFFLINE_REMARK",
    "Architecture",
    "BrokenModel",
    "HubSource",
    "Published",
    "RegistryRow",
    "TowerFiles",
    "broken_models",
    "default_row",
    "find_model",
    "find_row",
    "installed_models",
    "registry_rows",
]

OFFLINE_REMARK = "`--model demo` works offline."


@dataclass(frozen=True, slots=True)
class BrokenModel:
    """A folder among the installed models that cannot be used, and why."""

    directory: Path
    error: ModelError


def registry_rows(own: Path | None = None) -> list[RegistryRow]:
    """Return every known model, the default first, the user's own last.

    Args:
        own: The user's file with rows of his own; need not exist. A row of his takes the place
            of ours of the same name.

    Raises:
        ModelError: If the user's file has a mistake; the message names the row and the key.
    """
    added = {row.name: row for row in _own_rows(own)} if own is not None else {}
    known = [added.pop(row.name, row) for row in _registry_rows()]
    return known + list(added.values())


def default_row() -> RegistryRow:
    """Return the model that is offered when none was chosen."""
    name = _registry()["default"]
    return next(row for row in _registry_rows() if row.name == name)


def find_row(name: str, own: Path | None = None) -> RegistryRow:
    """Return the known model called `name`.

    Args:
        name: As typed.
        own: The user's file with rows of his own.

    Raises:
        UnknownModelError: If there is none.
        ModelError: If the user's file has a mistake.
    """
    for row in registry_rows(own):
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


def find_model(
    name: str, models_dir: Path, bundled: Mapping[str, Path], own: Path | None = None
) -> ModelSpec:
    """Return the model called `name`, ready to be used.

    Args:
        name: As typed.
        models_dir: Folder with one folder per model; may not exist.
        bundled: Folders of models that come with the program, by name.
        own: The user's file with rows of his own; read only where the model is not installed.

    Raises:
        NoModelError: If the model is known but not on this machine; the hint says how to get it.
        UnknownModelError: If no model of this name is known.
        ModelError: If its folder is broken, or the user's file has a mistake.
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
        row = find_row(name, own)
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
        hint=f"{_how_to_get(row)}; {OFFLINE_REMARK}",
    )


def _how_to_get(row: RegistryRow) -> str:
    if row.hub is not None and not row.hub.towers:
        return f"`siglip-search model export {row.name}` makes it from its checkpoint"
    size = f" (about {row.download_bytes / 1e6:.0f} MB)" if row.download_bytes else ""
    return f"`siglip-search model pull {row.name}` fetches it{size}"


def _folders(models_dir: Path) -> Iterator[Path]:
    if not os.path.isdir(models_dir):
        return
    restore_replaced(models_dir)
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


def _registry_rows() -> list[RegistryRow]:
    known = _registry()
    del known["default"]  # which is no row, and nothing that a user's file could say
    return read_rows(known, where="registry.toml")


def _own_rows(path: Path) -> list[RegistryRow]:
    try:
        values = read_toml(path, remedy=REMEDY)
    except FileNotFoundError:
        return []
    rows = read_rows(values, where=str(path))
    bundled = {row.name for row in _registry_rows() if row.bundled}
    for row in rows:
        if row.bundled or row.name in bundled:
            raise ModelError(
                f"{path}, row {row.name!r}: only the program itself can bring a model along",
                hint="Choose another `name`, and leave `bundled` out.",
            )
    return rows
