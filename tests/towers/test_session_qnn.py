"""Towers on the NPU's emulator: right numbers, nothing on the processor, one clear error each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from npu_emulator import compile_context, needs_emulator
from onnx import TensorProto, helper

from siglip_search import demo
from siglip_search.errors import DeviceError, ModelError
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.qnn_graph import COMPATIBILITY_KEY
from siglip_search.towers.qnn_target import CHIPS, DEFAULT_TARGET
from siglip_search.towers.session import Assignment
from siglip_search.towers.session_cpu import CpuSession
from siglip_search.towers.session_qnn import QnnSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from numpy.typing import NDArray

    from siglip_search.towers.session import Session

pytestmark = needs_emulator

WORST_COSINE = 0.9995  # of half precision to fp32
IMPORT_ANOTHER = (
    "Import a binary for this chip and runtime: siglip-search model import FILE.bin --as NAME"
)


@pytest.fixture(scope="module")
def towers(random_tower: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Static towers: tiny-{text,vision}.onnx, small-{text,vision}.onnx, tiny-text-int32.onnx."""
    folder = tmp_path_factory.mktemp("towers")
    small = random_tower.TowerShape(128, 2, 4, 512, 96, 16, 1000, 64)
    for name, shape in (("tiny", random_tower.SHAPES["tiny"]), ("small", small)):
        generator = np.random.default_rng(7)
        for kind in ("text", "vision"):
            tower = getattr(random_tower, f"{kind}_tower")(shape, generator, batch=1)
            onnx.save(tower, str(folder / f"{name}-{kind}.onnx"))
    model = onnx.load(str(folder / "tiny-text.onnx"))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    onnx.save(model, str(folder / "tiny-text-int32.onnx"))
    return folder


@pytest.fixture(scope="module")
def context(towers: Path) -> Path:
    """The tiny text tower, compiled for the chip that the emulator plays."""
    made = towers / "context" / "text.onnx"
    return compile_context(towers / "tiny-text.onnx", made, soc_model=60, htp_arch=73)


def on_npu(path: Path, **options: Any) -> QnnSession:
    return QnnSession(path, target=DEFAULT_TARGET, emulator=True, **options)


def values(session: Session, count: int = 3) -> NDArray[Any]:
    (fed,) = session.inputs
    shape = [count, *fed.shape[1:]]
    generator = np.random.default_rng(1)
    if fed.dtype.startswith("int"):
        return generator.integers(0, 300, shape).astype(fed.dtype)
    return generator.uniform(-1, 1, shape).astype(np.float32)


def embed(session: Session, path: Path, inputs: NDArray[Any]) -> NDArray[np.float32]:
    (fed,) = session.inputs
    dimension = session.outputs[0].shape[1]
    assert dimension is not None
    tower = embedding_graph(
        session,
        path=path,
        dimension=dimension,
        input_names=(fed.name,),
        input_shape=inputs.shape[1:],
    )
    return tower.run(inputs, rows_per_run=8)


