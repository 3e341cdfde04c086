"""Folders as Xenova, onnx-community and immich lay them out become models of ours."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from stand_in_hub import TINY_ROW, checkpoint_weights, preprocessor_config, safetensors

from siglip_search.errors import ModelError
from siglip_search.models.layouts import add_layout, describe_layout
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.registry import RegistryRow, find_row
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec

WORDS = ["a red bicycle", "the sea"]


@pytest.fixture
def row(tmp_path: Path) -> RegistryRow:
    own = tmp_path / "models.toml"
    own.write_text(TINY_ROW, encoding="utf-8")
    return find_row("tiny", own)


@pytest.fixture
def xenova(tmp_path: Path, tiny_model: Path) -> Path:
    folder = tmp_path / "xenova"
    (folder / "onnx").mkdir(parents=True)
    for name in ("vision", "text"):
        shutil.copy(tiny_model / f"{name}.onnx", folder / "onnx" / f"{name}_model.onnx")
    shutil.copy(tiny_model / "tokenizer.model", folder / "spiece.model")
    (folder / "preprocessor_config.json").write_bytes(preprocessor_config(48))
    (folder / "model.safetensors").write_bytes(checkpoint_weights())
    return folder


@pytest.fixture
def immich(tmp_path: Path, tiny_model: Path) -> Path:
    folder = tmp_path / "immich"
    for part, tower, name in (("visual", "vision", "image"), ("textual", "text", "text")):
        (folder / part).mkdir(parents=True)
        as_immich(tiny_model / f"{tower}.onnx", folder / part / "model.onnx", name)
    shutil.copy(tiny_model / "tokenizer.model", folder / "textual" / "spiece.model")
    config = {"size": [48, 48], "mode": "RGB", "mean": [0.5] * 3, "std": [0.5] * 3}
    config |= {"interpolation": "bicubic", "resize_mode": "squash", "fill_color": 0}
    (folder / "visual" / "preprocess_cfg.json").write_text(json.dumps(config))
    (folder / "model.onnx").touch()
    return folder


def as_immich(source: Path, target: Path, input_name: str) -> None:
    """Give a tower immich's ends: batch of 1, 32-bit ids, a unit vector called `embedding`."""
    model = onnx.load(str(source))
    graph = model.graph
    former, result = graph.input[0].name, graph.output[0].name
    shape = [1] + [
        dimension.dim_value for dimension in graph.input[0].type.tensor_type.shape.dim[1:]
    ]
    kind, to = (TensorProto.FLOAT, TensorProto.FLOAT)
    if input_name == "text":
        kind, to = TensorProto.INT32, TensorProto.INT64
    graph.node.insert(0, helper.make_node("Cast", [input_name], [former], to=to))
    graph.node.append(helper.make_node("LpNormalization", [result], ["embedding"], axis=1, p=2))
    del graph.input[:], graph.output[:]
    graph.input.append(helper.make_tensor_value_info(input_name, kind, shape))
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 32]))
    onnx.save(model, str(target))


def embeddings(spec: ModelSpec) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    return np.concatenate([VisionTower(spec).embed(pixels), TextTower(spec).embed(WORDS)])


def test_xenovas_layout_becomes_a_model_with_the_checkpoints_numbers(
    xenova: Path, row: RegistryRow, tmp_path: Path, tiny_model: Path
) -> None:
    spec = add_layout(describe_layout(xenova, row), tmp_path / "models")
    assert spec.directory == tmp_path / "models" / "tiny"
    assert spec.score.logit_scale == pytest.approx(117.0, rel=1e-6)
    assert spec.score.logit_bias == -12.5
    assert spec.checkpoint.startswith("sha256:")
    assert {path.name for path in spec.directory.iterdir()} == set(spec.files)
    assert np.array_equal(embeddings(spec), embeddings(load_model_folder(tiny_model)))


