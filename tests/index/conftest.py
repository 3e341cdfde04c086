"""File systems to break things on."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from small_disks import SmallDisk, mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 4 MiB; skipped where mounting one is not allowed."""
    with mounted(tmp_path / "disk", "4m") as path:
        yield SmallDisk(path)


@pytest.fixture
def as_nobody() -> Callable[[], object]:
    """Return a context in which this process has the rights of user 65534; needs root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can act as another user")

    @contextmanager
    def context() -> Iterator[None]:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)

    return context


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users may look into (pytest's own are private)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
