"""Indexing, asking and classifying with an NPU that fails in mid-run.

The NPU is played (see failing_npu); store, decoding processes, towers on the processor and the
command line are real. On the emulator a real session fails: tests/e2e/test_npu_failure.py.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
from failing_npu import FailingNpu, write_context
from PIL import Image

from siglip_index.database import DATABASE_NAME
from siglip_index.verify import verify
from siglip_search import open_library
from siglip_search.cli import main
from siglip_search.engine.chosen_model import embed_something
from siglip_search.engine.classification import ClassifiedPicture, classify_pictures
from siglip_search.engine.library import Library
from siglip_search.engine.substitutes import substitutes_on_cpu
from siglip_search.errors import DeviceError
from siglip_search.models.files import add_model_folder
from siglip_search.settings import load_settings, models_directory
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.ingest.report import IngestReport
    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Device

PICTURES = 40
AGREEMENT = (
    "\n[variant.agreement]\npictures = 500\nmean_cosine = 1.0\nworst_cosine = 1.0\n"
    "recall_at_10 = 1.0\n"
)


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> FailingNpu:
    played = FailingNpu(turned=True)
    played.install(monkeypatch)
    return played


@pytest.fixture
def tiny(tiny_model: Path) -> ModelSpec:
    return add_model_folder(tiny_model, models_directory(), replace=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
        Image.fromarray(pixels).save(folder / f"{number:02}.bmp")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return tmp_path / "library"


def variant_of(
    original: ModelSpec, folder: Path, *, agrees: bool, compiled: tuple[str, ...] = ()
) -> ModelSpec:
    """Install the original's towers as if they had been made for an NPU.

    Args:
        compiled: Files that hold a compiled context instead.
    """
    shutil.copytree(original.directory, folder)
    toml = folder / "model.toml"
    text = toml.read_text(encoding="utf-8")
    text = text.replace(f'name = "{original.name}"', f'name = "{folder.name}"')
    text = text.replace('precision = "fp32"', 'precision = "w8a16"')
    text += f'\n[variant]\nof = "{original.name}"\nrecipe = "a copy"\n'
    toml.write_text(text + (AGREEMENT if agrees else ""), encoding="utf-8")
    for name in compiled:
        write_context(folder / name)
    return add_model_folder(folder, models_directory(), replace=True)


def index(
    library: Path, folder: Path, model: ModelSpec, device: Device, *, jobs: int = 3
) -> IngestReport:
    with open_library(library, model=model.name) as opened:
        options = dataclasses.replace(opened.index_options(), device=device, jobs=jobs)
        return opened.index([folder], options=options)


def provenance(library: Path) -> list[tuple[str, str, bytes]]:
    """Device, precision and embedding of every vector, as the database has them."""
    with closing(sqlite3.connect(library / DATABASE_NAME)) as database:
        return database.execute("SELECT device, precision, embedding FROM vector").fetchall()


def devices_by_vector(library: Path, folder: Path, model: ModelSpec) -> dict[str, set[str]]:
    """Return which precisions are noted by device, after comparing each vector with its maker's.

    The played NPU's vectors point the other way than the processor's.
    """
    # The pictures have the tower's very size, so that nothing is resized.
    pixels = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    on_cpu = VisionTower(model).embed(np.stack(pixels))
    noted: dict[str, set[str]] = {}
    for device, precision, embedding in provenance(library):
        cosines = on_cpu @ np.frombuffer(embedding, "<f2").astype(np.float32)
        nearest = cosines[np.abs(cosines).argmax()]
        assert abs(nearest) == pytest.approx(1.0, abs=1e-3)
        assert device == ("cpu" if nearest > 0 else "npu")
        noted.setdefault(device, set()).add(precision)
    return noted


@pytest.mark.parametrize("device", ["auto", "npu", "npu-emulator"])
def test_a_failure_that_passes_costs_no_picture_and_one_line(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path, device: Device
) -> None:
    npu.fails = lambda session, run: session == 1 and run >= 12
    report = index(library, folder, tiny, device)
    assert (report.added, report.embedded, report.pending, report.failed) == (40, 40, 0, 0)
    (warning,) = report.warnings
    assert warning.endswith("a new session goes on")
    real = "npu" if device == "auto" else device
    assert {one[:2] for one in provenance(library)} == {(real, "fp16")}
    assert npu.sessions == 2
    assert verify(library).is_whole


def test_a_device_that_was_asked_for_stops_the_run_and_what_is_done_stays(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path
) -> None:
    npu.fails = lambda session, run: session == 2 or run >= 12
    with pytest.raises(DeviceError) as caught:
        index(library, folder, tiny, "npu")
    kept = len(provenance(library))
    assert 0 < kept < 12
    assert "vision.onnx failed on the npu: Code: 1007, also in a new session" in str(caught.value)
    assert str(caught.value).endswith(
        f"embedded in this run, and kept: {kept}; left for the next: {PICTURES - kept}"
    )
    assert "--device cpu" in caught.value.hint
    assert verify(library).is_whole
    report = index(library, folder, tiny, "cpu")
    assert (report.unchanged, report.added) == (kept, PICTURES - kept)
    assert verify(library).is_whole
    noted = devices_by_vector(library, folder, tiny)
    assert noted == {"npu": {"fp16"}, "cpu": {"fp32"}}


def test_auto_embeds_the_rest_on_the_processor_and_notes_it_with_each_vector(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path
) -> None:
    npu.fails = lambda session, run: session == 2 or run >= 12
    report = index(library, folder, tiny, "auto", jobs=4)
    assert (report.added, report.pending) == (PICTURES, 0)
    (warning,) = report.warnings
    assert warning.endswith(f"also in a new session; the CPU goes on, with {tiny.name}")
    noted = devices_by_vector(library, folder, tiny)
    assert noted == {"npu": {"fp16"}, "cpu": {"fp32"}}
    made_on = [one[0] for one in provenance(library)]
    assert 0 < made_on.count("npu") < 12
    assert verify(library).is_whole


def test_the_original_takes_over_from_a_variant_that_agrees_with_it(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path, tmp_path: Path
) -> None:
    variant = variant_of(tiny, tmp_path / "tiny-w8a16", agrees=True)
    assert [one.name for one in substitutes_on_cpu(variant)] == [tiny.name, variant.name]
    npu.fails = lambda session, run: session == 2 or run >= 12
    report = index(library, folder, variant, "auto")
    assert report.warnings[0].endswith(f"the CPU goes on, with {tiny.name}")
    noted = devices_by_vector(library, folder, tiny)
    assert noted == {"npu": {"w8a16"}, "cpu": {"fp32"}}


def test_a_variant_that_has_not_agreed_is_simulated_for_only_its_own_vectors_fit(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path, tmp_path: Path
) -> None:
    variant = variant_of(tiny, tmp_path / "tiny-w8a16", agrees=False)
    assert substitutes_on_cpu(variant) == [variant]
    npu.fails = lambda session, run: session == 2 or run >= 12
    report = index(library, folder, variant, "auto")
    assert report.warnings[0].endswith(f"the CPU goes on, with {variant.name}")
    noted = devices_by_vector(library, folder, variant)
    assert noted == {"npu": {"w8a16"}, "cpu": {"w8a16"}}


def test_a_compiled_context_alone_stops_cleanly_although_anything_may_go_on(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path, tmp_path: Path
) -> None:
    variant = variant_of(tiny, tmp_path / "tiny-npu", agrees=False, compiled=("vision.onnx",))
    npu.stands_for["vision.onnx"] = tiny.vision_path
    assert substitutes_on_cpu(variant) == []
    npu.fails = lambda session, run: session == 2 or run >= 12
    with pytest.raises(DeviceError, match="no installed tower makes the same vectors on the CPU"):
        index(library, folder, variant, "auto")
    kept = len(provenance(library))
    assert 0 < kept < 12
    assert verify(library).is_whole
    npu.fails = lambda session, run: False
    report = index(library, folder, variant, "auto")
    assert (report.unchanged, report.added) == (kept, PICTURES - kept)


def test_the_original_takes_over_from_a_compiled_context_that_agrees_with_it(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path, tmp_path: Path
) -> None:
    variant = variant_of(tiny, tmp_path / "tiny-npu", agrees=True, compiled=("vision.onnx",))
    npu.stands_for["vision.onnx"] = tiny.vision_path
    npu.fails = lambda session, run: session == 2 or run >= 12
    assert index(library, folder, variant, "auto").added == PICTURES
    noted = devices_by_vector(library, folder, tiny)
    assert noted == {"npu": {"w8a16"}, "cpu": {"fp32"}}


def test_while_models_change_the_failure_of_each_is_told_and_the_switch_is_made(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path
) -> None:
    index(library, folder, tiny, "cpu")
    with open_library(library) as opened:
        opened.use_model("demo")
    npu.fails = lambda session, run: session == 2 or run >= 12
    with open_library(library) as opened:
        options = dataclasses.replace(opened.index_options(), device="auto", jobs=2)
        report = opened.index(options=options)
    assert (report.switched, report.model, report.embedded) == (True, "demo", PICTURES)
    (warning,) = report.warnings
    assert warning.endswith("the CPU goes on, with demo")


def test_a_model_of_compiled_contexts_alone_takes_over_where_they_run(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path, tmp_path: Path
) -> None:
    towers = {"vision.onnx": tiny.vision_path, "text.onnx": tiny.text_path}
    variant = variant_of(tiny, tmp_path / "tiny-npu", agrees=False, compiled=tuple(towers))
    npu.stands_for = towers
    index(library, folder, tiny, "cpu")
    report = index(library, folder, variant, "npu")
    assert (report.switched, report.model) == (True, variant.name)


# As a user meets it.


def run(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["siglip-search", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_says_one_thing_and_ends_with_2_or_goes_on(
    npu: FailingNpu,
    tiny: ModelSpec,
    folder: Path,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    npu.fails = lambda session, run: session % 2 == 0 or run >= 12
    command = ["index", "--library", library, "--model", tiny.name, "--json", folder]
    assert run(*command, "--device", "npu", monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    message, hint = said.err.splitlines()
    assert message.startswith("siglip-search: ")
    assert "left for the next: " in message
    assert hint == "  Try again, or use --device cpu."
    assert run(*command, "--device", "auto", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["added"] + report["unchanged"] == PICTURES
    (warning,) = report["warnings"]
    assert warning.endswith(f"the CPU goes on, with {tiny.name}")
    assert said.err.splitlines() == [f"warning: {warning}"]
    assert run("verify", "--library", library, monkeypatch=monkeypatch) == 0


@pytest.mark.parametrize("device", ["npu", "npu-emulator"])
def test_a_device_that_is_not_there_is_refused_before_anything_changes(
    npu: FailingNpu,
    tiny: ModelSpec,
    folder: Path,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    device: str,
) -> None:
    npu.crashed = "it is broken"
    command = ["index", "--library", library, "--model", tiny.name, folder]
    assert run(*command, "--device", device, monkeypatch=monkeypatch) == 2
    refusal = [f"siglip-search: --device {device} cannot be used: it is broken", "  Mend it."]
    assert capsys.readouterr().err.splitlines() == refusal
    with open_library(library) as opened:
        assert (opened.roots(), opened.status().spaces) == ([], ())
    assert run(*command, monkeypatch=monkeypatch) == 0
    # With nothing to embed; and with everything, by another model.
    for name in (tiny.name, "demo"):
        command = ["index", "--library", library, "--model", name, "--device", device]
        capsys.readouterr()
        assert run(*command, monkeypatch=monkeypatch) == 2
        assert capsys.readouterr().err.splitlines() == refusal
        assert run("status", "--library", library, monkeypatch=monkeypatch) == 0
        assert "switching to" not in capsys.readouterr().out
    assert npu.sessions == 0


def test_questions_to_a_library_that_stays_open_go_on_on_the_processor(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, library: Path
) -> None:
    index(library, folder, tiny, "cpu")
    npu.fails = lambda session, run: session == 2 or run >= 2
    npu.turned = False
    settings = dataclasses.replace(load_settings(), library=library, device="auto")
    with Library(settings) as opened:
        answers = [opened.search("a red cat", min_probability=0.0) for _ in range(4)]
    assert npu.sessions == 2
    assert len(answers[0]) == 10
    assert {tuple(hit.path for hit in hits) for hits in answers} == {
        tuple(hit.path for hit in answers[0])
    }


def test_a_question_to_a_device_that_was_asked_for_is_one_line(
    npu: FailingNpu,
    tiny: ModelSpec,
    folder: Path,
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index(library, folder, tiny, "cpu")
    npu.fails = lambda session, run: True
    command = ["query", "--library", library, "--device", "npu", "--json", "cat"]
    assert run(*command, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    message, hint = said.err.splitlines()
    assert "text.onnx failed on the npu" in message
    assert "--device cpu" in hint


@pytest.mark.parametrize("device", ["auto", "npu"])
def test_classifying_goes_on_or_is_one_error(
    npu: FailingNpu, tiny: ModelSpec, folder: Path, device: Device
) -> None:
    paths = sorted(folder.iterdir())[:6]
    npu.turned = False
    expected = list(classify_pictures(paths, ["cat", "dog"], model=tiny, jobs=2, device="cpu"))
    # The labels' session works; the pictures' fails from its third run on, as does the next.
    npu.fails = lambda session, run: session > 2 or (session == 2 and run >= 3)
    answers = classify_pictures(paths, ["cat", "dog"], model=tiny, jobs=2, device=device)
    if device == "npu":
        with pytest.raises(DeviceError, match=r"vision\.onnx failed on the npu"):
            list(answers)
        return
    for answer, wanted in zip(answers, expected, strict=True):
        assert isinstance(answer, ClassifiedPicture)
        assert isinstance(wanted, ClassifiedPicture)
        assert [score.label for score in answer.labels] == [score.label for score in wanted.labels]


def test_trying_a_model_out_needs_no_npu(npu: FailingNpu, tiny: ModelSpec) -> None:
    npu.crashed = "it is broken"
    embed_something(tiny)
    assert npu.sessions == 0
