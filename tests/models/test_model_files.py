"""Model folders come and go whole."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from siglip_search.errors import ModelError, UnknownModelError
from siglip_search.models import files
from siglip_search.models.external_data import external_files
from siglip_search.models.files import add_model_folder, remove_model


@pytest.fixture
def source(tmp_path: Path, tiny_model: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "source"))


def rename(folder: Path, name: str) -> None:
    path = folder / "model.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("random-tiny", name))


def test_only_the_named_files_are_copied(source: Path, tmp_path: Path) -> None:
    (source / "holiday.jpg").write_bytes(b"private")
    spec = add_model_folder(source, tmp_path / "models")
    assert spec.directory == tmp_path / "models" / "random-tiny"
    assert {path.name for path in spec.directory.iterdir()} == set(spec.files)
    for name in spec.files:
        assert (spec.directory / name).read_bytes() == (source / name).read_bytes()


def test_external_weights_and_subfolders_come_along(source: Path, tmp_path: Path) -> None:
    (source / "onnx").mkdir()
    (source / "vision.onnx").rename(source / "onnx" / "vision.onnx")
    (source / "onnx" / "vision.onnx_data").write_bytes(b"weights")
    path = source / "model.toml"
    path.write_text(
        path.read_text(encoding="utf-8").replace(
            'file = "vision.onnx"',
            'file = "onnx/vision.onnx"\ndata_files = ["onnx/vision.onnx_data"]',
        )
    )
    spec = add_model_folder(source, tmp_path / "models")
    assert (spec.directory / "onnx" / "vision.onnx_data").read_bytes() == b"weights"


def test_external_weights_that_model_toml_forgets_are_noticed(source: Path, tmp_path: Path) -> None:
    path = str(source / "vision.onnx")
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="data", size_threshold=1024
    )
    with pytest.raises(ModelError, match=r"vision\.onnx keeps weights in data") as caught:
        add_model_folder(source, tmp_path / "models")
    assert 'data_files = ["data"] below [vision]' in caught.value.hint
    toml = source / "model.toml"
    toml.write_text(toml.read_text().replace("[vision]", '[vision]\ndata_files = ["data"]'))
    spec = add_model_folder(source, tmp_path / "models")
    assert external_files(spec.vision_path) == ("data",)
    assert external_files(spec.text_path) == ()
    assert external_files(source / "tokenizer.model") == ()


def test_a_taken_name_is_refused_and_nothing_changes(source: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = add_model_folder(source, models)
    before = (first.directory / "model.toml").read_bytes()
    rename(source, "random-tiny")
    with pytest.raises(ModelError, match="installed already") as caught:
        add_model_folder(source, models)
    # Whichever command it is.
    assert "The same command with --replace" in caught.value.hint
    assert "`siglip-search model remove random-tiny`" in caught.value.hint
    assert (first.directory / "model.toml").read_bytes() == before


def test_replace_takes_the_place_and_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    add_model_folder(source, models)
    path = source / "model.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("logit_bias = 0.0", "logit_bias = 1"))
    assert add_model_folder(source, models, replace=True).score.logit_bias == 1.0
    assert [entry.name for entry in models.iterdir()] == ["random-tiny"]


def test_the_name_of_the_bundled_model_is_not_to_be_had(source: Path, tmp_path: Path) -> None:
    rename(source, "demo")
    with pytest.raises(ModelError, match="belongs to the model that comes with the program"):
        add_model_folder(source, tmp_path / "models", replace=True)


def test_an_unsound_folder_is_not_copied(source: Path, tmp_path: Path) -> None:
    (source / "text.onnx").unlink()
    with pytest.raises(ModelError, match=r"text\.onnx"):
        add_model_folder(source, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_full_disk_leaves_the_installed_model_as_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    spec = add_model_folder(source, models)

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.shutil, "copyfile", full)
    with pytest.raises(ModelError, match="No space left") as caught:
        add_model_folder(source, models, replace=True)
    assert "make room" in caught.value.hint
    assert [entry.name for entry in models.iterdir()] == ["random-tiny"]
    assert all((spec.directory / name).is_file() for name in spec.files)


def test_a_removed_model_is_gone(source: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    add_model_folder(source, models)
    remove_model("random-tiny", models)
    assert list(models.iterdir()) == []


@pytest.mark.parametrize("name", ["absent", "..", "../models", ".", ""])
def test_only_an_installed_model_can_be_removed(source: Path, tmp_path: Path, name: str) -> None:
    models = tmp_path / "models"
    add_model_folder(source, models)
    with pytest.raises(UnknownModelError):
        remove_model(name, models)
    assert (models / "random-tiny").is_dir()
    assert source.is_dir()


def test_what_a_pull_left_of_a_model_is_removed_with_it(source: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    add_model_folder(source, models)
    for name in ("random-tiny", "other"):
        (models / f".pulling-{name}" / "parts").mkdir(parents=True)
    remove_model("random-tiny", models)
    remove_model("other", models)
    assert list(models.iterdir()) == []


def test_the_bundled_model_cannot_be_removed(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="part of the program"):
        remove_model("demo", tmp_path)


def test_a_model_is_removed_by_its_name_whatever_its_folder_is_called(
    source: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    add_model_folder(source, models).directory.rename(models / "moved")
    with pytest.raises(UnknownModelError):
        remove_model("moved", models)
    remove_model("random-tiny", models)
    assert list(models.iterdir()) == []


def test_a_broken_model_is_removed_by_its_folders_name(source: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    add_model_folder(source, models).directory.rename(models / "broken")
    (models / "broken" / "text.onnx").unlink()
    remove_model("broken", models)
    assert list(models.iterdir()) == []


def test_the_old_model_is_there_until_the_new_one_has_its_name(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    spec = add_model_folder(source, models)
    before = {name: (spec.directory / name).read_bytes() for name in spec.files}
    rename_to = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.startswith(".adding-"):
            raise OSError(errno.EIO, "Input/output error", str(target))
        return rename_to(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ModelError, match=r"Input/output error \(.*random-tiny\)"):
        add_model_folder(source, models, replace=True)
    assert {name: (spec.directory / name).read_bytes() for name in spec.files} == before
    assert [entry.name for entry in models.iterdir()] == ["random-tiny"]


def test_an_interrupt_between_two_renames_leaves_the_old_model(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    spec = add_model_folder(source, models)
    before = {name: (spec.directory / name).read_bytes() for name in spec.files}
    rename_to = Path.rename

    def interrupt(self: Path, target: Path) -> Path:
        renamed = rename_to(self, target)
        if self.name == "random-tiny":
            raise KeyboardInterrupt
        return renamed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            add_model_folder(source, models, replace=True)
    assert {name: (spec.directory / name).read_bytes() for name in spec.files} == before
    # Even the way back was interrupted: the next one clears what was left, and only that.
    add_model_folder(source, models, replace=True)
    assert [entry.name for entry in models.iterdir()] == ["random-tiny"]


CLAIM = """
import sys, time
from pathlib import Path
from siglip_search.models.folder_locks import REMOVAL_PREFIX, claimed_folder
from siglip_search.models.files import staging_folder

models = Path(sys.argv[1])
with staging_folder(models, "other") as staged, claimed_folder(models, REMOVAL_PREFIX) as waste:
    for folder in (staged, waste):
        (folder / "vision.onnx").write_bytes(b"half a tower")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("what", ["add", "remove"])
def test_what_killed_processes_left_is_cleared_and_what_a_living_one_needs_is_not(
    source: Path, tmp_path: Path, what: str
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    if what == "remove":
        add_model_folder(source, models)
    stranger = models / ".adding-by-somebody-else"
    stranger.mkdir()
    processes = []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(models)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    killed, living = processes
    killed.kill()
    killed.communicate()
    assert len(list(models.glob(".*/vision.onnx"))) == 4

    if what == "add":
        add_model_folder(source, models)
    else:
        remove_model("random-tiny", models)
    assert len(list(models.glob(".*/vision.onnx"))) == 2
    living.communicate(timeout=60)
    assert living.returncode == 0
    assert list(models.glob(".*")) == [stranger]
