"""The options that say which pictures are meant, the same for every command that takes them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

import click

from siglip_index.records import Orientation, Where
from siglip_search.errors import QueryError
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

F = TypeVar("F", bound="Callable[..., Any]")

_META_KEY: Final = "siglip_search.filter_options"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which pictures are meant.

    Attributes:
        where: What the library itself can tell.
        places: Names of places, to be looked up.
    """

    where: Where = field(default_factory=Where)
    places: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True when all pictures are meant."""
        return self == Filter()


def filter_options(command: F) -> F:
    """Add the options to a command; what was written is fetched with `chosen_filter`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_filter(context: click.Context) -> Filter:
    """Return what the options of the running command say.

    Raises:
        QueryError: One of them has no meaning, or two contradict each other.
        PathError: A folder cannot be named so.
    """
    typed = context.meta.get(_META_KEY)
    if not typed:
        return Filter()
    # The local clock, as cameras show it.
    where = _where(typed, datetime.now())
    return Filter(where, typed.get("place", ()))


def _where(typed: Mapping[str, Any], now: datetime) -> Where:
    # Here: a question without conditions needs none of it.
    from siglip_search.search import filters

    width, height, pixels = (
        filters.least_size(typed["min_size"]) if "min_size" in typed else (None, None, None)
    )
    if "within" in typed and "near" not in typed:
        raise QueryError(
            "--within needs a position to be near to",
            hint='Add one: --near "48.85,2.35" --within 5km',
        )
    after, before = typed.get("after"), typed.get("before")
    where = Where(
        under=_folders(typed.get("under", ())),
        formats=filters.formats_of(",".join(typed["type"])) if "type" in typed else (),
        taken_from=None if after is None else filters.moment_of(after, "--after", now),
        taken_before=None if before is None else filters.moment_of(before, "--before", now),
        changed_from=(
            filters.changed_since(typed["changed_within"], "--changed-within", now)
            if "changed_within" in typed
            else None
        ),
        near=filters.circle_of(typed["near"], typed.get("within")) if "near" in typed else None,
        cameras=typed.get("camera", ()),
        lenses=typed.get("lens", ()),
        orientation=_orientation(typed),
        min_width=width,
        min_height=height,
        min_pixels=pixels,
        has_gps=typed.get("has_gps"),
        min_rating=typed.get("min_rating"),
        keywords=typed.get("keyword", ()),
        tags=typed.get("tag", ()),
    )
    if (
        where.taken_from is not None
        and where.taken_before is not None
        and where.taken_from >= where.taken_before
    ):
        raise QueryError(
            f"no time is after {after} and before {before}",
            hint="--after is the earlier one; --before means before its beginning.",
        )
    return where


def _folders(typed: Iterable[str]) -> tuple[bytes, ...]:
    """Return the folders as they were named, and where links on the way to them lead."""
    found: dict[bytes, None] = {}
    for path in map(absolute_path, typed):
        found[os.fsencode(path)] = None
        # A folder is indexed under one name and asked for by another; on Windows the other may
        # differ in its case only.
        with suppress(OSError):
            found[os.fsencode(os.path.realpath(path))] = None
    return tuple(found)


def _orientation(typed: Mapping[str, Any]) -> Orientation | None:
    chosen: list[Orientation] = [name for name in get_args(Orientation) if typed.get(name)]
    if len(chosen) > 1:
        raise QueryError(
            f"no picture is {chosen[0]} and {chosen[1]}", hint=f"Choose one: --{chosen[0]}."
        )
    return chosen[0] if chosen else None


def typed_times(context: click.Context) -> dict[str, str]:
    """Return what was written for --after, --before and --changed-within.

    Where a search is kept, "3w" shall mean the last three weeks of the day on which it is asked.

    Returns:
        By "after", "before" and "changed_within"; what was not given is left out.
    """
    typed = context.meta.get(_META_KEY, {})
    return {name: typed[name] for name in ("after", "before", "changed_within") if name in typed}


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value is None or value == ():
        return
    texts = value if isinstance(value, tuple) else (value,)
    if any(isinstance(text, str) and not text.strip() for text in texts):
        raise QueryError(
            f"{option.opts[0]} holds nothing", hint="Is a variable of the shell unset?"
        )
    context.meta.setdefault(_META_KEY, {})[option.name] = value


def _option(*names: str, **settings: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_remember, **settings)


def _each(name: str, metavar: str, help: str, **settings: Any) -> Callable[[F], F]:  # noqa: A002
    return _option(name, metavar=metavar, multiple=True, help=help, **settings)


_OPTIONS: Final[tuple[Callable[..., Any], ...]] = (
    _option(
        "--after",
        metavar="TIME",
        help="Taken at this time or later: 2024, 2024-06-03, yesterday, 3w. Without a capture time"
        " the file's own counts.",
    ),
    _option("--before", metavar="TIME", help="Taken before the beginning of this time."),
    _option(
        "--changed-within",
        metavar="SPAN",
        help="With a file that changed within this time: 10d, 3w, 6mo, 2y.",
    ),
    _option("--near", metavar="LAT,LON", help="Taken near this position: 48.85,2.35."),
    _option(
        "--within",
        metavar="DISTANCE",
        help="How near, with --near: 500m, 5km, 3mi.  [default: 1km]",
    ),
    _each("--place", "NAME", "Taken in this place; again for another one that will do."),
    _each("--camera", "TEXT", "Taken with a camera whose name holds this; again for another."),
    _each("--lens", "TEXT", "Taken with a lens whose name holds this; again for another."),
    _each("--under", "FOLDER", "In this folder or below; again for another.", type=click.Path()),
    _each("--type", "EXT", "Of this format: jpg, heic,png or raw; again for another."),
    _option("--portrait", is_flag=True, default=None, help="Higher than wide."),
    _option("--landscape", is_flag=True, default=None, help="Wider than high."),
    _option("--square", is_flag=True, default=None, help="As wide as high."),
    _option("--min-size", metavar="SIZE", help="At least so large: 2000x1500 or 12MP."),
    _option("--has-gps/--no-gps", default=None, help="With a position, or without one."),
    _option("--min-rating", type=click.IntRange(1, 5), help="With so many stars, or more."),
    _each("--keyword", "WORD", "With this keyword; again for all of several."),
    _each("--tag", "LABEL", "With this tag (see `siglip-search tag`); again for all of several."),
)
