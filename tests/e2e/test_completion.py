"""Completion as the shells themselves do it, with the script that the program prints."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from installed_command import COMMAND

from siglip_index import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from installed_command import CommandLine

SHELLS = ("bash", "zsh", "fish", "powershell")

# What readline and zle do with the line that was typed, up to asking the function.
BASH = """
. "$SCRIPT"
read -r -a COMP_WORDS <<< "$TYPED"
case "$TYPED" in *' ') COMP_WORDS+=('') ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_siglip_search_completion siglip-search
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = """
source $SCRIPT
complete -C $TYPED
"""


def completed(cli: CommandLine, shell: str, program: str, typed: str, folder: Path) -> set[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    script = folder / f"complete.{shell}"
    script.write_bytes(cli("completion", shell).stdout)
    done = subprocess.run(
        [shell, "-c", program],
        env={
            **cli.environment(),
            "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}",
            "SCRIPT": str(script),
            "TYPED": typed,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize(
    ("shell", "program"), [("bash", BASH), ("fish", FISH)], ids=["bash", "fish"]
)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("siglip-search mod", {"model"}),
        ("siglip-search query --min-prob", {"--min-probability"}),
        ("siglip-search model use ", {"demo"}),
        ("siglip-search query --device ", {"auto", "npu", "cpu", "npu-emulator"}),
    ],
)
def test_shell_completes_commands_options_and_names(
    cli: CommandLine, tmp_path: Path, shell: str, program: str, typed: str, offered: set[str]
) -> None:
    assert completed(cli, shell, program, typed, tmp_path) == offered


def test_zsh_understands_its_script(cli: CommandLine, tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not here")
    script = tmp_path / "complete.zsh"
    script.write_bytes(cli("completion", "zsh").stdout)
    subprocess.run(
        ["zsh", "-c", f"autoload -Uz compinit && compinit -D -u && . {script}"],
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_every_script_asks_the_program_under_the_name_that_it_listens_to(
    cli: CommandLine, shell: str
) -> None:
    script = cli("completion", shell).text
    assert "_SIGLIP_SEARCH_COMPLETE" in script
    assert f"{shell}_complete" in script


def test_settings_without_meaning_say_nothing_amid_typing(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "home" / "siglip-search"
    settings.mkdir(parents=True)
    (settings / "config.toml").write_text("library = [")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(settings.parent))
    monkeypatch.setenv("COMP_WORDS", "siglip-search model use ")
    monkeypatch.setenv("COMP_CWORD", "3")
    monkeypatch.setenv("_SIGLIP_SEARCH_COMPLETE", "bash_complete")
    done = cli()
    assert done.stderr == ""


def test_searches_of_a_newer_version_are_offered_and_say_nothing_amid_typing(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(cli.library, writable=True) as store, store.write() as writer:
        writer.put_record("saved-search", "seaside", '{"shape": 9}')
    monkeypatch.setenv("COMP_WORDS", "siglip-search query --saved s")
    monkeypatch.setenv("COMP_CWORD", "3")
    monkeypatch.setenv("_SIGLIP_SEARCH_COMPLETE", "bash_complete")
    done = cli()
    assert (done.stderr, done.text.splitlines()) == ("", ["plain,seaside"])
