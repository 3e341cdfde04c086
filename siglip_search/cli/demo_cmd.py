"""`siglip-search demo`: the main job on a bundled gallery, offline."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import click

from siglip_search.cli.console import EXIT_INTERRUPTED, library_option, say, shown
from siglip_search.cli.index_cmd import stopping_on_signals
from siglip_search.cli.index_summary import print_summary
from siglip_search.cli.progress import ProgressLine
from siglip_search.engine.demonstration import demonstrate, lay_out_gallery
from siglip_search.engine.indexing import IndexListener
from siglip_search.errors import PathError
from siglip_search.typed_paths import absolute_path


@click.command()
@click.argument(
    "directory", required=False, type=click.Path(file_okay=False, path_type=Path), metavar="[DIR]"
)
@click.option(
    "--keep", is_flag=True, help="Keep the pictures and the library of a demo without DIR."
)
@library_option
@click.pass_context
def demo(context: click.Context, directory: Path | None, keep: bool) -> None:
    """Index a gallery of drawings and ask it a few questions.

    The gallery and its library are laid out in DIR, or in a temporary folder; your own library is
    not touched. Nothing is downloaded: a small model for drawings comes with the program.
    """
    folder = absolute_path(directory or tempfile.mkdtemp(prefix="siglip-demo-"))
    try:
        lay_out_gallery(folder)
    except OSError as error:
        raise PathError(
            f"the demo cannot be laid out in {folder}: {error.strerror or error}",
            hint="Name a folder that can be written to.",
        ) from error
    with stopping_on_signals() as stop, ProgressLine(enabled=sys.stderr.isatty()) as line:
        shown_off = demonstrate(
            folder, stop=stop, listener=IndexListener(on_progress=line.progress)
        )
    print(f"$ siglip-search index --model demo {shown_off.pictures}")
    print_summary(shown_off.report)
    if directory is None and not keep:
        shutil.rmtree(shown_off.pictures)
        shutil.rmtree(shown_off.library)
    if shown_off.report.stopped:
        context.exit(EXIT_INTERRUPTED)
    for query, answer in shown_off.answers:
        print(f'\n$ siglip-search query "{query}"')
        for hit in answer.hits[:3]:
            print(f"{hit.score:6.1%}  {shown(str(Path(hit.path).relative_to(shown_off.pictures)))}")
        if len(answer.hits) > 3:
            print(f"        and {len(answer.hits) - 3} more")
        if not answer.hits:
            print("nothing matches")
    print(f"\nEverything at a glance: {shown_off.sheet}")
    if directory is None and not keep:
        print("Ask it yourself:        siglip-search demo DIR")
    else:
        print(
            "Ask it yourself:        "
            f'siglip-search query --library {shlex.quote(str(shown_off.library))} "yellow banana"'
        )
    print("On your own pictures:   siglip-search index ~/Pictures")
    if shown_off.notice:
        say(shown_off.notice)
