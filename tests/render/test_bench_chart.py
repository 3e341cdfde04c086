"""The bench's chart: what cannot be drawn is said before anything is measured."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from siglip_search.errors import PathError, SiglipSearchError
from siglip_search.render import bench_chart
from siglip_search.render.bench_chart import BenchBar, check_chart, save_bench_chart

if TYPE_CHECKING:
    from pathlib import Path

BARS = [
    BenchBar("a-model", "cpu", "fp32", 3.1, 70.2, "original", ""),
    BenchBar("a-model-w8a16", "npu-emulator", "w8a16", None, None, "cosine 0.9992", "emulated"),
    BenchBar("a-model-imported", "npu", "bf16", 120.0, 4.1, "", ""),
]
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib (the extra plot)"
)


@pytest.mark.parametrize("name", ["chart.jpg", "chart", "chart.png.txt", "png"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PathError, match=r"must end in \.png or \.svg") as caught:
        check_chart(tmp_path / name)
    assert ".png" in caught.value.hint


def test_a_place_that_takes_no_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PathError, match="there is no folder"):
        check_chart(tmp_path / "nowhere" / "chart.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PathError, match="is a folder"):
        check_chart(tmp_path / "folder.png")
    # Whoever runs the tests as root may write everywhere.
    monkeypatch.setattr(bench_chart.os, "access", lambda _path, _mode: False)
    with pytest.raises(PathError, match="permission denied"):
        check_chart(tmp_path / "chart.png")


def test_without_matplotlib_the_install_line_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_chart, "find_spec", lambda _name: None)
    with pytest.raises(SiglipSearchError, match="matplotlib, which is not installed") as caught:
        check_chart(tmp_path / "chart.png")
    assert caught.value.hint == 'pip install "siglip-search[plot]"'


@needs_matplotlib
def test_every_bar_is_drawn_in_its_colour_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    save_bench_chart(BARS, path, title="cpu: what it costs, $5 or $6")
    with Image.open(path) as chart:
        assert chart.width > 1000
        colours = {colour for _, colour in chart.convert("RGB").getcolors(1 << 24) or ()}
    assert {(0x00, 0x72, 0xB2), (0x99, 0x99, 0x99)} <= colours
    assert (0x00, 0x9E, 0x73) not in colours  # the emulator has no bar


@needs_matplotlib
def test_a_chart_can_be_scaled_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    path.write_text("former", encoding="utf-8")
    save_bench_chart(BARS[1:2], path, title="nothing was measured")
    assert "<svg" in path.read_text(encoding="utf-8")
    assert os.listdir(tmp_path) == ["chart.svg"]
