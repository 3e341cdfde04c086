"""Ready-made QNN context binaries as towers: read from themselves, or refused."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from npu_emulator import compile_context, needs_emulator
from onnx import TensorProto, helper, numpy_helper

from siglip_search.cli.model_import_cmd import import_
from siglip_search.errors import DeviceError, ModelError
from siglip_search.export import import_context
from siglip_search.export.context_binary import (
    ContextBinary,
    ContextGraph,
    read_context_binary,
)
from siglip_search.export.import_context import ImportOptions, import_contexts
from siglip_search.export.wrap_context import compatibility, fit_tower, wrapping_model
from siglip_search.models.model_folder import load_model_folder
from siglip_search.settings import models_directory
from siglip_search.towers.qnn_target import CHIPS, DEFAULT_TARGET, Target
from siglip_search.towers.session import Assignment
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower
from siglip_search.towers.wrapped_context import METADATA_KEY, ContextIO, ContextTensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from siglip_search.models.spec import ModelSpec

WORST_COSINE = 0.9995  # of half precision to fp32
WORST_QUANTISED_COSINE = 0.999  # with 8 bits for pixels, which are 8 bits, and for results
TEXTS = ["a red bicycle", "x", "the sea at night"]
QUANTISED = {"uint16": (2 / 65535, 32768), "uint8": (2 / 255, 128)}
RESULTS = {"uint16": (16 / 65535, 32768), "uint8": (16 / 255, 128)}


def with_npu(test: Callable[..., None]) -> Callable[..., None]:
    for mark in needs_emulator:
        test = mark(test)
    return test


def channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    node = helper.make_node("Transpose", ["image"], ["pixel_values"], perm=[0, 3, 1, 2])
    model.graph.node.insert(0, node)
    fed = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 48, 48, 3])
    model.graph.input[0].CopyFrom(fed)
    return model


def quantised(
    model: onnx.ModelProto, dtype: str, fed: tuple[float, int] | None = None
) -> onnx.ModelProto:
    """Let a tower take and give integers, as builds for NPUs do."""
    source, result = model.graph.input[0], model.graph.output[0]
    shape = [size.dim_value for size in source.type.tensor_type.shape.dim]
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for end, (scale, zero_point) in (("in", fed or QUANTISED[dtype]), ("out", RESULTS[dtype])):
        for name, value in (
            ("scale", np.float32(scale)),
            ("zero", np.dtype(dtype).type(zero_point)),
        ):
            model.graph.initializer.append(numpy_helper.from_array(np.array(value), end + name))
    node = helper.make_node("DequantizeLinear", ["image_q", "inscale", "inzero"], [source.name])
    model.graph.node.insert(0, node)
    node = helper.make_node("QuantizeLinear", [result.name, "outscale", "outzero"], ["embedding_q"])
    model.graph.node.append(node)
    source.CopyFrom(helper.make_tensor_value_info("image_q", element, shape))
    result.CopyFrom(helper.make_tensor_value_info("embedding_q", element, [1, 32]))
    model.opset_import[0].version, model.ir_version = 21, 10  # the first with 16-bit integers
    return model


def int32_ids(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    return model


@pytest.fixture(scope="module")
def static(random_tower: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_tower.write_random_model(tmp_path_factory.mktemp("base") / "model", batch=1)


@pytest.fixture(scope="module")
def base(static: Path) -> ModelSpec:
    """The model that the binaries were made from."""
    return load_model_folder(static)


@pytest.fixture(scope="module")
def binaries(static: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a binary that is compiled when a test first asks for it."""
    folder = tmp_path_factory.mktemp("binaries")
    changes: dict[str, tuple[str, Callable[[onnx.ModelProto], Any]]] = {
        "nchw": ("vision", lambda model: model),
        "nhwc": ("vision", channels_last),
        "nchw-uint16": ("vision", lambda model: quantised(model, "uint16")),
        "nhwc-uint16": ("vision", lambda model: quantised(channels_last(model), "uint16")),
        "nhwc-uint8": ("vision", lambda model: quantised(channels_last(model), "uint8")),
        "unit-pixels": (
            "vision",
            lambda model: quantised(channels_last(model), "uint8", (1 / 255, 0)),
        ),
        "int32": ("text", int32_ids),
    }

    def binary(name: str) -> Path:
        made = folder / f"{name}.bin"
        if not made.exists():
            tower, change = changes[name]
            model = change(onnx.load(str(static / f"{tower}.onnx")))
            onnx.save(model, str(folder / f"{name}.onnx"))
            context = folder / name / "context.onnx"
            compile_context(folder / f"{name}.onnx", context, soc_model=60, htp_arch=73)
            (folder / name / "context_qnn.bin").rename(made)
        return made

    return binary


