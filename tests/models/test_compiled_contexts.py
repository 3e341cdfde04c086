"""A compiled context belongs to the tower that it was made from, and to no other.

Nothing is compiled here: what a context is made of does not matter to what is noted about it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from siglip_search.models import compiled_contexts as module
from siglip_search.models.compiled_contexts import (
    Tower,
    compiled_contexts,
    record_context,
    tower_state,
)
from siglip_search.models.files import add_model_folder, remove_model
from siglip_search.models.model_folder import load_model_folder

if TYPE_CHECKING:
    from siglip_search.models.spec import ModelSpec

FILES = [
    "text.json",
    "text.onnx",
    "text_qnn.bin",
    "vision.json",
    "vision.onnx",
    "vision_qnn.bin",
]


@pytest.fixture
def spec(tiny_model: Path, tmp_path: Path) -> ModelSpec:
    """A model with contexts for one chip."""
    return with_contexts(load_model_folder(shutil.copytree(tiny_model, tmp_path / "mine")))


def with_contexts(spec: ModelSpec, chip: str = "x-elite") -> ModelSpec:
    folder = spec.directory / "contexts" / chip
    folder.mkdir(parents=True)
    for tower in get_args(Tower):
        made = [f"{tower}.onnx", f"{tower}_qnn.bin"]
        for name in made:
            (folder / name).write_bytes(f"{chip} {name}".encode())
        record_context(folder / f"{tower}.onnx", tower_state(spec, tower), made)
    return spec


def context(spec: ModelSpec, tower: Tower = "text") -> Path:
    return spec.directory / "contexts" / "x-elite" / f"{tower}.onnx"


def flip_last_byte(path: Path) -> None:
    """Change a file so that only its content and the time that nobody can set tell of it."""
    before = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def refused(spec: ModelSpec, caplog: pytest.LogCaptureFixture, chip: str = "x-elite") -> str:
    """Return why the text tower's only context is not used."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert compiled_contexts(spec.directory, "text") == ()
    (record,) = caplog.records
    message = record.getMessage()
    assert "\n" not in message
    assert message.endswith(f"siglip-search model compile random-tiny --target {chip}")
    return message


# What is found.


