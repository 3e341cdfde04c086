"""`siglip-search verify`: is the library whole?"""

from __future__ import annotations

from contextlib import nullcontext

import click

from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import (
    EXIT_NO_MATCH,
    chosen_library,
    count,
    json_option,
    library_option,
    print_json,
)


@click.command()
@click.option("--repair", is_flag=True, help="Put right what is wrong.")
@json_option
@library_option
@click.pass_context
def verify(context: click.Context, repair: bool, as_json: bool) -> None:
    """Check every vector, photo and file, and the snapshot, against one another.

    Exit status: 0 when the library is whole, 1 when something is wrong, 2 on an error.
    """
    with (
        chosen_library() as library,
        daemon_aside(library.directory) if repair else nullcontext(),
    ):
        report = library.verify(repair=repair)
    if as_json:
        print_json(
            {
                "whole": report.is_whole,
                "checked": report.checked,
                "problems": report.problems,
                "notes": report.notes,
            }
        )
    else:
        for problem in report.problems:
            print(f"{'repaired' if problem.repaired else 'wrong'}: {problem.what}")
        for note in report.notes:
            print(f"note: {note}")
        checked = ", ".join(
            count(number, what.removesuffix("s")) for what, number in report.checked.items()
        )
        if checked:
            print(f"checked {checked}")
        if report.is_whole:
            print("the library is whole")
        elif repair:
            print("the library is damaged, and this cannot be repaired")
        else:
            print("the library is damaged: `siglip-search verify --repair` puts it right")
    if not report.is_whole:
        context.exit(EXIT_NO_MATCH)
