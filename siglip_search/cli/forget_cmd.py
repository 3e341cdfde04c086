"""`siglip-search forget`: take an indexed folder out of the library."""

from __future__ import annotations

import click

from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import (
    chosen_library,
    count,
    json_option,
    library_option,
    print_json,
    shown,
)


@click.command()
@click.argument("path", type=click.Path())
@json_option
@library_option
def forget(path: str, as_json: bool) -> None:
    """Forget the indexed folder PATH now; the pictures on disk are not touched."""
    with chosen_library() as library:
        root = library.folders().called(path)
        with daemon_aside(library.directory):
            deleted = library.forget(root)
    if as_json:
        print_json({"path": root.path, "pictures": deleted})
        return
    print(f"{shown(root.path)} forgotten: {count(deleted, 'picture')} deleted from the library")
