"""Fetching a model for somebody who sits at the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import say
from siglip_search.cli.progress import download_line
from siglip_search.models.hub import pull
from siglip_search.models.registry import default_row, find_row
from siglip_search.settings import models_directory

if TYPE_CHECKING:
    from siglip_search.models.registry import RegistryRow


def offer_model(name: str | None) -> str | None:
    """Ask whether a model shall be fetched, and fetch it.

    Args:
        name: The one that was asked for; None for the usual one.

    Returns:
        Its name when it is on this machine now; None when nobody can be asked or the answer
        was no.

    Raises:
        UnknownModelError: No model is called so.
        DownloadError: It could not be fetched.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    row = find_row(name) if name else default_row()
    say(f"{row.title} ({describe(row)}) is not on this machine yet. {row.help}")
    if not click.confirm("Download it now?", default=True, err=True):
        return None
    fetch(row)
    return row.name


def describe(row: RegistryRow) -> str:
    """Return size, language and licence of a model in a few words."""
    size = "bundled" if row.bundled else f"{(row.download_bytes or 0) / 1e6:,.0f} MB"
    languages = "English only" if row.languages == ("en",) else ", ".join(row.languages)
    return f"{size}, {languages}, {row.licence}"


def fetch(row: RegistryRow) -> None:
    """Download a model, with progress on a terminal."""
    with download_line(enabled=sys.stderr.isatty()) as show:
        spec = pull(row, models_directory(), on_progress=show)
    say(f"{spec.name} is ready in {spec.directory}")
