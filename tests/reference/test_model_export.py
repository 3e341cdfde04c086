"""`model export` with the libraries at hand: what can be chosen, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference_models
from click.testing import CliRunner

from siglip_search.cli.model_export_cmd import export
from siglip_search.errors import ModelError
from siglip_search.export.model_export import ExportOptions, export_model
from siglip_search.models.model_folder import load_model_folder, sha256_of
from siglip_search.settings import models_directory, settings_file
from siglip_search.towers.session_cpu import CpuSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.models.spec import ModelSpec

pytestmark = pytest.mark.reference

SIGLIP, OPEN_CLIP = "transformers-siglip", "open-clip-siglip"

Weights = dict[str, Any]


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a checkpoint as Transformers saves it: read only."""
    folder = tmp_path_factory.mktemp("siglip") / "checkpoint"
    reference_models.write_checkpoint(SIGLIP, folder)
    return folder


@pytest.fixture(scope="module")
def open_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a checkpoint as open_clip saves it: read only."""
    folder = tmp_path_factory.mktemp("open-clip") / "checkpoint"
    reference_models.write_checkpoint(OPEN_CLIP, folder)
    return folder


def shapes(spec: ModelSpec) -> dict[str, tuple[int | None, ...]]:
    sessions = [CpuSession(path) for path in (spec.vision_path, spec.text_path)]
    return {t.name: t.shape for session in sessions for t in (*session.inputs, *session.outputs)}


def test_towers_take_any_batch_and_have_the_names_of_the_ecosystem(
    siglip: Path, tmp_path: Path
) -> None:
    row = reference_models.small_row(SIGLIP)
    exported = export_model(row, tmp_path / "model", weights=siglip)
    assert shapes(exported.spec) == {
        "pixel_values": (None, 3, 48, 48),
        "input_ids": (None, 16),
        "pooler_output": (None, 64),
    }
    assert exported.spec == load_model_folder(tmp_path / "model")
    assert exported.spec.checkpoint == f"sha256:{sha256_of(siglip / 'model.safetensors')}"
    assert exported.spec.vision.resample == "bicubic"
    assert exported.spec.variant is None
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "model.toml",
        "vision.onnx",
        "text.onnx",
        "tokenizer.model",
    }


def test_a_tower_says_nothing_about_the_machine_it_was_made_on(
    siglip: Path, tmp_path: Path
) -> None:
    spec = export_model(reference_models.small_row(SIGLIP), tmp_path / "model", weights=siglip).spec
    for path in (spec.vision_path, spec.text_path):
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content
        assert b"site-packages" not in content


def test_batch_length_and_opset_can_be_chosen(siglip: Path, tmp_path: Path) -> None:
    import onnx

    options = ExportOptions(name="fixed", batch=3, normalised=True, opset=20)
    row = reference_models.small_row(SIGLIP)
    spec = export_model(row, tmp_path / "model", weights=siglip, options=options).spec
    assert spec.name == "fixed"
    assert shapes(spec) == {
        "pixel_values": (3, 3, 48, 48),
        "input_ids": (3, 16),
        "embedding": (3, 64),
    }
    assert onnx.load(str(spec.vision_path)).opset_import[0].version == 20
    ids = np.ones((3, 16), dtype=np.int64)
    (raw,) = CpuSession(spec.text_path).run({"input_ids": ids}, ["embedding"])
    np.testing.assert_allclose(np.linalg.norm(raw, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("family", [SIGLIP, OPEN_CLIP])
@pytest.mark.parametrize("wrapped", ["plain", "training"])
def test_a_fine_tuned_state_dict_beside_the_other_files_is_enough(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, wrapped: str
) -> None:
    import torch

    source = request.getfixturevalue("siglip" if family == SIGLIP else "open_clip")
    folder = copied(source, tmp_path)
    weights = stored(folder)
    weights["logit_scale"] = torch.full_like(weights["logit_scale"], 2.0)
    saved = tmp_path / "checkpoint" / "epoch_3.pt"
    if wrapped == "training":
        renamed = {f"module.{name}": weight for name, weight in weights.items()}
        torch.save({"epoch": 3, "state_dict": renamed}, saved)
    else:
        torch.save({name: weight.to(torch.float64) for name, weight in weights.items()}, saved)
    weights_file(folder).unlink()
    spec = export_model(reference_models.small_row(family), tmp_path / "model", weights=saved).spec
    assert spec.score.logit_scale == pytest.approx(np.exp(2.0))
    assert spec.checkpoint == f"sha256:{sha256_of(saved)}"
    assert spec.title.endswith("own weights")


def drop_one(weights: Weights) -> None:
    del weights[next(name for name in weights if name.endswith("fc1.weight"))]


def add_one(weights: Weights) -> None:
    weights["classifier.weight"] = next(iter(weights.values())).clone()


def reshape_one(weights: Weights) -> None:
    name = next(name for name in weights if name.endswith("fc1.weight"))
    weights[name] = weights[name][:-1].clone()


def drop_the_bias(weights: Weights) -> None:
    del weights["logit_bias"]


@pytest.mark.parametrize("family", [SIGLIP, OPEN_CLIP])
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (drop_one, r"1 weights are missing, \S+fc1.weight for one"),
        (drop_the_bias, "1 weights are missing, logit_bias for one"),
        (add_one, "it has 1 weights too many, classifier.weight for one"),
        (reshape_one, r"1 of its weights have another shape: \S+fc1.weight is \(\d+, \d+\), not"),
    ],
)
def test_weights_that_are_not_quite_the_models_are_refused(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    family: str,
    change: Callable[[Weights], None],
    complaint: str,
) -> None:
    from safetensors.torch import save_file

    folder = copied(
        request.getfixturevalue("siglip" if family == SIGLIP else "open_clip"), tmp_path
    )
    weights = stored(folder)
    change(weights)
    save_file(weights, weights_file(folder))
    refused(family, tmp_path, f"{weights_file(folder)} is no checkpoint of small: {complaint}")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "siglip2"}, "a model of the type 'siglip2'; small is of the type 'siglip'"),
        ({"vision_config": {"image_size": 64}}, "an image size of 64 x 64; small has 48 x 48"),
        ({"text_config": {"max_position_embeddings": 64}}, "a text length of 64; small has 16"),
        ({"vision_config": {"hidden_size": 768}}, "embeddings of length 768; small has 64"),
        ({"text_config": {"hidden_size": "wide"}}, "is damaged"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    siglip: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    config = copied(siglip, tmp_path) / "config.json"
    values = json.loads(config.read_text())
    for key, value in change.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) else value
    config.write_text(json.dumps(values))
    refused(SIGLIP, tmp_path, complaint)


def test_a_folder_of_another_library_is_refused(open_clip: Path, tmp_path: Path) -> None:
    folder = copied(open_clip, tmp_path)
    (folder / "config.json").write_text('{"model_type": "clip"}')
    (folder / "open_clip_config.json").rename(folder / "preprocessor_config.json")
    refused(
        SIGLIP, tmp_path, r"preprocessor_config.json says 160 x 160 pixels, but small takes 48 x 48"
    )


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x08\0\0\0\0\0\0\0{broken}"])
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_damaged_file_of_weights_is_refused(
    siglip: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = copied(siglip, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    refused(SIGLIP, tmp_path, "cannot be read", weights=folder / name)


def test_nothing_in_a_state_dict_is_executed(siglip: Path, tmp_path: Path) -> None:
    import torch

    folder = copied(siglip, tmp_path)
    torch.save({"weights": Trap(tmp_path / "executed")}, folder / "trap.pt")
    refused(SIGLIP, tmp_path, "holds no weights", weights=folder / "trap.pt")
    assert not (tmp_path / "executed").exists()


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize(
    ("family", "name", "complaint"),
    [
        (OPEN_CLIP, "ViT-Nonesuch", "does not know the model ViT-Nonesuch"),
        (OPEN_CLIP, "ViT-B-32", "has no text tower of its own"),
        (SIGLIP, "NonesuchModel", "cannot load NonesuchModel"),
        (SIGLIP, "CLIPModel", "a CLIPModel of Transformers, which cannot be exported"),
        (SIGLIP, "Siglip2Model", "a Siglip2Model of Transformers, which cannot be exported"),
    ],
)
def test_a_network_that_cannot_be_exported_is_said(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, name: str, complaint: str
) -> None:
    weights = request.getfixturevalue("siglip" if family == SIGLIP else "open_clip")
    row = reference_models.small_row(family)
    assert row.hub is not None
    architecture = dataclasses.replace(row.hub.architecture, name=name)
    row = dataclasses.replace(row, hub=dataclasses.replace(row.hub, architecture=architecture))
    with pytest.raises(ModelError, match=complaint):
        export_model(row, tmp_path / "model", weights=weights)


OWN_ROW = """
format = 1

