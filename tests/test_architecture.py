"""The rooms and the directions between them, as pyproject.toml states them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_imports_point_down_only() -> None:
    check = "from importlinter.cli import lint_imports_command as check; check()"
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_index_is_a_source_root_and_no_package() -> None:
    assert not (ROOT / "index" / "__init__.py").exists()


def test_no_room_is_called_what_could_be_anything() -> None:
    names = {path.stem for root in ("siglip_search", "index") for path in (ROOT / root).rglob("*")}
    assert not names & {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
