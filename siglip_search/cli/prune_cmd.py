"""`siglip-search prune`: let go of pictures that are long gone."""

from __future__ import annotations

import click

from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import chosen_library, count, library_option


@click.command()
@click.option(
    "--days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Gone for at least so long.",
)
@library_option
def prune(days: float) -> None:
    """Delete the vectors of pictures whose last file has vanished.

    Until then a picture that comes back, under whatever name, is not read again.
    """
    with chosen_library() as library, daemon_aside(library.directory):
        deleted = library.prune(days=days)
    print(f"{count(deleted, 'picture')} deleted from the library")
