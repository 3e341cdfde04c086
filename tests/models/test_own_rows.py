"""A user's own rows: as good as ours, and every mistake is one line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from huggingface_hub.utils import validate_repo_id

from siglip_search.errors import ModelError, NoModelError, UnknownModelError
from siglip_search.models.registry import default_row, find_model, find_row, registry_rows

if TYPE_CHECKING:
    from pathlib import Path

ROW = """
[[model]]
name = "mine"
licence = "MIT"
languages = ["de"]
dimension = 32

[model.checkpoint]
repo = "me/mine"
weights = "model.safetensors"
preprocessor = "preprocessor_config.json"
architecture = { library = "transformers", name = "SiglipModel" }

[model.onnx]
repo = "me/mine-onnx"
fp32 = { vision = "onnx/vision.onnx", text = "onnx/text.onnx", text_data = ["onnx/text.data"] }

[model.vision]
image_size = [48, 48]
resize = "squash"

[model.text]
tokenizer = "sentencepiece"
tokenizer_repo = "me/mine"
tokenizer_file = "spiece.model"
canonicalize = "lowercase"
length = 16
pad_id = 0
end_id = 1

[model.score]
min_probability = 0.02
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text("format = 1\n" + ROW, encoding="utf-8")
    return path


def test_a_row_of_ones_own_comes_after_ours_and_is_found_by_name(own: Path) -> None:
    rows = registry_rows(own)
    assert rows[0].name == default_row().name
    assert rows[-1].name == "mine"
    row = find_row("mine", own)
    assert (row.title, row.licence, row.help) == ("mine", "MIT", "")
    assert row.hub is not None
    assert row.hub.towers["fp32"].text_data == ("onnx/text.data",)
    assert row.hub.min_probability == 0.02


def test_a_row_of_ones_own_takes_the_place_of_ours(own: Path) -> None:
    name = default_row().name
    own.write_text(own.read_text().replace('"mine"', f'"{name}"'))
    assert [row.name for row in registry_rows(own)] == [row.name for row in registry_rows()]
    assert find_row(name, own).licence == "MIT"
    assert find_row(name).licence == "Apache-2.0"


def test_without_the_file_there_are_our_rows(tmp_path: Path) -> None:
    assert registry_rows(tmp_path / "absent.toml") == registry_rows()
    with pytest.raises(UnknownModelError):
        find_row("mine", tmp_path / "absent.toml")


def test_a_known_model_that_was_not_fetched_says_how(own: Path, tmp_path: Path) -> None:
    with pytest.raises(NoModelError) as caught:
        find_model("mine", tmp_path / "models", {}, own)
    assert "`siglip-search model pull mine` fetches it;" in caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "mine"', "", "row 1: name is missing"),
        ('name = "mine"', 'name = "../mine"', "row '../mine': name is '../mine', which cannot"),
        ('name = "mine"', 'name = "demo"', "row 'demo': only the program itself"),
        ('licence = "MIT"', 'licence = "MIT"\nbundled = true', "only the program itself"),
        ('licence = "MIT"', "", "licence is missing"),
        ("dimension = 32", "dimension = 0", "dimension is 0"),
        ("dimension = 32", "dimensions = 32", "dimensions is not known here"),
        ('repo = "me/mine"', 'repo = "mine"', "checkpoint.repo is 'mine'; it must be OWNER/NAME"),
        ('weights = "model.safetensors"', 'weights = "../x"', "checkpoint.weights is '../x'"),
        ('library = "transformers"', 'library = "jax"', "checkpoint.architecture.library is 'jax'"),
        ("fp32 =", "fp64 =", "onnx.fp64 is not known here"),
        ("fp32 =", "w8a16 =", "onnx.w8a16 is not known here"),  # nobody publishes it
        ('text = "onnx/text.onnx"', 'txt = "a"', "onnx.fp32.txt is not known here"),
        ('["onnx/text.data"]', '["text.data"]', "onnx.fp32.text_data must lie in the folder"),
        ("[48, 48]", "[48]", "vision.image_size must be a list of 2"),
        ('resize = "squash"', 'resize = "pad"', "vision.resize is 'pad'"),
        ('tokenizer = "sentencepiece"', 'tokenizer = "magic"', "text.tokenizer is 'magic'"),
        ("pad_id = 0", "pad_id = -1", "text.pad_id is -1"),
        ("pad_id = 0", 'pad_id = 0\ntokenizer_sha256 = "12"', "text.tokenizer_sha256 must be 64"),
        ("min_probability = 0.02", "min_probability = 2", "score.min_probability is 2.0"),
        ("[model.score]", "[model.scores]", "scores is not known here"),
        ("format = 1", "format = 2", "format is 2; this version reads up to 1"),
        ("format = 1", "", "format is missing"),
        ("format = 1", 'format = 1\ndefault = "mine"', "default is not known here"),
        ("[[model]]", "[model]", "model must be a list of tables"),
        ("[[model]]", "[[models]]", "models is not known here"),
        ("dimension = 32", "dimension = ", "is not valid TOML"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_row_and_key(
    own: Path, old: str, new: str, words: str
) -> None:
    text = own.read_text()
    assert old in text
    own.write_text(text.replace(old, new, 1))
    with pytest.raises(ModelError) as caught:
        registry_rows(own)
    assert words in str(caught.value)
    assert str(own) in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "repo",
    ["mine", "a/b/c", "me/my model", "me/-mine", "me/mine.", "me/a--b", "me/a..b", "me/x.git"],
)
def test_what_the_hub_would_not_take_for_a_repository_is_refused(own: Path, repo: str) -> None:
    own.write_text(own.read_text().replace('repo = "me/mine-onnx"', f'repo = "{repo}"'))
    with pytest.raises(ModelError) as caught:
        registry_rows(own)
    words = f"{own}, row 'mine': onnx.repo is {repo!r}; it must be OWNER/NAME as on the hub"
    assert str(caught.value) == words


@pytest.mark.parametrize("repo", ["google/siglip-base-patch16-384", "A_1/b.c-d_", "m/" + "x" * 96])
def test_what_the_hub_takes_for_a_repository_is_taken(own: Path, repo: str) -> None:
    validate_repo_id(repo)
    own.write_text(own.read_text().replace('repo = "me/mine-onnx"', f'repo = "{repo}"'))
    row = find_row("mine", own)
    assert row.hub is not None
    assert row.hub.onnx_repo == repo


def test_two_rows_of_one_name_are_refused(own: Path) -> None:
    own.write_text(own.read_text() + ROW)
    with pytest.raises(ModelError, match="two rows called 'mine'"):
        registry_rows(own)


@pytest.mark.skipif(sys.platform == "win32", reason="a folder is another error there")
def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        registry_rows(tmp_path)
