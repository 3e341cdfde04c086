"""Finding a checkpoint's files; nothing here needs torch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from siglip_search.errors import DownloadError, ModelError
from siglip_search.export.checkpoint import find_checkpoint
from siglip_search.export.torch_towers import Sizes, refuse_foreign_weights, refuse_other_sizes
from siglip_search.models.model_folder import sha256_of
from siglip_search.models.registry import find_row

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.registry_row import RegistryRow

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = ("model.safetensors", "config.json", "preprocessor_config.json", "spiece.model")


@pytest.fixture
def row() -> RegistryRow:
    known = find_row("siglip-base-patch16-384")
    assert known.hub is not None
    return dataclasses.replace(known, hub=dataclasses.replace(known.hub, tokenizer_sha256=None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in FILES:
        (checkpoint / name).write_bytes(name.encode())
    return checkpoint


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forbid requests, with an empty cache; the hub's library reads its environment only once."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_folder_that_has_everything_needs_no_hub(
    row: RegistryRow, folder: Path, offline: None
) -> None:
    found = find_checkpoint(row, folder)
    assert [found.weights, found.config, found.preprocessor, found.tokenizer] == [
        folder / name for name in FILES
    ]
    assert found.identity == f"sha256:{sha256_of(folder / 'model.safetensors')}"
    assert found.own


def test_a_file_of_weights_brings_along_what_lies_beside_it(
    row: RegistryRow, folder: Path, offline: None
) -> None:
    named = folder / "epoch_3.pt"
    named.write_bytes(b"weights")
    found = find_checkpoint(row, named)
    assert found.weights == named
    assert found.config == folder / "config.json"
    assert found.identity == f"sha256:{sha256_of(named)}"


def test_what_is_not_beside_the_weights_and_not_on_the_hub_is_named(
    row: RegistryRow, folder: Path, offline: None
) -> None:
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(DownloadError) as caught:
        find_checkpoint(row, folder)
    assert str(caught.value).startswith(
        f"preprocessor_config.json is not beside {folder / 'model.safetensors'}, and the model "
        "'siglip-base-patch16-384' cannot be fetched"
    )
    assert "google/siglip-base-patch16-384" in caught.value.hint


def test_the_published_checkpoint_is_the_default(row: RegistryRow, offline: None) -> None:
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set, and it is not whole"):
        find_checkpoint(row, None)


def test_what_the_library_has_fetched_before_is_taken_from_its_cache(
    row: RegistryRow, offline: None, tmp_path: Path
) -> None:
    repository = tmp_path / "hub" / "models--google--siglip-base-patch16-384"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for name in FILES:
        (snapshot / name).write_bytes(name.encode())
    found = find_checkpoint(row, None)
    assert [found.weights, found.config, found.preprocessor, found.tokenizer] == [
        snapshot / name for name in FILES
    ]
    assert found.identity == f"sha256:{sha256_of(snapshot / 'model.safetensors')}"
    assert not found.own


def test_a_missing_path_is_said(row: RegistryRow, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere does not exist"):
        find_checkpoint(row, tmp_path / "nowhere")


def test_a_folder_without_weights_is_said(row: RegistryRow, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="there are no weights in"):
        find_checkpoint(row, folder)


def test_weights_in_several_files_are_refused_with_the_way_out(
    row: RegistryRow, folder: Path
) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match="split into several files") as caught:
        find_checkpoint(row, folder)
    assert "max_shard_size" in caught.value.hint


def test_another_tokenizer_than_the_rows_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"spiece\.model is not the tokenizer that siglip-base"):
        find_checkpoint(find_row("siglip-base-patch16-384"), folder)


def test_a_network_of_other_sizes_is_refused(row: RegistryRow) -> None:
    sizes = Sizes(image_size=(384, 384), length=64, dimension=768)
    refuse_other_sizes(row, sizes, where="it")
    for change, complaint in (
        ({"image_size": (256, 256)}, "it describes a model with an image size of 256 x 256"),
        ({"length": 16}, "a text length of 16; siglip-base-patch16-384 has 64"),
        ({"dimension": 1152}, "embeddings of length 1152"),
    ):
        with pytest.raises(ModelError, match=complaint):
            refuse_other_sizes(row, dataclasses.replace(sizes, **change), where="it")


def test_weights_are_the_networks_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    refuse_foreign_weights(path, "m", missing=[], unexpected=[], other_shapes={})
    with pytest.raises(ModelError, match=r"w\.pt is no checkpoint of m: 2 weights are missing, a"):
        refuse_foreign_weights(path, "m", missing={"b", "a"}, unexpected=["c"], other_shapes={})
    with pytest.raises(ModelError, match="1 weights too many, c for one"):
        refuse_foreign_weights(path, "m", missing=[], unexpected=["c"], other_shapes={})