def imported(source: Path, base: ModelSpec, **options: Any) -> ModelSpec:
    return import_contexts(
        source, base, models_directory(), options=ImportOptions(**{"name": "mine", **options})
    )


def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)


# Right numbers, whatever the binary takes and gives.


@with_npu
@pytest.mark.parametrize("kind", ["nchw", "nhwc", "nchw-uint16", "nhwc-uint16", "nhwc-uint8"])
def test_a_picture_tower_gives_what_the_tower_does_that_it_was_made_from(
    binaries: Callable[[str], Path], base: ModelSpec, kind: str
) -> None:
    spec = imported(binaries(kind), base)
    tower = VisionTower(spec, device="npu-emulator")
    assert tower.opened.assignment == Assignment(npu=1, cpu=0)
    found, expected = tower.embed(pixels()), VisionTower(base).embed(pixels())
    worst = WORST_QUANTISED_COSINE if "uint" in kind else WORST_COSINE
    assert np.einsum("nd,nd->n", found, expected).min() >= worst
    # Two pictures are not one: a tower that gave the same for both would agree with neither.
    assert float(expected[0] @ expected[1]) < worst - 0.01


@with_npu
def test_a_folder_with_both_towers_becomes_a_whole_model(
    binaries: Callable[[str], Path], base: ModelSpec, tmp_path: Path
) -> None:
    for name in ("nhwc-uint16", "int32"):
        (tmp_path / name).mkdir()
        shutil.copy(binaries(name), tmp_path / name / "model.bin")
    spec = imported(tmp_path, base, name=None)
    assert spec.name == "random-tiny-x-elite"
    tower = TextTower(spec, device="npu-emulator")
    expected = TextTower(base).embed(TEXTS)
    assert np.einsum("nd,nd->n", tower.embed(TEXTS), expected).min() >= WORST_COSINE
    assert tower.opened.assignment == Assignment(npu=1, cpu=0)
    assert (spec.vision.precision, tower.precision) == ("w8a16", "fp16")
    assert imported(tmp_path, base, precision="int8").text.precision == "int8"
    assert spec.variant is not None
    assert spec.variant.of == base.name
    # Until it has been compared, it is a space of its own.
    assert (spec.checkpoint, spec.space_key != base.space_key) == (base.checkpoint, True)
    assert (
        {path.relative_to(spec.directory).as_posix() for path in spec.directory.rglob("*.*")}
        == {
            "model.toml",
            "tokenizer.model",
            "context/vision.onnx",
            "context/vision.bin",
            "context/text.onnx",
            "context/text.bin",
        }
        == set(spec.files)
    )


@with_npu
def test_the_tower_that_has_no_binary_is_the_other_models(
    binaries: Callable[[str], Path], base: ModelSpec
) -> None:
    spec = imported(binaries("nchw"), base)
    assert np.array_equal(TextTower(spec).embed(TEXTS), TextTower(base).embed(TEXTS))
    with pytest.raises(ModelError, match="compiled for an NPU and cannot run on the CPU"):
        VisionTower(spec)


