"""`model.toml`: what is read, and what is refused with which words."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from siglip_search.errors import ModelError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.model_toml import model_toml
from siglip_search.models.spec import Agreement, ScoreSpec, VariantSpec


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "model.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_every_fact_is_read(folder: Path) -> None:
    spec = load_model_folder(folder)
    assert spec.name == "random-tiny"
    assert spec.languages == ("en",)
    assert spec.dimension == 32
    assert spec.vision.image_size == (48, 48)
    assert spec.vision.resize == "squash"
    assert spec.vision.resample == "bicubic"
    assert spec.vision.mean == (0.5, 0.5, 0.5)
    assert spec.vision.precision == "fp32"
    assert spec.text.length == 16
    assert (spec.text.pad_id, spec.text.end_id) == (1, 1)
    assert spec.score.logit_scale == 10.0
    assert spec.score.logit_bias == 0.0
    assert spec.directory == folder
    assert spec.vision_path.is_file()
    assert spec.text_path.is_file()
    assert spec.tokenizer_path.is_file()
    assert spec.files == ("model.toml", "vision.onnx", "text.onnx", "tokenizer.model")


def test_a_model_without_a_learned_bias_has_none(folder: Path) -> None:
    edit(folder, "logit_bias = 0.0\n", "")
    assert load_model_folder(folder).score.logit_bias is None


def test_the_notice_and_the_default_cut_are_optional(folder: Path) -> None:
    edit(folder, 'notice = "Random weights: what it ranks means nothing."\n', "")
    edit(folder, "min_probability = 0.0\n", "")
    spec = load_model_folder(folder)
    assert spec.notice is None
    assert spec.score.min_probability == 0.0


def test_a_whole_number_will_do_for_a_scale(folder: Path) -> None:
    edit(folder, "logit_scale = 10.0", "logit_scale = 20")
    assert load_model_folder(folder).score.logit_scale == 20.0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("format = 1", "format = 2", "format is 2; this version reads up to 1"),
        ("format = 1", "format = true", "format is True; it must be a whole number"),
        ("dimension = 32", "", "dimension is missing"),
        ("dimension = 32", "dimension = 0", "dimension is 0"),
        ("dimension = 32", 'dimension = "32"', "dimension is '32'; it must be a whole number"),
        ('name = "random-tiny"', 'name = "../tiny"', "name is '../tiny', which cannot name a"),
        ('name = "random-tiny"', 'name = "Tiny"', "cannot name a model"),
        ('licence = "Apache-2.0"', 'licence = ""', "licence is empty"),
        ('languages = ["en"]', 'languages = "en"', "languages is 'en'; it must be a list"),
        ('languages = ["en"]', "languages = [1]", "languages must be a list of texts"),
        ("[vision]", "[picture]", "vision is missing; it must be a table"),
        ('resample = "bicubic"', 'resample = "nearest"', "vision.resample is 'nearest'"),
        ('resize = "squash"', 'resize = "pad"', "vision.resize is 'pad'"),
        ("image_size = [48, 48]", "image_size = [48]", "vision.image_size must be a list of 2"),
        ("image_size = [48, 48]", "image_size = [48, -1]", "vision.image_size must be"),
        ("std = [0.5, 0.5, 0.5]", "std = [0.5, 0.5, 0]", "vision.std is [0.5, 0.5, 0.0]"),
        ("mean = [0.5, 0.5, 0.5]", "mean = [nan, 0.5, 0.5]", "vision.mean must be a list of 3"),
        ('tokenizer = "sentencepiece"', 'tokenizer = "magic"', "text.tokenizer is 'magic'"),
        ("length = 16", "length = 0", "text.length is 0"),
        ("pad_id = 1", "pad_id = -1", "text.pad_id is -1"),
        ("logit_scale = 10.0", "logit_scale = -4.7", "(a log-scale?)"),
        ("logit_scale = 10.0", "logit_scale = inf", "score.logit_scale is inf"),
        ("min_probability = 0.0", "min_probability = 1.5", "score.min_probability is 1.5"),
        ('file = "vision.onnx"', 'file = "absent.onnx"', "absent.onnx, which is missing"),
        ("[text]", '[text]\ndata_files = ["x.data"]', "text.data_files names"),
        ('file = "vision.onnx"', 'file = "../vision.onnx"', "must lie inside the model folder"),
        ('file = "vision.onnx"', 'file = "/etc/hosts"', "must lie inside the model folder"),
    ],
)
def test_a_wrong_fact_names_file_key_and_remedy(
    folder: Path, old: str, new: str, words: str
) -> None:
    edit(folder, old, new)
    with pytest.raises(ModelError) as caught:
        load_model_folder(folder)
    assert words in str(caught.value)
    assert str(folder / "model.toml") in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_crop_needs_a_square(folder: Path) -> None:
    edit(folder, 'resize = "squash"', 'resize = "shortest-side-crop"')
    edit(folder, "[48, 48]", "[48, 32]")
    with pytest.raises(ModelError, match="must be square"):
        load_model_folder(folder)


def test_a_folder_without_model_toml_is_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        load_model_folder(tmp_path)


@pytest.mark.parametrize("content", [b"format = ", b"\xff\xfe", b'a = "\0"'])
def test_broken_toml_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.toml").write_bytes(content)
    with pytest.raises(ModelError, match="is not valid TOML"):
        load_model_folder(tmp_path)


def test_the_space_is_the_same_whatever_precision_file_and_score(folder: Path) -> None:
    before = load_model_folder(folder).space_key
    (folder / "vision.onnx").rename(folder / "vision_int8.onnx")
    edit(folder, 'file = "vision.onnx"', 'file = "vision_int8.onnx"')
    edit(folder, 'precision = "fp32"', 'precision = "int8"')
    edit(folder, "logit_scale = 10.0", "logit_scale = 11.0")
    edit(folder, "title = ", "title = 'Another title' # ")
    after = load_model_folder(folder)
    assert after.vision.precision == "int8"
    assert after.space_key == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('checkpoint = "sha256:', 'checkpoint = "sha256:0'),
        ('resample = "bicubic"', 'resample = "bilinear"'),
        ("mean = [0.5, 0.5, 0.5]", "mean = [0.5, 0.5, 0.4]"),
        ("image_size = [48, 48]", "image_size = [64, 64]"),
        ('canonicalize = "lowercase-no-punctuation"', 'canonicalize = "lowercase"'),
        ("length = 16", "length = 17"),
        ("pad_id = 1", "pad_id = 0"),
    ],
)
def test_the_space_changes_with_what_changes_a_vector(folder: Path, old: str, new: str) -> None:
    before = load_model_folder(folder).space_key
    edit(folder, old, new)
    assert load_model_folder(folder).space_key != before


def test_the_space_changes_with_the_tokenizers_content(folder: Path) -> None:
    before = load_model_folder(folder).space_key
    with (folder / "tokenizer.model").open("ab") as stream:
        stream.write(b"x")
    assert load_model_folder(folder).space_key != before


def test_the_space_key_of_given_facts_never_changes(folder: Path) -> None:
    # Stored in every library: another value here would make all their vectors strangers.
    (folder / "tokenizer.model").write_bytes(b"pieces")
    text = (folder / "model.toml").read_text(encoding="utf-8").splitlines()
    fixed = ['checkpoint = "sha256:0"' if line.startswith("checkpoint") else line for line in text]
    (folder / "model.toml").write_text("\n".join(fixed), encoding="utf-8")
    assert load_model_folder(folder).space_key == (
        "4ff4e1dcc200c10ca56bb30611da194cc59554504c5e6a094d4037e8c5207f5d"
    )


def test_a_spec_cannot_be_changed(folder: Path) -> None:
    spec = load_model_folder(folder)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.dimension = 1  # type: ignore[misc]


def test_reading_a_folder_loads_no_heavy_module(tiny_model: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from siglip_search.models.model_folder import load_model_folder\n"
        "from siglip_search.models.registry import find_model\n"
        "load_model_folder(pathlib.Path(sys.argv[1]))\n"
        "heavy = {'numpy', 'onnxruntime', 'sentencepiece', 'huggingface_hub', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_model)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_every_fact_is_written_as_it_was_read(folder: Path) -> None:
    spec = load_model_folder(folder)
    told = dataclasses.replace(
        spec,
        title='A "title" with \\ and \u00e9\U0001f426\x7f',
        notice=None,
        vision=dataclasses.replace(spec.vision, precision="int8"),
        text=dataclasses.replace(spec.text, start_id=3),
        score=ScoreSpec(logit_scale=1e-7, logit_bias=None, min_probability=0.25),
        variant=VariantSpec("base", "a recipe", Agreement(500, 0.999, 0.98, 0.96)),
    )
    (folder / "model.toml").write_text(model_toml(told), encoding="utf-8")
    again = load_model_folder(folder)
    assert dataclasses.replace(again, space_key="") == dataclasses.replace(told, space_key="")
    assert again.space_key != spec.space_key  # the start id


VARIANT = """
[variant]
of = "base"
recipe = "int8, somehow"
"""
AGREEMENT = """
[variant.agreement]
pictures = 500
mean_cosine = 0.99
worst_cosine = 0.5
recall_at_10 = 0.95
"""


def test_variant_is_a_space_of_its_own_until_it_agrees(folder: Path) -> None:
    path = folder / "model.toml"
    text = path.read_text(encoding="utf-8")
    own = load_model_folder(folder).space_key

    def key_with(*additions: str) -> str:
        path.write_text("".join([text, *additions]), encoding="utf-8")
        return load_model_folder(folder).space_key

    assert key_with(VARIANT) != own
    assert key_with(VARIANT.replace("somehow", "otherwise")) not in {own, key_with(VARIANT)}
    assert key_with(VARIANT, AGREEMENT) == own
    for good, bad in (("= 500", "= 499"), ("0.99\n", "0.989\n"), ("0.95", "0.949")):
        assert key_with(VARIANT, AGREEMENT.replace(good, bad)) == key_with(VARIANT)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("mean_cosine = 0.99", "mean_cosine = 7.0", "mean_cosine is 7.0; it must be from -1.0"),
        ("worst_cosine = 0.5", "worst_cosine = nan", "worst_cosine is nan; it must be finite"),
        ("recall_at_10 = 0.95", "recall_at_10 = 1.1", "recall_at_10 is 1.1; it must be from 0.0"),
        ("pictures = 500", "pictures = -1", "pictures is -1"),
        ('of = "base"', 'of = "../base"', "cannot name a model"),
    ],
)
def test_agreement_that_cannot_be_is_refused(folder: Path, old: str, new: str, words: str) -> None:
    path = folder / "model.toml"
    path.write_text(path.read_text(encoding="utf-8") + VARIANT + AGREEMENT, encoding="utf-8")
    edit(folder, old, new)
    with pytest.raises(ModelError, match=re.escape(words)):
        load_model_folder(folder)


def test_byte_pair_encoding_needs_a_start(folder: Path) -> None:
    edit(folder, 'tokenizer = "sentencepiece"', 'tokenizer = "clip-bpe"')
    with pytest.raises(ModelError, match=r"start_id is missing"):
        load_model_folder(folder)


def test_rules_of_preprocessing_that_are_not_known_are_refused(folder: Path) -> None:
    edit(folder, "preprocessing = 1", "preprocessing = 2")
    with pytest.raises(ModelError, match="preprocessing is 2; this version knows") as caught:
        load_model_folder(folder)
    assert "Upgrade siglip-search" in caught.value.hint
