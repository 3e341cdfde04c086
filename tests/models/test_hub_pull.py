"""Fetching a model from a small hub of our own, over real HTTP."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from stand_in_hub import COMMIT, Hub, checkpoint_weights, preprocessor_config, safetensors

from siglip_search.models.model_folder import load_model_folder

if TYPE_CHECKING:
    from conftest import Puller

WEIGHTS = "google/tiny/model.safetensors"
PREPROCESSOR = "google/tiny/preprocessor_config.json"
TOKENIZER = "google/tiny/spiece.model"
VISION, TEXT = "Xenova/tiny/onnx/vision_model.onnx", "Xenova/tiny/onnx/text_model.onnx"


def content(hub: Hub, name: str) -> bytes:
    source = hub.files[name]
    assert isinstance(source, bytes)
    return source


def needed_bytes(hub: Hub) -> int:
    return sum(len(content(hub, name)) for name in (PREPROCESSOR, TOKENIZER, VISION, TEXT))


def test_a_pulled_model_has_the_checkpoints_scale_bias_and_preprocessing(
    hub: Hub, pull: Puller
) -> None:
    spec = load_model_folder(Path(pull()["directory"]))
    assert spec.directory == pull.models / "tiny"
    assert spec.score.logit_scale == pytest.approx(117.0, rel=1e-6)
    assert spec.score.logit_bias == -12.5
    assert spec.score.min_probability == 0.01
    assert spec.vision.resample == "bicubic"
    assert spec.vision.image_size == (48, 48)
    assert spec.variant is None
    assert spec.checkpoint == "sha256:" + hashlib.sha256(content(hub, WEIGHTS)).hexdigest()
    assert spec.vision_path.read_bytes() == hub.files[VISION]
    assert spec.text_path.read_bytes() == hub.files[TEXT]
    # Beside the model only the lock is left, which means nothing.
    assert pull.visible == ["tiny"]
    assert [entry.name for entry in pull.models.glob(".*")] == [".pulling-tiny.lock"]


def test_only_a_few_bytes_of_the_checkpoint_are_read(hub: Hub, pull: Puller) -> None:
    pull()
    read = [
        request.range
        for request in hub.requests
        if request.name == WEIGHTS and request.method == "GET"
    ]
    assert len(read) == 4
    assert all(asked is not None for asked in read)
    assert hub.sent_bytes[WEIGHTS] < 1_000
    assert sum(hub.sent_bytes.values()) - hub.sent_bytes[WEIGHTS] == needed_bytes(hub)


def test_progress_counts_up_to_the_total(hub: Hub, pull: Puller) -> None:
    seen = pull()["seen"]
    total = needed_bytes(hub)
    assert {step[2] for step in seen} == {total}
    done = [step[1] for step in seen]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == total


def test_another_precision_is_a_model_of_its_own_and_a_variant(pull: Puller) -> None:
    pull()
    spec = load_model_folder(Path(pull(precision="int8")["directory"]))
    assert pull.visible == ["tiny", "tiny-int8"]
    assert spec.name == "tiny-int8"
    assert spec.variant is not None
    assert spec.variant.of == "tiny"
    assert spec.variant.recipe == f"hub:Xenova/tiny/onnx/vision_model_quantized.onnx@{COMMIT}"
    assert (spec.vision.precision, spec.text.precision) == ("int8", "int8")
    reference = load_model_folder(pull.models / "tiny")
    assert spec.checkpoint == reference.checkpoint
    # Nobody has measured yet whether the two agree.
    assert spec.space_key != reference.space_key


def test_a_precision_that_nobody_publishes_is_refused_without_a_request(
    hub: Hub, pull: Puller
) -> None:
    answer = pull(precision="fp16")
    assert answer["error"] == "ModelError"
    assert "is not published in fp16" in answer["message"]
    assert "fp32, int8" in answer["hint"]
    assert "`siglip-search model quantize --precision` makes fp16 and int8" in answer["hint"]
    assert hub.requests == []


def test_a_model_whose_towers_nobody_publishes_says_how_to_make_them(
    hub: Hub, pull: Puller
) -> None:
    begin, end = pull.row.index("[model.onnx]"), pull.row.index("[model.vision]")
    pull.row = pull.row[:begin] + pull.row[end:]
    # Nor is anybody asked to accept a licence for it.
    pull.edit("dimension = 32", 'dimension = 32\nlicence_conditions = "For research only."')
    answer = pull()
    assert answer["error"] == "ModelError"
    assert "nobody publishes ONNX towers of 'tiny'" in answer["message"]
    assert "`siglip-search model export tiny`" in answer["hint"]
    assert hub.requests == []


def test_external_weights_lie_beside_their_tower_under_their_own_names(
    hub: Hub, pull: Puller
) -> None:
    data = "onnx/model.onnx_data"
    pull.edit(
        'text = "onnx/text_model.onnx" }',
        f'text = "onnx/text_model.onnx", text_data = ["{data}"] }}',
    )
    pull.edit(
        'fp32 = { vision = "onnx/vision_model.onnx"',
        f'fp32 = {{ vision_data = ["{data}"], vision = "onnx/vision_model.onnx"',
    )
    hub.files[f"Xenova/tiny/{data}"] = b"weights" * 1000
    spec = load_model_folder(Path(pull()["directory"]))
    assert spec.vision.file == "vision/vision.onnx"
    assert spec.vision.data_files == ("vision/model.onnx_data",)
    assert spec.text.data_files == ("text/model.onnx_data",)
    for name in (*spec.vision.data_files, *spec.text.data_files):
        assert (spec.directory / name).read_bytes() == b"weights" * 1000


def test_a_row_that_forgets_external_weights_is_told_and_mended(
    hub: Hub, pull: Puller, tmp_path: Path
) -> None:
    path = tmp_path / "vision_model.onnx"
    path.write_bytes(content(hub, VISION))
    onnx.save(
        onnx.load(str(path)),
        str(path),
        save_as_external_data=True,
        location="weights",
        size_threshold=1024,
    )
    hub.files[VISION] = path.read_bytes()
    hub.files["Xenova/tiny/onnx/weights"] = (tmp_path / "weights").read_bytes()
    answer = pull(check=True)
    assert "vision.onnx keeps weights in weights" in answer["message"]
    assert "vision_data" in answer["hint"]
    assert pull.visible == []
    pull.edit("fp32 = {", 'fp32 = { vision_data = ["onnx/weights"],')
    hub.forget()
    spec = load_model_folder(Path(pull(check=True)["directory"]))
    assert TEXT not in hub.fetched()
    kept = {p.relative_to(spec.directory).as_posix() for p in spec.directory.rglob("*.*")}
    assert kept == set(spec.files) - {"vision/weights"}


def test_scale_and_bias_can_come_from_an_export_of_the_whole_model(
    hub: Hub, pull: Puller, tiny_whole_model: bytes
) -> None:
    pull.edit('weights = "model.safetensors"', 'weights = "onnx/model.onnx"')
    hub.files["google/tiny/onnx/model.onnx"] = tiny_whole_model
    spec = load_model_folder(Path(pull()["directory"]))
    assert spec.score.logit_scale == pytest.approx(112.5, rel=1e-6)
    assert spec.score.logit_bias == pytest.approx(-16.25)
    # A few blocks of the file, not its weights.
    assert 0 < hub.sent_bytes["google/tiny/onnx/model.onnx"] < len(tiny_whole_model) / 2


def test_a_checkpoint_of_another_architecture_is_noticed_before_the_towers_are_fetched(
    hub: Hub, pull: Puller
) -> None:
    hub.files[WEIGHTS] = safetensors({"visual.proj": ("F32", [1], bytes(4))})
    answer = pull()
    assert "has no logit_scale" in answer["message"]
    assert "model.safetensors of google/tiny" in answer["message"]
    assert hub.sent_bytes[VISION] == 0


def test_a_model_without_a_bias_is_pulled_without_one(hub: Hub, pull: Puller) -> None:
    hub.files[WEIGHTS] = checkpoint_weights(bias=None)
    assert load_model_folder(Path(pull()["directory"])).score.logit_bias is None


def test_another_tokenizer_than_the_rows_is_refused_before_the_towers_are_fetched(
    hub: Hub, pull: Puller
) -> None:
    pull.edit("length = 16", f'tokenizer_sha256 = "{"0" * 64}"\nlength = 16')
    answer = pull()
    assert answer["error"] == "DownloadError"
    assert "is not the tokenizer" in answer["message"]
    assert hub.sent_bytes[VISION] == 0
    assert pull.visible == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"size": {"height": 64, "width": 64}}, "says 64 x 64 pixels, but tiny takes 48 x 48"),
        ({"resample": 1}, "resample is the filter 1"),
        ({"do_center_crop": True, "crop_size": 48}, "but tiny takes 'squash'"),
    ],
)
def test_a_preprocessor_that_contradicts_the_row_is_refused_before_the_towers_are_fetched(
    hub: Hub, pull: Puller, config: dict[str, Any], words: str
) -> None:
    hub.files[PREPROCESSOR] = preprocessor_config(48, **config)
    answer = pull()
    assert answer["error"] == "ModelError"
    assert words in answer["message"]
    assert "preprocessor_config.json of google/tiny" in answer["message"]
    assert hub.sent_bytes[VISION] == 0


def test_an_installed_model_is_not_fetched_again(hub: Hub, pull: Puller, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, pull.models / "tiny")
    answer = pull()
    assert answer["error"] == "ModelError"
    assert "installed already" in answer["message"]
    assert hub.requests == []


def test_replace_fetches_an_installed_model_anew(hub: Hub, pull: Puller, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, pull.models / "tiny")
    spec = load_model_folder(Path(pull(replace_old=True)["directory"]))
    assert spec.score.logit_bias == -12.5
    assert pull.visible == ["tiny"]
    assert [entry.name for entry in pull.models.glob(".*")] == [".pulling-tiny.lock"]


def test_towers_that_work_are_installed_and_others_are_not(hub: Hub, pull: Puller) -> None:
    good = hub.files[VISION]
    hub.files[VISION] = hub.files[TEXT]
    answer = pull(check=True)
    assert answer["error"] == "ModelError"
    assert "'tiny' was fetched and does not work: vision.onnx takes input_ids" in answer["message"]
    assert ".pulling-tiny" not in answer["message"]
    assert "Xenova/tiny" in answer["hint"]
    assert [entry.name for entry in pull.models.iterdir()] == [".pulling-tiny.lock"]
    hub.files[VISION] = good
    assert "directory" in pull(check=True)


def test_a_refused_model_leaves_the_installed_one_as_it_was(hub: Hub, pull: Puller) -> None:
    before = load_model_folder(Path(pull()["directory"]))
    hub.files[VISION] = b"no tower"
    assert "error" in pull(check=True, replace_old=True)
    assert load_model_folder(pull.models / "tiny") == before
    assert before.vision_path.read_bytes() != b"no tower"


def test_conditions_must_be_accepted_before_anything_is_asked_for(hub: Hub, pull: Puller) -> None:
    pull.edit(
        'licence = "Apache-2.0"',
        'licence = "research-only"\nlicence_url = "https://example.org/licence"\n'
        'licence_conditions = "For research only."',
    )
    answer = pull()
    assert answer["error"] == "ModelError"
    assert "needs --accept-licence" in answer["message"]
    assert "For research only." in answer["message"]
    assert "https://example.org/licence" in answer["hint"]
    assert hub.requests == []
    assert "directory" in pull(accept_licence=True)
