"""Model folders as others lay them out, made ours with what the registry knows of the model.

Two layouts are common: `onnx/vision_model.onnx` with `preprocessor_config.json` and `spiece.model`
(Xenova, onnx-community), and `visual/model.onnx`, `textual/model.onnx` with
`visual/preprocess_cfg.json` (immich). Neither has a `model.toml`; a row supplies what they do not
say themselves.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from siglip_search.errors import ModelError
from siglip_search.models.checkpoint_scalars import read_scale_and_bias
from siglip_search.models.external_data import external_files
from siglip_search.models.files import (
    install_folder,
    refuse_taken_name,
    staging_folder,
    storage_error,
)
from siglip_search.models.model_folder import load_model_folder, sha256_of
from siglip_search.models.model_toml import model_toml
from siglip_search.models.onnx_scalars import read_onnx_file_scalars
from siglip_search.models.preprocessing_files import read_preprocessing
from siglip_search.models.registry_row import TowerFiles
from siglip_search.models.row_facts import TowerPlaces, check_preprocessing, facts_of
from siglip_search.models.spec import MODEL_FILE, VariantSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from siglip_search.models.registry_row import HubSource, RegistryRow
    from siglip_search.models.spec import ModelFacts, ModelSpec, Precision

_SUFFIXES: Final[dict[Precision, tuple[str, ...]]] = {
    "fp32": ("",),
    "fp16": ("_fp16",),
    "int8": ("_quantized", "_int8"),
}
_PREPROCESSING: Final = (
    "preprocessor_config.json",
    "visual/preprocess_cfg.json",
    "open_clip_config.json",
)
_CHECKPOINTS: Final = ("model.safetensors", "open_clip_model.safetensors")
_WHOLE_MODELS: Final = ("onnx/model.onnx", "model.onnx")
_SENTENCEPIECE: Final = ("spiece.model", "tokenizer.model")
_LEAST_SCALE: Final = 10.0
"""Training begins at 10 (SigLIP, arXiv:2303.15343) or 14.3 (CLIP) and goes up to 100 and more;
the logarithms of such scales are below 5."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A foreign folder as a model of ours.

    Attributes:
        facts: What its model.toml will say.
        files: Where each file of the model lies, by its place in our folder.
    """

    facts: ModelFacts
    files: dict[str, Path]


def describe_layout(
    directory: Path,
    row: RegistryRow,
    *,
    precision: Precision = "fp32",
    logit_scale: float | None = None,
    logit_bias: float | None = None,
) -> Layout:
    """Find a model's files in a folder and put its facts together.

    Args:
        directory: In one of the two layouts.
        row: What model it is.
        precision: Of the towers to take.
        logit_scale: After exp(); None to read scale and bias from a checkpoint or an export of
            the whole model in the folder.
        logit_bias: With a given scale: None for a model without a learned bias, which a SigLIP
            is not.

    Raises:
        ModelError: If a file is missing, is another model's or damaged, or a given number cannot
            be such a model's; the message names it.
    """
    source = row.hub
    if source is None:
        raise ModelError(
            f"the model {row.name!r} comes with the program: there is nothing to add",
            hint=f"Use it with `--model {row.name}`.",
        )
    if not directory.is_dir():
        raise ModelError(f"{directory} is no folder", hint="Name the folder that holds the towers.")
    towers = _towers(directory, source, precision)
    places = TowerPlaces.of(source, towers)
    said = _first(directory, (source.preprocessor_file, *_PREPROCESSING))
    if said is None:
        raise _missing(
            directory,
            "JSON file that says how pictures are prepared",
            f"Put {source.preprocessor_file} of {source.checkpoint_repo} there.",
        )
    preprocessing = read_preprocessing(said)
    check_preprocessing(preprocessing, row, where=str(said))
    scalars, checkpoint = _scale_and_bias(directory, row, logit_scale, logit_bias)
    files = {
        places.tokenizer: _tokenizer(directory, row, source),
        places.vision: directory / towers.vision,
        places.text: directory / towers.text,
    }
    ours = (*places.vision_data, *places.text_data)
    theirs = (*towers.vision_data, *towers.text_data)
    files |= {place: directory / name for place, name in zip(ours, theirs, strict=True)}
    facts = facts_of(
        row,
        name=row.name if precision == "fp32" else f"{row.name}-{precision}",
        checkpoint=checkpoint or f"towers:{sha256_of(files[places.vision])}",
        precision=precision,
        places=places,
        preprocessing=preprocessing,
        scale_and_bias=scalars,
    )
    if precision != "fp32":
        recipe = f"file:{towers.vision}@sha256:{sha256_of(files[places.vision])}"
        facts = replace(facts, variant=VariantSpec(of=row.name, recipe=recipe))
    return Layout(facts, files)


def add_layout(
    layout: Layout,
    models_dir: Path,
    *,
    replace: bool = False,
    check: Callable[[ModelSpec], None] = lambda _: None,
) -> ModelSpec:
    """Copy a foreign folder's files into a model folder of ours; whole or not at all.

    Args:
        layout: The folder, described.
        models_dir: Folder with one folder per model; made if need be.
        replace: Take the place of an installed model of the same name.
        check: Called with the complete folder before it becomes visible; raises to refuse it.

    Raises:
        ModelError: If the name is taken, the model is refused, or it cannot be copied.
    """
    name = layout.facts.name
    refuse_taken_name(name, models_dir, replace=replace)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with staging_folder(models_dir, name) as staged:
            for place, source in layout.files.items():
                target = staged / place
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            (staged / MODEL_FILE).write_text(model_toml(layout.facts), encoding="utf-8")
            check(load_model_folder(staged))
            return install_folder(staged, models_dir, name)
    except OSError as error:
        raise storage_error(f"the model {name!r} cannot be added", error) from error


def _towers(directory: Path, source: HubSource, precision: Precision) -> TowerFiles:
    known = source.towers.get(precision)
    candidates = [(known.vision, known.text)] if known is not None else []
    for suffix in _SUFFIXES[precision]:
        candidates += [
            (f"onnx/vision_model{suffix}.onnx", f"onnx/text_model{suffix}.onnx"),
            (f"vision_model{suffix}.onnx", f"text_model{suffix}.onnx"),
        ]
    if precision == "fp32":
        candidates.append(("visual/model.onnx", "textual/model.onnx"))
    for vision, text in candidates:
        if (directory / vision).is_file() and (directory / text).is_file():
            return TowerFiles(vision, text, _data(directory, vision), _data(directory, text))
    listed = "; ".join(" and ".join(pair) for pair in dict.fromkeys(candidates))
    raise ModelError(
        f"{directory} holds no pair of {precision} towers",
        hint=f"Looked for: {listed}.",
    )


def _data(directory: Path, tower: str) -> tuple[str, ...]:
    folder = PurePosixPath(tower).parent
    names = tuple((folder / name).as_posix() for name in external_files(directory / tower))
    for name in names:
        if not (directory / name).is_file():
            raise ModelError(
                f"{directory / tower} keeps weights in {name}, which is missing",
                hint="Put the file there: it belongs to the tower.",
            )
    return names


def _tokenizer(directory: Path, row: RegistryRow, source: HubSource) -> Path:
    others = _SENTENCEPIECE if source.tokenizer == "sentencepiece" else ()
    names = (source.tokenizer_file, *others)
    path = _first(directory, (*names, *(f"textual/{name}" for name in names)))
    if path is None:
        raise _missing(
            directory,
            f"{source.tokenizer} tokenizer",
            f"Put {source.tokenizer_file} of {source.tokenizer_repo} there; a tokenizer.json will "
            "not do.",
        )
    if source.tokenizer_sha256 not in (None, sha256_of(path)):
        raise ModelError(
            f"{path} is not the tokenizer that {row.name} was trained with",
            hint=f"Take {source.tokenizer_file} of {source.tokenizer_repo}.",
        )
    return path


def _scale_and_bias(
    directory: Path, row: RegistryRow, scale: float | None, bias: float | None
) -> tuple[tuple[float, float | None], str | None]:
    """Return scale and bias, and the identity of the weights where they are in the folder."""
    assert row.hub is not None
    weights = _first(directory, (row.hub.weights_file, *_CHECKPOINTS))
    identity = None if weights is None else f"sha256:{sha256_of(weights)}"
    if scale is not None:
        _refuse_senseless(row, row.hub, scale, bias)
        return (scale, bias), identity
    if weights is not None and weights.suffix == ".safetensors":
        with weights.open("rb") as stream:

            def read_range(start: int, count: int) -> bytes:
                stream.seek(start)
                return stream.read(count)

            return read_scale_and_bias(read_range, where=str(weights)), identity
    whole = weights or _first(directory, _WHOLE_MODELS)
    if whole is not None:
        return read_onnx_file_scalars(whole), identity
    raise ModelError(
        f"{directory} does not say scale and bias: towers on their own do not contain them",
        hint=f"Put {row.hub.weights_file} of {row.hub.checkpoint_repo} there, or the export of the "
        "whole model (model.onnx), or give the two numbers with --logit-scale (after exp) and "
        "--logit-bias; `model pull` reads them by itself.",
    )


def _refuse_senseless(
    row: RegistryRow, source: HubSource, scale: float, bias: float | None
) -> None:
    """Raise if the numbers that the user gave cannot be those of such a model."""
    if not _LEAST_SCALE <= scale < math.inf:
        raise ModelError(
            f"--logit-scale {scale:g} cannot be the scale of {row.name}: it must be finite and at "
            f"least {_LEAST_SCALE:g}",
            hint="Give the scale after exp(): a checkpoint that says 4.6 means 100.",
        )
    if bias is not None and not math.isfinite(bias):
        raise ModelError(
            f"--logit-bias {bias:g} is not finite",
            hint="Give the checkpoint's logit_bias, or leave it out for a model without one.",
        )
    if not _has_bias(source):
        return
    if bias is None:
        raise ModelError(
            f"--logit-scale without --logit-bias: {row.name} has a learned bias, and without it "
            "there are no probabilities",
            hint="Give the checkpoint's logit_bias too, a number below 0.",
        )
    if bias > 0.0:
        raise ModelError(
            f"--logit-bias {bias:g} cannot be the bias of {row.name}: it is below 0",
            hint=f"Give it with its sign: --logit-bias {-bias:g}?",
        )


def _has_bias(source: HubSource) -> bool:
    """Tell whether a row's models were trained with a bias, as SigLIP's loss needs one.

    A row that cuts at a probability is of such a model; so is one whose network is called SigLIP.
    """
    return source.min_probability > 0.0 or "siglip" in source.architecture.name.lower()


def _first(directory: Path, names: Iterable[str]) -> Path | None:
    return next((path for name in names if (path := directory / name).is_file()), None)


def _missing(directory: Path, what: str, remedy: str) -> ModelError:
    return ModelError(f"{directory} has no {what}", hint=remedy)
