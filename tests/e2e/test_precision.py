"""`model quantize` and `model bench`, as a user runs them."""

from __future__ import annotations

import os
import signal
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from npu_emulator import needs_emulator
from PIL import Image

from siglip_search import demo
from siglip_search.models.model_folder import load_model_folder

if TYPE_CHECKING:
    import subprocess

    from installed_command import CommandLine

DEMO_KEY = load_model_folder(demo.model_directory()).space_key


@pytest.fixture(scope="session")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 pictures and some more: parts of the gallery's."""
    folder = tmp_path_factory.mktemp("many")
    number = 0
    for path in sorted(demo.gallery_directory().rglob("*.jpg")):
        with Image.open(path) as opened:
            picture = opened.convert("RGB").resize((120, 120))
        for left in (0, 20, 40):
            for top in (0, 20, 40):
                part = picture.crop((left, top, left + 80, top + 80))
                part.save(folder / f"{number:04}.jpg", quality=90)
                number += 1
    assert number >= 500
    return folder


@pytest.fixture
def models(cli: CommandLine) -> Path:
    return Path(cli("paths", "--json").json["models"])


def facts(models: Path, name: str) -> dict[str, Any]:
    return tomllib.loads((models / name / "model.toml").read_text(encoding="utf-8"))


def test_quantize_works_without_a_library_and_says_what_comparing_takes(
    cli: CommandLine, models: Path
) -> None:
    made = cli("model", "quantize", "demo")
    assert "made demo-int8: " in made.stderr
    assert "MB instead of" in made.stderr
    assert "there are no pictures" in made.stderr
    assert "model bench demo-int8" in made.stderr
    assert not cli.library.exists()
    assert "agreement" not in facts(models, "demo-int8")["variant"]
    listed = {model["name"]: model for model in cli("model", "list", "--json").json}
    assert listed["demo-int8"]["installed"]
    again = cli("model", "quantize", "demo", expect=2)
    assert "installed already" in again.stderr
    cli("model", "remove", "demo-int8")
    assert list(models.iterdir()) == []


def test_the_gallery_is_too_small_to_decide(indexed_gallery: CommandLine, models: Path) -> None:
    made = indexed_gallery("model", "quantize", "--pictures", "50", "demo")
    assert "too few pictures (50 of 500)" in made.text
    assert "recall@10" in made.text
    assert "too few pictures to decide" in made.stderr
    measured = indexed_gallery("model", "bench", "--json", "demo").json["models"]
    assert [model["name"] for model in measured] == ["demo", "demo-int8"]
    reference, variant = measured
    assert (reference["agreement"], reference["passed"]) == ([], None)
    (agreement,) = variant["agreement"]
    assert agreement["device"] == "cpu"
    assert agreement["verdict"] == "too few pictures (120 of 500)"
    assert variant["passed"] is None
    assert variant["variant_of"] == "demo"
    assert agreement["pictures"] == 120
    assert agreement["picture_cosine_worst"] > 0.99
    assert 0.9 < agreement["recall_at_10"] <= 1.0
    assert variant["disk_bytes"] < reference["disk_bytes"]
    assert "agreement" not in facts(models, "demo-int8")["variant"]
    assert load_model_folder(models / "demo-int8").space_key != DEMO_KEY


def test_agreement_on_500_pictures_lets_the_variant_join_the_space(
    cli: CommandLine, models: Path, many_pictures: Path
) -> None:
    joined = cli("model", "quantize", "--data", many_pictures, "demo")
    assert "agrees" in joined.text
    assert "siglip-search model use demo-int8" in joined.stderr
    agreement = facts(models, "demo-int8")["variant"]["agreement"]
    assert agreement["pictures"] == 512
    assert agreement["mean_cosine"] > 0.99
    assert 0.95 <= agreement["recall_at_10"] <= 1.0
    assert load_model_folder(models / "demo-int8").space_key == DEMO_KEY


@pytest.mark.slow
def test_random_weights_decide_nothing(
    cli: CommandLine, models: Path, tiny_model: Path, many_pictures: Path
) -> None:
    cli("model", "add", tiny_model)
    made = cli("model", "quantize", "--precision", "fp16", "--data", many_pictures, "random-tiny")
    assert "random weights: decides nothing" in made.text
    assert "agreement" not in facts(models, "random-tiny-fp16")["variant"]
    cli("model", "quantize", "--pictures", "0", "random-tiny")
    both = cli("model", "bench", "random-tiny")
    assert "random-tiny-int8" in both.text
    assert "random-tiny-fp16" in both.text
    assert both.stderr.count("was not compared") == 2


