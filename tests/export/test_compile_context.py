"""Towers compiled for chips: the right numbers, on the right chip and runtime only."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from npu_emulator import needs_emulator
from onnx import helper

from siglip_search.cli.model_compile_cmd import compile as compile_command
from siglip_search.errors import DeviceError, ModelError, SiglipSearchError
from siglip_search.export.compile_context import compile_model
from siglip_search.models.compiled_contexts import chip_folder, compiled_contexts
from siglip_search.models.model_folder import load_model_folder
from siglip_search.settings import models_directory
from siglip_search.towers.qnn_graph import COMPATIBILITY_KEY
from siglip_search.towers.qnn_target import CHIPS, DEFAULT_TARGET, Target, find_target
from siglip_search.towers.session import Assignment
from siglip_search.towers.session_qnn import QnnSession
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from siglip_search.models.spec import ModelSpec

WORST_COSINE = 0.9995  # of half precision to fp32
OTHER = CHIPS["8gen3"].target
TEXTS = ["a red bicycle", "x", "the sea at night"]


def with_npu(test: Callable[..., None]) -> Callable[..., None]:
    for mark in needs_emulator:
        test = mark(test)
    return test


@pytest.fixture
def spec(tiny_model: Path, tmp_path: Path) -> ModelSpec:
    """A model of which nothing is compiled, whose towers take any batch."""
    shutil.copytree(tiny_model, tmp_path / "mine")
    return load_model_folder(tmp_path / "mine")


@pytest.fixture(scope="module")
def compiled(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A model compiled for the chip that the emulator plays, and for another: read only."""
    directory = tmp_path_factory.mktemp("compiled") / "mine"
    shutil.copytree(tiny_model, directory)
    spec = load_model_folder(directory)
    compile_model(spec, DEFAULT_TARGET)
    compile_model(spec, OTHER)
    return spec


def context(spec: ModelSpec, target: Target, tower: str) -> Path:
    return spec.directory / "contexts" / target.name / f"{tower}.onnx"


def on_npu(path: Path) -> QnnSession:
    return QnnSession(path, target=DEFAULT_TARGET, emulator=True, model="mine")


# What comes of it.


