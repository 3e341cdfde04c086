"""A model's towers, compiled for chips: offline, one process for each.

    python -m siglip_search.export.compile_context TOWER MADE --target x-elite --shape 1,64

The library keeps the first chip that it is told for the life of a process, so each tower is
compiled in a child of its own, which also opens what it made, as a session will.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siglip_index.durable_files import sync_directory
from siglip_search.errors import ModelError
from siglip_search.models.compiled_contexts import (
    chip_folder,
    record_context,
    tower_state,
)
from siglip_search.models.files import staging_folder, storage_error
from siglip_search.models.folder_locks import replace_folder
from siglip_search.models.spec import CONTEXTS_FOLDER
from siglip_search.towers.child_process import answer_parent, ask_child
from siglip_search.towers.qnn_graph import graph_facts
from siglip_search.towers.qnn_target import CHIPS, find_target, provider_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.models.compiled_contexts import Tower
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.qnn_target import Target

_MODULE: Final = "siglip_search.export.compile_context"  # not __name__, which is __main__ there
_TIMEOUT_SECONDS: Final = 3600.0
"""SigLIP base at 384 px took 30 s for a tower on two busy cores (docs/npu.md); there is room."""

_LAST_WITHOUT_FLOATS: Final = 68
"""Newest version of the Hexagon processor that computes with integers only."""

_NO_ROOM: Final = "Failed to write"

_TITLES: Final = {"vision": "picture tower", "text": "text tower"}


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A model's towers as compiled for one chip.

    Attributes:
        target: The chip.
        directory: Where they are.
        size_bytes: Of all their files.
    """

    target: Target
    directory: Path
    size_bytes: int