@pytest.mark.slow
def test_variant_without_its_original_shows_its_speed(
    cli: CommandLine, tiny_model: Path, random_tower: Any, tmp_path: Path
) -> None:
    cli("model", "add", tiny_model)
    cli("model", "quantize", "--pictures", "0", "random-tiny")
    cli("model", "remove", "random-tiny")
    alone = cli("model", "bench", "random-tiny-int8")
    assert "random-tiny is not installed" in alone.stderr
    assert "random-tiny-int8" in alone.text
    cli("model", "add", random_tower.write_random_model(tmp_path / "o", name="random-tiny", seed=9))
    refused = cli("model", "bench", "random-tiny-int8", expect=2)
    assert "was not made from the installed random-tiny" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 2


def test_what_cannot_be_made_is_said_in_one_line(cli: CommandLine, models: Path) -> None:
    for arguments, what in [
        (["quantize", "nothing-of-that-name"], "nothing-of-that-name"),
        (["quantize", "--precision", "fp16", "demo"], "no fp32 weights to store as fp16"),
        (["bench", "nothing-of-that-name"], "nothing-of-that-name"),
        (["bench", "--data", "nowhere", "demo"], "nowhere does not exist"),
    ]:
        refused = cli("model", *arguments, expect=2)
        assert what in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 2
    assert not models.exists() or list(models.iterdir()) == []


def test_what_cannot_be_benched_is_said_before_anything_is_measured(
    cli: CommandLine, tmp_path: Path
) -> None:
    asked = [
        (["--plot", str(tmp_path / "chart.gif")], "must end in .png or .svg"),
        (["--plot", str(tmp_path / "nowhere" / "chart.png")], "there is no folder"),
    ]
    asked += [
        (["--device", report["name"]], f"--device {report['name']} cannot be used")
        for report in cli("devices", "--json").json["devices"]
        if not report["usable"]
    ]
    for arguments, what in asked:
        refused = cli("model", "bench", "demo", *arguments, expect=2)
        assert what in refused.stderr
        assert len(refused.stderr.strip().splitlines()) <= 2
        assert refused.text == ""


@needs_emulator[0]
@needs_emulator[1]
def test_bench_on_the_emulator_marks_its_time(
    cli: CommandLine, random_tower: Any, tmp_path: Path
) -> None:
    cli("model", "add", random_tower.write_random_model(tmp_path / "static", batch=1))
    arguments = ("--device", "cpu", "--device", "npu-emulator", "--pictures", "3")
    data = ("--data", demo.gallery_directory())
    table = cli("model", "bench", *arguments, *data, "random-tiny")
    assert "its time says nothing about an NPU's" in table.text
    on_cpu, _, emulated, _ = table.text.splitlines()[1:5]
    assert " * " not in on_cpu
    assert emulated.count(" *") == 4  # median, p95, load, memory
    assert "not measured" in emulated  # pictures a second
    assert "random-tiny on the npu-emulator" not in table.text  # a reference is not judged
    assert "on the CPU, 3 pictures" in table.text


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_ctrl_c_ends_a_comparison_cleanly(
    cli: CommandLine, models: Path, many_pictures: Path
) -> None:
    cli("model", "quantize", "--pictures", "0", "demo")
    before = facts(models, "demo-int8")
    process = cli.start("model", "bench", "--data", many_pictures, "demo-int8")
    wait_for_child(process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.split() == ["interrupted"]
    assert stdout == ""
    assert facts(models, "demo-int8") == before


@pytest.mark.skipif(os.name == "nt", reason="sends signals")
@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "vision.onnx"), (signal.SIGINT, "text.onnx")]
)
def test_a_quantisation_that_is_cut_off_leaves_no_half_model(
    cli: CommandLine, models: Path, number: signal.Signals, name: str
) -> None:
    process = cli.start("model", "quantize", "--pictures", "0", "demo")
    wait_for_file(process, models, name)
    process.send_signal(number)
    process.communicate(timeout=60)
    if (models / "demo-int8").exists():
        load_model_folder(models / "demo-int8")  # it was quicker than the signal, and is whole
    elif number == signal.SIGINT:
        assert process.returncode == 130
        assert list(models.iterdir()) == []
    made = cli("model", "quantize", "--replace", "--pictures", "0", "demo")
    assert "made demo-int8" in made.stderr


def wait_for_child(process: subprocess.Popen[str]) -> None:
    """Wait until the command has started its decoding processes: it is in the midst of its work."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.is_file():
        pytest.skip("the system does not tell about child processes")
    tasks = Path(f"/proc/{process.pid}/task")
    while process.poll() is None:
        try:
            if any((task / "children").read_text().strip() for task in tasks.iterdir()):
                return
        except OSError:
            continue


def wait_for_file(process: subprocess.Popen[str], models: Path, name: str) -> None:
    """Wait until the staging folder holds the file, or the command has ended."""
    while process.poll() is None and not any(models.glob(f".adding-*/{name}")):
        pass
