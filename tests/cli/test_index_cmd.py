"""`siglip-search index`: options that do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from installed_command import CommandLine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "options", [("--json", "--json-events"), ("--json-events", "--explain", ".")]
)
def test_options_that_contradict_one_another_are_refused(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    done = CommandLine(tmp_path / "library")("index", *options, tmp_path, expect=2)
    assert done.stdout == b""
    assert "--json" in done.stderr
