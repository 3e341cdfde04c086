"""`siglip-search roots`: the indexed folders, where they are, and what is left out of them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import (
    chosen_library,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.cli.forget_cmd import forget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_search.engine.relocation import Relocation

_STATES = {
    "there": "",
    "missing": "not there (unmounted?)",
    "another volume": "another drive is there now; its pictures are kept",
}


@click.group(invoke_without_command=True)
@json_option
@library_option
@click.pass_context
def roots(context: click.Context, as_json: bool) -> None:
    """List the indexed folders; say where one is now, and what is left out of it."""
    if context.invoked_subcommand is None:
        context.invoke(list_roots, as_json=as_json)
    elif as_json:
        raise click.UsageError(f"Write --json behind {context.invoked_subcommand}.")


@roots.command("list")
@json_option
@library_option
def list_roots(as_json: bool) -> None:
    """List the indexed folders.

    A drive that is mounted elsewhere now is recognised here, as it is by `index`.
    """
    with chosen_library() as library:
        folders = library.folders()
        relocated = folders.recognise_moved()
        found = folders.states()
    if as_json:
        print_json(
            {
                "relocated": _pairs(relocated),
                "roots": [
                    {
                        "path": root.path,
                        "state": state,
                        "volume": root.volume,
                        "volume_path": root.volume_path,
                        "exclude": root.exclude,
                    }
                    for root, state in found
                ],
            }
        )
        return
    tell_relocations(relocated)
    for root, state in found:
        print("  ".join(filter(None, (shown(root.path), _STATES[state]))))
        for pattern in root.exclude:
            print(f"  without {shown(pattern)}")
    if not found:
        print("no folder is indexed yet")


@roots.command()
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@json_option
@library_option
def relocate(old: str, new: str, as_json: bool) -> None:
    """Say that what was indexed at OLD is at NEW now; no picture is read again.

    OLD may be a folder above indexed ones, such as a former mount point.

    \b
      siglip-search roots relocate /media/usb/Photos /mnt/nas/Photos
    """
    with chosen_library() as library, daemon_aside(library.directory):
        relocated = library.folders().relocate(old, new)
    if as_json:
        print_json({"relocated": _pairs(relocated)})
        return
    for relocation in relocated:
        print(f"{shown(relocation.old)} is {shown(relocation.new)} from now on")
    if not relocated:
        print(f"{shown(new)} is its place already")


@roots.command()
@click.argument("path", type=click.Path())
@click.argument("patterns", nargs=-1, metavar="[PATTERN]...")
@click.option("--remove", is_flag=True, help="Take these patterns away instead.")
@json_option
@library_option
def exclude(path: str, patterns: tuple[str, ...], remove: bool, as_json: bool) -> None:
    """Leave out what matches a PATTERN, as in .gitignore, of the indexed folder PATH.

    The patterns hold for every `index` from now on, whose own --exclude comes after them. Without
    a pattern, those in force are listed.

    \b
      siglip-search roots exclude ~/Pictures "*.gif" "Screenshots/"
      siglip-search roots exclude ~/Pictures --remove "*.gif"
    """
    if remove and not patterns:
        raise click.UsageError("Name the patterns to take away.")
    with chosen_library() as library:
        folders = library.folders()
        # Without a pattern nothing is written.
        with daemon_aside(library.directory) if patterns else nullcontext():
            root = folders.exclude(path, patterns, remove=remove)
    if as_json:
        print_json({"path": root.path, "exclude": root.exclude})
        return
    for pattern in root.exclude:
        print(shown(pattern))
    if patterns:
        say("the next `siglip-search index` follows this")


roots.add_command(forget)


def tell_relocations(relocated: Sequence[Relocation]) -> None:
    """Say, on stderr, which roots were recognised elsewhere."""
    for relocation in relocated:
        say(shown(str(relocation)))


def _pairs(relocated: Sequence[Relocation]) -> list[dict[str, bytes]]:
    return [{"old": relocation.old, "new": relocation.new} for relocation in relocated]
