"""`siglip-search model`: which models there are, and getting one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from click.core import ParameterSource

from siglip_search.cli.beside_daemon import daemon_aside
from siglip_search.cli.console import (
    F,
    chosen_library,
    count,
    library_option,
    print_json,
    say,
)
from siglip_search.cli.lazy_group import LazyGroup
from siglip_search.cli.model_choice import describe, fetch, shown_languages
from siglip_search.cli.suggestions import installed_model_names, known_model_names
from siglip_search.engine.chosen_model import add_foreign_model, add_model, all_installed
from siglip_search.models.registry import broken_models, find_row, registry_rows
from siglip_search.models.spec import MIN_PICTURES, Precision, PublishedPrecision
from siglip_search.settings import models_directory, own_models_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.models.registry import RegistryRow
    from siglip_search.models.spec import ModelSpec


def _precision_option(help_text: str) -> Callable[[F], F]:
    return click.option(
        "--precision",
        type=click.Choice(get_args(PublishedPrecision)),
        default="fp32",
        show_default=True,
        help=help_text,
    )


def _known_row(name: str) -> RegistryRow:
    return find_row(name, own_models_file())


@click.group(
    cls=LazyGroup,
    members={
        "export": "model_export_cmd",
        "quantize": "model_quantize_cmd",
        "bench": "model_bench_cmd",
        "compile": "model_compile_cmd",
        "import": "model_import_cmd",
    },
)
def model() -> None:
    """List, fetch, choose, make, measure and remove models."""


@model.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_models(as_json: bool) -> None:
    """List every known model, and whether it is on this machine."""
    installed = {spec.name: spec for spec in all_installed()}
    rows = {row.name: row for row in registry_rows(own_models_file())}
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
                    "disk_bytes": installed[name].disk_bytes if name in installed else None,
                    "agreement": _agreement(installed[name]) if name in installed else None,
                }
            )
        print_json(models)
        return
    width = max(len(name) for name in {**rows, **installed})
    for name, row in rows.items():
        mark, taken = " ", ""
        if name in installed:
            mark, taken = "*", f" {_on_disk(installed[name])}."
        print(f"{mark} {name:{width}}  {describe(row)}. {row.help}{taken}")
    for name, spec in installed.items():
        if name not in rows:
            origin = f"made from {spec.variant.of}" if spec.variant else "your own"
            facts = ", ".join([origin, *shown_languages(spec.languages), spec.licence])
            print(f"* {name:{width}}  {facts}. {_on_disk(spec)}.")
    for broken in broken_models(models_directory()):
        say(f"warning: {broken.directory} cannot be used: {broken.error}")
    print("(* on this machine; `siglip-search model pull NAME` fetches another)")


@model.command("add")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "row_name",
    metavar="NAME",
    help="DIRECTORY has no model.toml: it holds the files of this known model as others lay them "
    "out (onnx/vision_model.onnx, or visual/model.onnx).",
)
@_precision_option("Of the towers to take, with --as.")
@click.option(
    "--logit-scale", type=float, help="The model's scale after exp(), where no file there says it."
)
@click.option("--logit-bias", type=float, help="The model's bias, with --logit-scale.")
@click.option("--replace", is_flag=True, help="Take the place of a model of the same name.")
def add(
    directory: Path,
    row_name: str | None,
    precision: Precision,
    logit_scale: float | None,
    logit_bias: float | None,
    replace: bool,
) -> None:
    """Add the model in DIRECTORY, a folder with a model.toml, two ONNX towers and a tokenizer."""
    _refuse_idle_options(row_name, logit_scale, logit_bias)
    if row_name is None:
        spec = add_model(directory, replace=replace)
    else:
        spec = add_foreign_model(
            directory,
            _known_row(row_name),
            precision=precision,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            replace=replace,
        )
    say(f"added {spec.name}; a library takes it with: siglip-search model use {spec.name}")


@model.command("pull")
@click.argument("name", shell_complete=known_model_names)
@_precision_option("Of the weights; another one than fp32 is installed as NAME-PRECISION.")
@click.option(
    "--accept-licence", is_flag=True, help="Accept the conditions of the weights, if there are any."
)
@click.option("--replace", is_flag=True, help="Take the place of a model of the same name.")
def pull_model(name: str, precision: Precision, accept_licence: bool, replace: bool) -> None:
    """Fetch the model NAME from the hub.

    What has arrived is kept when it is stopped or cut off: the next pull goes on from there. The
    model is installed once both its towers have embedded something.
    """
    row = _known_row(name)
    if row.bundled:
        say(f"{name} comes with the program; there is nothing to fetch")
        return
    fetch(row, precision=precision, accept_licence=accept_licence, replace=replace)


@model.command("use")
@click.argument("name", shell_complete=installed_model_names)
@click.option("--now", is_flag=True, help="Do not wait for pictures that are not embedded yet.")
@library_option
def use_model(name: str, now: bool) -> None:
    """Let the library answer with the model NAME.

    The former model answers until every picture has been embedded with the new one, which
    `siglip-search index` does; then the library switches at once. The former vectors stay, so
    that the way back is free, until `siglip-search model remove`. Choosing the model that answers
    now cancels a switch.
    """
    with chosen_library() as library, daemon_aside(library.directory):
        switch = library.use_model(name, now=now)
    if switch.coming is not None:
        say(
            f"{count(switch.left, 'picture')} of {switch.pictures:,} to be embedded with "
            f"{switch.coming}: `siglip-search index` does it, and {switch.model} answers until then"
        )
    elif switch.left:
        say(
            f"{switch.model} answers; {count(switch.left, 'picture')} of {switch.pictures:,} "
            "cannot be found until `siglip-search index` has embedded them"
        )
    else:
        say(f"{switch.model} answers")


@model.command("remove")
@click.argument("name", shell_complete=installed_model_names)
@click.option("--force", is_flag=True, help="Delete its files even if the library answers with it.")
@library_option
def remove_model(name: str, force: bool) -> None:
    """Delete the model NAME and the vectors that it made for the library.

    Refused for the model that the library answers with; other libraries keep their vectors. Of
    the bundled model only the vectors go.
    """
    with chosen_library() as library, daemon_aside(library.directory):
        vectors = library.remove_model(name, force=force)
    say(f"removed {name}" + (f" and {count(vectors, 'vector')}" if vectors else ""))


def _refuse_idle_options(
    row_name: str | None, logit_scale: float | None, logit_bias: float | None
) -> None:
    """Raise for an option of `add` that would change nothing: the user expects it to.

    Raises:
        click.UsageError: Which says what it needs.
    """
    source = click.get_current_context().get_parameter_source("precision")
    given = {
        "--precision": source is not ParameterSource.DEFAULT,
        "--logit-scale": logit_scale is not None,
        "--logit-bias": logit_bias is not None,
    }
    idle = [option for option, is_given in given.items() if is_given]
    if row_name is None and idle:
        raise click.UsageError(
            f"{' and '.join(idle)} need --as NAME: a model.toml says it of its model itself"
        )
    if logit_bias is not None and logit_scale is None:
        raise click.UsageError("--logit-bias needs --logit-scale: give both, or neither")


def _on_disk(spec: ModelSpec) -> str:
    size = f"{spec.disk_bytes / 1e6:,.0f} MB on disk"
    agreement = _agreement(spec)
    return size if agreement is None else f"{size}, {agreement}"


def _agreement(spec: ModelSpec) -> str | None:
    """Return whether a variant shares the embedding space of its original; None for no variant."""
    if spec.variant is None:
        return None
    agreement = spec.variant.agreement
    if agreement is None or agreement.pictures < MIN_PICTURES:
        return f"not yet shown to agree with {spec.variant.of}"
    if agreement.passed:
        return f"agrees with {spec.variant.of}"
    return f"differs from {spec.variant.of}"
