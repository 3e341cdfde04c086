"""What a person is asked, and a script told, when a model has become another version."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from terminal import run_on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine


@pytest.fixture
def outdated(cli: CommandLine, pictures: Path, tiny_model: Path, tmp_path: Path) -> CommandLine:
    """A library whose model has been replaced by another version of itself."""
    newer = tmp_path / "newer"
    shutil.copytree(tiny_model, newer)
    facts = (newer / "model.toml").read_text()
    (newer / "model.toml").write_text(facts.replace('checkpoint = "', 'checkpoint = "newer '))
    cli("model", "add", tiny_model)
    cli("index", "--model", "random-tiny", pictures)
    cli("model", "add", "--replace", newer)
    return cli


def test_script_gets_the_command_that_says_yes(outdated: CommandLine) -> None:
    refused = outdated("index", expect=2)
    assert "another version" in refused.stderr
    assert "`siglip-search model use random-tiny` agrees" in refused.stderr
    outdated("model", "use", "random-tiny")
    assert "random-tiny answers from now on" in outdated("index").text


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_person_is_asked_with_the_estimate(outdated: CommandLine) -> None:
    status, screen, _ = run_on_terminal(outdated, "index", answer=b"\n")
    assert status == 2
    assert "Embed 12 pictures again, in about 1.0 s?" in screen
    status, _, stdout = run_on_terminal(outdated, "index", answer=b"y\n")
    assert status == 0
    assert b"random-tiny answers from now on" in stdout