def test_contexts_of_this_very_tower_are_found(
    spec: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    with_contexts(spec, "8gen3")
    for tower in get_args(Tower):
        found = compiled_contexts(spec.directory, tower)
        assert [path.parent.name for path in found] == ["8gen3", "x-elite"]
        assert {path.name for path in found} == {f"{tower}.onnx"}
    assert caplog.records == []


def test_contexts_that_are_being_written_are_not_found(spec: ModelSpec, tmp_path: Path) -> None:
    context(spec).parent.rename(spec.directory / "contexts" / ".adding-x-elite-abc")
    assert compiled_contexts(spec.directory, "text") == ()
    assert compiled_contexts(tmp_path / "nowhere", "text") == ()


def test_what_looks_unchanged_is_not_read(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    sha256_of = module.sha256_of
    monkeypatch.setattr(module, "sha256_of", lambda path: read.append(path.name) or sha256_of(path))
    assert compiled_contexts(spec.directory, "text") == (context(spec),)
    assert read == []
    # Touched, it is read once more, and only once.
    spec.text_path.touch()
    for _ in range(2):
        assert compiled_contexts(spec.directory, "text") == (context(spec),)
    assert read == [spec.text_path.name]


def test_a_model_that_was_copied_by_hand_keeps_its_contexts(
    spec: ModelSpec, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(spec.directory, tmp_path / "copy"))
    assert len(compiled_contexts(copy, "text")) == 1
    assert len(compiled_contexts(copy, "vision")) == 1


def test_a_folder_that_cannot_be_written_is_read_each_time(spec: ModelSpec) -> None:
    record = context(spec).with_suffix(".json")
    before = record.read_bytes()
    (record.parent / "text.json.tmp").mkdir()  # in the way of what would be written
    spec.text_path.touch()
    for _ in range(2):
        assert compiled_contexts(spec.directory, "text") == (context(spec),)
    assert record.read_bytes() == before


# What is not used.


def test_a_context_of_a_tower_that_has_changed_is_not_used(
    spec: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    flip_last_byte(spec.text_path)
    assert f"was not compiled from {spec.text_path} as it is now" in refused(spec, caplog)
    assert compiled_contexts(spec.directory, "vision") == (context(spec, "vision"),)


def test_a_context_whose_weights_beside_the_tower_have_changed_is_not_used(
    spec: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(spec.directory / "contexts")
    toml = spec.directory / "model.toml"
    toml.write_text(toml.read_text().replace("[text]", '[text]\ndata_files = ["text.data"]'))
    (spec.directory / "text.data").write_bytes(b"weights")
    with_contexts(load_model_folder(spec.directory))
    assert compiled_contexts(spec.directory, "text") == (context(spec),)
    flip_last_byte(spec.directory / "text.data")
    assert "text.data as it is now" in refused(spec, caplog)


def test_a_context_of_another_models_is_not_used(
    spec: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    shutil.copytree(spec.directory, other, ignore=shutil.ignore_patterns("contexts"))
    flip_last_byte(other / "text.onnx")
    donor = context(with_contexts(load_model_folder(other)))
    donor.write_bytes(b"another context")
    record_context(donor, tower_state(load_model_folder(other), "text"), [donor.name])
    # The context alone, and with what is noted about it.
    shutil.copyfile(donor, context(spec))
    assert f"{context(spec)} is not what was compiled" in refused(spec, caplog)
    shutil.copyfile(donor.with_suffix(".json"), context(spec).with_suffix(".json"))
    assert f"was not compiled from {spec.text_path}" in refused(spec, caplog)


def test_a_binary_that_is_another_or_missing_is_noticed(
    spec: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    binary = context(spec).with_name("text_qnn.bin")
    flip_last_byte(binary)
    assert f"{binary} is not what was compiled" in refused(spec, caplog)
    binary.unlink()
    assert f"{binary} is not what was compiled" in refused(spec, caplog)


def test_a_model_that_names_another_file_has_another_tower(
    spec: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copyfile(spec.text_path, spec.directory / "better.onnx")
    toml = spec.directory / "model.toml"
    toml.write_text(toml.read_text().replace('"text.onnx"', '"better.onnx"'))
    assert "was compiled from text.onnx, which is no tower here" in refused(spec, caplog)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"\xff",
        b"[]",
        b'{"format": 2}',
        b'{"format": 1, "tower": {}}',
        b'{"format": 1, "tower": {"text.onnx": {"sha256": "", "stamp": 1}}, "context": {}}',
        b'{"format": 1, "tower": [], "context": {}}',
    ],
)
def test_a_context_of_which_nothing_is_known_is_not_used(
    spec: ModelSpec, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    record = context(spec).with_suffix(".json")
    record.unlink()
    if content is not None:
        record.write_bytes(content)
    assert "does not say which tower it was compiled from" in refused(spec, caplog)


def test_the_hint_names_a_chip_that_has_only_numbers_as_the_command_takes_it(
    spec: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    context(spec).parent.rename(spec.directory / "contexts" / "soc66-arch73")
    flip_last_byte(spec.text_path)
    refused(spec, caplog, "soc=66,arch=73")


# Contexts come and go with their model.


def test_contexts_come_along_when_a_model_is_added(spec: ModelSpec, tmp_path: Path) -> None:
    (context(spec).parent / "holiday.jpg").write_bytes(b"private")
    (spec.directory / "contexts" / "note.txt").write_bytes(b"private")
    before = {path: path.read_bytes() for path in spec.directory.rglob("*") if path.is_file()}
    added = add_model_folder(spec.directory, tmp_path / "models")
    assert sorted(path.name for path in context(added).parent.iterdir()) == FILES
    assert [path.name for path in context(added).parents[1].iterdir()] == ["x-elite"]
    assert before == {path: path.read_bytes() for path in before}
    # Nothing need be read at the next start: the copies' own times are noted.
    for tower in get_args(Tower):
        stamps = json.loads(context(added, tower).with_suffix(".json").read_bytes())
        stamp = stamps["tower"][f"{tower}.onnx"]["stamp"]
        assert stamp[3] == (added.directory / f"{tower}.onnx").stat().st_ino
        assert compiled_contexts(added.directory, tower) == (context(added, tower),)


def test_contexts_of_another_tower_are_left_out_aloud(
    spec: ModelSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_contexts(spec, "8gen3")
    flip_last_byte(context(spec).with_name("text_qnn.bin"))
    added = add_model_folder(spec.directory, tmp_path / "models")
    assert [path.name for path in (added.directory / "contexts").iterdir()] == ["8gen3"]
    message = caplog.records[0].getMessage()
    assert str(context(spec).with_name("text_qnn.bin")) in message
    assert ".adding-" not in message
    assert message.endswith("siglip-search model compile random-tiny --target x-elite")
    flip_last_byte(spec.text_path)
    added = add_model_folder(spec.directory, tmp_path / "models", replace=True)
    assert not (added.directory / "contexts").exists()


def test_what_a_strangers_folder_names_elsewhere_is_not_copied(
    spec: ModelSpec, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    record = context(spec).with_suffix(".json")
    values = json.loads(record.read_bytes())
    values["context"]["../../../secret"] = values["context"]["text.onnx"]
    record.write_text(json.dumps(values))
    added = add_model_folder(spec.directory, tmp_path / "models" / "here")
    assert not (added.directory / "contexts").exists()
    assert not (tmp_path / "models" / "secret").exists()


def test_a_model_that_takes_anothers_place_has_none_of_its_contexts(
    spec: ModelSpec, tmp_path: Path
) -> None:
    add_model_folder(spec.directory, tmp_path / "models")
    shutil.rmtree(spec.directory / "contexts")
    added = add_model_folder(spec.directory, tmp_path / "models", replace=True)
    assert not (added.directory / "contexts").exists()


def test_contexts_count_in_the_size_and_go_with_the_model(spec: ModelSpec, tmp_path: Path) -> None:
    models = tmp_path / "models"
    added = add_model_folder(spec.directory, models)
    files = [path for path in added.directory.rglob("*") if path.is_file()]
    assert len(files) == len(added.files) + len(FILES)
    assert added.disk_bytes == sum(path.stat().st_size for path in files)
    remove_model(added.name, models)
    assert list(models.iterdir()) == []