def test_immichs_layout_gives_the_same_vectors(
    immich: Path, row: RegistryRow, tmp_path: Path, tiny_model: Path
) -> None:
    layout = describe_layout(immich, row, logit_scale=112.0, logit_bias=-16.0)
    spec = add_layout(layout, tmp_path / "models")
    assert (spec.score.logit_scale, spec.score.logit_bias) == (112.0, -16.0)
    assert spec.vision.resample == "bicubic"
    expected = embeddings(load_model_folder(tiny_model))
    assert embeddings(spec) == pytest.approx(expected, abs=1e-6)


def test_the_numbers_can_come_from_an_export_of_the_whole_model(
    xenova: Path, row: RegistryRow, tiny_whole_model: bytes
) -> None:
    (xenova / "model.safetensors").unlink()
    (xenova / "onnx" / "model.onnx").write_bytes(tiny_whole_model)
    score = describe_layout(xenova, row).facts.score
    assert score.logit_scale == pytest.approx(112.5, rel=1e-6)
    assert score.logit_bias == pytest.approx(-16.25)


def test_without_weights_the_towers_are_a_checkpoint_of_their_own(
    xenova: Path, row: RegistryRow
) -> None:
    known = describe_layout(xenova, row).facts.checkpoint
    (xenova / "model.safetensors").unlink()
    unknown = describe_layout(xenova, row, logit_scale=100.0, logit_bias=-12.0).facts
    assert unknown.checkpoint != known
    assert unknown.score.logit_bias == -12.0


def test_another_precision_is_a_variant(xenova: Path, row: RegistryRow) -> None:
    for name in ("vision", "text"):
        tower = xenova / "onnx" / f"{name}_model.onnx"
        shutil.copy(tower, tower.with_name(f"{name}_model_quantized.onnx"))
    facts = describe_layout(xenova, row, precision="int8").facts
    assert facts.name == "tiny-int8"
    assert facts.variant is not None
    assert facts.variant.of == "tiny"
    assert facts.vision.precision == "int8"


def test_external_weights_come_along_under_their_names(
    xenova: Path, row: RegistryRow, tmp_path: Path
) -> None:
    path = xenova / "onnx" / "vision_model.onnx"
    model = onnx.load(str(path))
    onnx.save(
        model,
        str(path),
        save_as_external_data=True,
        location="vision_model.onnx_data",
        size_threshold=1024,
    )
    spec = add_layout(describe_layout(xenova, row), tmp_path / "models")
    assert spec.vision.data_files == ("vision/vision_model.onnx_data",)
    assert embeddings(spec).shape == (4, 32)
    (xenova / "onnx" / "vision_model.onnx_data").unlink()
    with pytest.raises(ModelError, match=r"keeps weights in onnx/vision_model\.onnx_data"):
        describe_layout(xenova, row)


def test_a_model_that_is_refused_is_not_installed(
    xenova: Path, row: RegistryRow, tmp_path: Path
) -> None:
    def check(spec: ModelSpec) -> None:
        raise ModelError(f"{spec.name} computes nonsense")

    with pytest.raises(ModelError, match="nonsense"):
        add_layout(describe_layout(xenova, row), tmp_path / "models", check=check)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("missing", "words", "remedy"),
    [
        ("onnx/text_model.onnx", "holds no pair of fp32 towers", "onnx/text_model.onnx"),
        ("spiece.model", "has no sentencepiece tokenizer", "spiece.model of google/tiny"),
        ("preprocessor_config.json", "how pictures are prepared", "preprocessor_config.json of"),
        ("model.safetensors", "does not say scale and bias", "--logit-scale"),
    ],
)
def test_a_missing_file_is_named_with_where_to_get_it(
    xenova: Path, row: RegistryRow, missing: str, words: str, remedy: str
) -> None:
    (xenova / missing).unlink()
    with pytest.raises(ModelError) as caught:
        describe_layout(xenova, row)
    assert words in str(caught.value)
    assert str(xenova) in str(caught.value)
    assert remedy in caught.value.hint
    assert "\n" not in str(caught.value) + caught.value.hint


