"""Libraries and pictures for the end-to-end tests."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from installed_command import CommandLine

from siglip_search import demo

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "library")


@pytest.fixture(scope="session")
def indexed_gallery(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A library of the bundled gallery, for tests that only read it."""
    folder = tmp_path_factory.mktemp("gallery")
    shutil.copytree(demo.gallery_directory(), folder / "pictures")
    cli = CommandLine(folder / "library")
    cli.index(folder / "pictures")
    return cli


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A small folder of real gallery pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    chosen = sorted(demo.gallery_directory().rglob("*.jpg"))[:12]
    for number, picture in enumerate(chosen):
        shutil.copy(picture, folder / f"picture-{number:02}.jpg")
    return folder
