"""What `model bench` advises where nothing was decided: a command that can decide it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from siglip_search import demo
from siglip_search.cli.model_bench_cmd import settle
from siglip_search.engine.agreement import Figures
from siglip_search.engine.bench_models import BenchedModel
from siglip_search.engine.bench_timing import BenchDevice, TimedTower, TowerTiming
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.spec import ModelSpec, Precision, VariantSpec

if TYPE_CHECKING:
    import pytest

TOO_FEW = Figures(60, 197, 0.9998, 0.9989, 0.9999, 0.9984, 0.958, 0.960)
TIMING = TowerTiming(
    precision="fp32",
    load_ms=52.0,
    runs=100,
    median_ms=12.0,
    p95_ms=13.0,
    pictures_per_second=None,
    callers=None,
    peak_memory_bytes=None,
    nodes_npu=None,
    nodes_cpu=None,
    file_bytes=371,
)


def advice(
    precision: Precision, devices: tuple[BenchDevice, ...], capsys: pytest.CaptureFixture[str]
) -> str:
    """Return what is said of a variant that ran on these devices, with too few pictures."""
    reference = load_model_folder(demo.model_directory())
    assert isinstance(reference, ModelSpec)
    variant = replace(
        reference,
        name="demo-variant",
        vision=replace(reference.vision, precision=precision),
        variant=VariantSpec(of="demo", recipe="made up"),
    )
    rows = tuple(
        TimedTower(tower, device, TIMING) for device in devices for tower in ("picture", "text")
    )
    models = [
        BenchedModel(reference, rows),
        BenchedModel(variant, rows, dict.fromkeys(devices, TOO_FEW)),
    ]
    settle(models)
    return capsys.readouterr().err


def test_a_variant_for_an_npu_is_to_be_benched_where_it_ran(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = advice("w8a16", ("npu-emulator",), capsys)
    assert "`siglip-search model bench --device npu-emulator demo-variant`" in said
    for devices in (("npu",), ("npu", "cpu", "npu-emulator")):
        said = advice("w8a16", devices, capsys)
        assert "`siglip-search model bench --device npu demo-variant`" in said
    assert "`siglip-search model bench demo-variant`" in advice("fp16", ("cpu",), capsys)


def test_what_was_simulated_can_be_compared_on_the_emulator_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = advice("w8a16", ("cpu",), capsys)
    assert "was simulated on the processor, which decides nothing" in said
    assert "--device npu demo-variant` (or npu-emulator)" in said
