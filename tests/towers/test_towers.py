"""The two towers: real ONNX sessions on a tiny model in SigLIP's shape."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_search.errors import ModelError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.onnx_header import token_table_rows
from siglip_search.towers.session_cpu import CpuSession
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec

TEXTS = ["a red cat", "blue boat on the sea", "", "umbrella"]


@pytest.fixture(scope="session")
def spec(tiny_model: Path) -> ModelSpec:
    return load_model_folder(tiny_model)


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def pictures(count: int, size: int = 48) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(size // 4, axis=1).repeat(size // 4, axis=2)


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, NDArray[Any]] | None = None,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, tensors),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def word_table(
    folder: Path,
    *,
    rows: int = 320,
    outputs: tuple[str, ...] = ("pooler_output",),
    input_type: int = TensorProto.INT64,
    scale: float = 1.0,
    width: int = 32,
    hidden_table: bool = False,
) -> ModelSpec:
    """Put a text tower into `folder` that gives the first word's row, under the given names."""
    table = np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32) * scale
    nodes = [
        helper.make_node("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Abs", ["table"], ["computed"]),
        helper.make_node("Gather", ["computed" if hidden_table else "table", "wide"], ["rows"]),
        helper.make_node("Gather", ["rows", "zero"], ["row"], axis=1),
        *(helper.make_node("Identity", ["row"], [name]) for name in outputs),
    ]
    model = graph(
        nodes,
        [helper.make_tensor_value_info("ids", input_type, ["batch", 16])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
            for name in outputs
        ],
        {"table": table, "zero": np.array(0)},
    )
    onnx.save(model, str(folder / "text.onnx"))
    return load_model_folder(folder)


def assert_unit(embeddings: NDArray[np.float32], count: int) -> None:
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (count, 32)
    assert np.abs(np.linalg.norm(embeddings, axis=1) - 1).max() < 1e-6


def test_different_inputs_give_different_embeddings(spec: ModelSpec) -> None:
    # Guards every comparison above against a tower that gives one vector for everything.
    texts = TextTower(spec).embed(TEXTS)
    images = VisionTower(spec).embed(pictures(3))
    for embeddings in (texts, images):
        cosines = embeddings @ embeddings.T
        assert np.max(cosines[~np.eye(len(cosines), dtype=bool)]) < 0.99


def test_a_batch_equals_its_rows(spec: ModelSpec) -> None:
    text, vision = TextTower(spec), VisionTower(spec)
    many = [f"{word} {number}" for number in range(5) for word in TEXTS]
    together = text.embed(many)
    assert np.abs(together - np.concatenate([text.embed([one]) for one in many])).max() < 1e-6
    pixels = pictures(100)
    alone = np.concatenate([vision.embed(pixels[n : n + 1]) for n in range(100)])
    assert np.abs(vision.embed(pixels) - alone).max() < 1e-6


def test_nothing_gives_no_rows(spec: ModelSpec) -> None:
    assert TextTower(spec).embed([]).shape == (0, 32)
    assert VisionTower(spec).embed(pictures(1)[:0]).shape == (0, 32)


def test_one_shot_and_one_thread_give_the_same_vectors(spec: ModelSpec) -> None:
    expected = TextTower(spec).embed(TEXTS)
    for tower in (TextTower(spec, one_shot=True), TextTower(spec, threads=1)):
        assert np.abs(tower.embed(TEXTS) - expected).max() < 1e-6


def test_towers_say_where_and_how_exactly_they_run(spec: ModelSpec) -> None:
    text, vision = TextTower(spec), VisionTower(spec)
    assert (text.device, text.precision) == ("cpu", "fp32")
    assert (vision.device, vision.precision) == ("cpu", "fp32")
    assert vision.preprocessor.image_size == (48, 48)
    assert vision.preprocessor.resample == "bicubic"


