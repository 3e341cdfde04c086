"""`siglip-search forget`: take an indexed folder out of the library."""

from __future__ import annotations

import click

from siglip_search.cli.console import chosen_library, count, library_option, shown


@click.command()
@click.argument("path", type=click.Path())
@library_option
def forget(path: str) -> None:
    """Forget the indexed folder PATH now; the pictures on disk are not touched."""
    with chosen_library() as library:
        root = library.folders().called(path)
        deleted = library.forget(root)
    print(f"{shown(root.path)} forgotten: {count(deleted, 'picture')} deleted from the library")
