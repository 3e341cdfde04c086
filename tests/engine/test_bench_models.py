"""A bench of a line-up: rows, figures by device, and what of it decides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from PIL import Image

from siglip_search.cli.model_bench_cmd import settle
from siglip_search.engine import bench_models as bench_models_module
from siglip_search.engine.agreement import Figures
from siglip_search.engine.bench_models import BenchedModel, BenchListener, bench_models
from siglip_search.engine.calibration_record import (
    RECORD_FILE,
    calibration_record,
    is_calibrated,
    picture_digest,
    write_calibration_record,
)
from siglip_search.engine.comparison import Lineup
from siglip_search.engine.picture_sample import folder_pictures
from siglip_search.engine.precision import make_variant
from siglip_search.errors import DeviceError, ModelError, SiglipSearchError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.spec import VariantSpec
from siglip_search.photos.decode import DecodeLimits

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.models.spec import ModelSpec

GOOD = Figures(600, 197, 0.999, 0.98, 0.991, 0.97, 0.96, 0.97)


@pytest.fixture
def tiny(tiny_model: Path) -> ModelSpec:
    return load_model_folder(tiny_model)


@pytest.fixture
def for_npu(tiny: ModelSpec) -> ModelSpec:
    """What a w8a16 variant says of itself, with weights that count."""
    return replace(
        tiny,
        title="Planted",
        notice=None,
        vision=replace(tiny.vision, precision="w8a16"),
        text=replace(tiny.text, precision="w8a16"),
        variant=VariantSpec(of="random-tiny", recipe="siglip-search w8a16 1, whatever"),
    )


def test_a_lineup_is_timed_and_compared(tiny: ModelSpec, tmp_path: Path) -> None:
    fp16 = make_variant(tiny, "fp16", tmp_path / "models").spec
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(noise).resize((64, 48)).save(folder / f"{number}.png")
    timed: list[tuple[str, str, str]] = []
    told: list[tuple[str, str]] = []
    announced: list[int] = []
    seen: list[int] = []
    listener = BenchListener(
        on_row=lambda *row: timed.append(row),
        on_timed=lambda name, row: told.append((name, row.tower)),
        on_comparison=lambda seconds, number: announced.append(number) if seconds > 0 else None,
        on_progress=seen.append,
    )
    reference, variant = bench_models(
        Lineup(tiny, (fp16,)),
        folder_pictures(folder),
        devices=["cpu"],
        pictures=4,
        cores=1,
        limits=DecodeLimits(),
        listener=listener,
    )
    assert timed == [
        (name, tower, "cpu") for name in (tiny.name, fp16.name) for tower in ("picture", "text")
    ]
    assert told == [(name, tower) for name, tower, _ in timed]
    assert announced == [4]
    assert seen == [1, 2, 3, 4]
    assert (reference.spec, variant.spec) == (tiny, fp16)
    assert all(row.timing is not None for row in (*reference.rows, *variant.rows))
    assert reference.figures == {}
    assert variant.figures["cpu"].pictures == 4
    assert variant.figures["cpu"].picture_cosine_worst > 0.9999
    assert variant.verdict("cpu") == "random weights: decides nothing"
    assert reference.deciding is variant.deciding is None


@pytest.mark.parametrize("kind", [DeviceError, ModelError])
def test_what_fails_while_comparing_costs_the_comparison_alone(
    tiny: ModelSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[SiglipSearchError],
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise kind("the firmware went away", hint="Try again.")

    fp16 = make_variant(tiny, "fp16", tmp_path / "models").spec
    monkeypatch.setattr(bench_models_module, "compare_models", fail)
    _, variant = bench_models(
        Lineup(tiny, (fp16,)),
        [b"a picture"],
        devices=["cpu"],
        pictures=4,
        cores=1,
        limits=DecodeLimits(),
    )
    assert variant.devices == ["cpu"]
    assert (variant.figures, variant.failure) == ({}, "the firmware went away. Try again.")
    assert variant.deciding is None


def test_pictures_that_a_variant_was_quantised_with_need_not_lie_in_this_folder(
    tiny: ModelSpec, tmp_path: Path
) -> None:
    fp16 = make_variant(tiny, "fp16", tmp_path / "models").spec
    folder = tmp_path / "pictures"
    folder.mkdir()
    for level in range(4):
        noise = np.random.default_rng(level).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{level}.png")
    elsewhere = [np.full((1, 4, 4, 3), level, np.uint8) for level in range(9)]
    write_calibration_record(fp16.directory, elsewhere)
    announced: list[int] = []
    _, variant = bench_models(
        Lineup(tiny, (fp16,)),
        folder_pictures(folder),
        devices=["cpu"],
        pictures=10,
        cores=1,
        limits=DecodeLimits(),
        listener=BenchListener(on_comparison=lambda _, number: announced.append(number)),
    )
    assert announced == [4]
    assert variant.figures["cpu"].pictures == 4


@pytest.mark.parametrize("pictures", [0, 1])
def test_no_pictures_are_told_from_none_that_can_be_used(
    tiny: ModelSpec, tmp_path: Path, pictures: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fp16 = make_variant(tiny, "fp16", tmp_path / "models").spec
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8no picture")
    benched = bench_models(
        Lineup(tiny, (fp16,)),
        folder_pictures(tmp_path)[:pictures],
        devices=["cpu"],
        pictures=4,
        cores=1,
        limits=DecodeLimits(),
    )
    assert (benched[1].figures, benched[1].compared) == ({}, bool(pictures))
    settle(benched)
    why = "it was quantised with all of these pictures, or none can be read"
    said = capsys.readouterr().err
    assert (f"was not compared: {why}. It takes" in said) == bool(pictures)
    assert ("there are no pictures" in said) == (not pictures)


def test_a_simulation_and_a_reference_decide_nothing(tiny: ModelSpec, for_npu: ModelSpec) -> None:
    simulated = BenchedModel(for_npu, (), {"cpu": GOOD})
    assert simulated.deciding is None
    assert simulated.verdict("cpu") == "a simulation: decides nothing"
    emulated = BenchedModel(for_npu, (), {"cpu": GOOD, "npu-emulator": GOOD})
    assert emulated.deciding is GOOD
    assert emulated.verdict("npu-emulator") == "agrees"
    original = replace(for_npu, variant=None)
    assert BenchedModel(original, (), {"npu": GOOD}).deciding is None


def test_a_variant_that_may_know_the_pictures_is_not_judged_by_them(for_npu: ModelSpec) -> None:
    model = BenchedModel(for_npu, (), {"npu": GOOD}, may_overlap=True)
    assert model.deciding is None
    assert "may have been quantised with some of these pictures" in model.verdict("npu")


def test_what_a_variant_was_quantised_with_is_noted(
    tmp_path: Path, tiny: ModelSpec, for_npu: ModelSpec
) -> None:
    assert is_calibrated(for_npu)
    assert not is_calibrated(tiny)
    assert calibration_record(tmp_path) is None
    pictures = [np.full((1, 4, 4, 3), level, np.uint8) for level in (0, 1, 2)]
    write_calibration_record(tmp_path, pictures)
    assert calibration_record(tmp_path) == {picture_digest(each) for each in pictures}
    assert picture_digest(np.full((1, 4, 4, 3), 3, np.uint8)) not in (
        calibration_record(tmp_path) or ()
    )
    (tmp_path / RECORD_FILE).write_bytes(b"\xff\xfe")
    assert calibration_record(tmp_path) is None