def test_several_threads_share_one_tower(spec: ModelSpec) -> None:
    tower = VisionTower(spec)
    batches = [pictures(count) for count in range(1, 41)]
    expected = [tower.embed(batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        for got, wanted in zip(threads.map(tower.embed, batches), expected, strict=True):
            assert np.abs(got - wanted).max() < 1e-6


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_batch_size_works_for_any_number(
    random_tower: ModuleType, tmp_path: Path, spec: ModelSpec, batch: int
) -> None:
    fixed = load_model_folder(
        random_tower.write_random_model(tmp_path / "fixed", shape="tiny", batch=batch)
    )
    pixels = pictures(4)
    difference = VisionTower(fixed).embed(pixels) - VisionTower(spec).embed(pixels)
    assert np.abs(difference).max() < 1e-6
    assert np.abs(TextTower(fixed).embed(TEXTS) - TextTower(spec).embed(TEXTS)).max() < 1e-6


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 48, 48, 3), dtype=np.float32),
        np.zeros((48, 48, 3), dtype=np.uint8),
        np.zeros((1, 32, 48, 3), dtype=np.uint8),
        np.zeros((1, 3, 48, 48), dtype=np.uint8),
    ],
)
def test_pixels_of_another_shape_are_a_programming_error(
    spec: ModelSpec, pixels: NDArray[Any]
) -> None:
    with pytest.raises(ValueError, match="not uint8 of shape"):
        VisionTower(spec).embed(pixels)


# Which output is the embedding.


@pytest.mark.parametrize(
    "outputs",
    [
        ("pooler_output",),
        ("text_embeds",),
        ("embedding", "something_else"),
        ("something_else", "pooler_output"),
        ("the_only_one",),
    ],
)
def test_the_embedding_is_found_by_name_or_because_it_is_alone(
    folder: Path, outputs: tuple[str, ...]
) -> None:
    assert_unit(TextTower(word_table(folder, outputs=outputs)).embed(TEXTS), len(TEXTS))


def test_two_unknown_outputs_are_not_guessed_between(folder: Path) -> None:
    spec = word_table(folder, outputs=("this", "that"))
    with pytest.raises(ModelError, match="this") as caught:
        TextTower(spec)
    assert str(folder / "text.onnx") in str(caught.value)


def test_an_input_of_32_bit_ids_is_fed_32_bit_ids(folder: Path) -> None:
    spec = word_table(folder, input_type=TensorProto.INT32)
    assert_unit(TextTower(spec).embed(TEXTS), len(TEXTS))


def test_an_embedding_of_another_dimension_is_refused_on_loading(folder: Path) -> None:
    spec = word_table(folder, width=31)
    with pytest.raises(ModelError, match="31 values") as caught:
        TextTower(spec)
    assert "dimension = 32" in str(caught.value)


@pytest.mark.parametrize("scale", [0.0, np.inf, np.nan])
def test_an_embedding_without_a_direction_is_an_error(folder: Path, scale: float) -> None:
    with pytest.raises(ModelError, match="zero or not finite"):
        TextTower(word_table(folder, scale=scale)).embed(TEXTS)


def test_very_long_and_very_short_vectors_are_brought_to_unit_length(folder: Path) -> None:
    for scale in (1e-15, 1e15):
        assert_unit(TextTower(word_table(folder, scale=scale)).embed(TEXTS), len(TEXTS))


# Towers that do not fit.


def test_a_tokenizer_with_more_pieces_than_the_tower_is_refused_on_loading(folder: Path) -> None:
    spec = word_table(folder, rows=40)
    with pytest.raises(ModelError, match="knows only 40") as caught:
        TextTower(spec)
    assert "tokenizer.model" in str(caught.value)
    assert caught.value.hint


