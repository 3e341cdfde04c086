"""Towers whose NPU fails in mid-run: the NPU is played (see failing_npu), the rest is real."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from failing_npu import FailingNpu, write_context

from siglip_search.errors import DeviceError, ModelError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers import failover
from siglip_search.towers.device_probe import probe
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> FailingNpu:
    played = FailingNpu()
    played.install(monkeypatch)
    return played


@pytest.fixture
def spec(tiny_model: Path) -> ModelSpec:
    return load_model_folder(tiny_model)


@pytest.fixture
def context_only(spec: ModelSpec, npu: FailingNpu, tmp_path: Path) -> ModelSpec:
    """The model with its picture tower as a compiled context alone."""
    folder = Path(shutil.copytree(spec.directory, tmp_path / "compiled"))
    npu.stands_for["vision.onnx"] = spec.vision_path
    write_context(folder / "vision.onnx")
    return load_model_folder(folder)


def pictures(count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)


def always(_session: int, _run: int) -> bool:
    return True


def test_a_failure_that_passes_is_retried_in_a_new_session_and_told_once(
    spec: ModelSpec, npu: FailingNpu
) -> None:
    npu.fails = lambda session, run: (session, run) == (1, 3)
    notices: list[str] = []
    tower = VisionTower(spec, device="npu", on_notice=notices.append)
    expected = VisionTower(spec).embed(pictures())
    for _ in range(6):
        made = tower.embed_with_provenance(pictures())
        assert (made.device, made.precision) == ("npu", "fp16")
        assert np.array_equal(made.vectors, expected)
    assert npu.sessions == 2
    (notice,) = notices
    assert "vision.onnx failed on the npu: Code: 1007; a new session goes on" in notice


def test_the_void_session_is_let_go_before_another_is_opened(
    spec: ModelSpec, npu: FailingNpu
) -> None:
    npu.fails = lambda session, run: session == 1
    VisionTower(spec, device="npu", on_notice=lambda _: None).embed(pictures())
    assert npu.alive_at_opening == [0, 0]


def test_the_void_session_is_let_go_by_every_thread_before_another_is_opened(
    spec: ModelSpec, npu: FailingNpu
) -> None:
    begun = threading.Event()

    def linger() -> None:
        if threading.current_thread().name.startswith("slow") and not begun.is_set():
            begun.set()
            time.sleep(0.5)  # long after the other thread has noticed

    npu.fails = lambda session, run: session == 1
    npu.before_run = linger
    tower = VisionTower(spec, device="npu", on_notice=lambda _: None)
    with ThreadPoolExecutor(1, thread_name_prefix="slow") as slow:
        waiting = slow.submit(tower.embed, pictures())
        assert begun.wait(timeout=30)
        after = tower.embed(pictures())
        assert np.array_equal(waiting.result(), after)
    assert npu.alive_at_opening == [0, 0]


def test_a_run_that_hangs_in_the_void_session_is_not_waited_for_for_ever(
    spec: ModelSpec, npu: FailingNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "_LONGEST_WAIT_SECONDS", 0.1)
    begun, ended = threading.Event(), threading.Event()

    def hang() -> None:
        if threading.current_thread().name.startswith("hanging") and not begun.is_set():
            begun.set()
            assert ended.wait(timeout=30)

    npu.fails = lambda session, run: session == 1
    npu.before_run = hang
    tower = VisionTower(spec, device="npu", on_notice=lambda _: None)
    with ThreadPoolExecutor(1, thread_name_prefix="hanging") as hanging:
        waiting = hanging.submit(tower.embed, pictures())
        assert begun.wait(timeout=30)
        after = tower.embed(pictures())
        ended.set()
        assert np.array_equal(waiting.result(), after)
    assert npu.alive_at_opening == [0, 1]


@pytest.mark.parametrize("second_session_works", [True, False])
def test_who_is_told_may_ask_what_runs_now(
    spec: ModelSpec, npu: FailingNpu, second_session_works: bool
) -> None:
    npu.fails = lambda session, run: session == 1 or not second_session_works
    running: list[str] = []
    tower = VisionTower(spec, device="auto", on_notice=lambda _: running.append(tower.device))
    asking = threading.Thread(target=tower.embed, args=(pictures(),), daemon=True)
    asking.start()
    asking.join(timeout=30)
    assert not asking.is_alive()
    assert running == ["npu" if second_session_works else "cpu"]


@pytest.mark.parametrize("second_session_works", [True, False])
def test_what_is_raised_by_who_is_told_costs_that_one_run(
    spec: ModelSpec, npu: FailingNpu, second_session_works: bool
) -> None:
    npu.fails = lambda session, run: session == 1 or not second_session_works

    def refuse(notice: str) -> None:
        raise RuntimeError(notice)

    tower = VisionTower(spec, device="auto", on_notice=refuse)
    with pytest.raises(RuntimeError, match="goes on"):
        tower.embed(pictures())
    for _ in range(3):
        assert tower.embed(pictures()).shape == (1, spec.dimension)


@pytest.mark.parametrize("device", ["npu", "npu-emulator"])
def test_a_device_that_was_asked_for_fails_for_good_and_is_left_alone_then(
    spec: ModelSpec, npu: FailingNpu, device: str
) -> None:
    npu.fails = always
    notices: list[str] = []
    tower = VisionTower(spec, device=device, on_notice=notices.append)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(DeviceError, match=f"failed on the {device}: .*in a new session") as got:
            tower.embed(pictures())
    assert str(spec.vision_path) in str(got.value)
    assert "--device cpu" in got.value.hint
    assert (npu.sessions, npu.runs) == (2, 2)
    assert notices == []  # the error says it
    with pytest.raises(DeviceError):
        _ = tower.device


def test_auto_goes_on_on_the_processor_and_says_what_made_each_vector(
    spec: ModelSpec, npu: FailingNpu
) -> None:
    npu.turned = True
    npu.fails = lambda session, run: run == 3
    notices: list[str] = []
    tower = VisionTower(spec, device="auto", on_notice=notices.append)
    expected = VisionTower(spec).embed(pictures())
    made = [tower.embed_with_provenance(pictures()) for _ in range(6)]
    assert [one.device for one in made] == ["npu"] * 4 + ["cpu"] * 2
    assert [one.precision for one in made] == ["fp16"] * 4 + ["fp32"] * 2
    assert (tower.device, tower.precision) == ("cpu", "fp32")
    for one in made:
        sign = -1 if one.device == "npu" else 1
        assert np.abs(sign * one.vectors - expected).max() < 1e-6
    assert notices[0].endswith("a new session goes on")
    assert notices[1].endswith(f"also in a new session; the CPU goes on, with {spec.name}")


def test_by_default_what_goes_on_is_logged(
    spec: ModelSpec, npu: FailingNpu, caplog: pytest.LogCaptureFixture
) -> None:
    npu.fails = always
    with caplog.at_level(logging.WARNING):
        VisionTower(spec, device="auto").embed(pictures())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "the CPU goes on" in record.getMessage()


def test_vectors_of_one_call_are_all_of_one_tower(spec: ModelSpec, npu: FailingNpu) -> None:
    npu.turned = True
    # 64 pictures of this size take one run, 130 take three.
    npu.fails = lambda session, run: run == 2 or session == 2
    tower = VisionTower(spec, device="auto", on_notice=lambda _: None)
    made = tower.embed_with_provenance(pictures(130))
    assert made.device == "cpu"
    assert np.abs(made.vectors - VisionTower(spec).embed(pictures(130))).max() < 1e-6


@pytest.mark.parametrize("device", ["auto", "npu"])
def test_one_thread_sees_to_a_failure_that_all_of_them_notice(
    spec: ModelSpec, npu: FailingNpu, device: str
) -> None:
    threads = 6
    together = threading.Barrier(threads)
    npu.fails = always
    first = threading.local()

    def wait_for_the_others() -> None:
        if not getattr(first, "done", False):
            first.done = True
            together.wait(timeout=30)

    npu.before_run = wait_for_the_others
    notices: list[str] = []
    tower = VisionTower(spec, device=device, on_notice=notices.append)  # type: ignore[arg-type]

    def embed(_: int) -> str:
        try:
            return tower.embed_with_provenance(pictures()).device
        except DeviceError as error:
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(pool.map(embed, range(threads)))
    assert npu.sessions == 2
    assert npu.runs <= 2 * threads
    assert len(set(outcomes)) == 1
    assert ("cpu" in outcomes) is (device == "auto")
    assert len(notices) == (1 if device == "auto" else 0)


def test_a_vector_that_was_in_work_when_the_tower_changed_keeps_where_it_was_made(
    spec: ModelSpec, npu: FailingNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "_LONGEST_WAIT_SECONDS", 0.1)
    begun, changed = threading.Event(), threading.Event()

    def linger() -> None:
        if threading.current_thread().name.startswith("slow"):
            begun.set()
            assert changed.wait(timeout=30)

    npu.turned = True
    npu.fails = lambda session, run: (session, run) != (1, 1)
    npu.before_run = linger
    tower = VisionTower(spec, device="auto", on_notice=lambda _: None)
    with ThreadPoolExecutor(1, thread_name_prefix="slow") as slow:
        waiting = slow.submit(tower.embed_with_provenance, pictures())
        assert begun.wait(timeout=30)
        after = tower.embed_with_provenance(pictures())
        changed.set()
        before = waiting.result()
    assert (after.device, after.precision) == ("cpu", "fp32")
    assert (before.device, before.precision) == ("npu", "fp16")
    assert np.abs(before.vectors + after.vectors).max() < 1e-6


def test_threads_lose_nothing_while_the_device_fails_and_recovers(
    spec: ModelSpec, npu: FailingNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failover, "_STEADY_RUNS", 5)
    npu.fails = lambda session, run: run > 20  # each session fails, after it has worked
    notices: list[str] = []
    tower = VisionTower(spec, device="npu", on_notice=notices.append)
    inputs = pictures(120)
    expected = np.concatenate([VisionTower(spec).embed(one[None]) for one in inputs])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda one: tower.embed_with_provenance(one[None]), inputs))
    assert np.array_equal(np.concatenate([one.vectors for one in made]), expected)
    assert {one.device for one in made} == {"npu"}
    assert npu.sessions == 6
    assert len(notices) == 1  # a device may do this for weeks


def test_a_driver_that_a_probe_finds_crashed_is_not_opened_again(
    spec: ModelSpec, npu: FailingNpu
) -> None:
    npu.fails = always

    def crash() -> None:
        npu.crashed = "the driver crashed at run (SIGSEGV)"

    npu.before_run = crash
    tower = VisionTower(spec, device="npu")
    with pytest.raises(DeviceError, match=r"and then .*the driver crashed at run \(SIGSEGV\)"):
        tower.embed(pictures())
    assert npu.sessions == 1


def test_what_an_earlier_probe_found_is_not_believed_after_a_failure(
    spec: ModelSpec, npu: FailingNpu
) -> None:
    probe("npu-emulator", None)
    assert probe.cache_info().currsize > 0
    npu.fails = lambda session, run: session == 1
    VisionTower(spec, device="npu", on_notice=lambda _: None).embed(pictures())
    assert probe.cache_info().currsize == 0


def test_an_error_that_nobody_expects_leaves_no_thread_without_an_answer(
    spec: ModelSpec, npu: FailingNpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    npu.fails = always
    tower = VisionTower(spec, device="npu")

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("siglip_search.towers.vision.open_session", no_memory)
    with pytest.raises(MemoryError):
        tower.embed(pictures())
    with pytest.raises(DeviceError, match="failed on the npu"):
        tower.embed(pictures())


def test_a_wrong_input_is_no_failure_of_the_device(spec: ModelSpec, npu: FailingNpu) -> None:
    tower = VisionTower(spec, device="auto")
    with pytest.raises(ValueError, match="pixels are"):
        tower.embed(pictures()[:, :40])
    assert npu.sessions == 1


# What may go on.


def test_the_first_substitute_that_opens_goes_on(
    spec: ModelSpec, npu: FailingNpu, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(spec.directory, tmp_path / "damaged"))
    (damaged / "vision.onnx").write_bytes(b"no tower")
    candidates = [load_model_folder(damaged), spec]
    npu.fails = always
    asked: list[int] = []

    def substitutes() -> list[ModelSpec]:
        asked.append(npu.runs)
        return candidates

    notices: list[str] = []
    tower = VisionTower(spec, device="auto", substitutes=substitutes, on_notice=notices.append)
    assert asked == []
    for _ in range(3):
        assert tower.embed_with_provenance(pictures()).device == "cpu"
    assert asked == [2]  # after it had failed twice, once
    assert "damaged" in notices[-1]
    assert notices[-1].endswith(f"the CPU goes on, with {spec.name}")


def test_a_compiled_context_stops_cleanly_for_no_processor_runs_it(
    context_only: ModelSpec, npu: FailingNpu
) -> None:
    npu.fails = always
    for device in ("auto", "npu"):
        tower = VisionTower(context_only, device=device, on_notice=lambda _: None)  # type: ignore[arg-type]
        with pytest.raises(DeviceError) as caught:
            tower.embed(pictures())
        assert ("no installed tower" in str(caught.value)) is (device == "auto")
        assert "--device cpu" not in caught.value.hint
        assert "siglip-search devices" in caught.value.hint


def test_another_model_of_the_same_space_goes_on_for_a_compiled_context(
    spec: ModelSpec, context_only: ModelSpec, npu: FailingNpu
) -> None:
    npu.fails = always
    notices: list[str] = []
    tower = VisionTower(
        context_only, device="auto", substitutes=lambda: [spec], on_notice=notices.append
    )
    made = tower.embed_with_provenance(pictures())
    assert made.device == "cpu"
    assert np.array_equal(made.vectors, VisionTower(spec).embed(pictures()))


# Words.


def test_a_text_tower_that_is_kept_open_goes_on_as_well(
    spec: ModelSpec, npu: FailingNpu, caplog: pytest.LogCaptureFixture
) -> None:
    npu.fails = lambda session, run: session > 1 or run > 1
    npu.turned = True
    tower = TextTower(spec, device="auto")
    expected = TextTower(spec).embed(["a red cat"])
    assert np.abs(tower.embed(["a red cat"]) + expected).max() < 1e-6
    assert tower.device == "npu"
    assert np.abs(tower.embed(["a red cat"]) - expected).max() < 1e-6
    assert (tower.device, tower.precision) == ("cpu", "fp32")
    assert len(caplog.records) == 1


def test_a_text_tower_on_a_device_that_was_asked_for_is_one_error(
    spec: ModelSpec, npu: FailingNpu
) -> None:
    npu.fails = always
    tower = TextTower(spec, device="npu")
    with pytest.raises(DeviceError, match=r"text\.onnx failed on the npu") as caught:
        tower.embed(["a red cat"])
    assert caught.value.hint


def test_one_question_to_a_compiled_context_goes_to_the_npu(
    spec: ModelSpec, npu: FailingNpu, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(spec.directory, tmp_path / "compiled"))
    npu.stands_for["text.onnx"] = spec.text_path
    write_context(folder / "text.onnx")
    compiled = load_model_folder(folder)
    assert TextTower(compiled, one_shot=True, device="auto").device == "npu"
    assert TextTower(spec, one_shot=True, device="auto").device == "cpu"
    npu.crashed = "it is broken"
    with pytest.raises(ModelError, match="compiled for an NPU"):
        TextTower(compiled, one_shot=True, device="auto")
