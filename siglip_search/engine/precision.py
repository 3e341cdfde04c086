"""Variants of an installed model in another precision: making one, and noting that it agrees."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from siglip_index import open_store
from siglip_index.durable_files import write_durably
from siglip_index.errors import LibraryMissingError
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.errors import ModelError
from siglip_search.models.files import (
    install_folder,
    refuse_taken_name,
    staging_folder,
    storage_error,
)
from siglip_search.models.model_folder import check_model_name, load_model_folder
from siglip_search.models.model_toml import model_toml
from siglip_search.models.spec import MODEL_FILE, ModelFacts, VariantSpec
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.models.spec import Agreement, ModelSpec, Precision

MadePrecision = Literal["int8", "fp16"]
"""What `make_variant` makes; `w8a16.make_w8a16` makes towers for an NPU."""

Settled = Literal["joined", "apart", "left"]
"""What became of a variant whose agreement was measured: it shares the space of its reference, it
is a space of its own, or nothing was changed, because the library holds vectors of that own space,
which would be no more."""

VISION_FILE: Final = "vision.onnx"
TEXT_FILE: Final = "text.onnx"

_TITLES: Final[dict[Precision, str]] = {
    "int8": "8-bit weights",
    "fp16": "weights in fp16",
    "w8a16": "8-bit weights, 16-bit activations",
}


@dataclass(frozen=True, slots=True)
class MadeVariant:
    """A variant that was just made.

    Attributes:
        spec: The installed model.
        picture_cosine: Least cosine to the reference over a few made-up pictures.
        text_cosine: Likewise over a few queries.
    """

    spec: ModelSpec
    picture_cosine: float
    text_cosine: float


def make_variant(
    reference: ModelSpec, precision: MadePrecision, models_dir: Path, *, replace_old: bool = False
) -> MadeVariant:
    """Make and install the model `NAME-PRECISION` from the installed model `NAME`.

    It is an embedding space of its own until its agreement has been measured. After a failure or a
    crash it is there whole or not at all.

    Args:
        reference: The model in full precision.
        precision: Of the new towers.
        models_dir: Folder with one folder per model; made if need be.
        replace_old: Take the place of a variant that is there already.

    Raises:
        ModelError: The model is a variant itself, its towers cannot be changed, the new ones do
            not work, the name is taken, or the disk is full.
    """
    name = refuse_unsuitable(reference, precision, models_dir, replace_old=replace_old)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with staging_folder(models_dir, name) as staged:
            facts = _write_variant(reference, name, precision, staged)
            (staged / MODEL_FILE).write_text(model_toml(facts), encoding="utf-8")
            cosines = try_out(reference, load_model_folder(staged))
            return MadeVariant(install_folder(staged, models_dir, name), *cosines)
    except OSError as error:
        raise storage_error(f"the model {name!r} cannot be made", error) from error


def refuse_unsuitable(
    reference: ModelSpec, precision: Precision, models_dir: Path, *, replace_old: bool
) -> str:
    """Return the name of the variant to be made of a model, if it can be made.

    Raises:
        ModelError: The model is a variant itself or not in fp32, or the name is taken.
    """
    if reference.variant is not None:
        raise ModelError(
            f"{reference.name} was made from {reference.variant.of} itself",
            hint=f"Begin with the original: siglip-search model quantize {reference.variant.of}",
        )
    for tower, its in (("picture", reference.vision), ("text", reference.text)):
        if its.precision != "fp32":
            raise ModelError(
                f"the {tower} tower of {reference.name} has {its.precision} weights already",
                hint="Begin with the fp32 model.",
            )
    name = check_model_name(f"{reference.name}-{precision}", where="the name of the new model")
    refuse_taken_name(name, models_dir, replace=replace_old)
    return name


def settle_agreement(variant: ModelSpec, agreement: Agreement, library: Path) -> Settled:
    """Let a measured agreement decide in which embedding space a variant's vectors are.

    It is written into the variant's model.toml, in place of an older one.

    Args:
        variant: An installed variant.
        agreement: With its reference, as measured now.
        library: The library in use, which may not exist.

    Raises:
        ModelError: The file cannot be written; it is then as it was.
    """
    assert variant.variant is not None
    known = variant.variant.agreement
    was_passed = known is not None and known.passed
    if agreement.passed and not was_passed and _holds_space(library, variant.space_key):
        return "left"
    facts = replace(_facts(variant), variant=replace(variant.variant, agreement=agreement))
    path = variant.directory / MODEL_FILE
    try:
        write_durably(path, lambda file: file.write(model_toml(facts).encode()))
    except OSError as error:
        raise storage_error(f"{path} cannot be written", error) from error
    return "joined" if agreement.passed else "apart"


def _holds_space(library: Path, space_key: str) -> bool:
    try:
        store = open_store(library, writable=False)
    except LibraryMissingError:
        return False
    try:
        return any(space.key == space_key for space in store.spaces())
    finally:
        store.close()


def _write_variant(
    reference: ModelSpec, name: str, precision: MadePrecision, folder: Path
) -> ModelFacts:
    """Fill a folder with new towers and the same tokenizer; return what model.toml has to say."""
    recipe, write = _maker(precision)
    vision_data = write(reference.vision_path, folder / VISION_FILE)
    text_data = write(reference.text_path, folder / TEXT_FILE)
    copy_tokenizer(reference, folder)
    return variant_facts(
        reference,
        name=name,
        precision=precision,
        recipe=recipe,
        vision_data=vision_data,
        text_data=text_data,
    )


def copy_tokenizer(reference: ModelSpec, folder: Path) -> None:
    """Copy a model's tokenizer to where its variant, in `folder`, expects it."""
    tokenizer = folder / reference.text.tokenizer_file
    tokenizer.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(reference.tokenizer_path, tokenizer)


