"""`siglip-search model`: which models there are, and getting one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from siglip_search.cli.console import json_option, print_json, say
from siglip_search.cli.model_choice import describe, fetch
from siglip_search.engine.chosen_model import add_model, all_installed
from siglip_search.models.files import remove_model
from siglip_search.models.registry import broken_models, find_row, registry_rows
from siglip_search.settings import models_directory

if TYPE_CHECKING:
    from siglip_search.models.registry import RegistryRow
    from siglip_search.models.spec import ModelSpec


@click.group()
def model() -> None:
    """List, add, fetch and remove models."""


@model.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List every known model, and whether it is on this machine."""
    installed = {spec.name: spec for spec in all_installed()}
    rows = {row.name: row for row in registry_rows()}
    if as_json:
        models = []
        for name in {**rows, **installed}:
            # What we know of a model goes before what its folder says of itself.
            known: RegistryRow | ModelSpec = rows.get(name) or installed[name]
            models.append(
                {
                    "name": name,
                    "title": known.title,
                    "installed": name in installed,
                    "licence": known.licence,
                    "languages": known.languages,
                    "download_bytes": rows[name].download_bytes if name in rows else None,
                    "directory": installed[name].directory if name in installed else None,
                }
            )
        print_json(models)
        return
    width = max(len(name) for name in {**rows, **installed})
    for name, row in rows.items():
        mark = "*" if name in installed else " "
        print(f"{mark} {name:{width}}  {describe(row)}. {row.help}")
    for name, spec in installed.items():
        if name not in rows:
            print(f"* {name:{width}}  your own, {', '.join(spec.languages)}, {spec.licence}")
    for broken in broken_models(models_directory()):
        say(f"warning: {broken.directory} cannot be used: {broken.error}")
    print("(* on this machine; `siglip-search model pull NAME` fetches another)")


@model.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Take the place of a model of the same name.")
def add(directory: Path, replace: bool) -> None:
    """Add the model in DIRECTORY, a folder with a model.toml, two ONNX towers and a tokenizer."""
    spec = add_model(directory, replace=replace)
    say(f"added {spec.name}; use it with: siglip-search index --model {spec.name} PATH")


@model.command("pull")
@click.argument("name")
def pull_model(name: str) -> None:
    """Fetch the model NAME from the hub."""
    row = find_row(name)
    if row.bundled:
        say(f"{name} comes with the program; there is nothing to fetch")
        return
    say(f"fetching {name}: {describe(row)}")
    fetch(row)


@model.command()
@click.argument("name")
def remove(name: str) -> None:
    """Delete the files of the model NAME; libraries made with it keep their vectors."""
    remove_model(name, models_directory())
    say(f"removed {name}")
