"""The daemon on a disk that fails, beside a clock that jumps, asleep, and with a dead decoder."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest
from crash.watched_command import add_drawing, files_in, found

from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from crash.watched_command import FailingDisk, WatchedCommand
    from installed_command import CommandLine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")


@pytest.fixture
def faulty(
    watch: Callable[..., WatchedCommand], failing_disk: FailingDisk, pictures: Path
) -> WatchedCommand:
    """A daemon that has caught up, and whose disk may fail."""
    watched = watch("--model", "demo", pictures, environment=failing_disk.environment)
    watched.says("caught up")
    watched.wait(watched.is_idle)
    return watched


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("write 5 library.sqlite3", "input/output error"),
        ("write 28 library.sqlite3", "no space is left"),
        ("sync 5 library.sqlite3", "input/output error"),
        ("read 5 library.sqlite3", "input/output error"),
        ("open 30 library.sqlite3", "cannot be opened or written"),
        ("open 30 library.lock", "cannot be used: Read-only file system"),
    ],
)
def test_a_disk_that_fails_is_waited_for(
    faulty: WatchedCommand, failing_disk: FailingDisk, pictures: Path, fault: str, line: str
) -> None:
    failing_disk.demand(fault)
    add_drawing(pictures, 12)
    faulty.says(line)
    # What was committed before is still found by whoever has a good disk.
    assert len(found(faulty.cli)) == 12
    failing_disk.heal()
    faulty.finds(*files_in(pictures))
    faulty.wait(faulty.is_idle)
    assert faulty.state()["embedded"] == 13
    faulty.end()
    assert verify(faulty.cli.library).is_whole
    assert not any("Traceback" in said for said in faulty.lines)


def test_a_snapshot_that_cannot_be_written_costs_nothing(
    faulty: WatchedCommand, failing_disk: FailingDisk, pictures: Path
) -> None:
    for file in faulty.cli.library.glob("vectors-*"):
        file.unlink()
    failing_disk.demand("write 5 vectors-")
    add_drawing(pictures, 12)
    faulty.finds(*files_in(pictures))
    faulty.says("input/output error")
    assert not list(faulty.cli.library.glob("vectors-*.tmp"))
    failing_disk.heal()
    faulty.wait(lambda: list(faulty.cli.library.glob("vectors-*.json")))
    faulty.end()
    report = verify(faulty.cli.library)
    assert report.is_whole
    assert report.checked["snapshots"] == 1
