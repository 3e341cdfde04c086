"""The options of output: what goes together, and what is refused before anything is searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from siglip_search.cli.output_options import Form, Output, chosen_output, output_options
from siglip_search.cli.preview_options import CHOICES
from siglip_search.errors import PathError, QueryError
from siglip_search.render.terminal import Protocol

if TYPE_CHECKING:
    from pathlib import Path


def chosen(*arguments: str, environment: dict[str, str] | None = None) -> Output:
    """Return what a command line amounts to, or raise as the command would."""
    outputs: list[Output] = []

    @click.command()
    @output_options
    @click.pass_context
    def command(context: click.Context) -> None:
        outputs.append(chosen_output(context))

    result = CliRunner(env=environment).invoke(command, arguments, standalone_mode=False)
    if result.exception:
        raise result.exception
    return outputs[0]


@pytest.mark.parametrize(
    ("arguments", "form", "null"),
    [
        ([], Form.ROWS, False),
        (["--paths"], Form.PATHS, False),
        (["-0"], Form.PATHS, True),
        (["--paths", "-0"], Form.PATHS, True),
        (["--json"], Form.JSON, False),
        (["--nl"], Form.NL, False),
        (["--csv"], Form.CSV, False),
        (["--tsv"], Form.TSV, False),
        (["--format", "{path}"], Form.FORMAT, False),
        (["--format", "", "-0"], Form.FORMAT, True),
    ],
)
def test_forms_are_chosen(arguments: list[str], form: Form, null: bool) -> None:
    output = chosen(*arguments)
    assert (output.form, output.null) == (form, null)
    assert (output.row_format is not None) == (form is Form.FORMAT)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--json", "--csv"], "Choose one of --paths"),
        (["--tsv", "--nl"], "Choose one of --paths"),
        (["--json", "-0"], "Choose one of --paths"),
        (["--paths", "--format", "{path}"], "Choose one of --paths"),
        (["--copy-to", "a", "--link-to", "b"], "one of --copy-to and --link-to"),
        (["--all-files"], "--all-files is for --paths and -0"),
        (["--all-files", "--json"], "--all-files is for --paths and -0"),
        (["--json", "--preview", "kitty"], "--preview kitty does not go with --json"),
        (["--format", "{path}", "--preview", "auto"], "does not go with --format"),
        (["--preview", "jpeg"], "'jpeg' is not one of"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(click.UsageError, match=complaint):
        chosen(*arguments)


def test_bad_formats_and_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"a picture")
    with pytest.raises(QueryError, match="asks for 'score'"):
        chosen("--format", "{score}")
    with pytest.raises(PathError, match="must end in"):
        chosen("--sheet", str(tmp_path / "sheet.txt"))
    with pytest.raises(PathError, match="is no contact sheet"):
        chosen("--sheet", str(tmp_path / "holiday.png"))
    with pytest.raises(PathError, match="is no folder"):
        chosen("--copy-to", str(tmp_path / "holiday.png"))
    with pytest.raises(PathError, match="a path is empty"):
        chosen("--link-to", "")


def test_every_field_of_a_hit_can_be_written() -> None:
    from dataclasses import fields

    from siglip_search.search.ranking import Hit

    for field in fields(Hit):
        assert chosen("--format", f"{{{field.name}}}").row_format
    assert chosen("--format", "{iso:05d} {latitude:.3f} {rank:>3} {keywords:<9}").row_format


def test_preview_of_the_environment_gives_way() -> None:
    usual = {"SIGLIP_SEARCH_PREVIEW": "blocks"}
    assert chosen(environment=usual).preview == "blocks"
    assert chosen("--preview", "none", environment=usual).preview == "none"
    # What machines read is never mixed with pictures.
    assert chosen("--json", environment=usual).preview == "none"
    assert chosen().preview is None


def test_previews_have_the_names_of_the_protocols() -> None:
    assert [*CHOICES] == ["auto", "none", *Protocol]
