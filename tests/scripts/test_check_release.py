"""What has to agree before a release is published."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "check_release.py"
PYPROJECT = '[project]\nversion = "0.2.0"\n'
CHANGELOG = "# Changelog\n\n## 0.2.0 (2026-12-01)\n\n## 0.1.0 (2026-11-01)\n"
FILES = ["siglip_search-0.2.0.tar.gz", "siglip_search-0.2.0-py3-none-any.whl"]


@pytest.fixture(scope="module")
def check_release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_release", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_release_of_one_version_passes(check_release: ModuleType) -> None:
    assert check_release.find_problems("v0.2.0", FILES, PYPROJECT, CHANGELOG) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tag": "v0.2.1"}, "the tag is v0.2.1"),
        ({"files": FILES[:1]}, "dist has"),
        ({"changelog": "## 0.2.0 (unreleased)\n"}, "'unreleased'"),
        ({"changelog": "## 0.1.0 (2026-11-01)\n"}, "no heading"),
    ],
)
def test_what_disagrees_is_named(
    check_release: ModuleType, change: dict[str, object], said: str
) -> None:
    values = {"tag": "v0.2.0", "files": FILES, "pyproject": PYPROJECT, "changelog": CHANGELOG}
    (problem,) = check_release.find_problems(**(values | change))
    assert said in problem


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "v0.2.0", tmp_path / "dist"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"there is no folder {tmp_path / 'dist'}" in done.stderr
