"""The checklist for a machine with an NPU, tried on the emulator."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from npu_emulator import needs_emulator

from siglip_search.engine.agreement import Figures

if TYPE_CHECKING:
    from collections.abc import Iterator
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
            assert not platform.node() or not re.search(
                rf"(?<!\w){re.escape(platform.node())}(?!\w)", told, re.IGNORECASE
            )
        for name, figure in (("fp16", "least cosine"), ("context", "loading its context, s")):
            (one,) = (one for one in report["checks"] if one["name"] == name)
            assert f"- {figure}: {one['figures'][figure]}\n" in text

    def test_without_an_npu_one_check_fails_and_the_others_say_why_they_were_not_made(
        self, tmp_path: Path
    ) -> None:
        status, report, text = check(tmp_path, "--quick")
        states = {one["name"]: one["status"] for one in report["checks"]}
        assert status == 2  # nothing passed
        assert report["finished"]
        assert [name for name, state in states.items() if state == "fail"] == ["devices"]
        # It is no processor that anybody should report.
        assert states["machine"] == states["fp16"] == "not possible"
        assert "On a Snapdragon machine install the Python for arm64" in text
        assert "Report the processor" not in text
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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--seconds", "-5"), "-5 is no length of time"),
        (("--seconds", "0"), "0 is no length of time"),
        (("--seconds", "nan"), "nan is no length of time"),
        (("--out", "r.json"), "name the page, report.md, say"),
        (("--out", os.path.join("nowhere", "r.md")), "cannot be written: No such file"),
        (("--out", "folder.md"), "folder.md is a folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_check(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    (tmp_path / "folder.md").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script, "MODULES", {})
    monkeypatch.setattr(script, "all_checks", lambda *_: pytest.fail("a check was made"))
    monkeypatch.setattr(sys, "argv", ["hardware_check.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert told in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["folder.md"]


@pytest.mark.parametrize("made", [0, 1])
def test_ctrl_c_keeps_what_was_checked(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    made: int,
) -> None:
    found = {"name": "machine", "title": "The machine", "status": "pass", "figures": {}}
    page = tmp_path / "page.md"

    def checks(*_: object) -> Iterator[dict[str, Any]]:
        if made:
            yield {**found, "advice": ""}
            assert page.exists()  # at once, for a machine that goes down
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "MODULES", {})
    monkeypatch.setattr(script, "all_checks", checks)
    monkeypatch.setattr(script, "live_in", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["hardware_check.py", "--out", str(page)])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 130
    said = capsys.readouterr().err
    if not made:
        assert said == "interrupted; nothing was checked\n"
        assert os.listdir(tmp_path) == []
        return
    assert said == "interrupted; written what was checked\n"
    assert "Checks: 1 pass" in page.read_text(encoding="utf-8")
    assert "**Not finished**" in page.read_text(encoding="utf-8")
    report = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert [check["name"] for check in report["checks"]] == ["machine"]
    assert not report["finished"]


@pytest.mark.parametrize("recall", [0.9496, 0.9504])
def test_a_variant_is_judged_by_its_figures_and_not_by_what_is_printed_of_them(
    monkeypatch: pytest.MonkeyPatch, recall: float
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.syspath_prepend(SCRIPTS)
    numbers = importlib.import_module("hardware.numbers")
    figures = Figures(120, 20, 0.999, 0.999, 0.999, 0.999, recall, 1.0)
    assert numbers.is_good_enough(figures) == (recall > 0.95)
