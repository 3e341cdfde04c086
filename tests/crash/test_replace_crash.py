"""A model whose replacement is killed, wherever that is, is there: the old one or the new one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from siglip_search.errors import ModelError, UnknownModelError
from siglip_search.models.files import add_model_folder, refuse_taken_name, remove_model
from siglip_search.models.registry import broken_models, find_model, installed_models

REPLACE = """
import os, signal, sys
from pathlib import Path
from siglip_search.models.files import add_model_folder

source, models, deadly = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
left = deadly

def kill(event, arguments):
    # Before each step that changes a folder, so before the first, between all and after the last.
    global left
    if event in {"os.rename", "os.mkdir", "os.rmdir", "os.remove"}:
        if left == 0:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        left -= 1

sys.addaudithook(kill)
add_model_folder(source, models, replace=True)
print("done", flush=True)
"""

BETWEEN = """
import os, signal, sys
from pathlib import Path
from siglip_search.models.files import add_model_folder

renames = 0

def kill(event, arguments):
    global renames
    if event == "os.rename":
        renames += 1
        if renames == 2:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

sys.addaudithook(kill)
add_model_folder(Path(sys.argv[1]), Path(sys.argv[2]), replace=True)
"""


@pytest.fixture
def source(tmp_path: Path, tiny_model: Path) -> Path:
    """The new model, which differs from the old one in its bias."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "source"))
    toml = folder / "model.toml"
    toml.write_text(toml.read_text().replace("logit_bias = 0.0", "logit_bias = 1.0"))
    return folder


@pytest.fixture
def models(tmp_path: Path, tiny_model: Path) -> Path:
    """Where the old model is."""
    add_model_folder(tiny_model, tmp_path / "models")
    return tmp_path / "models"


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert (done.returncode == 0) == (done.stdout == "done\n")
    return done.stdout


def leave_half_way(source: Path, models: Path) -> None:
    """Kill a replacement when the old model has lost its name and the new one has none yet."""
    assert run(BETWEEN, source, models) == ""
    assert not (models / "random-tiny").exists()
    assert list(models.glob(".replacing-*/random-tiny/model.toml"))


@pytest.mark.parametrize("by", ["name", "list"])
def test_whoever_looks_for_the_model_finds_the_old_one(source: Path, models: Path, by: str) -> None:
    leave_half_way(source, models)
    if by == "name":
        spec = find_model("random-tiny", models, {})
    else:
        (spec,) = installed_models(models, {})
    assert spec.score.logit_bias == 0.0
    assert spec.directory == models / "random-tiny"
    assert all((spec.directory / name).is_file() for name in spec.files)
    assert not list(models.glob(".replacing-*"))


def test_the_name_is_taken_still(source: Path, models: Path) -> None:
    leave_half_way(source, models)
    with pytest.raises(ModelError, match="installed already"):
        refuse_taken_name("random-tiny", models, replace=False)


def test_the_next_try_replaces_it_and_clears_up(source: Path, models: Path) -> None:
    leave_half_way(source, models)
    assert add_model_folder(source, models, replace=True).score.logit_bias == 1.0
    assert [entry.name for entry in models.iterdir()] == ["random-tiny"]


def test_it_can_be_removed_and_stays_away(source: Path, models: Path) -> None:
    leave_half_way(source, models)
    remove_model("random-tiny", models)
    assert list(models.iterdir()) == []
    with pytest.raises(UnknownModelError):
        find_model("random-tiny", models, {})


def test_wherever_it_is_killed_one_of_the_two_is_there_whole(
    source: Path, models: Path, tiny_model: Path
) -> None:
    found = []
    ended = ""
    while not ended:
        ended = run(REPLACE, source, models, len(found))
        spec = find_model("random-tiny", models, {})
        origin = source if spec.score.logit_bias else tiny_model
        for name in spec.files:
            assert (spec.directory / name).read_bytes() == (origin / name).read_bytes()
        found.append(origin)
        assert broken_models(models) == []
        # The old one again, and whatever was left is cleared.
        add_model_folder(tiny_model, models, replace=True)
        assert [entry.name for entry in models.iterdir()] == ["random-tiny"]
    # It was killed on both sides of the moment in which the new one took over.
    assert found.count(tiny_model) > 2
    assert found.count(source) > 2
    assert found == [tiny_model] * found.count(tiny_model) + [source] * found.count(source)