@with_npu
def test_towers_of_any_batch_are_compiled_and_run_as_the_processor_runs_them(
    compiled: ModelSpec,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    vision = VisionTower(compiled, device="npu-emulator")
    text = TextTower(compiled, device="npu-emulator")
    for tower, kind in ((vision, "vision"), (text, "text")):
        assert tower.opened.path == context(compiled, DEFAULT_TARGET, kind)
        assert tower.opened.assignment == Assignment(npu=1, cpu=0)
        assert (tower.device, tower.precision) == ("npu-emulator", "fp16")
    expected = VisionTower(compiled).embed(pixels)
    assert np.einsum("nd,nd->n", vision.embed(pixels), expected).min() >= WORST_COSINE
    words = TextTower(compiled).embed(TEXTS)
    assert np.einsum("nd,nd->n", text.embed(TEXTS), words).min() >= WORST_COSINE


@with_npu
def test_a_model_with_contexts_for_other_chips_alone_runs_as_the_tower_that_it_has(
    random_tower: ModuleType,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = load_model_folder(random_tower.write_random_model(tmp_path / "mine", batch=1))
    compile_model(spec, OTHER)
    with caplog.at_level(logging.INFO):
        tower = TextTower(spec, device="npu-emulator")
    assert tower.opened.path == spec.text_path
    assert any("compiled for 8gen3, and this is x-elite" in why for why in tower.opened.steps_down)
    assert "siglip-search model compile random-tiny --target x-elite" in caplog.text


@with_npu
def test_a_context_for_another_chip_is_refused(compiled: ModelSpec) -> None:
    path = context(compiled, OTHER, "vision")
    with pytest.raises(ModelError, match="compiled for 8gen3, and this is x-elite") as caught:
        on_npu(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint.endswith("siglip-search model compile mine --target x-elite")


@with_npu
def test_a_context_of_another_runtime_is_refused_until_it_is_compiled_again(
    spec: ModelSpec,
) -> None:
    compile_model(spec, DEFAULT_TARGET)
    path = context(spec, DEFAULT_TARGET, "text")
    model = onnx.load(str(path))
    entry = next(one for one in model.metadata_props if one.key == COMPATIBILITY_KEY)
    entry.value = ":".join([*entry.value.split(":")[:2], "2.40.0", *entry.value.split(":")[3:]])
    onnx.save(model, str(path))
    (path.parent / "left_over.bin").write_bytes(b"old")
    with pytest.raises(ModelError, match=r"compiled by QAIRT 2\.40\.0") as caught:
        on_npu(path)
    assert "model compile mine --target x-elite" in caught.value.hint
    compile_model(spec, DEFAULT_TARGET)
    assert on_npu(path).assignment == Assignment(npu=1, cpu=0)
    assert sorted(one.name for one in path.parent.iterdir()) == [
        "text.json",
        "text.onnx",
        "text_qnn.bin",
        "vision.json",
        "vision.onnx",
        "vision_qnn.bin",
    ]
    assert [one.name for one in path.parents[1].iterdir()] == ["x-elite"]


@with_npu
def test_a_context_of_another_tower_is_not_run(
    compiled: ModelSpec,
    random_tower: ModuleType,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = load_model_folder(random_tower.write_random_model(tmp_path / "mine", batch=1, seed=1))
    folder = context(compiled, DEFAULT_TARGET, "text").parent
    shutil.copytree(folder, spec.directory / "contexts" / DEFAULT_TARGET.name)
    with caplog.at_level(logging.WARNING):
        tower = TextTower(spec, device="npu-emulator")
    assert tower.opened.path == spec.text_path
    assert f"was not compiled from {spec.text_path} as it is now" in caplog.text
    assert "siglip-search model compile random-tiny --target x-elite" in caplog.text
    expected = TextTower(spec).embed(TEXTS)
    assert np.einsum("nd,nd->n", tower.embed(TEXTS), expected).min() >= WORST_COSINE
    compile_model(spec, DEFAULT_TARGET)
    tower = TextTower(spec, device="npu-emulator")
    assert tower.opened.path == context(spec, DEFAULT_TARGET, "text")
    assert np.einsum("nd,nd->n", tower.embed(TEXTS), expected).min() >= WORST_COSINE


@with_npu
def test_a_tower_that_is_replaced_while_it_is_compiled_is_refused(
    spec: ModelSpec, tmp_path: Path
) -> None:
    other = shutil.copyfile(spec.text_path, tmp_path / "other.onnx")

    def replace(step: str) -> None:
        if "text tower" in step:
            other.replace(spec.text_path)

    with pytest.raises(ModelError, match=r"text\.onnx was replaced while it was compiled"):
        compile_model(spec, DEFAULT_TARGET, on_step=replace)
    assert not (spec.directory / "contexts").exists()


@with_npu
def test_the_processor_does_not_look_at_contexts(compiled: ModelSpec) -> None:
    assert TextTower(compiled, device="auto", one_shot=True).opened.path == compiled.text_path


# What is refused, and leaves nothing behind.


@with_npu
def test_a_chip_without_floating_point_numbers_takes_no_float_tower(spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match="cannot be compiled for qcm6490") as caught:
        compile_model(spec, CHIPS["qcm6490"].target)
    assert "\n" not in str(caught.value)
    assert "integers only" in caught.value.hint
    assert not (spec.directory / "contexts").exists()


@with_npu
def test_numbers_of_no_chip_are_told_from_a_tower_that_does_not_fit(spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match="cannot be compiled for soc=61,arch=73: the NPU does not"):
        compile_model(spec, Target(61, 73))


@with_npu
def test_an_operator_that_the_npu_refuses_is_named(
    random_tower: ModuleType, tmp_path: Path
) -> None:
    directory = random_tower.write_random_model(tmp_path / "mine", batch=1)
    model = onnx.load(str(directory / "vision.onnx"))
    node = next(one for one in model.graph.node if one.op_type == "Gelu")
    place = list(model.graph.node).index(node)
    model.graph.node.insert(place, helper.make_node("Shrink", [node.input[0]], ["s"], lambd=0.0))
    model.graph.node[place + 1].input[0] = "s"
    onnx.save(model, str(directory / "vision.onnx"))
    with pytest.raises(ModelError, match=r"does not take Shrink$") as caught:
        compile_model(load_model_folder(directory), DEFAULT_TARGET)
    assert str(directory / "vision.onnx") in str(caught.value)
    assert not (directory / "contexts").exists()


@with_npu
def test_a_compiler_that_does_not_end_is_one_error(spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match=r"for x-elite: no answer in 0\.05 s") as caught:
        compile_model(spec, DEFAULT_TARGET, timeout_seconds=0.05)
    assert str(spec.vision_path) in str(caught.value)
    assert caught.value.hint
    assert not (spec.directory / "contexts").exists()


@with_npu
@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there")
def test_a_full_disk_is_named_and_not_the_tower(spec: ModelSpec) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # What a child may write, in the place of a disk that has no more room.
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(ModelError) as caught:
            compile_model(spec, DEFAULT_TARGET)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"{spec.directory / 'contexts'} cannot be written: Failed")
    assert caught.value.hint == "The disk is probably full: make room and try again."
    assert not (spec.directory / "contexts").exists()


@with_npu
def test_a_failure_keeps_what_was_there(compiled: ModelSpec) -> None:
    before = compiled_contexts(compiled.directory, "text")
    with pytest.raises(ModelError):
        compile_model(compiled, DEFAULT_TARGET, timeout_seconds=0.05)
    assert compiled_contexts(compiled.directory, "text") == before


@with_npu
def test_a_size_without_a_name_cannot_be_fixed(spec: ModelSpec) -> None:
    model = onnx.load(str(spec.text_path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
    onnx.save(model, str(spec.text_path))
    with pytest.raises(ModelError, match="input_ids of sizes that are not fixed") as caught:
        compile_model(spec, DEFAULT_TARGET)
    assert "--batch 1" in caught.value.hint


@with_npu
def test_what_is_compiled_already_is_not_compiled_again(compiled: ModelSpec) -> None:
    text = dataclasses.replace(compiled.text, file="contexts/x-elite/text.onnx")
    with pytest.raises(ModelError, match="compiled already"):
        compile_model(dataclasses.replace(compiled, text=text), DEFAULT_TARGET)


def test_a_fixed_batch_and_a_damaged_file_are_refused_at_once(
    random_tower: ModuleType, tmp_path: Path
) -> None:
    directory = random_tower.write_random_model(tmp_path / "mine", batch=3)
    spec = load_model_folder(directory)
    with pytest.raises(ModelError, match="a batch of 3") as caught:
        compile_model(spec, DEFAULT_TARGET)
    assert caught.value.hint.endswith("siglip-search model export random-tiny --batch 1")
    spec.vision_path.write_bytes(b"<html>")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        compile_model(spec, DEFAULT_TARGET)


# The folder.


def test_a_chip_without_a_name_has_a_folder_that_every_system_takes() -> None:
    assert chip_folder(Target(66, 73).name) == "soc66-arch73"
    assert chip_folder(DEFAULT_TARGET.name) == "x-elite"


# The command.


def run_command(*arguments: str) -> SiglipSearchError:
    result = CliRunner().invoke(compile_command, list(arguments))
    assert isinstance(result.exception, SiglipSearchError)
    return result.exception


def test_an_unknown_chip_is_answered_with_the_known_ones() -> None:
    for arguments in (("demo", "--target", "x-elit"), ("demo",)):
        error = run_command(*arguments)
        assert isinstance(error, DeviceError)
        assert all(name in error.hint for name in CHIPS)


def test_the_bundled_model_stays_as_it_is() -> None:
    assert "comes with the program" in str(run_command("demo", "--target", "x-elite"))


@with_npu
def test_the_command_compiles_for_several_chips_and_says_so_on_stderr(
    spec: ModelSpec,
) -> None:
    installed = models_directory() / "random-tiny"
    shutil.copytree(spec.directory, installed)
    targets = ["--target", "x-elite", "--target", "soc=66,arch=73", "--target", "x-elite"]
    result = CliRunner().invoke(compile_command, ["random-tiny", *targets])
    assert result.exception is None
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line for line in lines if "ready" not in line] == [
        "compiling the picture tower for x-elite",
        "compiling the text tower for x-elite",
        "compiling the picture tower for soc=66,arch=73",
        "compiling the text tower for soc=66,arch=73",
    ]
    assert str(installed / "contexts" / "soc66-arch73") in lines[-1]
    assert find_target("soc=66,arch=73") == Target(66, 73)
