"""README, docs, --help and behaviour never disagree."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from pip._internal.models.index import PyPI

from siglip_search.cli import command_line
from siglip_search.models.registry import registry_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def all_commands(
    command: click.Command = command_line, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from all_commands(child, (*path, name))


def test_command_reference_is_what_help_says() -> None:
    # In a process of its own: a command keeps its help option as it was first asked for, by a test
    # that runs it alone, say.
    script = ROOT / "scripts" / "write_cli_docs.py"
    checked = subprocess.run([sys.executable, script, "--check"], check=False)
    assert checked.returncode == 0, "run: python scripts/write_cli_docs.py"


def test_every_option_is_in_the_command_reference() -> None:
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for path, command in all_commands():
        assert f"## {' '.join(('siglip-search', *path))}\n" in reference
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(name in reference for name in parameter.opts)
                assert parameter.help, f"{path} {parameter.name} has no help"


# These mean the same everywhere, and are shown with the commands where they matter most.
SHARED_OPTIONS = {"--help", "--version", "--library", "--json", "--model", "--device"}


def test_every_option_is_shown_in_an_example() -> None:
    examples = tomllib.loads((ROOT / "docs" / "examples.toml").read_text(encoding="utf-8"))
    names = {" ".join(path) for path, _ in all_commands()}
    assert examples.keys() <= names, "examples of commands that are not there"
    wanted: dict[tuple[tuple[str, ...], str | None], str] = {}
    shown = set()
    for path, command in all_commands():
        lines = examples.get(" ".join(path), [])
        words = SHARED_OPTIONS | {word for line, _ in lines for word in shlex.split(line)}
        for option in command.params:
            if isinstance(option, click.Option):
                # What several commands take and explain alike is shown with one of them.
                meaning = (tuple(option.opts), option.help)
                wanted.setdefault(meaning, " ".join(path))
                if words & {*option.opts, *option.secondary_opts}:
                    shown.add(meaning)
    assert [(wanted[option], option[0]) for option in wanted if option not in shown] == []


def test_every_command_is_in_the_readme() -> None:
    for path, _ in all_commands():
        if len(path) == 1:
            assert f"`{path[0]}" in README, path


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every siglip-search line in the code blocks."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            for part in re.split(r"\s[|&]+\s", line.split("  #")[0]):
                words = shlex.split(part, comments=True)
                if words and words[0].endswith("siglip-search"):
                    yield words[1:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_in_the_documents_is_understood(document: Path) -> None:
    for words in command_lines(document.read_text(encoding="utf-8")):
        command, context = command_line, click.Context(command_line)
        while isinstance(command, click.Group):
            name = words.pop(0)
            child = command.get_command(context, name)
            assert child is not None, f"no command {name}"
            command = child
        command.make_context("siglip-search", words)  # raises on an unknown option


def test_readme_shows_the_two_lines_that_set_everything_up() -> None:
    for marker in ("demo-line", "test-line"):
        block = README.split(f"<!-- {marker} -->")[1].split(f"<!-- /{marker} -->")[0]
        lines = [line for line in block.splitlines() if line and not line.startswith("```")]
        assert len(lines) == 1
        assert "-m venv" in lines[0]


def test_readme_lists_the_models_of_the_registry() -> None:
    table = README.split("## Models")[1]
    assert set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)) == {
        row.name for row in registry_rows()
    }
    for row in registry_rows():
        if row.download_bytes:
            assert f"{row.download_bytes / 1e6:,.0f} MB" in table


def test_readme_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from siglip_search import demo

    shutil.copytree(demo.gallery_directory(), tmp_path / "Pictures")
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[0]
    exec(compile(code.replace("red bicycle", "the snow"), "README.md", "exec"), {})
    assert re.match(r"1 0\.\d+ .*snow", capsys.readouterr().out)


def test_documents_name_no_registry_host_and_no_path_of_a_machine() -> None:
    texts = [*DOCUMENTS, ROOT / ".ci" / "constraints.txt", ROOT / "pyproject.toml"]
    texts += [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    # pip knows which hosts it asks; what they are called is named nowhere here.
    hosts = [re.escape(host) for host in (PyPI.netloc, PyPI.file_storage_domain)]
    a_registry = "|".join([*hosts, "index-url"])
    top_folders = "|".join(["home", "root", "work", "tmp", "Users"])
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(a_registry, text), path
        assert not re.search(rf"/(?:{top_folders})/", text), path
