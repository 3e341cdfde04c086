"""The checklist for a machine with an NPU, tried on the emulator."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from npu_emulator import needs_emulator

if TYPE_CHECKING:
    from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
OF_HARDWARE_ONLY = {"machine", "listing", "energy"}
"""Checks that an emulator cannot make."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("hardware_check")


def check(folder: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, Any], str]:
    """Run the script; return its exit status and both forms of the report."""
    out = folder / "report.md"
    done = subprocess.run(
        [sys.executable, SCRIPTS / "hardware_check.py", "--out", out, *arguments],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert out.exists(), done.stderr
    report = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    return done.returncode, report, out.read_text(encoding="utf-8")


class TestOnTheEmulator:
    pytestmark = needs_emulator

    def test_every_check_that_needs_no_hardware_passes_and_nothing_says_whose_machine_it_is(
        self, tmp_path: Path
    ) -> None:
        home = tmp_path / "grace-hopper"
        (home / "tmp").mkdir(parents=True)
        status, report, text = check(
            tmp_path,
            *("--device", "npu-emulator", "--quick", "--seconds", "0.5"),
            HOME=str(home),
            TMPDIR=str(home / "tmp"),
            USER="grace",
            LOGNAME="grace",
        )
        found = {one["name"]: one["status"] for one in report["checks"]}
        failed = [one for one in report["checks"] if one["status"] == "fail"]
        assert not failed
        assert status == 0
        assert {name for name, state in found.items() if state != "pass"} == OF_HARDWARE_ONLY
        assert "say nothing about an NPU's" in text
        for told in (text, json.dumps(report)):
            assert "grace" not in told
            assert str(tmp_path) not in told
            assert not platform.node() or f" {platform.node()} " not in told
        for name, figure in (("fp16", "least cosine"), ("context", "loading its context, s")):
            (one,) = (one for one in report["checks"] if one["name"] == name)
            assert f"- {figure}: {one['figures'][figure]}\n" in text

    def test_without_an_npu_one_check_fails_and_the_others_say_why_they_were_not_made(
        self, tmp_path: Path
    ) -> None:
        status, report, text = check(tmp_path, "--quick")
        states = {one["name"]: one["status"] for one in report["checks"]}
        assert status == 1
        assert [name for name, state in states.items() if state == "fail"] == ["machine", "devices"]
        assert states["fp16"] == "not possible"
        assert "Why: the device cannot be used, see above" in text
        assert "--device npu-emulator" in text


@pytest.mark.parametrize("absent", ["onnxruntime_qnn", "onnx"])
def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    absent: str,
) -> None:
    found = importlib.util.find_spec("json")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == absent else found)
    monkeypatch.setattr(sys, "argv", ["hardware_check.py"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{script.MODULES[absent]} not installed: {script.INSTALL}"


def test_a_check_whose_process_dies_is_a_failed_check(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "__init__.py").touch()
    (tmp_path / "hardware" / "child.py").write_text("import os; os.abort()")
    monkeypatch.syspath_prepend(tmp_path)
    found = script.one_check("fp16", (str(tmp_path), "npu", "quick", "1"), 1.0)
    assert found["status"] == "fail"
    crash = "0x" if os.name == "nt" else "SIGABRT"
    assert crash in found["figures"]["error"]
    assert "driver" in found["advice"]


def test_names_and_places_are_taken_out_of_every_text(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "ada"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("LOGNAME", "USER", "USERNAME"):
        monkeypatch.setenv(name, "ada")
    monkeypatch.setattr(platform, "node", lambda: "difference-engine")
    personal = script.PersonalData(home / "work", Path("/srv/clone"))
    said = {"a": [f"{home / 'work'}/model.onnx", f"{home}/x", "Ada on difference-engine"]}
    assert personal.removed_everywhere(said) == {
        "a": ["CHECK/model.onnx", "HOME/x", "USER on MACHINE"]
    }
    # Only whole words: a short name is in many others.
    assert personal.removed("adapter") == "adapter"
