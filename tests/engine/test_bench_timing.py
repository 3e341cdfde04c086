"""One tower on one device: what its row says, and that a crash costs no more than its row."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from npu_emulator import needs_emulator

from siglip_search.engine import bench_timing
from siglip_search.engine.bench_timing import (
    LEAST_RUNS_FOR_P95,
    percentile_95,
    time_model,
    timed_runs,
)
from siglip_search.export.compile_context import compile_model
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.qnn_target import DEFAULT_TARGET

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from siglip_search.models.spec import ModelSpec


@pytest.fixture
def tiny(tiny_model: Path) -> ModelSpec:
    return load_model_folder(tiny_model)


def test_each_tower_is_a_row_with_what_it_costs(tiny: ModelSpec) -> None:
    asked: list[tuple[str, str]] = []
    rows = time_model(
        tiny, ["cpu"], callers=2, on_row=lambda tower, device: asked.append((tower, device))
    )
    assert asked == [("picture", "cpu"), ("text", "cpu")]
    assert [(row.tower, row.device, row.reason) for row in rows] == [
        ("picture", "cpu", ""),
        ("text", "cpu", ""),
    ]
    for row, path in zip(rows, (tiny.vision_path, tiny.text_path), strict=True):
        timing = row.timing
        assert timing is not None
        assert timing.precision == "fp32"
        assert timing.runs >= LEAST_RUNS_FOR_P95
        assert timing.p95_ms is not None
        assert 0 < timing.median_ms <= timing.p95_ms
        assert timing.load_ms > 0
        assert (timing.nodes_npu, timing.nodes_cpu) == (None, None)
        assert timing.file_bytes == path.stat().st_size
        if sys.platform == "linux":
            # Python, numpy and the runtime alone take more than this, a test's process far more.
            assert timing.peak_memory_bytes is not None
            assert 20e6 < timing.peak_memory_bytes < 1e9
    picture, text = (row.timing for row in rows)
    assert picture is not None
    assert text is not None
    assert picture.callers == 2
    assert picture.pictures_per_second is not None
    assert picture.pictures_per_second > 0
    assert (text.pictures_per_second, text.callers) == (None, None)


def test_a_tower_that_does_not_open_is_a_row_with_the_reason(
    tiny_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "vision.onnx").write_bytes(b"no graph")
    picture, text = time_model(load_model_folder(broken), ["cpu"], callers=1)
    assert picture.timing is None
    assert f"{broken / 'vision.onnx'} cannot be loaded" in picture.reason
    assert "damaged" in picture.hint
    assert text.timing is not None


def test_a_process_that_is_killed_costs_its_row_alone(
    tiny: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module of that name that dies as a driver does.
    (tmp_path / "dies_in_the_driver.py").write_text("import os\nos.abort()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(bench_timing, "_MODULE", "dies_in_the_driver")
    rows = time_model(tiny, ["cpu"], callers=1)
    assert [row.timing for row in rows] == [None, None]
    for row in rows:
        assert f"the {row.tower} tower of random-tiny cannot be timed on the cpu" in row.reason
        assert "crashed" in row.reason


def test_a_percentile_takes_runs() -> None:
    assert percentile_95([1.0] * (LEAST_RUNS_FOR_P95 - 1)) is None
    assert percentile_95([float(number) for number in range(100, 0, -1)]) == 95.0
    assert percentile_95([float(number) for number in range(1, 21)]) == 19.0


def test_a_slow_tower_has_fewer_runs_and_a_very_slow_one_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 0.0

    def runs_at(seconds: float) -> tuple[int, list[int]]:
        called: list[int] = []

        def run(number: int) -> None:
            nonlocal clock
            clock += seconds
            called.append(number)

        return len(timed_runs(run)), called

    monkeypatch.setattr(bench_timing.time, "perf_counter", lambda: clock)
    number, called = runs_at(0.001)
    assert number == 100
    assert called == list(range(101))  # the first allocates, and does not count
    assert runs_at(0.5)[0] == LEAST_RUNS_FOR_P95
    assert runs_at(3.0)[0] == 7
    number, called = runs_at(400.0)
    assert (number, called) == (1, [0])


@needs_emulator[0]
@needs_emulator[1]
def test_on_the_emulator_nodes_are_told_and_throughput_is_not(
    random_tower: ModuleType, tmp_path: Path
) -> None:
    spec = load_model_folder(random_tower.write_random_model(tmp_path / "static", batch=1))
    picture, text = (row.timing for row in time_model(spec, ["npu-emulator"], callers=1))
    for timing in (picture, text):
        assert timing is not None
        assert timing.precision == "fp16"
        assert timing.nodes_npu is not None
        assert timing.nodes_npu > 10
        assert timing.nodes_cpu == 0
        assert timing.pictures_per_second is None


@needs_emulator[0]
@needs_emulator[1]
def test_of_a_compiled_context_the_files_that_are_opened_are_counted(
    tiny_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "mine")
    spec = load_model_folder(tmp_path / "mine")
    compile_model(spec, DEFAULT_TARGET)
    contexts = spec.directory / "contexts" / DEFAULT_TARGET.name
    assert (contexts / "text.json").exists()  # the record, which is not opened
    row = time_model(spec, ["npu-emulator"], callers=1)[1]
    assert row.timing is not None
    opened = [path for path in contexts.glob("text*") if path.suffix != ".json"]
    assert len(opened) == 2
    assert row.timing.file_bytes == sum(path.stat().st_size for path in opened)
    assert (row.timing.nodes_npu, row.timing.nodes_cpu) == (1, 0)
