"""Shared fixtures: every test has its own home, library and configuration."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, visibly, what takes minutes unless it is asked for: pytest -m slow."""
    if "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: pytest -m slow"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long bytes by their length: their text is unreadable.

    And what a compressor wrote holds the time of writing, so that two workers that collect the
    same tests a second apart would not agree on what they are called.
    """
    return f"{argname}-of-{len(val)}-bytes" if isinstance(val, bytes) and len(val) > 24 else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Let whoever is done take from the others: the longest tests are not the last ones."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are processors: many tests wait for files to settle."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return 1 + (len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def isolated_home(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Point every platform directory at a temporary one, so that no test sees the user's."""
    home = tmp_path_factory.mktemp("home")
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA"):
        monkeypatch.setenv(name, str(home))
    for name in ("DATA", "CONFIG", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    for name in ("SIGLIP_SEARCH_LIBRARY", "SIGLIP_SEARCH_MODEL", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real test material, which is no part of the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the shared test material is not here")
    return SHARED_DATA


@pytest.fixture
def cleanup() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Take what has to be done after the test, whatever happens in it; the last comes first."""
    with ExitStack() as stack:
        yield stack.callback


def _script(name: str) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def random_tower() -> ModuleType:
    return _script("random_tower")


@pytest.fixture(scope="session")
def duplicate_material() -> ModuleType:
    """Edits and look-alikes of pictures, as `scripts/eval_dupes.py` judges them."""
    return _script("duplicate_material")


@pytest.fixture(scope="session")
def tiny_model(random_tower: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model in SigLIP's shape, tiny: read only."""
    return random_tower.write_random_model(tmp_path_factory.mktemp("tiny") / "model", shape="tiny")
