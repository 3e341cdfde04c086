"""Ready-made QNN context binaries (Model Farm, AI Hub) become a model of their own.

    python -m siglip_search.export.import_context FILE.onnx --target x-elite

They hold one tower each and nothing else. Everything that is not in them (tokenizer,
preprocessing, scale and bias, the other tower) comes from an installed model of the same
checkpoint. That it is the same one is the user's word, so the new model is a variant: an embedding
space of its own until it has been compared.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siglip_search.errors import DeviceError, ModelError
from siglip_search.export.context_binary import read_context_binary
from siglip_search.export.wrap_context import compatibility, fit_tower, wrapping_model
from siglip_search.models.compiled_contexts import chip_folder
from siglip_search.models.files import (
    install_folder,
    refuse_taken_name,
    staging_folder,
    storage_error,
)
from siglip_search.models.model_folder import check_model_name, sha256_of
from siglip_search.models.model_toml import model_toml
from siglip_search.models.spec import MODEL_FILE, VariantSpec
from siglip_search.towers.child_process import answer_parent, ask_child
from siglip_search.towers.qnn_chip import this_processor
from siglip_search.towers.qnn_runtime import INSTALL_HINT, PACKAGE, qairt_version
from siglip_search.towers.qnn_target import CHIPS, Target, find_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siglip_search.export.context_binary import ContextBinary
    from siglip_search.models.compiled_contexts import Tower
    from siglip_search.models.spec import ModelFacts, ModelSpec, Precision
    from siglip_search.towers.wrapped_context import ContextIO

_MODULE: Final = "siglip_search.export.import_context"  # not __name__, which is __main__ there
_TIMEOUT_SECONDS: Final = 600.0
_FOLDER: Final = "context"
"""Where the binaries and the files that wrap them are in the new model's folder."""
_WORDS: Final = {"vision": "picture", "text": "text"}


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the binaries do not say themselves.

    Attributes:
        name: Of the new model; None for that of the model and the chip.
        target: The chip; None for what the binaries say.
        precision: Of the towers' weights; None to judge by what each takes and gives.
        unit_pixels: The picture tower takes pixels from 0 to 1 and normalises them itself.
        replace: Take the place of an installed model of the same name.
    """

    name: str | None = None
    target: Target | None = None
    precision: Precision | None = None
    unit_pixels: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class _Tower:
    """A binary that fits."""

    binary: ContextBinary
    io: ContextIO


def import_contexts(
    source: Path,
    base: ModelSpec,
    models_dir: Path,
    *,
    options: ImportOptions | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> ModelSpec:
    """Install a model whose towers are ready-made contexts; whole or not at all.

    Args:
        source: A binary, or a folder with one for each tower. A tower without one is `base`'s.
        base: Installed model of the same checkpoint.
        models_dir: Folder with one folder per model.
        options: What the binaries do not say.
        on_step: Called with a few words when the next step begins.

    Raises:
        ModelError: If a binary does not fit (the message says what was expected and what was
            found), is for another chip or a newer runtime, or the model cannot be written.
        DeviceError: If onnxruntime-qnn is missing, or the chip is neither said nor known.
    """
    options = options or ImportOptions()
    facts: ModelFacts = base
    if options.unit_pixels:
        vision = replace(base.vision, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        facts = replace(base, vision=vision)
    towers: dict[Tower, _Tower] = {}
    for path in _binaries(source):
        if path.is_file():  # else the next line says so at once
            on_step(f"reading {path}")
        binary = read_context_binary(path)
        tower, io = fit_tower(binary, facts)
        if tower in towers:
            raise ModelError(
                f"{path} and {towers[tower].binary.path} are both a {_WORDS[tower]} tower",
                hint="Name one of them, or a folder with one for each tower.",
            )
        towers[tower] = _Tower(binary, io)
    target = _target([one.binary for one in towers.values()], options.target)
    _refuse_other_chip(target)
    qairt = _checked_runtime([one.binary for one in towers.values()])
    name = options.name or f"{base.name}-{chip_folder(target.name)}"
    check_model_name(name, where="--name")
    refuse_taken_name(name, models_dir, replace=options.replace)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with staging_folder(models_dir, name) as staged:
            for tower, one in towers.items():
                on_step(f"opening the {_WORDS[tower]} tower for {target}")
                wrapped = _write_tower(staged / _FOLDER, tower, one, target, qairt)
                _open_apart(wrapped, target, source=one.binary.path)
            _write_rest(staged, facts, base, towers, name=name, options=options)
            return install_folder(staged, models_dir, name)
    except OSError as error:
        raise storage_error(f"the model {name!r} cannot be written", error) from error


def _binaries(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    found = sorted(path for path in source.rglob("*.bin") if path.is_file())
    if not found:
        raise ModelError(
            f"{source} holds no QNN context binary", hint="Looked for files that end in .bin."
        )
    return found


def _target(binaries: Sequence[ContextBinary], asked_for: Target | None) -> Target:
    said = {binary.soc_model: binary.path for binary in binaries if binary.soc_model}
    if asked_for is not None:
        said.setdefault(asked_for.soc_model, Path("--target"))
    if len(said) > 1:
        listed = ", ".join(f"{path}: {_chip(number)}" for number, path in said.items())
        raise ModelError(
            f"the chips differ ({listed})", hint="Import what is for one chip, without --target."
        )
    if asked_for is not None:
        return asked_for
    known = (chip.target for chip in CHIPS.values() if chip.target.soc_model in said)
    target = next(known, None)
    if target is None:
        what = f"for chip {next(iter(said))}, which is not known" if said else "for no known chip"
        raise DeviceError(
            f"{binaries[0].path} says that it is {what}",
            hint=f"Name it with --target: {', '.join(CHIPS)}; any other as soc=60,arch=73.",
        )
    return target


def _chip(soc_model: int) -> str:
    names = (name for name, chip in CHIPS.items() if chip.target.soc_model == soc_model)
    return next(names, f"chip {soc_model}")


def _refuse_other_chip(target: Target) -> None:
    here = this_processor().target
    if here is not None and here != target:
        raise ModelError(
            f"the binary was made for {target}, and this is {here}",
            hint=f"Take the one for {here}.",
        )


def _checked_runtime(binaries: Sequence[ContextBinary]) -> str:
    """Return the installed runtime's version, which reads what older ones made."""
    installed = qairt_version()
    if installed is None:
        raise DeviceError(f"{PACKAGE} is not installed", hint=INSTALL_HINT)
    for binary in binaries:
        if _version(binary.build) > _version(installed):
            raise ModelError(
                f"{binary.path} was made by QAIRT {binary.build.lstrip('v')}, and {installed} is "
                "installed",
                hint=f"Upgrade {PACKAGE}, or take a binary made by {installed} or before.",
            )
    return installed


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _write_tower(folder: Path, tower: Tower, one: _Tower, target: Target, qairt: str) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copyfile(one.binary.path, folder / f"{tower}.bin")
    wrapped = folder / f"{tower}.onnx"
    wrapped.write_bytes(
        wrapping_model(
            one.binary,
            one.io,
            file=f"{tower}.bin",
            compatible=compatibility(one.binary, target, qairt),
        )
    )
    return wrapped


