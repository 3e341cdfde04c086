"""`siglip-search backup` and `restore`: the library, kept safe elsewhere and brought back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from siglip_index.errors import StoreError
from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import (
    chosen_library,
    count,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.cli.termination import tidied_up_on_termination
from siglip_search.engine.backup import back_up, has_library
from siglip_search.engine.backup import restore as restore_library
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from siglip_search.engine.library import Library


@click.command()
@click.argument("target", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@json_option
@library_option
def backup(target: Path, force: bool, as_json: bool) -> None:
    """Copy the library to FILE, or into FOLDER under a name with the time.

    It may be searched and indexed meanwhile. The copy is read in full before it gets its name.
    It has everything that was computed and recorded; pictures, models and settings are not in it.
    """
    with tidied_up_on_termination():
        done = back_up(chosen_library().directory, target, replace=force)
    if as_json:
        print_json(done)
        return
    print(f"{shown(str(done.path))}: {count(done.pictures, 'picture')}, {_size(done.disk_bytes)}")


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the library that is there without asking.")
@json_option
@library_option
def restore(file: Path, force: bool, as_json: bool) -> None:
    """Put the backup FILE in the place of the library.

    It is examined first, and brought up to date if an older version wrote it. The library that is
    there stays in force until all of that has worked. Indexed folders are looked for where they
    were when the backup was made; `siglip-search roots` tells how to move them.
    """
    library = chosen_library()
    if not force and has_library(library.directory):
        _ask_to_replace(library, file)
    library.close()
    with daemon_aside(library.directory), tidied_up_on_termination():
        done = restore_library(library.directory, file)
    if as_json:
        print_json(done)
    else:
        print(f"{count(done.pictures, 'picture')} restored to {shown(str(library.directory))}")
    for problem in done.repaired:
        say(f"warning: {shown(str(file))}: {problem.what}: put right")
    if done.model is not None and not done.model_is_there:
        say(
            f"the model that it answers with, {done.model}, is not on this machine (in that "
            f"version): siglip-search model pull {done.model}"
        )


def _ask_to_replace(library: Library, file: Path) -> None:
    """Ask whether the library may go.

    Raises:
        PathError: Nobody can be asked.
        click.Abort: The answer was no.
    """
    place = shown(str(library.directory))
    try:
        with library:
            what = (
                f"{place} has a library with {count(library.status().counts.pictures, 'picture')}"
            )
    except StoreError:
        what = f"{place} has a library that cannot be read"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise PathError(
            what, hint="--force replaces it; `siglip-search backup` keeps a copy of it first."
        )
    say(what)
    click.confirm(f"Replace it with {shown(str(file))}?", abort=True, err=True)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
