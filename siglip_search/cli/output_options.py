"""The options that say how an answer is shown, and what they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from siglip_search.cli.preview_options import chosen_preview, preview_option
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from siglip_search.render.row_format import RowFormat

F = TypeVar("F", bound="Callable[..., Any]")

_META: Final = "siglip_search.output"


class Form(StrEnum):
    """How hits are written to stdout."""

    ROWS = "rows"
    PATHS = "paths"
    JSON = "json"
    NL = "nl"
    CSV = "csv"
    TSV = "tsv"
    FORMAT = "format"


@dataclass(frozen=True, slots=True)
class Output:
    """What becomes of an answer.

    Attributes:
        form: How hits are written to stdout.
        row_format: With `Form.FORMAT`, how each hit is written.
        null: With `Form.PATHS` and `Form.FORMAT`: a NUL byte ends each, rather than a newline.
        all_files: Companions and copies are written, copied and linked to as well.
        preview: One of `preview_options.CHOICES`; None where nothing was chosen.
        hyperlink: "auto", "always" or "never": whether paths of rows are links.
        sheet: Where a contact sheet is to be written.
        copy_to: Folder to copy the pictures to.
        link_to: Folder to put links to the pictures into.
        open_best: Open the best picture in its viewer.
    """

    form: Form = Form.ROWS
    row_format: RowFormat | None = None
    null: bool = False
    all_files: bool = False
    preview: str | None = None
    hyperlink: str = "auto"
    sheet: Path | None = None
    copy_to: Path | None = None
    link_to: Path | None = None
    open_best: bool = False


def output_options(command: F) -> F:
    """Add the options of output to a command; `chosen_output` returns what was chosen."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def chosen_output(context: click.Context) -> Output:
    """Return what the options amount to; to be called before anything costly is done.

    Raises:
        click.UsageError: Options contradict one another.
        QueryError: The format of --format has no meaning.
        PathError: A sheet cannot be written, or a folder not be made, where it was asked for.
    """
    given: dict[str, Any] = context.meta.get(_META, {})
    forms = [form for form in Form if given.get(form.value) not in {None, False}]
    null = given.get("null", False)
    if len(forms) > 1 or (null and forms and forms[0] not in {Form.PATHS, Form.FORMAT}):
        raise click.UsageError(
            "Choose one of --paths (or -0), --json, --nl, --csv, --tsv and --format."
        )
    form = forms[0] if forms else Form.PATHS if null else Form.ROWS
    copy_to, link_to = given.get("copy_to"), given.get("link_to")
    if copy_to and link_to:
        raise click.UsageError("Choose one of --copy-to and --link-to.")
    all_files = given.get("all_files", False)
    if all_files and form is not Form.PATHS and not copy_to and not link_to:
        raise click.UsageError("--all-files is for --paths and -0, --copy-to and --link-to.")
    preview_source = context.get_parameter_source("preview")
    preview = chosen_preview(context)
    if form is not Form.ROWS and preview != "none":
        if preview_source is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--preview {preview} does not go with --{form.value}.")
        preview = "none"
    return Output(
        form=form,
        row_format=_row_format(given["format"]) if form is Form.FORMAT else None,
        null=null,
        all_files=all_files,
        preview=preview,
        hyperlink=given.get("hyperlink", "auto"),
        sheet=_sheet(given.get("sheet")),
        copy_to=_folder(copy_to),
        link_to=_folder(link_to),
        open_best=given.get("open", False),
    )


def _row_format(template: str) -> RowFormat:
    from dataclasses import fields

    from siglip_search.render.row_format import RowFormat
    from siglip_search.search.ranking import Hit

    # What is several of something is written as text, with commas.
    kinds = {
        field.name: next((kind for kind in ("int", "float") if field.type.startswith(kind)), "str")
        for field in fields(Hit)
    }
    return RowFormat(template, kinds=kinds)


def _sheet(typed: str | None) -> Path | None:
    if typed is None:
        return None
    from siglip_search.render.sheet_file import check_sheet

    path = absolute_path(typed)
    check_sheet(path)
    return path


def _folder(typed: str | None) -> Path | None:
    if typed is None:
        return None
    from siglip_search.render.result_files import check_folder

    directory = absolute_path(typed)
    check_folder(directory)
    return directory


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    assert parameter.name is not None
    context.meta.setdefault(_META, {})[parameter.name] = value


def _option(*declarations: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(*declarations, expose_value=False, callback=_remember, **attributes)


_OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    _option("--paths", "paths", is_flag=True, help="Print paths only."),
    _option(
        "-0",
        "--null",
        "null",
        is_flag=True,
        help="Print paths only (or, with --format, each hit), each ended by a NUL byte.",
    ),
    _option(
        "--all-files",
        "all_files",
        is_flag=True,
        help="With --paths and -0, --copy-to and --link-to: also the RAWs, films and sidecars "
        "beside the pictures, and with --paths and -0 other copies of them.",
    ),
    _option("--json", "json", is_flag=True, help="Print one JSON array."),
    _option("--nl", "nl", is_flag=True, help="Print one JSON object a line."),
    _option("--csv", "csv", is_flag=True, help="Print CSV with a heading."),
    _option("--tsv", "tsv", is_flag=True, help="Print values between tabs, with a heading."),
    _option(
        "--format",
        "format",
        metavar="TEXT",
        help="Print each hit so, as in '{probability:.2f} {path}'; the names are those of --json, "
        r"and \t, \n and \\ are understood.",
    ),
    preview_option,
    _option(
        "--hyperlink",
        "hyperlink",
        type=click.Choice(("auto", "always", "never")),
        default="auto",
        show_default=True,
        help="Make the paths of rows links that a terminal opens.",
    ),
    _option(
        "--sheet",
        "sheet",
        type=click.Path(),
        metavar="FILE",
        help="Also draw a contact sheet: FILE ends in .png or .html.",
    ),
    _option(
        "--copy-to",
        "copy_to",
        type=click.Path(),
        metavar="DIR",
        help="Also copy the pictures to a folder; nothing there is ever replaced.",
    ),
    _option(
        "--link-to",
        "link_to",
        type=click.Path(),
        metavar="DIR",
        help="Also put links to the pictures into a folder, or copies where links are refused.",
    ),
    _option("--open", "open", is_flag=True, help="Open the best picture in its viewer."),
)
