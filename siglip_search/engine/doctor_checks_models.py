"""The models: whole as far as their files show it, and the library's own among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_search.engine.chosen_model import bundled_models
from siglip_search.engine.doctor_finding import Finding, readable_bytes
from siglip_search.errors import ModelError
from siglip_search.models.external_data import check_external_files
from siglip_search.models.folder_locks import (
    PULLING_PREFIX,
    REMOVAL_PREFIX,
    REPLACING_PREFIX,
    STAGING_PREFIX,
)
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.onnx_fields import open_fields
from siglip_search.models.registry import default_row, find_row
from siglip_search.models.spec import MODEL_FILE
from siglip_search.settings import models_directory, own_models_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from siglip_search.engine.doctor_finding import Subject
    from siglip_search.models.spec import ModelSpec

# What `model quantize` makes is called after its original and one of these.
_QUANTIZED = ("int8", "w8a16")


def look_at_installed(_: Subject) -> Iterator[Finding]:
    """Look at each model's folder: facts, tokenizer, the structure of both towers."""
    for name, directory in _model_folders():
        try:
            spec = load_model_folder(directory)
            problem = damage_of(spec)
        except ModelError as error:
            yield Finding(f"model {name}", "bad", str(error), _how_to_mend(name, error.hint))
            continue
        if problem is not None:
            yield Finding(f"model {spec.name}", "bad", problem, _how_to_mend(spec.name))
        else:
            what = f"{spec.title}, {spec.vision.precision}, {readable_bytes(spec.disk_bytes)}"
            yield Finding(f"model {spec.name}", "good", what)
    yield from _unfinished()


def look_at_chosen(subject: Subject) -> Iterator[Finding]:
    """Look for the model that the library, or the settings, name."""
    specs = _sound_models()
    library = subject.library
    if library is None or library.active is None:
        yield _preferred(subject.settings.model, specs)
        return
    for role, space in (("answers", library.active), ("is to answer", library.coming)):
        if space is None:
            continue
        same = next((spec for spec in specs if spec.space_key == space.key), None)
        if same is not None:
            what = f"{same.name} {role}, in the version that made the vectors"
            yield Finding("the library's model", "good", what)
        elif any(spec.name == space.model for spec in specs):
            what = f"{space.model} is installed in another version than the one that {role}"
            remedy = (
                "Put the former version back, or agree to embedding every picture again: "
                f"siglip-search model use {space.model}"
            )
            yield Finding("the library's model", "bad", what, remedy)
        else:
            what = f"{space.model}, which {role}, is not installed"
            yield Finding("the library's model", "bad", what, _how_to_mend(space.model))


def weights_bytes(subject: Subject) -> int:
    """Return what the files of both towers of the library's model take; 0 where none is there."""
    active = subject.library.active if subject.library is not None else None
    for spec in _sound_models():
        wanted = spec.space_key == active.key if active else spec.name == subject.settings.model
        if wanted:
            files = {spec.vision.file, *spec.vision.data_files, spec.text.file}
            files.update(spec.text.data_files)
            return sum((spec.directory / file).stat().st_size for file in files)
    return 0


def damage_of(spec: ModelSpec) -> str | None:
    """Return what is wrong with a model's towers, by their structure; None if nothing is.

    Whether every weight is right only `siglip-search model bench` shows.

    Raises:
        ModelError: A tower keeps weights in a file that the facts do not name.
    """
    for file in spec.files:
        path = spec.directory / file
        try:
            if not path.stat().st_size:
                return f"{path} is empty"
            with path.open("rb") as stream:
                stream.read(1)
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
    for tower in (spec.vision_path, spec.text_path):
        try:
            with open_fields(tower) as reader:
                # The outermost fields span the whole file: one that was cut off shows here.
                for _ in reader.fields(0, reader.size_bytes):
                    pass
        except ValueError as error:
            return f"{tower} is no ONNX model, or not all of one: {error}"
    check_external_files(spec)
    return None


def _preferred(name: str | None, specs: list[ModelSpec]) -> Finding:
    if name is not None:
        if any(spec.name == name for spec in specs):
            return Finding("the library's model", "good", f"{name}, by the settings")
        what = f"the settings name {name}, which is not installed"
        return Finding("the library's model", "bad", what, _how_to_mend(name))
    usual = default_row().name
    if any(spec.name not in bundled_models() for spec in specs):
        what = "none is chosen yet"
        return Finding("the library's model", "note", what, "Name one: index --model NAME")
    what = "only the demonstration's model is installed, which knows drawings, not photographs"
    return Finding("the library's model", "note", what, f"siglip-search model pull {usual}")


def _model_folders() -> list[tuple[str, Path]]:
    # Not by the registry: it puts back what a killed process left, and here nothing is changed.
    added = [(path.name, path) for path in _entries() if _is_model(path)]
    return [*bundled_models().items(), *added]


def _is_model(path: Path) -> bool:
    return not path.name.startswith(".") and (path / MODEL_FILE).is_file()


def _sound_models() -> list[ModelSpec]:
    specs = []
    for _, directory in _model_folders():
        try:
            specs.append(load_model_folder(directory))
        except ModelError:
            continue
    return specs


def _unfinished() -> Iterable[Finding]:
    prefixes = (PULLING_PREFIX, STAGING_PREFIX, REPLACING_PREFIX, REMOVAL_PREFIX)
    left = [path for path in _entries() if path.name.startswith(prefixes) and path.is_dir()]
    pulled = [path.name.removeprefix(PULLING_PREFIX) for path in left]
    for path, name in zip(left, pulled, strict=True):
        if name != path.name:
            what = f"{name} has been fetched in part, or is being fetched now"
            remedy = f"siglip-search model pull {name} goes on; model remove {name} gives it up"
            yield Finding("unfinished", "note", what, remedy)
        else:
            what = f"{path} is being filled, or was left by a process that was killed"
            yield Finding("unfinished", "note", what, "siglip-search model list tidies up.")


def _entries() -> list[Path]:
    try:
        return sorted(models_directory().iterdir())
    except OSError:
        return []  # not there yet; what may not be read is a finding of the folders' own


def _how_to_mend(name: str, hint: str = "") -> str:
    """Return how to get a model anew; the hint where no registry knows it."""
    if name in bundled_models():
        return "Install siglip-search again."
    original, _, precision = name.rpartition("-")
    if precision in _QUANTIZED:
        return f"siglip-search model quantize {original} --precision {precision}"
    try:
        row = find_row(name, own_models_file())
    except ModelError:
        return hint or f"siglip-search model add DIR --replace, with a sound copy of {name}"
    if row.hub is not None and row.hub.towers:
        return f"siglip-search model pull {name} --replace"
    return f"siglip-search model export {name}"