[[model]]
name = "my-siglip"
title = "Mine"
licence = "Apache-2.0"
languages = ["en"]
help = "A model of my own."
dimension = 64
parameters_millions = 1
download_bytes = 1_000_000
sources = ["me"]

[model.checkpoint]
repo = "me/my-siglip"
weights = "model.safetensors"
architecture = { library = "transformers", name = "SiglipModel" }
preprocessor = "preprocessor_config.json"

[model.vision]
image_size = [48, 48]
resize = "squash"

[model.text]
tokenizer = "sentencepiece"
tokenizer_repo = "me/my-siglip"
tokenizer_file = "spiece.model"
canonicalize = "lowercase-no-punctuation"
length = 16
pad_id = 1
end_id = 1

[model.score]
min_probability = 0.01
"""


def test_the_command_installs_a_model_of_the_users_own(siglip: Path, tmp_path: Path) -> None:
    own = settings_file().with_name("models.toml")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(OWN_ROW)
    done = CliRunner().invoke(
        export, ["my-siglip", "--weights", str(siglip), "--name", "tuned"], catch_exceptions=False
    )
    assert done.exit_code == 0
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 4, lines  # three steps and the end: none of the libraries' own
    assert lines[-1].startswith(f"tuned is ready in {models_directory() / 'tuned'}; ")
    assert "transformers" in lines[-1]
    assert load_model_folder(models_directory() / "tuned").name == "tuned"
    with pytest.raises(ModelError, match="a model called 'tuned' is installed already"):
        CliRunner().invoke(
            export,
            ["my-siglip", "--weights", str(siglip), "--name", "tuned"],
            catch_exceptions=False,
        )
    out = tmp_path / "elsewhere" / "model"
    done = CliRunner().invoke(
        export,
        ["my-siglip", "--weights", str(siglip), "--out", str(out), "--batch", "1"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert load_model_folder(out).name == "my-siglip"


def copied(source: Path, folder: Path) -> Path:
    """Return a copy of a checkpoint's folder that a test may change."""
    target = folder / "checkpoint"
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def weights_file(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def stored(folder: Path) -> Weights:
    from safetensors.torch import load

    return dict(load(weights_file(folder).read_bytes()))


def refused(family: str, folder: Path, complaint: str, weights: Path | None = None) -> None:
    """Assert that an export of `folder`/checkpoint fails in one line and leaves nothing behind."""
    row = reference_models.small_row(family)
    with pytest.raises(ModelError, match=complaint) as caught:
        export_model(row, folder / "models" / "new", weights=weights or folder / "checkpoint")
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    left = folder / "models"
    assert not left.exists() or not any(left.iterdir())
