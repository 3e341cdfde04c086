"""`model export` without its libraries, and what it refuses before it needs them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from siglip_search.cli.model_export_cmd import export
from siglip_search.errors import ModelError, SiglipSearchError, UnknownModelError
from siglip_search.settings import models_directory

if TYPE_CHECKING:
    from pathlib import Path


def refusal(*arguments: str | Path) -> SiglipSearchError:
    with pytest.raises(SiglipSearchError) as caught:
        CliRunner().invoke(export, list(map(str, arguments)), catch_exceptions=False)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


def usage_error(*arguments: str) -> str:
    done = CliRunner().invoke(export, list(arguments))
    assert done.exit_code == 2
    return done.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None, reason="the extra `export` is installed"
)
def test_missing_libraries_are_named_with_the_command_that_installs_them(tmp_path: Path) -> None:
    error = refusal("siglip-base-patch16-384", "--weights", tmp_path)
    assert str(error).startswith("exporting needs packages that are not installed: torch")
    assert 'pip install "siglip-search[export]"' in error.hint
    assert not models_directory().exists()


def test_an_unknown_model_is_refused() -> None:
    assert isinstance(refusal("nonesuch"), UnknownModelError)


def test_the_bundled_model_is_exported_already(tmp_path: Path) -> None:
    error = refusal("demo", "--out", tmp_path / "model")
    assert "it is exported already" in str(error)


def test_an_installed_model_is_not_overwritten() -> None:
    (models_directory() / "siglip-base-patch16-384").mkdir(parents=True)
    error = refusal("siglip-base-patch16-384")
    assert str(error) == "a model called 'siglip-base-patch16-384' is installed already"
    assert "--name" in error.hint


def test_the_bundled_models_name_is_not_taken() -> None:
    assert "belongs to the model that comes with" in str(
        refusal("siglip-base-patch16-384", "--name", "demo")
    )


def test_a_name_must_be_one() -> None:
    assert str(refusal("siglip-base-patch16-384", "--name", "My Model")).startswith(
        "--name is 'My Model', which cannot name a model"
    )


def test_a_folder_with_files_in_it_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    error = refusal("siglip-base-patch16-384", "--out", tmp_path)
    assert isinstance(error, ModelError)
    assert str(error) == f"{tmp_path} is there already and not empty"
    assert (tmp_path / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize("batch", ["0", "-1", "many", "4096", "1.5"])
def test_a_batch_is_a_number_or_dynamic(batch: str) -> None:
    complaint = usage_error("siglip-base-patch16-384", f"--batch={batch}")
    assert "is neither a number from 1 to 1024 nor 'dynamic'" in complaint


def test_an_opset_that_the_exporter_does_not_have_is_refused() -> None:
    assert "17<=x<=20" in usage_error("siglip-base-patch16-384", "--opset=21")
