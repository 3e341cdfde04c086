"""`backup`, `restore`, and `purge` of what they and upgrades leave."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import pytest
from installed_command import CommandLine
from terminal import run_on_terminal

if TYPE_CHECKING:
    from pathlib import Path


def test_library_comes_back(cli: CommandLine, pictures: Path, tmp_path: Path) -> None:
    cli.index(pictures)
    answers = cli("query", "--json", "--min-probability", "0", "dog").stdout
    target = tmp_path / "safe.sqlite3"
    assert "12 pictures" in cli("backup", target).text
    assert "--force" in cli("backup", target, expect=2).stderr
    assert cli("backup", "--force", "--json", target).json["pictures"] == 12
    cli("backup", tmp_path)
    assert len(list(tmp_path.glob("siglip-search-*.sqlite3"))) == 1
    cli("forget", pictures)
    refused = cli("restore", target, expect=2)
    assert "has a library with 0 pictures" in refused.stderr
    assert "--force" in refused.stderr
    done = cli("restore", "--force", target)
    assert "12 pictures restored" in done.text
    assert done.stderr == ""
    cli.verify()
    assert cli("query", "--json", "--min-probability", "0", "dog").stdout == answers
    report = cli.index()
    assert (report["unchanged"], report["embedded"]) == (12, 0)


def test_restore_elsewhere_says_which_model_is_missing(
    cli: CommandLine, pictures: Path, tiny_model: Path, tmp_path: Path
) -> None:
    cli("model", "add", "--replace", tiny_model)
    cli("model", "use", "random-tiny")
    cli("index", pictures)
    cli("backup", tmp_path / "safe")
    cli("model", "remove", "--force", "random-tiny")
    other = CommandLine(tmp_path / "other")
    done = other("restore", tmp_path / "safe")
    assert "random-tiny, is not on this machine" in done.stderr
    assert other.status()["pictures"] == 12


def test_what_is_no_backup_is_refused(cli: CommandLine, pictures: Path, tmp_path: Path) -> None:
    cli.index(pictures)
    missing = cli("restore", "--force", tmp_path / "none", expect=2)
    assert f"there is no file {tmp_path / 'none'}" in missing.stderr
    refused = cli("restore", "--force", pictures / "picture-00.jpg", expect=2)
    assert "is no backup of a picture library" in refused.stderr
    assert cli.status()["pictures"] == 12
    refused = cli("backup", "--force", cli.library / "library.sqlite3", expect=2)
    assert "is a file of the library itself" in refused.stderr
    assert cli("backup", tmp_path / "a" / "b", expect=2).stderr.count("\n") == 2
    assert "no library" in CommandLine(tmp_path / "new")("backup", tmp_path / "x", expect=2).stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_person_is_asked(cli: CommandLine, pictures: Path, tmp_path: Path) -> None:
    cli.index(pictures)
    cli("backup", tmp_path / "safe")
    cli("forget", pictures)
    status, screen, _ = run_on_terminal(cli, "restore", tmp_path / "safe", answer=b"n\n")
    assert status == 130
    assert "Replace it with" in screen
    assert cli.status()["pictures"] == 0
    status, _, stdout = run_on_terminal(cli, "restore", tmp_path / "safe", answer=b"y\n")
    assert (status, stdout[:12]) == (0, b"12 pictures ")


def test_purge_names_and_deletes_copies_before_upgrades_and_cut_off_restores(
    cli: CommandLine, pictures: Path
) -> None:
    cli.index(pictures)
    copy = cli.library / "before-upgrade-format-01-20260101T000000Z.sqlite3"
    staging = cli.library / "restore-0123abcd.tmp"
    staging.mkdir()
    for path in (copy, staging / "library.sqlite3"):
        path.write_bytes((cli.library / "library.sqlite3").read_bytes())
    mine = cli.library / "mine.sqlite3"
    mine.write_text("somebody else's")
    done = cli("purge", "--yes")
    assert str(copy) in done.text
    assert str(staging) in done.text
    assert [path.name for path in cli.library.iterdir()] == ["mine.sqlite3"]


def test_no_file_of_the_library_is_written_over(
    cli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    cli.index(pictures)
    (tmp_path / "link").symlink_to(cli.library, target_is_directory=True)
    hidden_ways = [
        cli.library / "library.sqlite3",
        cli.library / "library.sqlite3-wal",  # which need not be there
        tmp_path / "link" / "library.sqlite3",
        cli.library / "vectors-1.json",
    ]
    for target in hidden_ways:
        for command in (["backup"], ["export", "--to", "jsonl"]):
            refused = cli(*command, "--force", target, expect=2)
            assert "is a file of the library itself" in refused.stderr
    cli.verify()
    assert cli.status()["pictures"] == 12
    cli("backup", cli.library)  # a name of its own in there is none of them
    cli.index()
    assert len(list(cli.library.glob("siglip-search-*.sqlite3"))) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")
def test_backup_replaces_files_and_nothing_else(
    cli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    cli.index(pictures)
    os.mkfifo(tmp_path / "pipe")
    refused = cli("backup", "--force", tmp_path / "pipe", expect=2)
    assert "is no ordinary file" in refused.stderr
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    cli("backup", "--force", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_size > 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and XDG's folders")
def test_purge_leaves_what_a_link_of_the_models_leads_to(
    cli: CommandLine, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.index(pictures)
    elsewhere = tmp_path / "models of several programs"
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    models = tmp_path / "data" / "siglip-search" / "models"
    models.parent.mkdir(parents=True)
    models.symlink_to(elsewhere, target_is_directory=True)
    assert str(models) in cli("purge", "--yes").text
    assert (elsewhere / "mine").exists()
    assert not models.parent.exists()
