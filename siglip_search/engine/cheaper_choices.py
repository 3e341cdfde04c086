"""Before a run of hours: what would be quicker here, each choice with its own estimate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siglip_search.engine.chosen_model import all_installed, bundled_models
from siglip_search.errors import DeviceError, ModelError
from siglip_search.models.registry import registry_rows
from siglip_search.settings import own_models_file
from siglip_search.towers.devices import is_compiled
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from siglip_search.models.registry import RegistryRow
    from siglip_search.models.spec import ModelSpec

LONG_RUN_SECONDS = 60 * 60.0

# How many times as fast int8 embeds: docs/precision.md, x86-64 with VNNI. The variant itself, once
# made, is timed instead.
INT8_TIMES_AS_FAST = 2.4

# 10^9 operations to embed a picture, counted from the layer sizes: what the registry's own sources
# say. Models that are not here are not offered.
GIGAFLOPS = {
    "siglip-base-patch16-224": 35,
    "siglip-base-patch16-384": 112,
    "siglip2-base-patch16-384": 112,
    "siglip-so400m-patch14-384": 670,
    "siglip2-so400m-patch14-384": 670,
}

# A choice must be worth reading about, and the newest pictures be there while somebody waits.
MOST_OF_THE_TIME = 0.75
SOON_SECONDS = 20 * 60.0


@dataclass(frozen=True, slots=True)
class RunCost:
    """What a run costs with the chosen model, wall clock.

    Attributes:
        pictures: Files to read, > 0.
        reading_seconds: The part that no model changes.
        embedding_seconds: The part of the model.
        seconds_per_picture: One embedding on one core.
    """

    pictures: int
    reading_seconds: float
    embedding_seconds: float
    seconds_per_picture: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.reading_seconds + self.embedding_seconds

    def with_model(self, times_as_fast: float) -> float:
        """Return the seconds with a model that embeds so many times as fast."""
        return self.reading_seconds + self.embedding_seconds / times_as_fast


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to be done sooner.

    Attributes:
        how: What to type.
        seconds: About how long the run takes then.
        remark: What it costs otherwise; "" if nothing.
    """

    how: str
    seconds: float
    remark: str = ""


def cheaper_choices(
    spec: ModelSpec, cost: RunCost, installed: Iterable[ModelSpec] | None = None, *, is_first: bool
) -> tuple[Choice, ...]:
    """Return what exists here and takes at most three quarters of the time, quickest last.

    Models of this machine are timed, which takes seconds; the others are told by their sizes.

    Args:
        spec: The chosen model.
        cost: With it.
        installed: The models of this machine; None to look.
        is_first: The library has no vectors of the model yet: another one loses nothing. Otherwise
            only models of the same embedding space are a choice.
    """
    models = list(all_installed() if installed is None else installed)
    choices = [*_installed(spec, cost, models, is_first=is_first)]
    choices += _to_quantize(spec, cost, models, is_first=is_first)
    if is_first:
        choices += _to_fetch(spec, cost, models)
    worth = [choice for choice in choices if choice.seconds <= MOST_OF_THE_TIME * cost.seconds]
    worth.sort(key=lambda choice: choice.seconds, reverse=True)
    newest = _newest(cost)
    return (*worth, *([newest] if newest is not None else []))


def _installed(
    spec: ModelSpec, cost: RunCost, models: list[ModelSpec], *, is_first: bool
) -> Iterator[Choice]:
    for other in models:
        fits = other.space_key == spec.space_key or (is_first and _understands(other, spec))
        # What comes with the program knows drawings only; what is compiled is for one device.
        if other.name == spec.name or not fits or other.name in bundled_models():
            continue
        if is_compiled(other.vision_path):
            continue
        try:
            seconds = embedding_seconds(other)
        except (ModelError, DeviceError):
            continue
        same_weights = other.checkpoint == spec.checkpoint
        yield Choice(
            f"--model {other.name}",
            cost.with_model(cost.seconds_per_picture / seconds),
            "" if same_weights else "another model, less exact",
        )


def _to_quantize(
    spec: ModelSpec, cost: RunCost, models: list[ModelSpec], *, is_first: bool
) -> Iterator[Choice]:
    name = f"{spec.name}-int8"
    is_there = any(model.name == name for model in models)
    is_full = spec.variant is None and spec.vision.precision == "fp32"
    # The new variant is a space of its own until it was compared on pictures of the library.
    if is_first and is_full and not is_there and spec.name not in bundled_models():
        yield Choice(
            f"siglip-search model quantize {spec.name}, then --model {name}",
            cost.with_model(INT8_TIMES_AS_FAST),
        )


def _to_fetch(spec: ModelSpec, cost: RunCost, models: list[ModelSpec]) -> Iterator[Choice]:
    own_work = GIGAFLOPS.get(spec.variant.of if spec.variant else spec.name)
    if own_work is None or spec.vision.precision != "fp32":
        return
    smaller = [
        row
        for row in _known_rows()
        if GIGAFLOPS.get(row.name, own_work) < own_work
        and _speaks(row.languages, spec.languages)
        and all(model.name != row.name for model in models)
    ]
    # The one that loses least.
    if smaller:
        row = max(smaller, key=lambda row: GIGAFLOPS[row.name])
        yield Choice(
            f"siglip-search model pull {row.name}, then --model {row.name}",
            cost.with_model(own_work / GIGAFLOPS[row.name]),
            "less exact",
        )


def _known_rows() -> list[RegistryRow]:
    try:
        return registry_rows(own_models_file())
    except ModelError:  # a mistake in the user's own rows, which other commands tell
        return registry_rows()


def _newest(cost: RunCost) -> Choice | None:
    some = int(SOON_SECONDS / (cost.seconds / cost.pictures))
    digits = len(str(some)) - 1
    rounded = some // 10**digits * 10**digits
    if not 0 < rounded < cost.pictures:
        return None
    return Choice(
        f"--newest {rounded}",
        cost.seconds * rounded / cost.pictures,
        "the others with the next run",
    )


def embedding_seconds(spec: ModelSpec, tower: VisionTower | None = None) -> float:
    """Return how long one picture takes on one core.

    Args:
        spec: The model.
        tower: Its picture tower, if it is open already.

    Raises:
        ModelError, DeviceError: It cannot be opened or fails.
    """
    tower = tower or VisionTower(spec, threads=1, device="cpu")
    height, width = spec.vision.image_size
    blank = np.zeros((1, height, width, 3), np.uint8)
    tower.embed(blank)  # the first run allocates and is not typical
    started = time.perf_counter()
    tower.embed(blank)
    return time.perf_counter() - started


def _understands(other: ModelSpec, spec: ModelSpec) -> bool:
    return _speaks(other.languages, spec.languages)


def _speaks(languages: Iterable[str], wanted: Iterable[str]) -> bool:
    return "multilingual" in languages or set(wanted) <= set(languages)