def variant_facts(
    reference: ModelSpec,
    *,
    name: str,
    precision: Precision,
    recipe: str,
    vision_data: tuple[str, ...],
    text_data: tuple[str, ...],
) -> ModelFacts:
    """Return what the model.toml of a variant has to say.

    Args:
        reference: The model in full precision.
        name: Of the variant.
        precision: Of its towers, which are called `VISION_FILE` and `TEXT_FILE`.
        recipe: How they were made.
        vision_data: Files with external weights of the picture tower.
        text_data: Likewise of the text tower.
    """
    vision, text = reference.vision, reference.text
    return replace(
        _facts(reference),
        name=name,
        title=f"{reference.title}, {_TITLES[precision]}",
        vision=replace(vision, file=VISION_FILE, data_files=vision_data, precision=precision),
        text=replace(text, file=TEXT_FILE, data_files=text_data, precision=precision),
        variant=VariantSpec(of=reference.name, recipe=recipe),
    )


def _maker(precision: MadePrecision) -> tuple[str, Callable[[Path, Path], tuple[str, ...]]]:
    """Return how towers of this precision are made: the recipe, and the function that does it."""
    if precision == "fp16":
        from siglip_search.export import fp16_storage

        return fp16_storage.RECIPE, fp16_storage.store_fp16
    from siglip_search.export import quantize_int8

    levels = quantize_int8.weight_levels()

    def write(source: Path, target: Path) -> tuple[str, ...]:
        return quantize_int8.quantize_int8(source, target, levels=levels)

    return quantize_int8.recipe(levels), write


def try_out(reference: ModelSpec, variant: ModelSpec) -> tuple[float, float]:
    """Return the least cosines between the two over a few made-up pictures and a few queries.

    Raises:
        ModelError: A tower does not open, or gives something that is no direction.
    """
    pictures = _made_up_pictures(reference.vision.image_size)
    # Newest first: what was just made is what may fail.
    made, original = (
        np.concatenate([VisionTower(spec).embed(picture[None]) for picture in pictures])
        for spec in (variant, reference)
    )
    made_texts, original_texts = (
        np.concatenate([tower.embed([phrase]) for phrase in PHRASES[:4]])
        for tower in (TextTower(variant), TextTower(reference))
    )
    return _least_cosine(made, original), _least_cosine(made_texts, original_texts)


def _made_up_pictures(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    height, width = size
    grey = np.full((height, width, 3), 128, np.uint8)
    slope = np.linspace(0, 255, width).astype(np.uint8)
    gradient = np.broadcast_to(slope[None, :, None], (height, width, 3)).copy()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return [grey, gradient, noise]


def _least_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.einsum("nd,nd->n", first, second).min())


def _facts(spec: ModelSpec) -> ModelFacts:
    """Return what the model's file says, without where it lies."""
    return ModelFacts(**{field.name: getattr(spec, field.name) for field in fields(ModelFacts)})
