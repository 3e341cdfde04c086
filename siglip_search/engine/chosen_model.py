"""Which model a library uses, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siglip_index.records import Space
from siglip_search import demo
from siglip_search.errors import ModelError, NoModelError, UnknownModelError
from siglip_search.models.files import add_model_folder
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.registry import default_row, find_model, installed_models
from siglip_search.settings import models_directory, own_models_file

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.registry import RegistryRow
    from siglip_search.models.spec import ModelSpec, Precision
    from siglip_search.towers.session import Device


class AnotherVersionError(ModelError):
    """The installed model is another version than the one that made the library's vectors.

    Going on with it means embedding every picture again, which is done only when it was agreed to.

    Attributes:
        spec: The installed one.
    """

    def __init__(self, message: str, *, hint: str, spec: ModelSpec) -> None:
        super().__init__(message, hint=hint)
        self.spec = spec


def bundled_models() -> dict[str, Path]:
    """Return the folders of the models that come with the program, by name."""
    return {"demo": demo.model_directory()}


def model_called(name: str) -> ModelSpec:
    """Return an installed model.

    Raises:
        UnknownModelError: No model of this name is installed; the hint says how to get it.
    """
    own = own_models_file()
    return find_model(name, models_directory(), bundled_models(), own)


def all_installed() -> list[ModelSpec]:
    """Return every model that can be used now."""
    return installed_models(models_directory(), bundled_models())


@dataclass(frozen=True, slots=True)
class IndexingModels:
    """Whose vectors a run makes.

    Attributes:
        answering: The model whose vectors are searched now; None when it is not installed (any
            more, or in that version).
        coming: The model that takes over once it has embedded every picture; None when none is.
        lost: Name of the model that was to take over and is not installed (in that version).
    """

    answering: ModelSpec | None
    coming: ModelSpec | None
    lost: str | None = None

    @property
    def first(self) -> ModelSpec:
        """The model that new pictures are embedded with first."""
        spec = self.answering or self.coming
        assert spec is not None
        return spec


def models_for_indexing(
    requested: str | None, active: Space | None, coming: Space | None, preferred: str | None
) -> IndexingModels:
    """Return the models to embed with.

    Args:
        requested: The one asked for.
        active: The library's own.
        coming: The one that the library is being switched to.
        preferred: The user's usual one, for a library without pictures.

    Raises:
        NoModelError: None of them names one.
        UnknownModelError: The one asked for, or the only one, is not installed.
        AnotherVersionError: It is installed in another version than the library's vectors are of,
            whose preprocessing is newer, say, and nobody has chosen that one for this library.
    """
    if active is None:
        name = requested or preferred
        if name is None:
            row = default_row()
            raise NoModelError(
                "no model has been chosen yet",
                hint=f"`siglip-search model pull {row.name}` gets the usual one; "
                "`--model demo` works offline, on drawings only.",
            )
        return IndexingModels(model_called(name), None)
    if requested is not None:
        wanted = model_called(requested)
        if wanted.space_key != active.key:
            if wanted.name == active.model:
                _refuse_unless_chosen(wanted, active, coming)
            return IndexingModels(model_of_space(active), wanted)
        answering: ModelSpec | None = wanted
    else:
        answering = model_of_space(active)
    successor = None if coming is None else model_of_space(coming)
    if answering is None and successor is None:
        # Without another version under the old name the error says how to get it.
        another = model_called(active.model)
        _refuse_unless_chosen(another, active, coming)
        return IndexingModels(None, another)
    lost = coming.model if coming is not None and successor is None else None
    return IndexingModels(answering, successor, lost)


def _refuse_unless_chosen(spec: ModelSpec, active: Space, coming: Space | None) -> None:
    """Raise unless the library is being switched to this version already.

    What comes with the program is free: no former version of it can be got, and its own pictures
    take seconds.
    """
    if (coming is not None and coming.key == spec.space_key) or spec.name in bundled_models():
        return
    raise AnotherVersionError(
        f"the installed model {active.model!r} is another version than the one that made this "
        "library: its vectors cannot be mixed with those, and every picture would be embedded "
        "again",
        hint=f"`siglip-search model use {spec.name}` agrees to that, and the next `index` does it. "
        "Until then nothing is changed; the former version, put back, goes on as before.",
        spec=spec,
    )


def model_of_space(space: Space) -> ModelSpec | None:
    """Return the installed model that makes vectors of this very space, None if there is none.

    Several can, variants that agree with their original: the one that bears the space's name is
    preferred, and any other will do.
    """
    try:
        spec = model_called(space.model)
    except (UnknownModelError, NoModelError):
        pass
    else:
        if spec.space_key == space.key:
            return spec
    return next((spec for spec in all_installed() if spec.space_key == space.key), None)


def model_for_searching(requested: str | None, active: Space) -> ModelSpec:
    """Return a model that can be asked about the library's active vectors.

    Raises:
        ModelError: Another one was asked for, or the installed one has other weights.
    """
    if requested is not None and requested != active.model:
        wanted = model_called(requested)
        if wanted.space_key == active.key:
            return wanted
        raise ModelError(
            f"this library answers with the model {active.model!r}, not {requested!r}",
            hint=f"Leave --model out, or switch: siglip-search model use {requested}",
        )
    spec = model_of_space(active)
    if spec is None:
        model_called(active.model)  # if it is not installed, this says how to get it
        raise ModelError(
            f"the installed model {active.model!r} is another version than the one that made "
            "this library",
            hint=f"`siglip-search model use {active.model}`, then `siglip-search index`, embeds "
            "the pictures again; the former version, put back, answers at once.",
        )
    return spec


def add_model(directory: Path, *, replace: bool) -> ModelSpec:
    """Install a model folder after both its towers have embedded something.

    Raises:
        ModelError: The folder is incomplete, its towers do not do what it says, or the name is
            taken.
    """
    spec = load_model_folder(directory)
    embed_something(spec)
    return add_model_folder(directory, models_directory(), replace=replace)


def add_foreign_model(
    directory: Path,
    row: RegistryRow,
    *,
    precision: Precision = "fp32",
    logit_scale: float | None = None,
    logit_bias: float | None = None,
    replace: bool = False,
) -> ModelSpec:
    """Install a known model from a folder that others laid out, after its towers have worked.

    Raises:
        ModelError: A file is missing or another model's, the towers do not do what the row says,
            or the name is taken.
    """
    # Imported here: a question has no use for what reads other people's folders.
    from siglip_search.models.layouts import add_layout, describe_layout

    layout = describe_layout(
        directory, row, precision=precision, logit_scale=logit_scale, logit_bias=logit_bias
    )
    return add_layout(layout, models_directory(), replace=replace, check=embed_something)


def embed_something(spec: ModelSpec, *, device: Device = "cpu") -> None:
    """Let both towers of a model work once, before anything depends on them.

    Args:
        spec: The model.
        device: Where a tower runs that is compiled for an NPU; the processor tries the others.

    Raises:
        ModelError: One of them does not do what the model's facts say.
        DeviceError: The device was asked for by name and cannot be used, or fails.
    """
    from siglip_search.towers.devices import is_compiled
    from siglip_search.towers.text import TextTower
    from siglip_search.towers.vision import VisionTower

    height, width = spec.vision.image_size
    vision_on = device if is_compiled(spec.vision_path) else "cpu"
    text_on = device if is_compiled(spec.text_path) else "cpu"
    VisionTower(spec, device=vision_on).embed(np.full((1, height, width, 3), 128, np.uint8))
    TextTower(spec, device=text_on).embed(["a picture"])


def space_of(spec: ModelSpec) -> Space:
    """Return the embedding space of a model's vectors."""
    return Space(key=spec.space_key, dimension=spec.dimension, model=spec.name)
