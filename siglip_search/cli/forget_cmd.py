"""`siglip-search forget`: take an indexed folder out of the library."""

from __future__ import annotations

import click

from siglip_search.cli.console import chosen_library, count, library_option, shown
from siglip_search.errors import PathError
from siglip_search.typed_paths import absolute_path


@click.command()
@click.argument("path", type=click.Path())
@library_option
def forget(path: str) -> None:
    """Forget the indexed folder PATH now; the pictures on disk are not touched."""
    wanted = bytes(absolute_path(path))
    with chosen_library() as library:
        roots = {root.path: root for root in library.roots()}
        if wanted not in roots:
            known = ", ".join(shown(root) for root in roots) or "none"
            raise PathError(
                f"{path} is not an indexed folder", hint=f"The indexed folders are: {known}"
            )
        deleted = library.forget(roots[wanted])
    print(f"{shown(wanted)} forgotten: {count(deleted, 'picture')} deleted from the library")
