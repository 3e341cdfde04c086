"""`siglip-search purge`: leave nothing behind."""

from __future__ import annotations

from contextlib import suppress

import click

from siglip_search.cli.beside_daemon import stop_daemon
from siglip_search.cli.console import chosen_library, library_option, say, shown
from siglip_search.engine.purge import purge as purge_everything
from siglip_search.engine.purge import what_purge_removes
from siglip_search.errors import ServiceError
from siglip_search.service.installation import supervisor_here
from siglip_search.service.units import library_words, unit_of


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@library_option
def purge(yes: bool) -> None:
    """Delete the library, the models and the settings, after asking.

    The pictures themselves are never touched, nor is any file that this program did not write.
    A daemon that looks after the library ends. Copies of the library that upgrades made go too;
    backups that you wrote elsewhere stay.
    """
    library = chosen_library().directory
    doomed = what_purge_removes(library)
    if not doomed:
        print("there is nothing to delete")
        return
    for place in doomed:
        print(shown(str(place)))
    if not yes:
        click.confirm("Delete all of this?", abort=True, err=True)
    stop_daemon(library)
    purge_everything(library)
    print("deleted")
    with suppress(ServiceError):  # a system for which we know no service
        unit = unit_of(library)
        if supervisor_here().file(unit).exists():
            words = shown(library_words(unit))
            say(f"its service is still installed: siglip-search service uninstall{words}")
