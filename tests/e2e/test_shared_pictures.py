"""Real hostile pictures, indexed to the end by the real command."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine


@pytest.mark.shared_data
@pytest.mark.timeout(600)
def test_hostile_pictures_are_all_accounted_for(cli: CommandLine, shared_data: Path) -> None:
    hostile = shared_data / "hostile"
    report = cli.index(hostile)
    files = sum(len(names) for _, _, names in os.walk(hostile))
    hidden = sum(name.startswith(".") for _, _, names in os.walk(hostile) for name in names)
    assert report["seen"] == files - hidden
    parts = ("added", "changed", "moved", "unchanged", "failed", "ignored")
    assert report["seen"] == sum(report[part] for part in parts)
    assert report["added"] > 1000
    assert len(report["failures"]) == report["failed"] > 100
    assert all(failure["reason"] for failure in report["failures"])
    assert not any("\n" in failure["reason"] for failure in report["failures"])
    cli.verify()
    again = cli.index(hostile)
    assert (again["unchanged"], again["embedded"]) == (report["added"], 0)
    assert again["failed"] == report["failed"]
