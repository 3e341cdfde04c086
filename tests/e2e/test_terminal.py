"""What a person at a terminal sees, and a pipe does not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from terminal import run_on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


def test_progress_is_shown_on_the_terminal_only(cli: CommandLine, pictures: Path) -> None:
    status, screen, stdout = run_on_terminal(cli, "index", "--model", "demo", pictures)
    assert status == 0
    assert "indexing" in screen
    assert "12/12" in screen
    assert b"12 pictures added" in stdout
    assert b"\x1b" not in stdout
    piped = cli("index", pictures)
    assert piped.stderr == ""


def test_without_a_model_a_person_is_asked(cli: CommandLine, pictures: Path) -> None:
    status, screen, _ = run_on_terminal(cli, "index", pictures, answer=b"n\n")
    assert status == 2
    assert "815 MB, English only, Apache-2.0" in screen
    assert "Download it now?" in screen
    assert "--model demo" in screen
    assert not cli.library.exists()


def test_file_names_cannot_steer_the_terminal(cli: CommandLine, pictures: Path) -> None:
    (pictures / "picture-00.jpg").rename(pictures / "\x1b[31mred\x07.jpg")
    cli.index(pictures)
    shown = cli("query", "-n", "50", "--min-probability", "0", "x")
    assert "\\x1b[31mred\\x07.jpg" in shown.text
    assert b"\x1b" not in shown.stdout
