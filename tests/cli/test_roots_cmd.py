"""`siglip-search roots` in this very process: forms of output and mistakes."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import click
import pytest
from loop_drives import ext4_drive

from siglip_search import demo, open_library
from siglip_search.cli.forget_cmd import forget
from siglip_search.cli.roots_cmd import roots
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command; return stdout and stderr."""
    monkeypatch.setenv("SIGLIP_SEARCH_LIBRARY", str(tmp_path / "library"))

    def run(name: str, *arguments: str | Path) -> tuple[str, str]:
        capsys.readouterr()
        command = {"roots": roots, "forget": forget}[name]
        command.main(list(map(str, arguments)), standalone_mode=False)
        output = capsys.readouterr()
        return output.out, output.err

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for picture in sorted((demo.gallery_directory() / "beach").glob("*.jpg"))[:3]:
        shutil.copy(picture, folder)
    return folder


def index(tmp_path: Path, *paths: Path) -> None:
    with open_library(tmp_path / "library", model="demo") as library:
        assert library.index(paths).failed == 0


def test_roots_are_listed_relocated_and_forgotten(run: Run, pictures: Path, tmp_path: Path) -> None:
    assert run("roots") == ("no folder is indexed yet\n", "")
    for arguments in (["--json"], ["list", "--json"]):
        assert json.loads(run("roots", *arguments)[0]) == {"relocated": [], "roots": []}
    index(tmp_path, pictures)
    (root,) = json.loads(run("roots", "list", "--json")[0])["roots"]
    assert (root["path"], root["state"], root["exclude"]) == (str(pictures), "there", [])

    new = tmp_path / "elsewhere"
    shutil.move(pictures, new)
    assert run("roots") == (f"{pictures}  not there (unmounted?)\n", "")
    answer = json.loads(run("roots", "relocate", "--json", pictures, new)[0])
    assert answer == {"relocated": [{"old": str(pictures), "new": str(new)}]}
    assert run("roots", "relocate", new, new)[0] == f"{new} is its place already\n"
    with pytest.raises(PathError, match="not an indexed folder") as caught:
        run("roots", "relocate", pictures, new)
    assert str(new) in caught.value.hint
    shutil.move(new, pictures)
    assert run("roots", "relocate", new, pictures)[0] == f"{new} is {pictures} from now on\n"


@pytest.mark.parametrize("command", [("roots", "forget"), ("forget",)])
def test_forgetting_has_two_names(
    run: Run, pictures: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    index(tmp_path, pictures)
    answer = f"{pictures} forgotten: 3 pictures deleted from the library\n"
    assert run(*command, pictures) == (answer, "")
    with pytest.raises(PathError, match="is not an indexed folder"):
        run(*command, pictures)


def test_patterns_of_a_root(run: Run, pictures: Path, tmp_path: Path) -> None:
    index(tmp_path, pictures)
    assert "next `siglip-search index`" in run("roots", "exclude", pictures, "*.gif", "!x")[1]
    assert run("roots", "exclude", pictures) == ("*.gif\n!x\n", "")
    assert run("roots")[0] == f"{pictures}\n  without *.gif\n  without !x\n"
    answer = run("roots", "exclude", pictures, "--remove", "!x", "--json")[0]
    assert json.loads(answer) == {"path": str(pictures), "exclude": ["*.gif"]}
    with pytest.raises(PathError, match="no pattern"):
        run("roots", "exclude", pictures, "--remove", "!x")
    with pytest.raises(click.UsageError):
        run("roots", "exclude", pictures, "--remove")
    with pytest.raises(PathError, match="not an indexed folder"):
        run("roots", "exclude", tmp_path, "*.gif")


def test_listing_recognises_a_drive(
    run: Run, pictures: Path, tmp_path: Path, cleanup: Callable[[Callable[[], object]], None]
) -> None:
    drive = ext4_drive(tmp_path / "image", cleanup)
    first, second = tmp_path / "first", tmp_path / "second"
    drive.mount(first)
    shutil.copytree(pictures, first / "Photos")
    index(tmp_path, first / "Photos")
    drive.unmount()
    drive.mount(second)
    listing, said = run("roots")
    assert f"{first / 'Photos'} is at {second / 'Photos'} now" in said
    assert listing == f"{second / 'Photos'}\n"


def test_forgetting_as_json(run: Run, pictures: Path, tmp_path: Path) -> None:
    index(tmp_path, pictures)
    answer = json.loads(run("roots", "forget", pictures, "--json")[0])
    assert answer == {"path": str(pictures), "pictures": 3}


@pytest.mark.parametrize("pattern", ["", "  ", "# drafts"])
def test_pattern_that_matches_nothing_is_no_pattern(
    run: Run, pictures: Path, tmp_path: Path, pattern: str
) -> None:
    index(tmp_path, pictures)
    with pytest.raises(PathError, match="matches nothing"):
        run("roots", "exclude", pictures, "*.gif", pattern)
    assert run("roots", "exclude", pictures) == ("", "")
