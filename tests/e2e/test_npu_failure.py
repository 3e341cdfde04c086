"""The NPU's emulator fails for real in the middle of a run.

The picture tower has a few nodes more that change nothing, except that half precision, in which an
NPU computes, looks up a row that is not there for a picture that is very bright: the emulator
then fails to execute the graph, and the processor does not.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from npu_emulator import compile_context, needs_emulator
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from siglip_index.database import DATABASE_NAME
from siglip_index.verify import verify
from siglip_search import open_library
from siglip_search.errors import DeviceError
from siglip_search.models.files import add_model_folder
from siglip_search.models.model_folder import load_model_folder
from siglip_search.settings import models_directory
from siglip_search.towers.session_qnn import QnnSession
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from types import ModuleType

    from installed_command import CommandLine

    from siglip_search.models.spec import ModelSpec

pytestmark = needs_emulator

GOOD, BRIGHT = 10, 4


def fail_on_the_bright_in_half_precision(model: onnx.ModelProto) -> None:
    """Let a tower look up a row of zeros, and one that is not there where rounding is coarse."""
    node, (result,) = helper.make_node, model.graph.output
    last = next(one for one in model.graph.node if result.name in one.output)
    last.output[list(last.output).index(result.name)] = "sound"
    constants: dict[str, Any] = {
        "table": np.zeros((300, result.type.tensor_type.shape.dim[1].dim_value), np.float32),
        "axes": np.array([1, 2, 3]),
        "much": np.array([4096.0], np.float32),
        "times": np.array([1000.0], np.float32),
    }
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.extend(
        [
            node("ReduceMean", [model.graph.input[0].name, "axes"], ["signed"], keepdims=0),
            node("Relu", ["signed"], ["mean"]),
            # In half precision numbers from 4096 on are 4 apart, so that all of the mean is lost.
            node("Add", ["mean", "much"], ["raised"]),
            node("Sub", ["raised", "much"], ["rounded"]),
            node("Sub", ["mean", "rounded"], ["difference"]),
            node("Abs", ["difference"], ["lost"]),
            node("Mul", ["lost", "times"], ["scaled"]),
            node("Floor", ["scaled"], ["floor"]),
            node("Cast", ["floor"], ["row"], to=TensorProto.INT32),
            node("Gather", ["table", "row"], ["zeros"], axis=0),
            node("Add", ["sound", "zeros"], [result.name]),
        ]
    )


@pytest.fixture(scope="session")
def fragile_folder(random_tower: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fragile") / "model"
    random_tower.write_random_model(folder, name="fragile", batch=1)
    model = onnx.load(str(folder / "vision.onnx"))
    fail_on_the_bright_in_half_precision(model)
    onnx.save(model, str(folder / "vision.onnx"))
    return folder


@pytest.fixture
def fragile(fragile_folder: Path) -> ModelSpec:
    return add_model_folder(fragile_folder, models_directory(), replace=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of which the bright ones come last, as the newest come first."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(GOOD + BRIGHT):
        low, high = (0, 80) if number < GOOD else (235, 256)
        pixels = generator.integers(low, high, (48, 48, 3), dtype=np.uint8)
        path = folder / f"{number:02}.png"
        Image.fromarray(pixels).save(path)
        os.utime(path, (1.6e9 - number, 1.6e9 - number))
    return folder


@pytest.fixture
def on_snapdragon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this pass for a machine with an NPU: the provider then takes the emulator for one."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("siglip_search.towers.qnn_chip._described", lambda: "qcom,x1e80100")


def provenance(library: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(library / DATABASE_NAME)) as database:
        return database.execute("SELECT device, precision FROM vector").fetchall()


@pytest.mark.usefixtures("fragile")
def test_a_device_that_was_asked_for_stops_the_run_and_the_processor_finishes_it(
    cli: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With it, C's streams are unbuffered as well, and the library's notes cannot be held back.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    index = ["index", "--model", "fragile", "--json", "--jobs", "2", folder]
    done = cli(*index, "--device", "npu-emulator", expect=2)
    assert done.stdout == b""
    message, hint = done.stderr.splitlines()
    assert "vision.onnx failed on the npu-emulator: QNN graph execute error" in message
    assert "also in a new session" in message
    kept = len(provenance(cli.library))
    assert 0 < kept <= GOOD
    assert f"kept: {kept}; left for the next: {GOOD + BRIGHT - kept}" in message
    assert hint == "  Try again, or use --device cpu."
    cli.verify()
    report = cli(*index, "--device", "cpu").json
    assert (report["unchanged"], report["added"]) == (kept, GOOD + BRIGHT - kept)
    assert report["warnings"] == []
    cli.verify()
    noted = provenance(cli.library)
    assert noted.count(("npu-emulator", "fp16")) == kept
    assert noted.count(("cpu", "fp32")) == GOOD + BRIGHT - kept


@pytest.mark.usefixtures("on_snapdragon")
def test_auto_embeds_the_rest_on_the_processor(
    fragile: ModelSpec, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_library(tmp_path / "library", model=fragile.name) as library:
        options = dataclasses.replace(library.index_options(), device="auto", jobs=2)
        report = library.index([folder], options=options)
    assert (report.added, report.pending) == (GOOD + BRIGHT, 0)
    (warning,) = report.warnings
    assert "failed on the npu: QNN graph execute error" in warning
    assert warning.endswith("also in a new session; the CPU goes on, with fragile")
    noted = provenance(tmp_path / "library")
    assert set(noted) == {("npu", "fp16"), ("cpu", "fp32")}
    assert noted.count(("cpu", "fp32")) >= BRIGHT
    assert verify(tmp_path / "library").is_whole
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("on_snapdragon")
def test_a_compiled_context_alone_is_one_clear_error(fragile_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fragile_folder, tmp_path / "compiled"))
    compile_context(
        fragile_folder / "vision.onnx", folder / "vision.onnx", soc_model=60, htp_arch=73
    )
    tower = VisionTower(load_model_folder(folder), device="auto")
    assert tower.device == "npu"
    black = np.zeros((1, 48, 48, 3), np.uint8)
    assert tower.embed(black).shape == (1, 32)
    with pytest.raises(DeviceError, match="no installed tower makes the same vectors on the CPU"):
        tower.embed(np.full_like(black, 255))


def test_a_restart_of_the_npu_costs_nothing_but_a_new_session(
    fragile: ModelSpec, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The emulator has no firmware that restarts. So the first session is told what the runtime
    # says then, from its fifth run on; the second is the emulator's own.
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    for path in sorted(folder.iterdir())[GOOD:]:
        path.unlink()
    sessions: list[Any] = []
    create = QnnSession._create

    class Restarted:
        def __init__(self, session: Any) -> None:
            self._session = session
            self.runs = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def run(self, *given: Any) -> Any:
            self.runs += 1
            if self.runs >= 5:
                raise state.EngineError("Status Message: NPU crashed. Error code: 1007")
            return self._session.run(*given)

    def first_fails(self: QnnSession, *, strict: bool) -> Any:
        session = create(self, strict=strict)
        sessions.append(session if sessions else Restarted(session))
        return sessions[-1]

    monkeypatch.setattr(QnnSession, "_create", first_fails)
    with open_library(tmp_path / "library", model=fragile.name) as library:
        options = dataclasses.replace(library.index_options(), device="npu-emulator", jobs=3)
        report = library.index([folder], options=options)
    assert (report.added, report.pending, len(sessions)) == (GOOD, 0, 2)
    (warning,) = report.warnings
    assert warning.endswith("npu-emulator: NPU crashed. Error code: 1007; a new session goes on")
    assert provenance(tmp_path / "library") == [("npu-emulator", "fp16")] * GOOD
