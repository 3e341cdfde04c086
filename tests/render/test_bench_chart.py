"""The bench's chart: what cannot be drawn is said before anything is measured."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from siglip_search.errors import PathError, SiglipSearchError
from siglip_search.render import bench_chart
from siglip_search.render.bench_chart import BenchBar, check_chart, save_bench_chart

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
    (tmp_path / "chart.png").touch()
    with pytest.raises(PathError, match="cannot be written: Permission denied"):
        check_chart(tmp_path / "chart.png")


def test_a_name_that_is_all_suffix_gets_a_whole_example(tmp_path: Path) -> None:
    with pytest.raises(PathError) as caught:
        check_chart(tmp_path / ".png")
    assert caught.value.hint == "Name it, for example, bench.png."


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that takes no files")
def test_a_file_system_that_takes_no_file_is_found_out_by_trying() -> None:
    with pytest.raises(PathError, match=r"/proc/chart\.png cannot be written"):
        check_chart(Path("/proc/chart.png"))


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


@needs_matplotlib
@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there")
def test_a_chart_for_which_there_is_no_room_leaves_the_former(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "chart.png"
    save_bench_chart(BARS[1:2], path, title="the former")
    former = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(PathError, match=r"chart\.png cannot be written"):
            save_bench_chart(BARS, path, title="too large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == former
    assert os.listdir(tmp_path) == ["chart.png"]
