"""Daemons and disks for the tests that break them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from crash.watched_command import FailingDisk, WatchedCommand, add_drawing
from installed_command import CommandLine
from small_disks import SmallDisk, mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "library")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of twelve drawings."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        add_drawing(folder, number)
    return folder


@pytest.fixture
def watch(
    cli: CommandLine, cleanup: Callable[[Callable[[], object]], None]
) -> Callable[..., WatchedCommand]:
    """Return a function that starts a daemon, which ends with the test."""

    def start(*arguments: str | Path, environment: dict[str, str] | None = None) -> WatchedCommand:
        watched = WatchedCommand(cli, *arguments, environment=environment)
        cleanup(watched.kill)
        return watched

    return start


@pytest.fixture
def failing_disk(tmp_path: Path) -> FailingDisk:
    if not sys.platform.startswith("linux") or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler to make a disk fail")
    folder = tmp_path / "failing"
    folder.mkdir()
    try:
        return FailingDisk(folder)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"the compiler makes no failing disk: {error.stderr!r}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 4 MiB."""
    with mounted(tmp_path / "disk", "4m") as path:
        yield SmallDisk(path)


@pytest.fixture
def roomy_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with a little more room than the daemon wants to be free."""
    with mounted(tmp_path / "disk", "560m") as path:
        yield path
