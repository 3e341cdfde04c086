"""Which devices there are, and which one a tower gets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npu_emulator import HAS_EMULATOR, compile_context, needs_emulator
from onnx import TensorProto, helper

from siglip_search.errors import DeviceError, ModelError
from siglip_search.towers import devices
from siglip_search.towers.devices import (
    automatic_device,
    list_devices,
    open_session,
    refuse_missing_device,
)
from siglip_search.towers.qnn_context import compiled_for, refusal
from siglip_search.towers.qnn_graph import graph_facts
from siglip_search.towers.qnn_target import (
    CHIPS,
    DEFAULT_TARGET,
    Target,
    checked_options,
    find_target,
    target_named_by,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


def saved(random_tower: ModuleType, path: Path, batch: int | None) -> Path:
    shape = random_tower.SHAPES["tiny"]
    tower = random_tower.text_tower(shape, np.random.default_rng(7), batch=batch)
    onnx.save(tower, str(path))
    return path


@pytest.fixture(scope="module")
def static(random_tower: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(random_tower, tmp_path_factory.mktemp("static") / "text.onnx", 1)


@pytest.fixture(scope="module")
def dynamic(random_tower: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(random_tower, tmp_path_factory.mktemp("dynamic") / "text.onnx", None)


@pytest.fixture
def on_arm64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this pass for a machine with an NPU: the provider then takes the emulator for one."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "is_installed", lambda: False)


# What there is.


def test_every_kind_of_device_is_listed_with_its_state() -> None:
    reports = {report.name: report for report in list_devices()}
    assert list(reports) == ["npu", "cpu", "npu-emulator"]
    assert reports["cpu"].usable
    assert (reports["cpu"].threads or 0) >= 1
    assert reports["npu-emulator"].usable is HAS_EMULATOR
    assert "says nothing" in reports["npu-emulator"].notice
    for report in reports.values():
        assert report.usable is (report.reason == "")
        assert report.usable is (report.hint == "")
    assert automatic_device(list(reports.values())) in {"cpu", "npu"}


@pytest.mark.usefixtures("on_arm64", "without_extra")
def test_without_the_extra_an_npu_is_not_usable_and_the_hint_installs_it() -> None:
    npu, _, emulator = list_devices()
    assert npu.reason == "onnxruntime-qnn is not installed"
    assert 'pip install "siglip-search[npu]"' in npu.hint
    assert "the emulator is for x86-64" in emulator.reason


# Which one a tower gets.


def test_the_processor_is_taken_when_asked_for(dynamic: Path) -> None:
    opened = open_session(dynamic, device="cpu", threads=1)
    assert (opened.device, opened.session.device) == ("cpu", "cpu")
    assert opened.path == dynamic
    assert opened.why == "asked for"
    assert opened.steps_down == ()


@pytest.mark.usefixtures("without_extra")
@pytest.mark.parametrize("device", ["npu", "npu-emulator"])
def test_an_npu_that_is_asked_for_and_not_there_is_an_error_with_a_hint(
    static: Path, device: Any
) -> None:
    with pytest.raises(DeviceError, match=f"--device {device} cannot be used") as caught:
        open_session(static, device=device)
    assert caught.value.hint
    with pytest.raises(DeviceError) as at_once:
        refuse_missing_device(device)
    assert (str(at_once.value), at_once.value.hint) == (str(caught.value), caught.value.hint)


@pytest.mark.usefixtures("without_extra")
def test_nobody_is_refused_who_did_not_ask_for_an_npu_by_name() -> None:
    refuse_missing_device("auto")
    refuse_missing_device("cpu")


@pytest.mark.usefixtures("on_arm64", "without_extra")
def test_auto_steps_down_to_the_processor_and_says_why(
    static: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        opened = open_session(static)
    assert opened.device == "cpu"
    assert opened.steps_down == ("no NPU: onnxruntime-qnn is not installed",)
    (record,) = caplog.records
    assert "onnxruntime-qnn is not installed" in record.getMessage()
    assert record.levelno == logging.INFO  # most machines have none: nothing to warn of


def test_a_missing_tower_is_an_error_whatever_the_device(tmp_path: Path) -> None:
    for device in ("auto", "cpu"):
        with pytest.raises(ModelError, match=r"absent\.onnx"):
            open_session(tmp_path / "absent.onnx", device=device)  # type: ignore[arg-type]


def test_a_compiled_context_is_nothing_for_the_processor(tmp_path: Path) -> None:
    node = helper.make_node(
        "EPContext",
        ["input_ids"],
        ["embedding"],
        domain="com.microsoft",
        embed_mode=0,
        main_context=1,
        ep_cache_context="text.bin",
    )
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, 16])
    result = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 32])
    path = tmp_path / "text.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "context", [ids], [result])), str(path))
    with pytest.raises(ModelError, match="compiled for an NPU") as caught:
        open_session(path, device="cpu")
    assert str(path) in str(caught.value)
    assert caught.value.hint == "Use the model that it was made from, or --device npu."


class TestOnTheEmulator:
    pytestmark = needs_emulator

    def test_it_is_taken_when_asked_for_and_only_then(self, static: Path) -> None:
        opened = open_session(static, device="npu-emulator")
        assert (opened.device, opened.session.device) == ("npu-emulator", "npu-emulator")
        assert opened.why == "prepared for x-elite"
        assert opened.assignment is not None
        assert (opened.assignment.npu > 50, opened.assignment.cpu) == (True, 0)
        assert open_session(static).device == "cpu"

    def test_what_it_does_not_take_is_an_error_and_not_a_step_down(self, dynamic: Path) -> None:
        with pytest.raises(ModelError, match="only fixed shapes"):
            open_session(dynamic, device="npu-emulator")

    @pytest.mark.usefixtures("on_arm64")
    def test_auto_takes_an_npu_that_works(
        self, static: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        opened = open_session(static, target=DEFAULT_TARGET)
        assert (opened.device, opened.session.device) == ("npu", "npu")
        assert opened.steps_down == ()
        assert caplog.records == []

    @pytest.mark.usefixtures("on_arm64")
    def test_auto_prefers_the_context_for_this_chip(
        self, static: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        made = {}
        for name in ("8gen3", "x-elite"):
            chip = CHIPS[name].target
            made[name] = compile_context(
                static,
                tmp_path / "contexts" / name / "text.onnx",
                soc_model=chip.soc_model,
                htp_arch=chip.htp_arch,
            )
        opened = open_session(static, compiled=list(made.values()), target=DEFAULT_TARGET)
        assert opened.path == made["x-elite"]
        assert opened.why == "compiled for x-elite"
        # The folder tells whose it is: that of another chip is not even tried.
        assert opened.steps_down == ()
        assert caplog.records == []
        only_wrong = open_session(static, compiled=[made["8gen3"]], target=DEFAULT_TARGET)
        assert (only_wrong.device, only_wrong.path) == ("npu", static)
        (step,) = only_wrong.steps_down
        assert "compiled for 8gen3, and this is x-elite" in step
        # Nothing to warn of: contexts of other chips are there for other machines.
        (record,) = caplog.records
        assert record.levelno == logging.INFO
        assert record.getMessage() == (
            f"{step}. Make one that does: siglip-search model compile NAME --target x-elite"
        )
        assert step.count(str(made["8gen3"])) == 1

    @pytest.mark.usefixtures("on_arm64")
    def test_auto_warns_of_a_context_for_this_chip_that_it_cannot_use(
        self, static: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        damaged = tmp_path / "contexts" / "x-elite" / "text.onnx"
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(b"no context")
        opened = open_session(static, compiled=[damaged], target=DEFAULT_TARGET)
        assert (opened.device, opened.path) == ("npu", static)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().count(str(damaged)) == 1

    @pytest.mark.usefixtures("on_arm64")
    def test_every_step_down_is_told(self, dynamic: Path) -> None:
        absent = dynamic.with_name("absent.onnx")
        opened = open_session(dynamic, compiled=[absent], target=DEFAULT_TARGET)
        assert opened.device == "cpu"
        context, tower = opened.steps_down
        assert str(absent) in context
        assert opened.why == tower

    @pytest.mark.usefixtures("on_arm64")
    def test_auto_warns_of_a_tower_that_the_npu_does_not_take(
        self, dynamic: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        opened = open_session(dynamic, target=DEFAULT_TARGET, model="mine")
        assert (opened.device, opened.session.device) == ("cpu", "cpu")
        (step,) = opened.steps_down
        assert "only fixed shapes" in step
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        message = record.getMessage()
        assert message.count(str(dynamic)) == 1
        assert "; the tower runs on the CPU. Compiling fixes them: " in message
        assert message.endswith("model compile mine --target x-elite")

    @pytest.mark.usefixtures("on_arm64")
    def test_one_question_is_answered_by_the_processor(self, static: Path) -> None:
        opened = open_session(static, one_shot=True, target=DEFAULT_TARGET)
        assert (opened.device, opened.why) == ("cpu", "the fastest for one question")


# Chips and options.


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("Snapdragon(R) X Elite - X1E80100 - Qualcomm(R) Oryon(TM) CPU", "x-elite"),
        ("lenovo,yoga-slim7x qcom,x1e80100", "x-elite"),
        ("Snapdragon (TM) 8cx Gen 3 @ 3.0 GHz", "8cx-gen3"),
        ("qcom,qcs6490-rb3gen2 qcom,qcm6490", "qcm6490"),
        ("Apple M3", None),
        ("", None),
    ],
)
def test_a_chip_is_known_by_what_its_system_calls_it(description: str, name: str | None) -> None:
    expected = None if name is None else CHIPS[name].target
    assert target_named_by(description) == expected


def test_every_chip_is_found_by_its_name_and_its_numbers() -> None:
    for name, chip in CHIPS.items():
        numbers = f"soc={chip.target.soc_model},arch={chip.target.htp_arch}"
        assert find_target(name) == find_target(numbers) == chip.target
        assert chip.target.name == name
        assert target_named_by(chip.title.rpartition("(")[2]) in {chip.target, None}
    assert find_target("soc=123,arch=v79") == Target(123, 79)
    assert find_target("soc=123,arch=79").name == "soc=123,arch=79"


@pytest.mark.parametrize("text", ["", "x-elte", "soc=60", "soc=60,arch=99", "soc=60,arch=79"])
def test_a_chip_that_is_none_is_an_error_that_names_the_known_ones(text: str) -> None:
    with pytest.raises(DeviceError) as caught:
        find_target(text)
    assert caught.value.hint


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), min_size=1))
def test_no_invented_option_is_passed_on(options: dict[str, str]) -> None:
    with pytest.raises(DeviceError):
        checked_options(options)


# Contexts by what they say.


@pytest.mark.parametrize(
    ("compatibility", "reason"),
    [
        ("v2:6:2.51.0:5.51.0:73:60:0:0", None),
        ("v2:6:2.51.0:5.51.0:75,73:57,60:0,0:0", None),
        ("v2:6:2.51.0:5.51.0:73:2147483647:0:0", None),
        ("v2:6:2.51.0:5.51.0:79:69:0:0", "compiled for 8elite, and this is x-elite"),
        ("v2:6:2.51.0:5.51.0:73:43:0:0", "compiled for 8gen2, and this is x-elite"),
        ("v2:6:2.52.0:5.52.0:73:60:0:0", "by QAIRT 2.52.0, and 2.51.0 is installed"),
        ("v2:6:2.51.0:5.51.0:73:60:0:1", "by a device's own driver"),
        ("v2:4:2.51.0:5.51.0:73:60:0:0", "for another backend"),
        ("v2:6:2.51.0:5.51.0:73,75:60:0:0", "what it says"),
        ("v2:6:2.51.0:5.51.0:x:60:0:0", "what it says"),
        ("6:2.40.0:5.40.0:3.3.3:73:0", "an unknown layout"),
        ("", "an unknown layout"),
        (None, "does not say which chip"),
    ],
)
def test_a_context_is_for_this_chip_and_runtime_or_it_is_not_used(
    compatibility: str | None, reason: str | None
) -> None:
    found = refusal(compatibility, DEFAULT_TARGET, "2.51.0")
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found


def test_no_context_is_for_a_chip_that_is_not_known() -> None:
    assert "is not known" in (refusal("v2:6:2.51.0:5.51.0:73:60:0:0", None, "2.51.0") or "")


@given(st.text(max_size=40))
def test_any_metadata_is_parsed_or_refused(compatibility: str) -> None:
    try:
        compiled_for(compatibility)
    except ValueError:
        assert refusal(compatibility, DEFAULT_TARGET, "2.51.0") is not None


def test_weights_listed_as_inputs_need_no_feeding(static: Path, tmp_path: Path) -> None:
    model = onnx.load(str(static))
    weight = model.graph.initializer[0]
    model.graph.input.append(
        helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
    )
    path = tmp_path / "text.onnx"
    onnx.save(model, str(path))
    facts = graph_facts(path)
    assert facts is not None
    assert [(one.name, one.shape) for one in facts.inputs] == [("input_ids", (1, 16))]
    assert (facts.compiled, facts.compatibility, facts.dynamic_input) == (False, None, None)