def compile_model(
    spec: ModelSpec,
    target: Target,
    *,
    on_step: Callable[[str], None] = lambda _: None,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> CompiledModel:
    """Compile both towers for a chip and put them into the model's folder, together or not at all.

    Towers that take any batch are compiled for a batch of 1. Older contexts for the same chip are
    replaced. Nothing is left behind by a failure.

    Args:
        spec: The model.
        target: The chip; it need not be this machine's.
        on_step: Called with a few words when the next step begins.
        timeout_seconds: For each tower.

    Raises:
        ModelError: If a tower cannot be compiled for the chip, the compiler crashes or hangs, or
            the folder cannot be written.
        DeviceError: If there is no compiler here.
    """
    height, width = spec.vision.image_size
    towers: tuple[tuple[Tower, Path, tuple[int, ...]], ...] = (
        ("vision", spec.vision_path, (1, 3, height, width)),
        ("text", spec.text_path, (1, spec.text.length)),
    )
    for _, path, _ in towers:
        _refuse(path, spec)
    contexts = spec.directory / CONTEXTS_FOLDER
    try:
        contexts.mkdir(exist_ok=True)
        with staging_folder(contexts, chip_folder(target.name)) as staged:
            for tower, path, shape in towers:
                made = staged / f"{tower}.onnx"
                source, before = tower_state(spec, tower), set(os.listdir(staged))
                on_step(f"compiling the {_TITLES[tower]} for {target}")
                _compile_apart(path, made, target, shape, spec, timeout_seconds)
                if tower_state(spec, tower) != source:
                    raise ModelError(
                        f"{path} was replaced while it was compiled",
                        hint="Compile it again, now that it is another one.",
                    )
                record_context(made, source, set(os.listdir(staged)) - before)
            size_bytes = sum(path.stat().st_size for path in staged.iterdir())
            directory = _install(staged, contexts / chip_folder(target.name))
    except OSError as error:
        raise storage_error(f"{contexts} cannot be written", error) from error
    finally:
        with contextlib.suppress(OSError):
            contexts.rmdir()  # where nothing came of it, and nothing was there
    return CompiledModel(target, directory, size_bytes)


def _refuse(path: Path, spec: ModelSpec) -> None:
    facts = graph_facts(path)
    if facts is None:
        raise ModelError(
            f"{path} cannot be read as an ONNX model",
            hint="The file is damaged or incomplete: fetch or add the model again.",
        )
    if facts.compiled:
        raise ModelError(
            f"{path} is compiled already, and cannot be compiled for another chip or runtime",
            hint="Compile the model that it was made from, or import a binary for that chip or "
            "runtime: siglip-search model import",
        )
    batched = facts.batched_input
    if batched is not None:
        raise ModelError(
            f"{path} takes a batch of {batched.shape[0]}, and an NPU's numbers can be wrong beyond "
            "the first row",
            hint=f"Make static towers: siglip-search model export {spec.name} --batch 1",
        )


def _compile_apart(
    path: Path,
    made: Path,
    target: Target,
    shape: tuple[int, ...],
    spec: ModelSpec,
    timeout_seconds: float,
) -> None:
    ask_child(
        _MODULE,
        [
            os.fspath(path),
            os.fspath(made),
            *("--target", target.name),
            *("--shape", ",".join(map(str, shape))),
            *("--model", spec.name),
        ],
        what=f"{path} could not be compiled for {target}",
        hint="Compiling takes several times the tower's size in memory: close other programs and "
        "try again.",
        timeout_seconds=timeout_seconds,
    )


def _install(staged: Path, directory: Path) -> Path:
    for path in staged.iterdir():
        # Windows flushes only through a handle that may write.
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
    sync_directory(staged)
    # mkdtemp makes a folder that only its owner can enter.
    staged.chmod(0o755)
    replace_folder(staged, directory)
    return directory


def main() -> None:
    """Be the child: compile the file that the command line names."""
    parser = argparse.ArgumentParser(description="Compile a tower for an NPU.")
    parser.add_argument("tower", type=Path)
    parser.add_argument("made", type=Path)
    parser.add_argument("--target", type=find_target, required=True)
    parser.add_argument("--shape", type=_shape, required=True)
    parser.add_argument("--model", required=True)
    asked = parser.parse_args()
    answer_parent(
        lambda: _compile(asked.tower, asked.made, asked.target, asked.shape, model=asked.model)
    )


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


def _compile(
    path: Path, made: Path, target: Target, shape: tuple[int, ...], *, model: str
) -> dict[str, Any]:
    from siglip_search.towers.onnx_runtime import (
        LOG_FATAL,
        first_line,
        load_errors,
        quiet_onnxruntime,
    )
    from siglip_search.towers.qnn_chip import this_processor
    from siglip_search.towers.qnn_runtime import claim_target, qnn_devices, stdout_guarded
    from siglip_search.towers.session_qnn import QnnSession

    processor = this_processor()
    emulator = processor.arch == "x86-64"
    claim_target(target)
    devices = qnn_devices(emulator=emulator)
    free = _free_axes(path, shape, model=model)
    onnxruntime = quiet_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_FATAL
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    for axis, size in free.items():
        options.add_free_dimension_override_by_name(axis, size)
    options.add_provider_for_devices(devices, provider_options(target, {}))
    try:
        with stdout_guarded():
            onnxruntime.ModelCompiler(
                options,
                os.fspath(path),
                embed_compiled_data_into_model=False,
                # As a session does, and a compiler does not unless told: it folds the shapes that
                # torch's exports compute, of which HTP takes none (MobileCLIP2-S3).
                graph_optimization_level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
            ).compile_to_file(os.fspath(made))
    except load_errors() as error:
        reason = _reason(first_line(error))
        if reason.startswith(_NO_ROOM):
            # Of a full disk the runtime says no more than this. The file itself is in a folder of
            # ours beside the chips', which nobody knows.
            raise ModelError(
                f"{made.parent.parent} cannot be written: {reason.rstrip('.')}",
                hint="The disk is probably full: make room and try again.",
            ) from error
        hint = f"Try towers made for it: siglip-search model export {model} --batch 1"
        if not free:
            # A session tells more: which operators are in the way.
            try:
                QnnSession(path, target=target, emulator=emulator, model=model)
            except ModelError as told:
                reason, hint = str(told).removeprefix(f"{path} "), told.hint
        if target.htp_arch <= _LAST_WITHOUT_FLOATS:
            hint = (
                "The chip's NPU computes with integers only and has fewer operators than later "
                "ones: use --device cpu there."
            )
        elif target.name not in CHIPS:
            hint = f"Check the chip's two numbers. Known by name are {', '.join(CHIPS)}."
        raise ModelError(f"{path} cannot be compiled for {target}: {reason}", hint=hint) from error
    # An NPU opens what is its own; the emulator opens all.
    if emulator or processor.target == target:
        QnnSession(made, target=target, emulator=emulator, model=model)
    return {}


def _reason(words: str) -> str:
    """Return the runtime's words, or what they come to where they are about its own insides."""
    refused = re.search(r"OpType:(\w+) .*not selected by that EP", words)
    return words if refused is None else f"the NPU does not take {refused[1]} as it is there"


def _free_axes(path: Path, shape: tuple[int, ...], *, model: str) -> dict[str, int]:
    """Return the size to give to each named axis that takes any."""
    from siglip_search.towers.onnx_runtime import (
        LOG_FATAL,
        first_line,
        load_errors,
        quiet_onnxruntime,
    )

    facts = graph_facts(path)
    if facts is not None and facts.dynamic_input is None:
        return {}
    onnxruntime = quiet_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_FATAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
    except load_errors() as error:
        raise ModelError(
            f"{path} cannot be loaded as an ONNX model: {_reason(first_line(error))}",
            hint="The file is damaged or incomplete: fetch or add the model again.",
        ) from error
    found: dict[str, int] = {}
    for tensor in session.get_inputs():
        for axis, size in zip(tensor.shape, shape, strict=False):
            if isinstance(axis, int):
                continue
            # An axis without a name cannot be given a size, and one name has one size.
            if not axis or found.setdefault(axis, size) != size or len(tensor.shape) != len(shape):
                raise ModelError(
                    f"{path} takes {tensor.name} of sizes that are not fixed",
                    hint=f"Make static towers: siglip-search model export {model} --batch 1",
                )
    return found


if __name__ == "__main__":
    main()