def _open_apart(wrapped: Path, target: Target, *, source: Path) -> None:
    ask_child(
        _MODULE,
        [os.fspath(wrapped), "--target", target.name, "--source", os.fspath(source)],
        what=f"{source} cannot be opened for {target}",
        hint="The file is damaged, or was made for another chip or runtime.",
        timeout_seconds=_TIMEOUT_SECONDS,
    )


def _write_rest(
    staged: Path,
    facts: ModelFacts,
    base: ModelSpec,
    towers: dict[Tower, _Tower],
    *,
    name: str,
    options: ImportOptions,
) -> None:
    vision, text = facts.vision, facts.text
    kept = [text.tokenizer_file]
    if "vision" in towers:
        precision = options.precision or _precision(towers["vision"].io)
        file, data = _places("vision")
        vision = replace(vision, file=file, data_files=data, precision=precision)
    else:
        kept += [vision.file, *vision.data_files]
    if "text" in towers:
        precision = options.precision or _precision(towers["text"].io)
        file, data = _places("text")
        text = replace(text, file=file, data_files=data, precision=precision)
    else:
        kept += [text.file, *text.data_files]
    for place in kept:
        copy = staged / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(base.directory / place, copy)
    digests = (f"{tower}:sha256:{sha256_of(one.binary.path)}" for tower, one in towers.items())
    described = replace(
        facts,
        name=name,
        title=f"{base.title}, ready-made {' and '.join(_WORDS[one] for one in towers)} context",
        vision=vision,
        text=text,
        variant=VariantSpec(
            of=base.variant.of if base.variant else base.name,
            recipe="context " + " ".join(digests),
        ),
    )
    (staged / MODEL_FILE).write_text(model_toml(described), encoding="utf-8")


def _precision(io: ContextIO) -> Precision:
    # The weights' own is not told. What takes or gives integers computes with them.
    quantised = io.input.scale is not None or io.output.scale is not None
    return "w8a16" if quantised else "fp16"


def _places(tower: Tower) -> tuple[str, tuple[str, ...]]:
    return f"{_FOLDER}/{tower}.onnx", (f"{_FOLDER}/{tower}.bin",)


def main() -> None:
    """Be the child: open the file that the command line names."""
    parser = argparse.ArgumentParser(description="Open a wrapped context.")
    parser.add_argument("wrapped", type=Path)
    parser.add_argument("--target", type=find_target, required=True)
    parser.add_argument("--source", type=Path, required=True)
    asked = parser.parse_args()
    answer_parent(lambda: _open(asked.wrapped, asked.target, source=asked.source))


def _open(wrapped: Path, target: Target, *, source: Path) -> dict[str, Any]:
    from siglip_search.towers.session_qnn import QnnSession

    emulator = this_processor().arch == "x86-64"
    try:
        QnnSession(wrapped, target=target, emulator=emulator)
    except ModelError as error:
        # The file that wraps it is ours and temporary: the user knows the other one.
        raise ModelError(
            f"{source} cannot be opened for {target}: {error}".replace(f"{wrapped} ", "it "),
            hint="The file is damaged, or was made for another chip or runtime.",
        ) from error
    return {}


if __name__ == "__main__":
    main()
