"""Model folders come and go: whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from siglip_index.durable_files import sync_directory
from siglip_search.errors import ModelError, UnknownModelError
from siglip_search.models.external_data import check_external_files
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.registry import registry_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siglip_search.models.spec import ModelSpec

_STAGING_PREFIX: Final = ".adding-"
_REMOVAL_PREFIX: Final = ".removing-"

PULLING_PREFIX: Final = ".pulling-"
"""Begins the name of the folder that holds what has been fetched of a model so far."""


def add_model_folder(source: Path, models_dir: Path, *, replace: bool = False) -> ModelSpec:
    """Check a model folder and copy the files that it names into `models_dir`.

    After a crash or a full disk the model is there whole or not at all.

    Args:
        source: Folder with `model.toml`, towers and tokenizer.
        models_dir: Folder with one folder per model; made if need be.
        replace: Take the place of an installed model of the same name.

    Raises:
        ModelError: If the folder is not a sound model, its name is taken, or it cannot be copied.
    """
    spec = load_model_folder(source)
    refuse_taken_name(spec.name, models_dir, replace=replace)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with staging_folder(models_dir, spec.name) as staged:
            for name in spec.files:
                target = staged / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, target)
            return install_folder(staged, models_dir, spec.name)
    except OSError as error:
        raise storage_error(f"the model {spec.name!r} cannot be added", error) from error


def remove_model(name: str, models_dir: Path) -> None:
    """Remove the model called `name` from `models_dir`; vectors made with it are not touched.

    What a pull that never ended has left of it goes too.

    Raises:
        UnknownModelError: If there is no such model in `models_dir`.
        ModelError: If it comes with the program, or cannot be removed.
    """
    if any(row.bundled and row.name == name for row in registry_rows()):
        raise ModelError(
            f"the model {name!r} is part of the program",
            hint="It goes when siglip-search is uninstalled.",
        )
    # Only names that `add` and `pull` could have made, so that no `..` reaches the file system.
    folders = {
        entry.name: entry
        for entry in (models_dir.iterdir() if models_dir.is_dir() else ())
        if entry.is_dir()
    }
    wanted = () if name.startswith(".") else (name, f"{PULLING_PREFIX}{name}")
    found = [folders[folder] for folder in wanted if folder in folders]
    if not found:
        raise UnknownModelError(
            f"no model called {name!r} is installed",
            hint="`siglip-search model list` shows them all.",
        )
    try:
        for folder in found:
            _discard(folder, models_dir)
        sync_directory(models_dir)
    except OSError as error:
        raise storage_error(f"the model {name!r} cannot be removed", error) from error


def refuse_taken_name(name: str, models_dir: Path, *, replace: bool) -> None:
    """Raise if a model called `name` must not be put into `models_dir`.

    Raises:
        ModelError: If the name belongs to the program, or is taken and `replace` is false.
    """
    if any(row.bundled and row.name == name for row in registry_rows()):
        raise ModelError(
            f"the name {name!r} belongs to the model that comes with the program",
            hint="Choose another `name` in model.toml.",
        )
    if (models_dir / name).exists() and not replace:
        raise ModelError(
            f"a model called {name!r} is installed already",
            hint=f"`siglip-search model remove {name}` makes room, `model add --replace` takes its "
            "place; or choose another `name` in model.toml.",
        )


@contextmanager
def staging_folder(models_dir: Path, name: str) -> Iterator[Path]:
    """Give a folder to fill and hand to `install_folder`; what is left of it is deleted.

    Raises:
        OSError: If it cannot be made.
    """
    staged = Path(tempfile.mkdtemp(prefix=f"{_STAGING_PREFIX}{name}-", dir=models_dir))
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def install_folder(staged: Path, models_dir: Path, name: str) -> ModelSpec:
    """Make a complete folder the model called `name`, in place of an older one.

    Args:
        staged: Folder on the same file system as `models_dir`; it is moved away.
        models_dir: Folder with one folder per model.
        name: The model's name.

    Raises:
        ModelError: If the folder is not a sound model.
        OSError: If it cannot be written to the end.
    """
    check_external_files(load_model_folder(staged))
    for path in staged.rglob("*"):
        if path.is_file():
            _sync_file(path)
    for directory in (staged, *(path for path in staged.rglob("*") if path.is_dir())):
        sync_directory(directory)
    # mkdtemp makes a folder that only its owner can enter.
    staged.chmod(0o755)
    target = models_dir / name
    if target.exists():
        _discard(target, models_dir)
    staged.rename(target)
    sync_directory(models_dir)
    return load_model_folder(target)


def storage_error(what: str, error: OSError) -> ModelError:
    """Return the error to raise when files could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "The disk is full: make room and try again."
    else:
        hint = "Check the folder and its permissions."
    return ModelError(f"{what}: {error.strerror or error}", hint=hint)


def _sync_file(path: Path) -> None:
    # Windows flushes only through a handle that may write.
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _discard(folder: Path, models_dir: Path) -> None:
    # Renamed first: a removal that is cut short must not leave half a model under its name.
    waste = Path(tempfile.mkdtemp(prefix=_REMOVAL_PREFIX, dir=models_dir))
    folder.rename(waste / folder.name)
    shutil.rmtree(waste)