def test_an_id_beyond_a_table_that_cannot_be_seen_is_one_error(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tower = TextTower(word_table(folder, rows=4, hidden_table=True))
    with pytest.raises(ModelError, match="failed to run") as caught:
        tower.embed(["umbrella on the street"])
    assert "\n" not in str(caught.value)
    assert "tokenizer" in caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_the_token_table_is_measured_without_loading_the_tower(spec: ModelSpec) -> None:
    assert token_table_rows(spec.text_path, "input_ids") == 320


@pytest.mark.parametrize("content", [b"", b"\x3a\xff\xff\xff\x7f", b"\x0b", bytes(50), b"hello"])
def test_a_damaged_file_has_no_measurable_token_table(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.onnx"
    path.write_bytes(content)
    assert token_table_rows(path, "input_ids") is None


def test_a_table_of_ids_that_were_cast_and_reshaped_is_found(folder: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["a"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("Gather", ["table", "b"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["embedding"], axes=[1], keepdims=0),
    ]
    model = graph(
        nodes,
        [helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", 16])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 32])],
        {"shape": np.array([-1, 16]), "table": np.ones((777, 32), dtype=np.float32)},
    )
    onnx.save(model, str(folder / "text.onnx"))
    assert token_table_rows(folder / "text.onnx", "input_ids") == 777


def edit(folder: Path, old: str, new: str) -> ModelSpec:
    path = folder / "model.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return load_model_folder(folder)


def test_a_wrong_text_length_is_refused_on_loading(folder: Path) -> None:
    spec = edit(folder, "length = 16", "length = 64")
    with pytest.raises(ModelError, match=r"input_ids of shape \(any, 16\)") as caught:
        TextTower(spec)
    assert "64" in str(caught.value)


def test_a_wrong_picture_size_is_refused_on_loading(folder: Path) -> None:
    spec = edit(folder, "image_size = [48, 48]", "image_size = [96, 96]")
    with pytest.raises(ModelError, match=r"pixel_values of shape \(any, 3, 48, 48\)"):
        VisionTower(spec)


def test_an_export_of_both_towers_together_is_refused(folder: Path) -> None:
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", 16])
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 32])
    model = graph(
        [
            helper.make_node("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Identity", ["pixel_values"], ["image_embeds"]),
        ],
        [ids, pixels],
        [
            helper.make_tensor_value_info("image_embeds", TensorProto.FLOAT, ["batch", 32]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16]),
        ],
    )
    onnx.save(model, str(folder / "text.onnx"))
    with pytest.raises(ModelError, match="input_ids, pixel_values") as caught:
        TextTower(load_model_folder(folder))
    assert "single tower" in caught.value.hint


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage", [truncated, lambda _: b"", lambda _: b"<html>not found</html>", bytes.swapcase]
)
@pytest.mark.parametrize(
    ("file", "tower"), [("vision.onnx", VisionTower), ("text.onnx", TextTower)]
)
def test_a_damaged_tower_is_one_error_that_names_the_file_and_prints_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str], damage: Any, file: str, tower: Any
) -> None:
    path = folder / file
    path.write_bytes(damage(path.read_bytes()))
    spec = load_model_folder(folder)
    with pytest.raises(ModelError) as caught:
        tower(spec)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_missing_tower_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        CpuSession(tmp_path / "absent.onnx")


# What a fresh process loads.


def loaded_after(code: str, model: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sorted(sys.modules))", str(model)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return {module.split(".")[0] for module in done.stdout.split()}


HEAVY = {"PIL", "faiss", "pillow_heif", "rich", "huggingface_hub", "click", "sqlite_utils", "onnx"}


def test_importing_the_towers_opens_nothing(tiny_model: Path) -> None:
    code = "import siglip_search.towers, siglip_search.tokenizers, siglip_search.models"
    modules = loaded_after(code, tiny_model)
    assert not modules & (HEAVY | {"onnxruntime", "sentencepiece", "numpy"})


def test_embedding_a_text_loads_only_what_it_needs(tiny_model: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from siglip_search.models.registry import find_model\n"
        "from siglip_search.towers.text import TextTower\n"
        "spec = find_model('demo', Path('absent'), {'demo': Path(sys.argv[1])})\n"
        "assert TextTower(spec, one_shot=True).embed(['a cat']).shape == (1, 32)"
    )
    modules = loaded_after(code, tiny_model)
    assert {"onnxruntime", "sentencepiece"} <= modules
    assert not modules & HEAVY
