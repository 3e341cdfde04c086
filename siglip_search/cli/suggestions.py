"""What a shell may offer when Tab is pressed, beyond what click knows by itself.

A library that is missing or damaged, or settings without meaning, must not print anything amid
somebody's typing: then nothing is offered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_index.errors import StoreError
from siglip_search.errors import SiglipSearchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click


def installed_model_names(
    context: click.Context, parameter: click.Parameter, typed: str
) -> list[str]:
    """Offer the models that can be used now."""
    from siglip_search.engine.chosen_model import all_installed

    try:
        return _beginning_with(typed, (spec.name for spec in all_installed()))
    except (SiglipSearchError, StoreError, OSError):
        return []


def known_model_names(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Offer the models that can be fetched or exported."""
    from siglip_search.models.registry import registry_rows
    from siglip_search.settings import own_models_file

    try:
        return _beginning_with(typed, (row.name for row in registry_rows(own_models_file())))
    except (SiglipSearchError, OSError):
        return []


def saved_search_names(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Offer the searches that the library keeps."""
    from siglip_search.cli.console import chosen_library

    try:
        with context.scope(), chosen_library() as library:
            return _beginning_with(typed, library.saved_searches().names())
    except (SiglipSearchError, StoreError, OSError):
        return []


def _beginning_with(typed: str, names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(typed)]
