"""The probe survives what a driver may do, and says what that was."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from npu_emulator import needs_emulator

from siglip_search.towers.device_probe import PROBE_MODEL, probe
from siglip_search.towers.qnn_target import DEFAULT_TARGET

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "siglip_search.towers.device_probe", "npu-emulator"]
SECONDS = 20.0


def driver(folder: Path, does: str) -> Path:
    """Return a library that does something as soon as it is loaded."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform == "win32":
        pytest.skip("needs a C compiler")
    source, library = folder / "driver.c", folder / "driver.so"
    source.write_text(
        "#include <signal.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
        f"__attribute__((constructor)) static void loaded(void) {{ {does} }}\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


class TestOnTheEmulator:
    pytestmark = needs_emulator

    def test_it_is_found_usable(self) -> None:
        found = probe("npu-emulator", DEFAULT_TARGET)
        assert found.usable, found.reason
        assert found.reason == ""
        assert found.hardware["kind"] == "CPU"

    def test_a_chip_that_is_not_known_can_be_tried_as_well(self) -> None:
        assert probe("npu-emulator", None).usable

    def test_it_can_be_tried_by_hand(self) -> None:
        done = subprocess.run(
            [*COMMAND, "--target", "8gen3"],
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        )
        assert '"usable": true' in done.stdout.splitlines()[-1]
        assert "LIBNATIVE" not in done.stdout


def test_the_answer_is_kept_for_the_life_of_the_process(tmp_path: Path) -> None:
    library = tmp_path / "absent.so"
    first = probe("npu-emulator", DEFAULT_TARGET, library=library)
    assert probe("npu-emulator", DEFAULT_TARGET, library=library) is first


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    library = tmp_path / "absent.so"
    found = probe("npu-emulator", DEFAULT_TARGET, library=library)
    assert not found.usable
    assert str(library) in found.reason
    assert "\n" not in found.reason


def test_a_file_that_is_no_library_is_named(tmp_path: Path) -> None:
    library = tmp_path / "driver.so"
    library.write_bytes(b"not a library")
    found = probe("npu-emulator", DEFAULT_TARGET, library=library)
    assert not found.usable
    assert f"{library} cannot be loaded" in found.reason


def test_a_library_without_a_provider_in_it_is_named(tmp_path: Path) -> None:
    library = driver(tmp_path, "")
    found = probe("npu-emulator", DEFAULT_TARGET, library=library)
    assert not found.usable
    assert str(library) in found.reason


@pytest.mark.parametrize(
    ("does", "ending"),
    [
        ("abort();", "SIGABRT"),
        ("*(volatile int *)0 = 1;", "SIGSEGV"),
        ("_exit(3);", "exit status 3"),
        ('puts("{\\"answer\\": {}}"); fflush(stdout); abort();', "SIGABRT"),
    ],
)
def test_a_crashing_driver_takes_only_the_probe_down(
    tmp_path: Path, does: str, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found = probe("npu-emulator", DEFAULT_TARGET, library=driver(tmp_path, does))
    assert not found.usable
    assert found.reason == f"the driver crashed at loading the provider's library ({ending})"
    assert capfd.readouterr() == ("", "")


def test_what_a_driver_prints_never_reaches_stdout_not_even_late(tmp_path: Path) -> None:
    # puts() fills C's own buffer, which is written when the process ends.
    library = driver(tmp_path, 'puts("noise");')
    code = """
import sys
from pathlib import Path
from siglip_search.errors import DeviceError
from siglip_search.towers.qnn_runtime import qnn_devices
try:
    qnn_devices(emulator=True, library=Path(sys.argv[1]))
except DeviceError as error:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, library],
        # With it, Python would make C's streams unbuffered as well.
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"},
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_a_hanging_driver_is_given_up(tmp_path: Path) -> None:
    library = driver(tmp_path, "signal(SIGTERM, SIG_IGN); for (;;) pause();")
    found = probe("npu-emulator", DEFAULT_TARGET, library=library, timeout_seconds=2)
    assert not found.usable
    assert found.reason == ("the driver hangs: no answer in 2 s at loading the provider's library")


def test_a_probe_whose_parent_is_gone_ends_by_itself(tmp_path: Path) -> None:
    library = driver(tmp_path, "for (;;) pause();")
    done = subprocess.run(
        [*COMMAND, "--library", library, "--seconds", "1"],
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode != 0


def test_the_graph_that_is_run_is_the_one_that_the_script_makes() -> None:
    path = ROOT / "scripts" / "make_probe_model.py"
    spec = importlib.util.spec_from_file_location("make_probe_model", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert onnx.load(str(PROBE_MODEL)) == script.probe_model()
