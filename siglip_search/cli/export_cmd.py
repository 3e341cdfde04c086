"""`siglip-search export`: vectors and metadata for other programs."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from siglip_index import open_store
from siglip_search.cli.console import chosen_library, count, library_option, say, shown
from siglip_search.cli.counting_line import counting_line
from siglip_search.cli.termination import tidied_up_on_termination
from siglip_search.engine.output_file import refuse_library_file, written_whole
from siglip_search.engine.vector_export import (
    ExportFormat,
    ExportOptions,
    export_vectors,
    rows_at_most,
    spaces_to_export,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import BinaryIO


@click.command()
@click.argument("target", metavar="[FILE|-]", type=click.Path(path_type=Path), default="-")
@click.option(
    "--to",
    "form",
    type=click.Choice(get_args(ExportFormat)),
    required=True,
    help="Format; parquet needs the extra of that name.",
)
@click.option("--model", metavar="NAME", help="Vectors of this model.  [default: the active one]")
@click.option("--space", metavar="KEY", help="Vectors of the space whose key begins so.")
@click.option("--all-spaces", is_flag=True, help="Every model's vectors, a row for each.")
@click.option("--no-vectors", is_flag=True, help="Metadata only.")
@click.option(
    "--float16", is_flag=True, help="Half precision, as in the library (parquet); exact, and half."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@library_option
def export(
    target: Path,
    form: ExportFormat,
    model: str | None,
    space: str | None,
    all_spaces: bool,
    no_vectors: bool,
    float16: bool,
    force: bool,
) -> None:
    """Write every picture's paths, metadata and vector to FILE, or to the standard output.

    FILE is there whole or not at all. Each row has the content's hash, the paths, what is known
    of the picture, and the vector with the name and the key of its model's space.

    \b
      siglip-search export --to parquet pictures.parquet
      siglip-search export --to jsonl --no-vectors | jq -r '.paths[0]'
    """
    if all_spaces and (model or space):
        raise click.UsageError("--all-spaces leaves nothing to choose with --model or --space.")
    if float16 and (form != "parquet" or no_vectors):
        raise click.UsageError("--float16 is for the vectors of --to parquet.")
    to_stdout = str(target) == "-"
    if to_stdout and form == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is not for a terminal: name a FILE.")
    options = ExportOptions(form, vectors=not no_vectors, half=float16)
    library = chosen_library().directory
    if not to_stdout:
        refuse_library_file(target, library)
    with open_store(library, writable=False) as store:
        spaces = spaces_to_export(store, model=model, key=space, every=all_spaces)
        output: AbstractContextManager[BinaryIO] = (
            nullcontext(sys.stdout.buffer) if to_stdout else written_whole(target, replace=force)
        )
        watched = sys.stderr.isatty() and not (to_stdout and sys.stdout.isatty())
        with (
            tidied_up_on_termination(),
            counting_line("exporting", rows_at_most(store, spaces), enabled=watched) as line,
            output as stream,
        ):
            rows = export_vectors(store, spaces, options, stream, on_progress=line)
    if not to_stdout:
        say(f"{count(rows, 'row')} written to {shown(str(target))}")
