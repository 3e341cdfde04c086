"""The bench's table: whole in a pipe, in parts on a terminal, honest about what is missing."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import pytest

from siglip_search import demo
from siglip_search.cli import model_bench_cmd, model_bench_table
from siglip_search.cli.model_bench_table import as_objects, print_bench
from siglip_search.engine.agreement import Figures
from siglip_search.engine.bench_models import BenchedModel
from siglip_search.engine.bench_timing import TimedTower, TowerTiming
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.spec import ModelSpec, VariantSpec
from siglip_search.towers.devices import EMULATOR_NOTICE, DeviceReport

FIGURES = Figures(512, 197, 0.9998, 0.9989, 0.9999, 0.9984, 0.958, 0.960)
ON_CPU = TowerTiming(
    precision="fp32",
    load_ms=52.0,
    runs=100,
    median_ms=1234.5,
    p95_ms=1300.0,
    pictures_per_second=1.62,
    callers=2,
    peak_memory_bytes=604_000_000,
    nodes_npu=None,
    nodes_cpu=None,
    file_bytes=371_000_000,
)
EMULATED = replace(
    ON_CPU,
    precision="w8a16",
    runs=1,
    median_ms=346_000.0,
    p95_ms=None,
    pictures_per_second=None,
    callers=None,
    nodes_npu=547,
    nodes_cpu=0,
)
NO_NPU = DeviceReport("npu", False, reason="a Qualcomm NPU is in arm64 machines", hint="Wait.")


@pytest.fixture
def benched() -> list[BenchedModel]:
    bundled = load_model_folder(demo.model_directory())
    reference = replace(bundled, name="siglip-base-patch16-384")
    assert isinstance(reference, ModelSpec)
    variant = replace(
        reference,
        name="siglip-base-patch16-384-w8a16",
        vision=replace(reference.vision, precision="w8a16"),
        variant=VariantSpec(of=reference.name, recipe="made up"),
    )
    text = replace(ON_CPU, pictures_per_second=None, callers=None)
    return [
        BenchedModel(
            reference,
            (
                TimedTower("picture", "cpu", ON_CPU),
                TimedTower("text", "cpu", replace(text, peak_memory_bytes=None)),
                TimedTower("picture", "npu-emulator", None, "any batch is taken", "Export it."),
                TimedTower("text", "npu-emulator", None, "any batch is taken", "Export it."),
            ),
        ),
        BenchedModel(
            variant,
            (
                TimedTower("picture", "npu-emulator", EMULATED),
                TimedTower("text", "npu-emulator", EMULATED),
            ),
            {"npu-emulator": FIGURES},
        ),
    ]


def printed(
    benched: list[BenchedModel],
    columns: int | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: columns is not None)
    size = os.terminal_size((columns or 0, 40))
    monkeypatch.setattr(model_bench_table.shutil, "get_terminal_size", lambda: size)
    print_bench(benched, [NO_NPU])
    return capsys.readouterr().out.splitlines()


def test_in_a_pipe_a_row_is_a_line_with_everything(
    benched: list[BenchedModel],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = printed(benched, None, capsys, monkeypatch)
    heading, picture, text, emulated = lines[:4]
    for column in ("device", "backend", "precision", "median ms", "p95 ms", "load ms", "cosine"):
        assert column in heading
    for column in ("recall@10", "nodes NPU/CPU", "MB", "pictures/s", "peak MB"):
        assert column in heading
    assert picture.split("  ")[0] == "siglip-base-patch16-384"
    for cell in ("ONNX Runtime CPU", "1,234.5", "1,300.0", "original", "0/all", "371.0", "1.62"):
        assert cell in picture
    assert picture.endswith("604")
    assert text.endswith("not measured")
    assert "346,000.0 *" in emulated
    assert "QNN HTP, emulated" in emulated
    assert "547/0" in emulated
    assert "0.99980" in emulated
    assert emulated.count("not measured") == 2  # p95 of one run, pictures a second
    assert lines[5].split() == [
        *("siglip-base-patch16-384", "picture", "npu-emulator"),
        *("not", "measured:", "any", "batch", "is", "taken.", "Export", "it."),
    ]
    (npu,) = (line for line in lines if line.startswith("every model"))
    assert npu.endswith("npu           not measured: a Qualcomm NPU is in arm64 machines. Wait.")
    assert f"* The emulator on this processor: {EMULATOR_NOTICE}." in lines
    assert any("there was time for 1 only" in line for line in lines)
    assert any(line.endswith("on the npu-emulator: agrees") for line in lines)


@pytest.mark.parametrize("columns", [80, 100, 120, 300])
def test_on_a_terminal_nothing_is_wider_than_it(
    benched: list[BenchedModel],
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = printed(benched, columns, capsys, monkeypatch)
    agreement = next(n for n, line in enumerate(lines) if line.startswith("Agreement with"))
    assert max(len(line) for line in lines[:agreement]) <= columns
    headings = " ".join(line for line in lines if line.startswith("model"))
    for column in model_bench_table._HEADINGS:
        assert f" {column}" in f" {headings}"
    parts = sum(line.startswith("model") for line in lines)
    assert parts == 1 if columns == 300 else parts > 1
    assert sum("any batch is taken" in " ".join(line.split()) for line in lines) == 2


def test_json_says_null_for_what_was_not_measured(benched: list[BenchedModel]) -> None:
    reference, variant = as_objects(benched)
    picture, text, refused, _ = reference["rows"]
    assert picture["is_original"]
    assert picture["timing"]["median_ms"] == 1234.5
    assert text["timing"]["peak_memory_bytes"] is None
    assert refused["timing"] is None
    assert (refused["reason"], refused["hint"]) == ("any batch is taken", "Export it.")
    emulated = variant["rows"][0]
    assert emulated["emulated"]
    assert emulated["timing"]["p95_ms"] is None
    assert emulated["cosine_mean"] == 0.9998
    assert emulated["recall_at_10"] == 0.958
    assert variant["agreement"][0]["verdict"] == "agrees"
    assert variant["passed"]


def test_the_emulators_time_is_in_no_chart(benched: list[BenchedModel]) -> None:
    bars = model_bench_cmd._bars([benched])
    assert [(bar.device, bar.note) for bar in bars] == [
        ("cpu", "original"),
        ("npu-emulator", ""),
        ("npu-emulator", "cosine 0.9998, recall@10 0.958"),
    ]
    assert bars[0].pictures_per_second == 1.62
    for bar in bars[1:]:
        assert (bar.pictures_per_second, bar.query_ms) == (None, None)
    assert bars[1].absence == "not measured"
    assert "emulated" in bars[2].absence


def test_one_node_is_explained(
    benched: list[BenchedModel],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    note = "Nodes 1/0: a compiled context is one node."
    assert note not in printed(benched, None, capsys, monkeypatch)
    row = TimedTower("text", "npu", replace(EMULATED, nodes_npu=1))
    compiled = replace(benched[1], rows=(row,))
    assert note in printed([benched[0], compiled], None, capsys, monkeypatch)
