"""`siglip-search paths`: where everything lives."""

from __future__ import annotations

import os

import click

from siglip_search.cli.console import (
    chosen_library,
    json_option,
    library_option,
    print_json,
    shown,
)
from siglip_search.engine.thumbnail_cache import thumbnail_cache_file
from siglip_search.settings import data_directory, models_directory, settings_file


@click.command()
@json_option
@library_option
def paths(as_json: bool) -> None:
    """Show where the library, the models and the settings are."""
    places = {
        "library": chosen_library().directory,
        "models": models_directory(),
        "settings": settings_file(),
        "data": data_directory(),
        "thumbnails": thumbnail_cache_file(),
    }
    if as_json:
        print_json(places)
        return
    for name, place in places.items():
        missing = "" if os.path.exists(place) else "  (not there yet)"
        print(f"{name:10} {shown(str(place))}{missing}")
