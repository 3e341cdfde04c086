"""Fetching a model for somebody who sits at the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import count, duration, say
from siglip_search.cli.progress import download_line
from siglip_search.models.hub import name_to_pull, pull, refuse_without_consent
from siglip_search.models.registry import default_row, find_row
from siglip_search.settings import models_directory, own_models_file

if TYPE_CHECKING:
    from siglip_search.engine.chosen_model import AnotherVersionError
    from siglip_search.engine.library import Library
    from siglip_search.models.hub import PullProgress
    from siglip_search.models.registry import RegistryRow
    from siglip_search.models.spec import Precision


def offer_model(name: str | None) -> str | None:
    """Ask whether a model shall be fetched, and fetch it.

    Args:
        name: The one that was asked for; None for the usual one.

    Returns:
        Its name when it is on this machine now; None when nobody can be asked, the answer was
        no, or there is nothing to fetch.

    Raises:
        UnknownModelError: No model is called so.
        DownloadError: It could not be fetched.
    """
    if not _somebody_is_there():
        return None
    row = find_row(name, own_models_file()) if name else default_row()
    if row.hub is None or not row.hub.towers:
        return None
    say(f"{row.title} ({describe(row)}) is not on this machine yet. {row.help}".rstrip())
    if not click.confirm("Download it now?", default=True, err=True):
        return None
    return fetch(row)


def agree_to_another_version(library: Library, error: AnotherVersionError) -> bool:
    """Ask whether a library's pictures shall be embedded again, as `model use` agrees to.

    Args:
        library: The library.
        error: Which says that the installed model is another version than the library's.

    Returns:
        Whether `index` may go on; False when nobody can be asked or the answer was no.

    Raises:
        ModelError: The installed version does not work.
        LibraryBusyError: Another process is writing.
    """
    if not _somebody_is_there():
        return False
    # Here, so that a question, which embeds no pictures, does not wait for it.
    from siglip_search.engine.embedding_again import cost_of_embedding_again

    say(f"{error}.")
    cost = cost_of_embedding_again(library, error.spec)
    # Hours of work are never the default.
    if not click.confirm(
        f"Embed {count(cost.pictures, 'picture')} again, in about "
        f"{duration(max(cost.seconds, 1.0))}?",
        default=False,
        err=True,
    ):
        return False
    with daemon_aside(library.directory):
        library.use_model(error.spec.name)
    return True


def describe(row: RegistryRow) -> str:
    """Return size, language and licence of a model in a few words."""
    if row.bundled:
        size = "bundled"
    elif row.hub is not None and not row.hub.towers:
        size = "to be exported"
    elif row.download_bytes is None:
        size = "size unknown"
    else:
        size = f"{row.download_bytes / 1e6:,.0f} MB"
    return _described(row, size)


def accept_conditions(row: RegistryRow, *, accepted: bool = False) -> bool:
    """Show the conditions of a model's licence and ask; nothing is remembered.

    Args:
        row: The model.
        accepted: The user said --accept-licence.

    Returns:
        Whether the model may be fetched: always, for a licence that asks for nothing.

    Raises:
        ModelError: The conditions must be accepted, and nobody can be asked.
    """
    if row.licence_conditions is None or accepted:
        return True
    if not _somebody_is_there():
        refuse_without_consent(row, accepted=False)
    place = f" ({row.licence_url})" if row.licence_url else ""
    say(f"{row.title} comes under {row.licence}{place}. {row.licence_conditions}")
    # Consent is never the default.
    return click.confirm("Do you accept this?", default=False, err=True)


def fetch(
    row: RegistryRow,
    *,
    precision: Precision = "fp32",
    accept_licence: bool = False,
    replace: bool = False,
) -> str | None:
    """Download a model, with progress on a terminal, and install it once its towers have worked.

    Args:
        row: The model.
        precision: Of the weights.
        accept_licence: The user said --accept-licence.
        replace: Take the place of an installed model of the same name.

    Returns:
        The name that it is installed under; None when its conditions were not accepted.

    Raises:
        DownloadError: It could not be fetched.
        ModelError: There is nothing to fetch, the name is taken, the conditions must be accepted
            and nobody can be asked, or the towers do not work.
    """
    # Here, so that a question, which fetches nothing, does not wait for it.
    from siglip_search.engine.chosen_model import embed_something

    models_dir = models_directory()
    # Before the conditions: nobody shall read a licence and learn then that there is nothing.
    name = name_to_pull(row, models_dir, precision=precision, replace_old=replace)
    if not accept_conditions(row, accepted=accept_licence):
        say(f"{name} was not fetched")
        return None
    announced = False
    with download_line(enabled=sys.stderr.isatty()) as show:

        def report(progress: PullProgress) -> None:
            nonlocal announced
            if not announced:
                # The row has the size in fp32 alone, and that is a rounded one.
                size = f"{progress.total_bytes / 1e6:,.0f} MB"
                say(f"fetching {name}: {_described(row, size)}")
                announced = True
            show(progress)

        spec = pull(
            row,
            models_dir,
            precision=precision,
            accept_licence=True,
            replace_old=replace,
            check=embed_something,
            on_progress=report,
            on_wait=lambda: say(f"another process is fetching {name}; waiting for it"),
        )
    say(f"{spec.name} is ready in {spec.directory}")
    return spec.name


def _described(row: RegistryRow, size: str) -> str:
    return ", ".join([size, *shown_languages(row.languages), row.licence])


def shown_languages(languages: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a model understands, in words where that is one language."""
    return ("English only",) if languages == ("en",) else languages


def _somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