def edited(towers: Path, target: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(str(towers / "tiny-text.onnx"))
    edit(model)
    onnx.save(model, str(target))
    return target


# Right numbers, all of them from the NPU.


@pytest.mark.parametrize(
    "name", ["tiny-text", "tiny-vision", "tiny-text-int32", "small-text", "small-vision"]
)
def test_a_tower_runs_whole_on_the_npu_and_agrees_with_the_processor(
    towers: Path, name: str
) -> None:
    path = towers / f"{name}.onnx"
    session, reference = on_npu(path), CpuSession(path)
    assert session.device == "npu-emulator"
    assert session.assignment.npu > 50
    assert session.assignment.cpu == 0
    assert (session.inputs, session.outputs) == (reference.inputs, reference.outputs)
    inputs = values(session)
    got, expected = embed(session, path, inputs), embed(reference, path, inputs)
    assert np.einsum("nd,nd->n", got, expected).min() >= WORST_COSINE
    # A tower that gave one vector for everything would agree as well.
    assert np.max((expected @ expected.T)[~np.eye(len(inputs), dtype=bool)]) < 0.99
    # What runs in half precision is not what ran on the processor.
    assert np.abs(got - expected).max() > 1e-6


@pytest.mark.parametrize("kind", ["text", "vision"])
def test_trained_weights_agree_as_well(tmp_path: Path, kind: str) -> None:
    model = onnx.load(str(Path(demo.__file__).parent / "model" / f"{kind}.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / f"{kind}.onnx"
    onnx.save(model, str(path))
    session, reference = on_npu(path), CpuSession(path)
    assert session.assignment.cpu == 0
    inputs = values(session)
    cosines = np.einsum("nd,nd->n", embed(session, path, inputs), embed(reference, path, inputs))
    assert cosines.min() >= WORST_COSINE


def test_several_threads_share_one_session(towers: Path) -> None:
    session = on_npu(towers / "tiny-text.onnx")
    batches = values(session, count=6)[:, None]
    expected = [session.run({"input_ids": ids}, ["pooler_output"])[0] for ids in batches]
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(
            lambda ids: session.run({"input_ids": ids}, ["pooler_output"])[0], batches
        )
        for got, wanted in zip(found, expected, strict=True):
            assert np.array_equal(got, wanted)


def test_a_performance_mode_changes_no_number(towers: Path) -> None:
    path = towers / "tiny-text.onnx"
    burst = on_npu(path, options={"htp_performance_mode": "burst"})
    inputs = values(burst)
    assert np.array_equal(embed(burst, path, inputs), embed(on_npu(path), path, inputs))


# Ids that the tower does not know.


@pytest.mark.parametrize("name", ["tiny-text", "tiny-text-int32"])
@pytest.mark.parametrize("wrong", [-1, 320, 2**31 - 1])
def test_an_id_outside_the_vocabulary_is_an_error_and_the_next_run_is_fine(
    towers: Path, name: str, wrong: int, capfd: pytest.CaptureFixture[str]
) -> None:
    session = on_npu(towers / f"{name}.onnx")
    ids = values(session, count=1)
    right = session.run({"input_ids": ids}, ["pooler_output"])[0]
    bad = ids.copy()
    bad[0, 3] = wrong
    with pytest.raises(ModelError, match=f"the id {wrong}; it knows 0 to 319") as caught:
        session.run({"input_ids": bad}, ["pooler_output"])
    assert f"{name}.onnx" in str(caught.value)
    assert np.array_equal(session.run({"input_ids": ids}, ["pooler_output"])[0], right)
    assert capfd.readouterr() == ("", "")


def test_an_id_beyond_a_table_that_cannot_be_seen_is_a_failure_of_the_npu(context: Path) -> None:
    session = on_npu(context)
    ids = values(session, count=1)
    ids[0, 3] = 320
    with pytest.raises(DeviceError, match="failed on the npu-emulator") as caught:
        session.run({"input_ids": ids}, ["pooler_output"])
    assert "\n" not in str(caught.value)
    assert "--device cpu" in caught.value.hint
    with pytest.raises(ModelError, match="the id -1"):
        session.run({"input_ids": -np.ones((1, 16), np.int64)}, ["pooler_output"])


@pytest.mark.parametrize("name", ["EngineError", "DeviceReset"])
def test_a_restart_of_the_npu_is_a_failure_of_the_device(
    towers: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # What the runtime raises when the firmware has crashed, which the emulator does not have.
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    if not hasattr(state, name):
        pytest.skip(f"this ONNX Runtime has no {name}")
    crashed = getattr(state, name)("Status Message: NPU crashed. Error code: 1007")
    path = towers / "tiny-text.onnx"
    session = on_npu(path)

    class Restarted:
        def run(self, *_: object) -> None:
            raise crashed

    monkeypatch.setattr(session, "_session", Restarted())
    with pytest.raises(DeviceError, match=r"text\.onnx failed on the npu-emulator: NPU crashed"):
        session.run({"input_ids": np.ones((1, 16), np.int64)}, ["pooler_output"])

    def crash(*_: object, **__: object) -> None:
        raise crashed

    monkeypatch.setattr(QnnSession, "_create", crash)
    with pytest.raises(DeviceError, match=r"text\.onnx cannot be opened on the npu-emulator"):
        on_npu(path)


def test_inputs_of_another_shape_are_the_models_fault(towers: Path) -> None:
    session = on_npu(towers / "tiny-text.onnx")
    with pytest.raises(ModelError, match="failed to run"):
        session.run({"input_ids": np.ones((1, 5), np.int64)}, ["pooler_output"])


# What an NPU does not take.


def test_an_operator_that_the_npu_refuses_is_named_with_the_file(
    towers: Path, tmp_path: Path
) -> None:
    def insert(model: onnx.ModelProto) -> None:
        nodes = model.graph.node
        place = next(n for n, node in enumerate(nodes) if node.op_type == "Gelu")
        nodes.insert(place, helper.make_node("Shrink", [nodes[place].input[0]], ["s"], lambd=0.0))
        nodes[place + 1].input[0] = "s"

    path = edited(towers, tmp_path / "text.onnx", insert)
    with pytest.raises(ModelError, match=r"does not take Shrink$") as caught:
        on_npu(path)
    assert str(path) in str(caught.value)
    assert "--device cpu" in caught.value.hint


def test_a_batch_of_any_size_is_refused_with_the_command_that_fixes_it(
    towers: Path, tmp_path: Path
) -> None:
    def free(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"

    path = edited(towers, tmp_path / "text.onnx", free)
    with pytest.raises(ModelError, match=r"input_ids of shape \(any, 16\)") as caught:
        on_npu(path, model="mine")
    assert str(path) in str(caught.value)
    assert "siglip-search model compile mine --target " in caught.value.hint


def test_the_bundled_model_which_cannot_be_compiled_is_to_be_quantised() -> None:
    for name in ("vision.onnx", "text.onnx"):
        with pytest.raises(ModelError, match="only fixed shapes") as caught:
            on_npu(demo.model_directory() / name, model="demo")
        assert caught.value.hint == (
            "Quantising fixes them: siglip-search model quantize demo --precision w8a16"
        )


def test_a_fixed_batch_is_refused_because_its_later_rows_come_out_wrong(
    random_tower: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "text.onnx"
    shape = random_tower.SHAPES["tiny"]
    onnx.save(random_tower.text_tower(shape, np.random.default_rng(7), batch=3), str(path))
    with pytest.raises(ModelError, match="wrong beyond the first row") as caught:
        on_npu(path)
    assert "--batch 1" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(50), None])
def test_a_damaged_or_missing_file_is_one_error_and_prints_nothing(
    tmp_path: Path, content: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        on_npu(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "options",
    [
        {"htp_preformance_mode": "burst"},
        {"htp_performance_mode": "nonsense"},
        {"backend_type": "saver"},
        {"htp_arch": "99"},
        {"htp_arch": "79"},
        {"soc_model": "X Elite"},
    ],
)
def test_options_that_the_library_would_swallow_are_refused(
    towers: Path, options: dict[str, str]
) -> None:
    with pytest.raises(DeviceError) as caught:
        on_npu(towers / "tiny-text.onnx", options=options)
    assert caught.value.hint


def test_one_process_prepares_for_one_chip(towers: Path) -> None:
    path = towers / "tiny-text.onnx"
    on_npu(path)
    with pytest.raises(DeviceError, match="prepared an NPU for x-elite") as caught:
        QnnSession(path, target=CHIPS["8gen3"].target, emulator=True)
    assert "one process" in caught.value.hint


# Compiled contexts.


def test_a_context_for_this_chip_runs_as_the_tower_does(towers: Path, context: Path) -> None:
    path = towers / "tiny-text.onnx"
    session, reference = on_npu(context), CpuSession(path)
    assert session.assignment == Assignment(npu=1, cpu=0)
    inputs = values(reference)
    cosines = np.einsum("nd,nd->n", embed(session, context, inputs), embed(reference, path, inputs))
    assert cosines.min() >= WORST_COSINE


def test_a_context_for_another_chip_is_refused_with_the_command_for_this_one(
    towers: Path, tmp_path: Path
) -> None:
    # The emulator itself would run it.
    other = CHIPS["8elite"].target
    path = compile_context(
        towers / "tiny-text.onnx",
        tmp_path / "contexts" / "8elite" / "text.onnx",
        soc_model=other.soc_model,
        htp_arch=other.htp_arch,
    )
    with pytest.raises(ModelError, match="compiled for 8elite, and this is x-elite") as caught:
        on_npu(path, model="mine")
    assert str(path) in str(caught.value)
    assert caught.value.hint.endswith("siglip-search model compile mine --target x-elite")
    # A model that is nothing but a context cannot be compiled.
    imported = Path(shutil.copytree(path.parent, tmp_path / "mine" / "context")) / "text.onnx"
    with pytest.raises(ModelError, match="compiled for 8elite, and this is x-elite") as caught:
        on_npu(imported, model="mine")
    assert caught.value.hint == IMPORT_ANOTHER


def _by_another_runtime(entry: onnx.StringStringEntryProto) -> None:
    fields = entry.value.split(":")
    fields[2] = "2.40.0"
    entry.value = ":".join(fields)


def _of_unknown_layout(entry: onnx.StringStringEntryProto) -> None:
    entry.value = "v9:60"


def _without_metadata(entry: onnx.StringStringEntryProto) -> None:
    entry.key = "something"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_by_another_runtime, "compiled by QAIRT 2.40.0"),
        (_of_unknown_layout, "of an unknown layout"),
        (_without_metadata, "does not say which chip"),
    ],
)
def test_a_context_of_uncertain_origin_is_refused(
    context: Path,
    tmp_path: Path,
    edit: Callable[[onnx.StringStringEntryProto], None],
    message: str,
) -> None:
    shutil.copytree(context.parent, tmp_path, dirs_exist_ok=True)
    path = tmp_path / context.name
    model = onnx.load(str(path))
    edit(next(entry for entry in model.metadata_props if entry.key == COMPATIBILITY_KEY))
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match=message) as caught:
        on_npu(path)
    assert caught.value.hint == IMPORT_ANOTHER


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_context_whose_binary_is_not_there_is_one_error(
    context: Path, tmp_path: Path, damage: str
) -> None:
    shutil.copytree(context.parent, tmp_path, dirs_exist_ok=True)
    (binary,) = tmp_path.glob("*.bin")
    if damage == "missing":
        binary.unlink()
    else:
        binary.write_bytes(binary.read_bytes()[:1000])
    with pytest.raises(ModelError, match="a compiled context that cannot be read") as caught:
        on_npu(tmp_path / context.name)
    assert caught.value.hint == IMPORT_ANOTHER


# A process of its own.


def in_a_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        # With it, Python would make C's streams unbuffered as well.
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def test_nothing_but_the_programs_own_words_is_on_stdout_and_nothing_is_left_behind(
    towers: Path, isolated_home: Path
) -> None:
    code = """
import json, sys
from pathlib import Path
import numpy as np
from siglip_search.towers.qnn_target import DEFAULT_TARGET
from siglip_search.towers.session_qnn import QnnSession
print(json.dumps("before"))
session = QnnSession(Path(sys.argv[1]), target=DEFAULT_TARGET, emulator=True)
result = session.run({"input_ids": np.zeros((1, 16), np.int64)}, ["pooler_output"])[0]
print(json.dumps(result.shape))
"""
    done = in_a_process(code, towers / "tiny-text.onnx")
    assert [json.loads(line) for line in done.stdout.splitlines()] == ["before", [1, 32]]
    assert done.stderr == ""
    assert [path for path in isolated_home.rglob("*") if path.is_file()] == []


def test_what_the_library_says_of_a_failed_run_is_not_on_stdout(context: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from siglip_search.errors import DeviceError
from siglip_search.towers.qnn_target import DEFAULT_TARGET
from siglip_search.towers.session_qnn import QnnSession
session = QnnSession(Path(sys.argv[1]), target=DEFAULT_TARGET, emulator=True)
try:
    session.run({"input_ids": np.full((1, 16), 320)}, ["pooler_output"])
except DeviceError:
    print("failed")
"""
    assert in_a_process(code, context).stdout == "failed\n"


def test_a_program_that_registered_the_provider_itself_is_no_obstacle(towers: Path) -> None:
    code = """
import sys
from pathlib import Path
import onnxruntime, onnxruntime_qnn
name = "QNNExecutionProvider"
onnxruntime.register_execution_provider_library(name, onnxruntime_qnn.get_library_path())
from siglip_search.towers.qnn_target import DEFAULT_TARGET
from siglip_search.towers.session_qnn import QnnSession
for _ in range(2):
    session = QnnSession(Path(sys.argv[1]), target=DEFAULT_TARGET, emulator=True)
print(session.assignment.cpu)
"""
    assert in_a_process(code, towers / "tiny-text.onnx").stdout == "0\n"


def test_a_chip_that_is_not_known_takes_quantised_graphs_only(towers: Path) -> None:
    code = """
import sys
from pathlib import Path
from siglip_search.errors import ModelError
from siglip_search.towers.device_probe import PROBE_MODEL
from siglip_search.towers.session_qnn import QnnSession
print(QnnSession(PROBE_MODEL, target=None, emulator=True).assignment.cpu)
try:
    QnnSession(Path(sys.argv[1]), target=None, emulator=True)
except ModelError as error:
    print(error.hint)
"""
    told = in_a_process(code, towers / "tiny-text.onnx").stdout.splitlines()
    assert told[0] == "0"
    assert told[1].startswith("A tower of floating-point numbers needs a known chip")
