"""What every command shares: where the library is, and how things are said."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from siglip_search.cli.suggestions import installed_model_names
from siglip_search.errors import PathError
from siglip_search.settings import load_settings
from siglip_search.towers.session import DEVICES
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.engine.library import Library
    from siglip_search.settings import Settings
    from siglip_search.towers.session import Device

F = TypeVar("F", bound="Callable[..., Any]")

EXIT_MATCH = 0
EXIT_NO_MATCH = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

COMPLETION_VARIABLE = "_SIGLIP_SEARCH_COMPLETE"
"""Set by a shell that asks for completions, under the name that click derives."""


def _remember_library(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(dict)["library"] = value


def library_option(command: F) -> F:
    """Add --library to a command; it may stand before or after the command's name."""
    return click.option(
        "--library",
        metavar="DIR",
        type=click.Path(),
        expose_value=False,
        callback=_remember_library,
        help="Folder of the library (or set SIGLIP_SEARCH_LIBRARY).",
    )(command)


def model_option(command: F) -> F:
    """Add --model to a command."""
    return click.option(
        "--model",
        metavar="NAME",
        shell_complete=installed_model_names,
        help="Model to use; by default the one that the library answers with.",
    )(command)


def device_option(command: F) -> F:
    """Add --device to a command."""
    return click.option(
        "--device",
        type=click.Choice(DEVICES),
        help="Where the model runs; `siglip-search devices` shows what there is.  [default: auto]",
    )(command)


def json_option(command: F) -> F:
    """Add --json to a command whose result is one object."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def chosen_settings(*, device: Device | None = None) -> Settings:
    """Return the settings, with the library that --library, the environment or they name.

    Raises:
        SettingsError: They have no meaning.
        PathError: The library cannot be there.
    """
    settings = load_settings()
    if device is not None:
        settings = dataclasses.replace(settings, device=device)
    directory = (click.get_current_context().obj or {}).get("library")
    if directory is not None:
        settings = dataclasses.replace(settings, library=absolute_path(directory))
    if settings.library.is_file():
        raise PathError(
            f"the library {settings.library} is a file", hint="Name a folder, new or its own."
        )
    return settings


def chosen_library(
    *, model: str | None = None, one_shot: bool = False, device: Device | None = None
) -> Library:
    """Return the library that --library, the environment or the settings name.

    Raises:
        SettingsError, PathError: As `chosen_settings`.
    """
    # Here: a question that a daemon answers needs none of it.
    from siglip_search.engine.library import Library

    return Library(chosen_settings(device=device), model=model, one_shot=one_shot)


def print_json(value: object) -> None:
    """Print a value as one line of JSON, at once; bytes become text as os.fsdecode does it.

    Only ASCII is written: a path that is not text survives as escaped surrogates, so that
    json.loads and os.fsencode give back the very bytes.
    """
    print(json.dumps(value, default=_jsonable), flush=True)


def _jsonable(value: object) -> object:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def print_path(path: str, *, end: bytes = b"\n") -> None:
    """Print a path as the bytes that it is on disk."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + end)


def shown(path: str | bytes) -> str:
    """Return a path for people: one line, nothing in it that a terminal would obey."""
    text = os.fsdecode(path)
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def say(message: str) -> None:
    """Print a line for people to stderr, where it is in no pipe's way."""
    print(message, file=sys.stderr, flush=True)


def count(number: int, one: str, many: str | None = None) -> str:
    """Return "1 picture", "1,200 pictures"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """Return a time span as people say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
