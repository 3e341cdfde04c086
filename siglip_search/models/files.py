"""Model folders come and go: whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from siglip_index.durable_files import sync_directory
from siglip_search.errors import ModelError, UnknownModelError
from siglip_search.models.compiled_contexts import copy_contexts
from siglip_search.models.external_data import check_external_files
from siglip_search.models.folder_locks import (
    PULLING_PREFIX,
    REMOVAL_PREFIX,
    STAGING_PREFIX,
    claimed_folder,
    clear_leftovers,
    model_lock,
    replace_folder,
    restore_replaced,
)
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.registry import registry_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec


def add_model_folder(source: Path, models_dir: Path, *, replace: bool = False) -> ModelSpec:
    """Check a model folder and copy the files that it names into `models_dir`.

    Its towers as compiled for NPUs come along; the log names those that are not of these towers.
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
            copy_contexts(spec, load_model_folder(staged))
            return install_folder(staged, models_dir, spec.name)
    except OSError as error:
        raise storage_error(f"the model {spec.name!r} cannot be added", error) from error


def remove_model(name: str, models_dir: Path) -> None:
    """Remove the model called `name` from `models_dir`; vectors made with it are not touched.

    What a pull that never ended has left of it goes too, and what killed processes left of others.

    Args:
        name: As its model.toml says, whatever its folder is called; of a folder that cannot be
            used, the folder's name.
        models_dir: Folder with one folder per model.

    Raises:
        UnknownModelError: If there is no such model in `models_dir`.
        ModelError: If it comes with the program, is being fetched, or cannot be removed.
    """
    if any(row.bundled and row.name == name for row in registry_rows()):
        raise ModelError(
            f"the model {name!r} is part of the program",
            hint="It goes when siglip-search is uninstalled.",
        )

    def refuse() -> None:
        raise ModelError(
            f"the model {name!r} is being fetched by another process",
            hint="Wait until it is there, or stop that process first.",
        )

    try:
        restore_replaced(models_dir)
        # Only what is there gets a lock, so that no `..` in a name reaches the file system.
        if not _folders_of(name, models_dir):
            raise UnknownModelError(
                f"no model called {name!r} is installed",
                hint="`siglip-search model list` shows them all.",
            )
        with model_lock(models_dir, name, on_wait=refuse, forget=True):
            clear_leftovers(models_dir)
            for folder in _folders_of(name, models_dir):
                # Renamed first: a removal that is cut short must not leave half a model.
                with claimed_folder(models_dir, REMOVAL_PREFIX) as waste:
                    folder.rename(waste / folder.name)
                    shutil.rmtree(waste)
            sync_directory(models_dir)
    except OSError as error:
        raise storage_error(f"the model {name!r} cannot be removed", error) from error


def _folders_of(name: str, models_dir: Path) -> list[Path]:
    """Return what belongs to a model: its folder, and what has been fetched of it so far."""
    if not models_dir.is_dir():
        return []
    found = []
    for entry in sorted(models_dir.iterdir()):
        if not entry.is_dir():
            continue
        if entry.name.startswith("."):
            called = entry.name.removeprefix(PULLING_PREFIX)
        else:
            try:
                called = load_model_folder(entry).name
            except ModelError:
                called = entry.name
        # A hidden folder's own name is none of a model's.
        if called == name and not called.startswith("."):
            found.append(entry)
    return found


def refuse_taken_name(name: str, models_dir: Path, *, replace: bool) -> None:
    """Raise if a model called `name` must not be put into `models_dir`.

    Raises:
        ModelError: If the name belongs to the program, or is taken and `replace` is false.
    """
    if any(row.bundled and row.name == name for row in registry_rows()):
        raise ModelError(
            f"the name {name!r} belongs to the model that comes with the program",
            hint="Give it another name: `name` in model.toml, or --name where a command has it.",
        )
    restore_replaced(models_dir)
    if (models_dir / name).exists() and not replace:
        raise ModelError(
            f"a model called {name!r} is installed already",
            hint=f"The same command with --replace takes its place; `siglip-search model remove "
            f"{name}` makes room.",
        )


@contextmanager
def staging_folder(models_dir: Path, name: str) -> Iterator[Path]:
    """Give a folder to fill and hand to `install_folder`; what is left of it is deleted.

    So is what killed processes left of theirs.

    Raises:
        OSError: If it cannot be made.
    """
    clear_leftovers(models_dir)
    with claimed_folder(models_dir, f"{STAGING_PREFIX}{name}-") as staged:
        yield staged


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
    # It was made so that only its owner can enter.
    staged.chmod(0o755)
    target = models_dir / name
    replace_folder(staged, target)
    return load_model_folder(target)


def storage_error(what: str, error: OSError) -> ModelError:
    """Return the error to raise when files could not be read or written."""
    named = isinstance(error.filename, str | bytes)
    place = f" ({os.fsdecode(error.filename)})" if named else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "The disk is full: make room and try again."
    elif isinstance(error, FileExistsError | NotADirectoryError):
        hint = "A file is where a folder belongs: move it away."
    elif isinstance(error, FileNotFoundError):
        hint = "It is missing, or was removed meanwhile: check the path and try again."
    else:
        hint = "Check the folder and its permissions."
    return ModelError(f"{what}: {error.strerror or error}{place}", hint=hint)


def _sync_file(path: Path) -> None:
    # Windows flushes only through a handle that may write.
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