@with_npu
def test_pixels_that_the_binary_normalises_itself_must_be_said_to_be_so(
    binaries: Callable[[str], Path], base: ModelSpec
) -> None:
    path = binaries("unit-pixels")
    with pytest.raises(ModelError, match=r"from 0\.00 to 1\.00, and .* from -1\.00 to 1\.00") as no:
        imported(path, base)
    assert "--unit-pixels" in no.value.hint
    spec = imported(path, base, unit_pixels=True)
    unit = dataclasses.replace(base.vision, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    expected = VisionTower(dataclasses.replace(base, vision=unit)).embed(pixels())
    found = VisionTower(spec, device="npu-emulator").embed(pixels())
    assert np.einsum("nd,nd->n", found, expected).min() >= WORST_QUANTISED_COSINE


# What does not fit.


@with_npu
@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "onnx", "missing"])
def test_what_is_no_binary_is_one_error_and_leaves_nothing(
    binaries: Callable[[str], Path], base: ModelSpec, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "tower.bin"
    content = binaries("nchw").read_bytes()
    contents = {
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "text": b"<html>not found</html>",
        "onnx": base.vision_path.read_bytes(),
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    with pytest.raises(ModelError) as caught:
        imported(path, base)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "(error" not in str(caught.value)  # the library's numbers say nothing to anybody
    assert caught.value.hint
    assert not models_directory().exists()


@with_npu
def test_a_damaged_binary_whose_description_is_whole_is_refused(
    binaries: Callable[[str], Path], base: ModelSpec, tmp_path: Path
) -> None:
    path = tmp_path / "tower.bin"
    content = bytearray(binaries("nchw").read_bytes())
    content[len(content) // 4 : -len(content) // 4] = bytes(len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        imported(path, base)
    assert str(path) in str(caught.value)
    assert list(models_directory().iterdir() if models_directory().exists() else ()) == []


@with_npu
def test_another_size_is_refused_with_what_was_expected_and_found(
    binaries: Callable[[str], Path], base: ModelSpec
) -> None:
    larger = dataclasses.replace(base, vision=dataclasses.replace(base.vision, image_size=(96, 96)))
    with pytest.raises(ModelError) as caught:
        imported(binaries("nhwc"), larger)
    assert "takes image float32 (1, 48, 48, 3) and gives pooler_output float32 (1, 32)" in str(
        caught.value
    )
    assert "(1, 3, 96, 96) or (1, 96, 96, 3)" in str(caught.value)
    assert "--as" in caught.value.hint


@with_npu
def test_channels_last_are_never_read_as_channels_first(
    binaries: Callable[[str], Path], base: ModelSpec
) -> None:
    spec = imported(binaries("nhwc"), base)
    path = spec.vision_path
    model = onnx.load(str(path))
    entry = next(one for one in model.metadata_props if one.key == METADATA_KEY)
    entry.value = entry.value.replace("NHWC", "NCHW")
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"takes image of shape \(1, 48, 48, 3\)"):
        VisionTower(spec, device="npu-emulator")
    # Without a word about the layout, the shape still tells.
    del model.metadata_props[list(model.metadata_props).index(entry)]
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=r"takes image of shape \(1, 48, 48, 3\)"):
        VisionTower(spec, device="npu-emulator")
    entry.value = "{}"
    model.metadata_props.append(entry)
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="does not say what its context takes") as caught:
        VisionTower(spec, device="npu-emulator")
    assert "import" in caught.value.hint


@with_npu
def test_two_binaries_of_one_tower_and_a_wrong_chip_are_refused(
    binaries: Callable[[str], Path], base: ModelSpec, tmp_path: Path
) -> None:
    for name in ("nchw", "nhwc"):
        shutil.copy(binaries(name), tmp_path)
    with pytest.raises(ModelError, match="are both a picture tower"):
        imported(tmp_path, base)
    with pytest.raises(ModelError, match=r"the chips differ .*x-elite, --target: 8gen3"):
        imported(binaries("nchw"), base, target=CHIPS["8gen3"].target)


@with_npu
def test_the_binary_says_its_chip_maker_and_tensors(binaries: Callable[[str], Path]) -> None:
    binary = read_context_binary(binaries("nhwc-uint16"))
    assert (binary.soc_model, binary.graphs) == (60, 1)
    assert binary.build.startswith("v2.")
    scale, zero_point = QUANTISED["uint16"]
    (fed,) = binary.graph.inputs
    assert fed == ContextTensor(
        "image_q", "uint16", (1, 48, 48, 3), pytest.approx(scale, rel=1e-6), zero_point
    )
    (given,) = binary.graph.outputs
    assert (given.name, given.shape) == ("embedding_q", (1, 32))