def test_another_models_files_are_refused(xenova: Path, row: RegistryRow, tmp_path: Path) -> None:
    (xenova / "preprocessor_config.json").write_bytes(preprocessor_config(64))
    with pytest.raises(ModelError, match="says 64 x 64 pixels"):
        describe_layout(xenova, row)
    (xenova / "preprocessor_config.json").write_bytes(preprocessor_config(48))

    (xenova / "model.safetensors").write_bytes(safetensors({"proj": ("F32", [1], bytes(4))}))
    with pytest.raises(ModelError, match=r"model\.safetensors has no logit_scale"):
        describe_layout(xenova, row)

    own = tmp_path / "models.toml"
    digest = "0" * 64
    own.write_text(TINY_ROW.replace("length = 16", f'length = 16\ntokenizer_sha256 = "{digest}"'))
    with pytest.raises(ModelError, match=r"spiece\.model is not the tokenizer that tiny"):
        describe_layout(xenova, find_row("tiny", own), logit_scale=100.0, logit_bias=-12.0)


@pytest.mark.parametrize("scale", [0.0, -4.7, 4.6, float("nan"), float("inf")])
def test_a_scale_before_exp_is_noticed(xenova: Path, row: RegistryRow, scale: float) -> None:
    with pytest.raises(ModelError, match=r"^--logit-scale .* scale of tiny") as caught:
        describe_layout(xenova, row, logit_scale=scale, logit_bias=-12.0)
    assert "after exp()" in caught.value.hint


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        (None, "--logit-scale without --logit-bias: tiny has a learned bias"),
        (12.5, "--logit-bias 12.5 cannot be the bias of tiny"),
        (float("nan"), "--logit-bias nan is not finite"),
        (float("-inf"), "--logit-bias -inf is not finite"),
    ],
)
def test_a_bias_that_no_siglip_has_is_noticed(
    xenova: Path, row: RegistryRow, bias: float | None, words: str
) -> None:
    with pytest.raises(ModelError) as caught:
        describe_layout(xenova, row, logit_scale=100.0, logit_bias=bias)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "cut", "has_bias"),
    [
        ("MobileCLIP2-S3", "0.0", False),
        ("MobileCLIP2-S3", "0.01", True),
        ("ViT-B-16-SigLIP-384", "0.0", True),
    ],
)
def test_a_row_with_a_cut_or_of_a_siglip_needs_a_bias(
    xenova: Path, tmp_path: Path, name: str, cut: str, has_bias: bool
) -> None:
    own = tmp_path / "models.toml"
    text = TINY_ROW.replace('"transformers", name = "SiglipModel"', f'"open_clip", name = "{name}"')
    own.write_text(text.replace("min_probability = 0.01", f"min_probability = {cut}"))
    row = find_row("tiny", own)
    if has_bias:
        with pytest.raises(ModelError, match="without --logit-bias"):
            describe_layout(xenova, row, logit_scale=100.0)
    else:
        assert describe_layout(xenova, row, logit_scale=100.0).facts.score.logit_bias is None


def test_what_is_no_folder_or_is_bundled_is_refused(
    xenova: Path, row: RegistryRow, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="is no folder"):
        describe_layout(tmp_path / "absent", row)
    with pytest.raises(ModelError, match="comes with the program"):
        describe_layout(xenova, find_row("demo"))


def test_a_taken_name_is_refused(xenova: Path, row: RegistryRow, tmp_path: Path) -> None:
    layout = describe_layout(xenova, row)
    add_layout(layout, tmp_path / "models")
    with pytest.raises(ModelError, match="installed already"):
        add_layout(layout, tmp_path / "models")
    assert add_layout(layout, tmp_path / "models", replace=True).name == "tiny"
