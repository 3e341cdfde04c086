"""Where a model's folder keeps its towers as compiled for NPUs: `contexts/CHIP/TOWER.onnx`.

Each of these is a few hundred bytes that name a binary beside it, and that say in their metadata
which chip and which version of the runtime it is for: opening one checks that. One folder for each
chip, so that both towers of it appear and are replaced at once.

Nothing in a context says from which weights it was made, and one of other weights would give
another tower's vectors in silence. So `CHIP/TOWER.json` beside it says so: the SHA-256 of each file
of the tower and of the context. Reading them all costs a second at each start; so it keeps the
files' sizes, times and inodes too, and content is read again only where one of these has changed.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from siglip_index.durable_files import write_durably
from siglip_search.errors import ModelError
from siglip_search.models.folder_locks import restore_replaced
from siglip_search.models.model_folder import load_model_folder, sha256_of
from siglip_search.models.spec import CONTEXTS_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec

Tower = Literal["vision", "text"]

_FORMAT: Final = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FileState:
    """A file's content, and what tells cheaply that it is still the same.

    Attributes:
        sha256: Of the content, 64 hexadecimal digits.
        stamp: Size in bytes, times of the last change of content and of the entry in nanoseconds,
            inode. A copy has another one even where the first time was set back: nobody can set
            the second.
    """

    sha256: str
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Read a file.

        Raises:
            OSError: If it cannot be read.
        """
        # Before the content: what changes while it is read has another stamp afterwards.
        stamp = _stamp(path)
        return cls(sha256_of(path), stamp)


@dataclass(frozen=True, slots=True)
class _Record:
    """What a context was compiled from, and what came of it.

    Attributes:
        tower: The tower's files, by their names relative to the model's folder.
        context: The context's, by their names in its own.
    """

    tower: dict[str, FileState]
    context: dict[str, FileState]


def compiled_contexts(directory: Path, tower: Tower) -> tuple[Path, ...]:
    """Return the contexts that were compiled from a tower as it is now, for whichever chips.

    Each other one is left out, and the log says how to make it anew.

    Args:
        directory: The model's folder.
        tower: Which of the two.

    Raises:
        ModelError: If there are any and the folder is not a sound model.
    """
    contexts = directory / CONTEXTS_FOLDER
    if not os.path.isdir(contexts):
        return ()
    restore_replaced(contexts)
    # Names that begin with a dot are folders that are being filled.
    found = sorted(contexts.glob(f"[!.]*/{tower}.onnx"))
    spec = load_model_folder(directory) if found else None
    return tuple(path for path in found if spec and _is_current(path, spec, tower))


def refuse_stale_context(path: Path, spec: ModelSpec, tower: Tower) -> None:
    """Raise unless a context was compiled from this very tower.

    Args:
        path: The context's ONNX file.
        spec: The model.
        tower: Which of the two.

    Raises:
        ModelError: If the tower or the context is another one, or nothing says what it was
            compiled from.
    """
    chip = _target_of(path.parent.name)
    hint = f"Compile it again: siglip-search model compile {spec.name} --target {chip}"
    try:
        record = _read_record(path)
    except (OSError, ValueError):
        raise ModelError(
            f"{path} does not say which tower it was compiled from", hint=hint
        ) from None
    if set(record.tower) != set(_tower_files(spec, tower)):
        named = " and ".join(sorted(record.tower))
        raise ModelError(f"{path} was compiled from {named}, which is no tower here", hint=hint)
    now = _Record(
        _states_now(spec.directory, record.tower), _states_now(path.parent, record.context)
    )
    for name, known in record.tower.items():
        if not _same_content(now.tower.get(name), known):
            raise ModelError(
                f"{path} was not compiled from {spec.directory / name} as it is now", hint=hint
            )
    for name in {path.name, *record.context}:
        if not _same_content(now.context.get(name), record.context.get(name)):
            raise ModelError(f"{path.with_name(name)} is not what was compiled", hint=hint)
    if now != record:
        # The next start need not read them; where nothing can be written, it will.
        with suppress(OSError):
            _write_record(path, now)


def tower_state(spec: ModelSpec, tower: Tower) -> dict[str, FileState]:
    """Return what a tower's files are now, by their names relative to the model's folder.

    Raises:
        OSError: If one cannot be read.
    """
    return {name: FileState.of(spec.directory / name) for name in _tower_files(spec, tower)}