@with_npu
def test_a_reader_that_does_not_answer_is_one_error(binaries: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"no answer in 0\.01 s"):
        read_context_binary(binaries("nchw"), timeout_seconds=0.01)


@with_npu
def test_the_command_installs_and_replaces(binaries: Callable[[str], Path], static: Path) -> None:
    shutil.copytree(static, models_directory() / "random-tiny")
    arguments = [str(binaries("nhwc")), "--as", "random-tiny", "--precision", "fp16"]
    for extra in ([], ["--replace"]):
        result = CliRunner().invoke(import_, arguments + extra)
        assert result.exception is None
        assert result.stdout == ""
        assert result.stderr.endswith(
            "added random-tiny-x-elite; it runs on x-elite only: --device npu, or --device "
            "npu-emulator\n"
        )
    result = CliRunner().invoke(import_, arguments)
    assert "installed already" in str(result.exception)


@with_npu
def test_the_emulator_is_named_only_for_the_chip_that_it_plays(
    static: Path, tmp_path: Path
) -> None:
    shutil.copytree(static, models_directory() / "random-tiny")
    context = tmp_path / "context.onnx"
    compile_context(static / "text.onnx", context, soc_model=88, htp_arch=81)
    arguments = [str(tmp_path / "context_qnn.bin"), "--as", "random-tiny"]
    result = CliRunner().invoke(import_, arguments)
    assert result.exception is None
    assert result.stderr.endswith(
        "added random-tiny-x2-elite; it runs on x2-elite only: --device npu\n"
    )


# Without an emulator: what is decided by what a binary says of itself.


def described(
    inputs: list[ContextTensor], outputs: list[ContextTensor] | None = None, **facts: Any
) -> ContextBinary:
    outputs = outputs or [ContextTensor("out", "float32", (1, 32))]
    graph = ContextGraph("tower", tuple(inputs), tuple(outputs))
    given = {"build": "v2.51.0.1", "backend_api": "5.51.0", "soc_model": 60, "graphs": 1}
    return ContextBinary(path=Path("tower.bin"), graph=graph, **{**given, **facts})


def tensor(dtype: str, *shape: int, scale: float | None = None, zero: int = 0) -> ContextTensor:
    return ContextTensor("x", dtype, shape, scale, zero)


