"""Models by name."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from siglip_search.errors import ModelError, NoModelError, UnknownModelError
from siglip_search.models.files import add_model_folder
from siglip_search.models.model_folder import check_model_name
from siglip_search.models.registry import (
    broken_models,
    default_row,
    find_model,
    find_row,
    installed_models,
    registry_rows,
)


def test_the_default_is_siglip_base_384_which_knows_english_only() -> None:
    row = default_row()
    assert row.name == "siglip-base-patch16-384"
    assert row.licence == "Apache-2.0"
    assert row.languages == ("en",)
    assert row.download_bytes is not None
    assert row.download_bytes > 800_000_000


def test_every_row_is_complete_and_its_names_can_be_folders() -> None:
    rows = registry_rows()
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        check_model_name(row.name, where="registry")
        assert row.sources
        assert row.title
        assert row.help.endswith(".")
        assert row.bundled == (row.hub is None)
        if not row.bundled:
            assert row.dimension
            assert row.parameters_millions
            assert row.hub is not None
            assert (row.download_bytes is not None) == bool(row.hub.towers)


def test_only_weights_that_anybody_may_use_come_without_asking() -> None:
    asking = {row.name for row in registry_rows() if row.licence_conditions}
    assert asking == {"mobileclip2-s3"}
    free = {row.licence for row in registry_rows() if not row.licence_conditions}
    assert free == {"Apache-2.0"}


def test_external_weights_of_the_registry_lie_beside_their_tower() -> None:
    row = find_row("siglip2-so400m-patch14-384")
    assert row.hub is not None
    assert row.hub.towers["fp32"].text_data == ("onnx/text_model.onnx_data",)


def test_published_figures_are_percentages_with_a_source() -> None:
    for row in registry_rows():
        if row.published is not None:
            figures = dataclasses.asdict(row.published)
            assert figures.pop("source")
            assert all(figure is None or 1 < figure < 100 for figure in figures.values())


def test_a_model_that_must_be_exported_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoModelError) as caught:
        find_model("mobileclip2-s3", tmp_path, {})
    assert "`siglip-search model export mobileclip2-s3`" in caught.value.hint


def test_mobileclip_follows_open_clip() -> None:
    row = find_row("mobileclip2-s3").hub
    assert row is not None
    assert (row.start_id, row.end_id, row.pad_id, row.length) == (49406, 49407, 0, 77)
    assert (row.tokenizer, row.canonicalize) == ("clip-bpe", "clip")
    assert (row.architecture.library, row.architecture.name) == ("open_clip", "MobileCLIP2-S3")
    assert (row.image_size, row.resize) == ((256, 256), "shortest-side-crop")


def test_padding_and_words_are_those_of_each_family() -> None:
    siglip = find_row("siglip-base-patch16-384").hub
    siglip2 = find_row("siglip2-base-patch16-384").hub
    assert siglip is not None
    assert siglip2 is not None
    assert (siglip.length, siglip.pad_id, siglip.end_id) == (64, 1, 1)
    assert siglip.canonicalize == "lowercase-no-punctuation"
    assert (siglip2.length, siglip2.pad_id, siglip2.end_id) == (64, 0, 1)
    assert siglip2.canonicalize == "lowercase"


def test_a_bundled_model_is_found_by_its_name(tmp_path: Path, tiny_model: Path) -> None:
    assert find_model("demo", tmp_path / "none", {"demo": tiny_model}).directory == tiny_model


def test_an_installed_model_is_found(tmp_path: Path, tiny_model: Path) -> None:
    add_model_folder(tiny_model, tmp_path)
    assert find_model("random-tiny", tmp_path, {}).directory == tmp_path / "random-tiny"


def test_a_folder_renamed_by_hand_is_found_by_the_models_name(
    tmp_path: Path, tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "copied here")
    assert find_model("random-tiny", tmp_path, {}).directory == tmp_path / "copied here"


def test_an_unknown_model_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="no model called 'nonsense'") as caught:
        find_model("nonsense", tmp_path, {})
    assert "model list" in caught.value.hint


def test_a_known_model_that_was_not_fetched_says_how_and_what_works_offline(
    tmp_path: Path,
) -> None:
    with pytest.raises(NoModelError, match="not on this machine") as caught:
        find_model("siglip-base-patch16-384", tmp_path, {})
    assert "`siglip-search model pull siglip-base-patch16-384`" in caught.value.hint
    assert "`--model demo` works offline" in caught.value.hint


def test_a_bundled_model_that_is_missing_is_not_offered_for_download(tmp_path: Path) -> None:
    with pytest.raises(NoModelError) as caught:
        find_model("demo", tmp_path, {})
    assert "pull" not in caught.value.hint


def test_installed_models_lists_bundled_ones_first_and_skips_the_broken(
    tmp_path: Path, tiny_model: Path
) -> None:
    add_model_folder(tiny_model, tmp_path)
    broken = Path(shutil.copytree(tiny_model, tmp_path / "another"))
    (broken / "text.onnx").unlink()
    (tmp_path / ".adding-x").mkdir()
    (tmp_path / "notes.txt").write_text("not a model")
    bundled = Path(shutil.copytree(tiny_model, tmp_path.parent / "bundled"))
    toml = bundled / "model.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("random-tiny", "demo"))
    names = [spec.name for spec in installed_models(tmp_path, {"demo": bundled})]
    assert names == ["demo", "random-tiny"]
    (only,) = broken_models(tmp_path)
    assert only.directory == broken
    assert "text.onnx" in str(only.error)


def test_no_models_folder_means_no_models(tmp_path: Path) -> None:
    assert installed_models(tmp_path / "absent", {}) == []
    assert broken_models(tmp_path / "absent") == []


def test_a_broken_folder_is_reported_when_it_is_asked_for(tmp_path: Path, tiny_model: Path) -> None:
    add_model_folder(tiny_model, tmp_path)
    (tmp_path / "random-tiny" / "vision.onnx").unlink()
    with pytest.raises(ModelError, match=r"vision\.onnx"):
        find_model("random-tiny", tmp_path, {})
