"""Models for an NPU: made whole or not at all, measured, mended once; and run on the emulator."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import onnx
import pytest
from npu_emulator import HAS_EMULATOR, needs_emulator
from onnx import numpy_helper
from PIL import Image

from siglip_search import demo
from siglip_search.cli.model_cmd import model as model_command
from siglip_search.engine import w8a16
from siglip_search.engine.calibration_record import calibration_record, is_calibrated
from siglip_search.engine.picture_sample import folder_pictures
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.engine.w8a16 import LEAST_SAMPLES, MadeW8A16, make_w8a16
from siglip_search.errors import DeviceError, ModelError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.model_toml import model_toml
from siglip_search.models.spec import MODEL_FILE, Precision, PublishedPrecision
from siglip_search.photos.decode import DecodeLimits
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec


def on_emulator(test: Callable[..., None]) -> Callable[..., None]:
    for mark in needs_emulator:
        test = mark(test)
    return test


@pytest.fixture
def tiny(tiny_model: Path) -> ModelSpec:
    return load_model_folder(tiny_model)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures, and a copy of each."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        drawn = Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC)
        drawn.save(folder / f"{number}.png")
        shutil.copy(folder / f"{number}.png", folder / f"copy of {number}.png")
    return folder


def make(reference: ModelSpec, models: Path, folder: Path, **options: Any) -> MadeW8A16:
    given: dict[str, Any] = {"pictures": 12, "cores": 1, "device": "cpu"} | options
    return make_w8a16(reference, models, folder_pictures(folder), limits=DecodeLimits(), **given)


def with_weights(
    random_tower: ModuleType,
    folder: Path,
    changes: dict[str, Callable[[NDArray[np.float32]], None]],
) -> ModelSpec:
    """A tiny model of which weights of the picture tower were changed, and which counts."""
    random_tower.write_random_model(folder)
    path = folder / "vision.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            values = numpy_helper.to_array(tensor).copy()
            changes[tensor.name](values)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
    # Figures of a model that calls its weights random decide nothing.
    facts = replace(load_model_folder(folder), title="Planted", notice=None)
    (folder / MODEL_FILE).write_text(model_toml(facts), encoding="utf-8")
    return load_model_folder(folder)


# Making


def test_it_is_installed_with_its_origin_and_measured_on_other_pictures(
    tiny: ModelSpec, models: Path, pictures: Path
) -> None:
    seen: list[int] = []
    made = make(tiny, models, pictures, on_progress=seen.append)
    spec = made.spec
    assert spec == load_model_folder(models / "random-tiny-w8a16")
    assert (spec.vision.precision, spec.text.precision) == ("w8a16", "w8a16")
    assert spec.variant is not None
    assert (spec.variant.of, spec.variant.agreement) == ("random-tiny", None)
    assert spec.variant.recipe.startswith("siglip-search w8a16 1, onnxruntime ")
    assert spec.space_key != tiny.space_key
    assert [path.name for path in models.iterdir()] == ["random-tiny-w8a16"]
    # 40 different ones: 12 to measure on, the rest to quantise with.
    assert made.samples == 28
    assert "over 33 pictures (seed 0, 5 plain)" in spec.variant.recipe
    assert made.measured is not None
    assert made.measured.figures.pictures == 12
    assert made.measured.figures.texts == len(PHRASES)
    assert seen == list(range(1, 13))
    assert made.measured.is_simulation
    assert made.measured.figures.agreement.mean_cosine > 0.999
    assert min(made.picture_cosine, made.text_cosine) > 0.99
    assert is_calibrated(spec)
    record = calibration_record(spec.directory)
    assert record is not None
    assert len(record) == 28
    assert (made.other_try, made.float_nodes, made.losses) == (None, (), {})


def test_no_picture_is_used_for_both(
    tiny: ModelSpec, models: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: dict[str, list[bytes]] = {}
    for name, place in (("_Maker", 2), ("_Gate", 1)):
        plain = getattr(w8a16, name)

        def watched(*given: Any, _plain: Any = plain, _at: int = place, **more: Any) -> Any:
            used[_plain.__name__] = [pixels.tobytes() for pixels in given[_at]]
            return _plain(*given, **more)

        monkeypatch.setattr(w8a16, name, watched)
    make(tiny, models, pictures)
    assert (len(used["_Maker"]), len(used["_Gate"])) == (28, 12)
    assert not set(used["_Maker"]) & set(used["_Gate"])


def test_nothing_is_measured_when_nothing_shall_be(
    tiny: ModelSpec, models: Path, pictures: Path
) -> None:
    made = make(tiny, models, pictures, pictures=0)
    assert (made.samples, made.measured) == (40, None)
    again = make(tiny, models, pictures, pictures=0, replace_old=True)
    # Byte for byte, so that its space is the same one.
    assert again.spec.space_key == made.spec.space_key
    with pytest.raises(ModelError, match="is installed already"):
        make(tiny, models, pictures, pictures=0)


@pytest.mark.parametrize(("pictures_wanted", "needed"), [(500, 32), (8, 24), (0, 16)])
def test_too_few_pictures_are_one_error_and_copies_do_not_count(
    tiny: ModelSpec, models: Path, pictures: Path, tmp_path: Path, pictures_wanted: int, needed: int
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(needed - 1):
        for name in (f"{number}.png", f"copy of {number}.png"):
            shutil.copy(pictures / name, few / name)
    wanted = f"at least {needed}, and there are {needed - 1}"
    with pytest.raises(ModelError, match=wanted) as caught:
        make(tiny, models, few, pictures=pictures_wanted)
    assert "--data FOLDER" in caught.value.hint
    assert not models.exists()
    shutil.copy(pictures / "39.png", few)
    assert make(tiny, models, few, pictures=pictures_wanted).samples >= LEAST_SAMPLES


def test_no_pictures_at_all_are_the_same_error(tiny: ModelSpec, models: Path) -> None:
    with pytest.raises(ModelError, match="there are 0"):
        make_w8a16(tiny, models, [], pictures=512, cores=1, limits=DecodeLimits())


@pytest.mark.skipif(HAS_EMULATOR, reason="the emulator is here")
def test_a_device_that_is_not_there_is_an_error_at_once(
    tiny: ModelSpec, models: Path, pictures: Path
) -> None:
    with pytest.raises(DeviceError, match="--device npu-emulator cannot be used") as caught:
        make(tiny, models, pictures, device="npu-emulator")
    assert caught.value.hint
    assert not models.exists()


def test_what_is_no_fp32_model_is_refused(tiny: ModelSpec, models: Path, pictures: Path) -> None:
    made = make(tiny, models, pictures, pictures=0)
    with pytest.raises(ModelError, match="was made from random-tiny itself"):
        make(made.spec, models, pictures)


def test_a_bias_that_does_not_fit_leaves_nothing_behind(
    random_tower: ModuleType, models: Path, pictures: Path, tmp_path: Path
) -> None:
    def shrink(values: NDArray[np.float32]) -> None:
        values *= 1e-6

    def grow(values: NDArray[np.float32]) -> None:
        values[:] = 10.0

    reference = with_weights(
        random_tower,
        tmp_path / "source",
        {"post_layernorm.weight": shrink, "post_layernorm.bias": grow},
    )
    with pytest.raises(ModelError, match="does not fit in 32 bits"):
        make(reference, models, pictures)
    assert list(models.iterdir()) == []


# The second try


def test_what_loses_most_stays_in_float_the_second_time(
    random_tower: ModuleType, models: Path, pictures: Path, tmp_path: Path
) -> None:
    def outlier(values: NDArray[np.float32]) -> None:
        values[0, 0] = 60.0  # all other weights share 8 bits with it

    def compensate(values: NDArray[np.float32]) -> None:
        values[0] *= 0.001

    reference = with_weights(
        random_tower,
        tmp_path / "source",
        {"head.mlp.fc1.weight": outlier, "head.mlp.fc2.weight": compensate},
    )
    made = make(reference, models, pictures)
    assert made.measured is not None
    assert made.other_try is not None
    assert made.other_try.figures.picture_cosine_mean < 0.99
    assert made.measured.figures.picture_cosine_mean > 0.9995
    assert made.losses.keys() == {"picture", "text"}
    assert made.losses["picture"][0].lost > 0.01
    assert any(node.startswith("picture ") for node in made.float_nodes)
    assert made.spec.variant is not None
    assert "; in float: picture " in made.spec.variant.recipe
    assert [path.name for path in models.iterdir()] == ["random-tiny-w8a16"]


# The precision's name


def test_nobody_publishes_it_so_nobody_can_ask_to_fetch_it() -> None:
    assert set(get_args(Precision)) - set(get_args(PublishedPrecision)) == {"w8a16"}
    for name in ("pull", "add"):
        command = model_command.get_command(None, name)
        (option,) = (one for one in command.params if one.name == "precision")
        assert list(option.type.choices) == ["fp32", "fp16", "int8"]


# The emulator


@on_emulator
def test_a_random_tower_runs_whole_on_the_emulator_and_agrees(
    tiny: ModelSpec, models: Path, pictures: Path
) -> None:
    made = make(tiny, models, pictures, device="npu-emulator")
    assert made.measured is not None
    assert not made.measured.is_simulation
    assert made.measured.picture_device == made.measured.text_device == "npu-emulator"
    assert made.measured.figures.picture_cosine_mean >= 0.9995
    assert made.measured.figures.text_cosine_mean >= 0.9995
    for tower in (VisionTower, TextTower):
        opened = tower(made.spec, device="npu-emulator").opened
        assert opened.assignment is not None
        assert opened.assignment.npu > 50
        assert opened.assignment.cpu == 0


@on_emulator
def test_the_demonstration_model_agrees_on_the_emulator(models: Path) -> None:
    reference = load_model_folder(demo.model_directory())
    gallery = demo.gallery_directory()
    made = make(reference, models, gallery, pictures=0, cores=2)
    vision = VisionTower(made.spec, device="npu-emulator")
    text = TextTower(made.spec, device="npu-emulator")
    for opened in (vision.opened, text.opened):
        assert opened.assignment is not None
        assert opened.assignment.cpu == 0
    paths = [Path(os.fsdecode(path)) for path in folder_pictures(gallery)[-6:]]
    pixels = []
    for path in paths:
        if path.suffix == ".jpg":
            with Image.open(path) as opened_picture:
                pixels.append(vision.preprocessor(opened_picture.convert("RGB")))
    near = np.einsum(
        "nd,nd->n", vision.embed(np.stack(pixels)), VisionTower(reference).embed(np.stack(pixels))
    )
    assert near.mean() >= 0.9995
    near = np.einsum(
        "nd,nd->n", text.embed(PHRASES[::10]), TextTower(reference).embed(PHRASES[::10])
    )
    assert near.mean() >= 0.9995


@on_emulator
def test_layers_in_float_run_on_the_emulator_as_well(
    tiny: ModelSpec, models: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if nothing were good enough, and random weights counted.
    monkeypatch.setattr(w8a16, "MIN_MEAN_COSINE", 1.1)
    monkeypatch.setattr(w8a16, "has_random_weights", lambda _: False)
    made = make(tiny, models, pictures, device="npu-emulator", pictures=4)
    assert made.other_try is not None
    for measured in (made.measured, made.other_try):
        assert measured is not None
        assert measured.figures.agreement.mean_cosine >= 0.9995