@pytest.mark.parametrize(
    ("fed", "tower", "layout"),
    [
        (tensor("float32", 1, 3, 48, 48), "vision", "NCHW"),
        (tensor("float16", 1, 48, 48, 3), "vision", "NHWC"),
        (tensor("uint8", 1, 48, 48, 3, scale=2 / 255, zero=128), "vision", "NHWC"),
        (tensor("int8", 1, 3, 48, 48, scale=2 / 255, zero=0), "vision", "NCHW"),
        (tensor("uint8", 1, 3, 48, 48, scale=1.9 / 255, zero=128), "vision", "NCHW"),
        (tensor("int32", 1, 16), "text", "ids"),
        (tensor("int64", 1, 16), "text", "ids"),
    ],
)
def test_the_shape_tells_which_tower_it_is(
    base: ModelSpec, fed: ContextTensor, tower: str, layout: str
) -> None:
    output = tensor("float16", 1, 1, 32)
    found, io = fit_tower(described([fed], [output]), base)
    assert (found, io) == (tower, ContextIO(fed, layout, output))
    assert ContextIO.from_json(io.to_json()) == io


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([tensor("float32", 1, 48, 3, 48)], None, "are expected pixels"),
        ([tensor("float32", 2, 3, 48, 48)], None, "are expected pixels"),
        ([tensor("int32", 1, 16), tensor("int32", 1, 16)], None, "are expected pixels"),
        ([], None, "takes nothing"),
        ([tensor("uint8", 1, 48, 48, 3)], None, "has to be float16 or float32, or quantised"),
        ([tensor("float32", 1, 16)], None, "has to be int32 or int64"),
        ([tensor("int32", 1, 16)], [tensor("float32", 1, 31)], "one output of 32 numbers"),
        ([tensor("int32", 1, 16)], [tensor("float32", 1, 32)] * 2, "one output of 32 numbers"),
        ([tensor("int32", 1, 16)], [tensor("uint16", 1, 32)], "one output of 32 numbers"),
        ([tensor("uint8", 1, 3, 48, 48, scale=1 / 255)], None, "from 0.00 to 1.00"),
        ([tensor("uint8", 1, 3, 48, 48, scale=1.0)], None, "from 0.00 to 255.00"),
        ([tensor("uint8", 1, 3, 48, 48, scale=1.0, zero=128)], None, "-128.00 to 127.00"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_it_is(
    base: ModelSpec,
    inputs: list[ContextTensor],
    outputs: list[ContextTensor] | None,
    message: str,
) -> None:
    with pytest.raises(ModelError, match=message.replace(".", r"\.")) as caught:
        fit_tower(described(inputs, outputs), base)
    assert "tower.bin" in str(caught.value)
    assert caught.value.hint


def test_several_graphs_are_refused(base: ModelSpec) -> None:
    with pytest.raises(ModelError, match="holds 2 graphs"):
        fit_tower(described([tensor("int32", 1, 16)], graphs=2), base)


def test_a_chip_that_is_not_known_must_be_named() -> None:
    binary = described([tensor("int32", 1, 16)], soc_model=4711)
    with pytest.raises(DeviceError, match="for chip 4711, which is not known") as caught:
        import_context._target([binary], None)
    assert "--target" in caught.value.hint
    named = Target(4711, 73)
    assert import_context._target([binary], named) == named
    assert import_context._target([described([], soc_model=0)], named) == named
    assert import_context._target([described([])], None) == DEFAULT_TARGET


@with_npu
def test_a_binary_of_a_newer_runtime_is_refused_and_of_an_older_one_is_not() -> None:
    with pytest.raises(ModelError, match=r"made by QAIRT 2\.99\.0\.7, and 2\.\d+\.\d is") as caught:
        import_context._checked_runtime([described([], build="v2.99.0.7")])
    assert "Upgrade onnxruntime-qnn" in caught.value.hint
    assert import_context._checked_runtime([described([], build="v2.31.0.250130")])


def test_the_file_around_a_context_is_sound_onnx(base: ModelSpec) -> None:
    fed = tensor("uint16", 1, 48, 48, 3, scale=2 / 65535, zero=32768)
    binary = described([fed])
    _, io = fit_tower(binary, base)
    written = wrapping_model(
        binary, io, file="vision.bin", compatible=compatibility(binary, DEFAULT_TARGET, "2.51.0")
    )
    model = onnx.load_model_from_string(written)
    onnx.checker.check_graph(
        helper.make_graph([], "g", list(model.graph.input), []), onnx.checker.DEFAULT_CONTEXT
    )
    (node,) = model.graph.node
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    assert (node.op_type, node.domain, node.input, node.output) == (
        "EPContext",
        "com.microsoft",
        ["x"],
        ["out"],
    )
    assert attributes["main_context"] == 1
    assert attributes["embed_mode"] == 0
    assert attributes["ep_cache_context"] == b"vision.bin"
    (value,) = model.graph.input
    assert value.type.tensor_type.elem_type == TensorProto.UINT16
    assert [size.dim_value for size in value.type.tensor_type.shape.dim] == [1, 48, 48, 3]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["ep_compatibility_info.QNNExecutionProvider"] == "v2:6:2.51.0:5.51.0:73:60:0:0"
    assert ContextIO.from_json(metadata[METADATA_KEY]) == io


def test_nothing_is_announced_of_a_file_that_is_not_there(base: ModelSpec, tmp_path: Path) -> None:
    steps: list[str] = []
    with pytest.raises(ModelError, match="is no file"):
        import_contexts(tmp_path / "no.bin", base, tmp_path / "models", on_step=steps.append)
    assert steps == []