def record_context(path: Path, source: dict[str, FileState], made: Iterable[str]) -> None:
    """Write beside a context what it was compiled from.

    Args:
        path: The context's ONNX file.
        source: The tower's files, as `tower_state` returned them before it was compiled.
        made: Names of the context's files, all in its folder.

    Raises:
        OSError: If a file cannot be read or written.
    """
    context = {name: FileState.of(path.with_name(name)) for name in made}
    _write_record(path, _Record(source, context))


def copy_contexts(source: ModelSpec, copy: ModelSpec) -> None:
    """Copy the contexts that belong to a model; the log names each that does not.

    Only files that are part of a context are copied.

    Args:
        source: The model.
        copy: The same model in the folder to copy to, whose towers are there already.

    Raises:
        OSError: If a file cannot be read or written.
    """
    for chip in sorted((source.directory / CONTEXTS_FOLDER).glob("[!.]*")):
        if not chip.is_dir():
            continue
        made = copy.directory / CONTEXTS_FOLDER / chip.name
        made.mkdir(parents=True)
        try:
            for tower in get_args(Tower):
                _copy_context(chip / f"{tower}.onnx", made)
                # Only the copies are compared, and only they get new stamps.
                refuse_stale_context(made / f"{tower}.onnx", copy, tower)
        except ModelError as error:
            # The user knows the folder that they were copied from, not the unfinished one.
            reason = str(error).replace(str(copy.directory), str(source.directory))
            _log.warning("%s is left out: %s. %s", chip, reason, error.hint)
            shutil.rmtree(made)
    with suppress(OSError):
        (copy.directory / CONTEXTS_FOLDER).rmdir()  # where there was none to copy


def chip_folder(target: str) -> str:
    """Return the folder of a chip.

    Args:
        target: Its name, or its numbers as "soc=60,arch=73".
    """
    return target.replace("=", "").replace(",", "-")


def _copy_context(context: Path, folder: Path) -> None:
    try:
        record = _read_record(context)
    except (OSError, ValueError):
        return
    for name in record.context:
        if (context.parent / name).is_file():
            shutil.copyfile(context.parent / name, folder / name)
    _write_record(folder / context.name, record)


def _target_of(folder: str) -> str:
    """Return what `chip_folder` was given."""
    soc, between, arch = folder.removeprefix("soc").partition("-arch")
    return f"soc={soc},arch={arch}" if between and soc.isdigit() and arch.isdigit() else folder


def _is_current(path: Path, spec: ModelSpec, tower: Tower) -> bool:
    try:
        refuse_stale_context(path, spec, tower)
    except ModelError as error:
        _log.warning("%s is not used: %s. %s", path, error, error.hint)
        return False
    return True


def _tower_files(spec: ModelSpec, tower: Tower) -> tuple[str, ...]:
    facts = spec.vision if tower == "vision" else spec.text
    return (facts.file, *facts.data_files)


def _stamp(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _states_now(folder: Path, known: dict[str, FileState]) -> dict[str, FileState]:
    """Return what files are now, reading only those that look changed; without missing ones."""
    now = {}
    for name, state in known.items():
        with suppress(OSError):
            path = folder / name
            unchanged = _stamp(path) == state.stamp
            now[name] = state if unchanged else FileState.of(path)
    return now


def _same_content(one: FileState | None, other: FileState | None) -> bool:
    return one is not None and other is not None and one.sha256 == other.sha256


def _read_record(context: Path) -> _Record:
    """Read what a context was compiled from.

    Raises:
        OSError: If it is not there.
        ValueError: If it is something else.
    """
    values: dict[str, Any] = json.loads(context.with_suffix(".json").read_bytes())
    try:
        if values["format"] != _FORMAT:
            raise ValueError("of another format")
        record = _Record(_states(values["tower"]), _states(values["context"]))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"incomplete: {error}") from error
    if any(not name.strip(".") or not set(name).isdisjoint("/\\:") for name in record.context):
        # Of files elsewhere: copied with the rest, they would carry away what is none of it.
        raise ValueError("names files outside of its folder")
    return record


def _states(values: dict[str, dict[str, Any]]) -> dict[str, FileState]:
    return {
        name: FileState(str(state["sha256"]), tuple(map(int, state["stamp"])))
        for name, state in values.items()
    }


def _write_record(context: Path, record: _Record) -> None:
    values = {"format": _FORMAT, **asdict(record)}
    text = json.dumps(values, indent=1) + "\n"
    write_durably(context.with_suffix(".json"), lambda stream: stream.write(text.encode()))
