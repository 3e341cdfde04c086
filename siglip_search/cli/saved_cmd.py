"""`siglip-search saved`: the searches that are kept under names, and their albums."""

from __future__ import annotations

import click

from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import (
    EXIT_ERROR,
    chosen_library,
    count,
    json_option,
    library_option,
    print_json,
    say,
    shown,
)
from siglip_search.cli.suggestions import saved_search_names


@click.group(invoke_without_command=True)
@json_option
@library_option
@click.pass_context
def saved(context: click.Context, as_json: bool) -> None:
    """List the saved searches, forget one, bring their albums up to date.

    \b
      siglip-search save seaside "a sandy beach" --after 3y
      siglip-search query --saved seaside
      siglip-search saved remove seaside
    """
    if context.invoked_subcommand is None:
        context.invoke(list_saved, as_json=as_json)
    elif as_json:
        raise click.UsageError(f"Write --json behind {context.invoked_subcommand}.")


@saved.command("list")
@json_option
@library_option
def list_saved(as_json: bool) -> None:
    """List the saved searches."""
    from siglip_search.search.question_object import question_as_object

    with chosen_library() as library:
        searches = library.saved_searches().all()
    if as_json:
        print_json(
            {
                "searches": [
                    {
                        "name": search.name,
                        "question": question_as_object(search.question),
                        "times": dict(search.times),
                        "album": search.album,
                    }
                    for search in searches
                ]
            }
        )
        return
    width = max((len(search.name) for search in searches), default=0)
    for search in searches:
        album = f"  [album {shown(search.album)}]" if search.album else ""
        print(f"{search.name:{width}}  {shown(str(search.question))}{album}")
    if not searches:
        say('no search is saved; siglip-search save seaside "a sandy beach" saves one')


@saved.command("remove")
@click.argument("name", shell_complete=saved_search_names)
@library_option
def remove_saved(name: str) -> None:
    """Forget the saved search NAME; its album and the links in it stay as they are."""
    with chosen_library() as library, daemon_aside(library.directory):
        library.saved_searches().remove(name)
    say(f"forgot the search {name.strip()!r}")


@saved.command("albums")
@json_option
@library_option
@click.pass_context
def refresh(context: click.Context, as_json: bool) -> None:
    """Bring the albums of all saved searches up to date, as `watch` does, and make missing ones."""
    from siglip_search.engine.albums import refresh_albums

    with chosen_library() as library:
        wanted = [search for search in library.saved_searches().all() if search.album is not None]
        reports = refresh_albums(
            library,
            make=True,
            on_failure=lambda failure, hint: say(f"{shown(failure)}\n  {shown(hint)}"),
        )
    if as_json:
        print_json({"albums": reports})
    else:
        for report in reports:
            changes = f"{report.added} new, {report.removed} gone"
            refused = f", {report.refused} could not be linked" if report.refused else ""
            print(
                f"{shown(report.folder)}: {count(report.pictures, 'picture')} ({changes}{refused})"
            )
        if not wanted:
            say("no saved search has an album; `siglip-search save --album DIR` gives it one")
    if len(reports) < len(wanted):
        context.exit(EXIT_ERROR)
