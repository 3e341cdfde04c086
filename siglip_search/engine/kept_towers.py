"""A picture tower, and its decoding processes, that stay from one run to the next."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from siglip_search.engine.cheaper_choices import embedding_seconds
from siglip_search.engine.kept_decoders import KeptDecoders, new_decoders
from siglip_search.engine.substitutes import substitutes_on_cpu
from siglip_search.errors import DeviceError, ModelError
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from siglip_search.ingest.pipeline import Decoders
    from siglip_search.models.spec import ModelSpec
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.towers.preprocess import Preprocessor
    from siglip_search.towers.session import Device

_log = logging.getLogger(__name__)


class Towers(Protocol):
    """Where a run gets its picture tower from."""

    def open(
        self, spec: ModelSpec, device: Device, on_notice: Callable[[str], None]
    ) -> VisionTower:
        """Return the picture tower of a model.

        Args:
            spec: The model.
            device: Where it shall run.
            on_notice: As for `VisionTower`, for this run.

        Raises:
            ModelError, DeviceError: As `VisionTower`.
        """
        ...

    def seconds_per_picture(self, spec: ModelSpec, tower: VisionTower) -> float:
        """Return how long the tower takes for a picture, measured; see `embedding_seconds`."""
        ...

    def decoders(
        self, preprocessor: Preprocessor, *, workers: int, limits: DecodeLimits
    ) -> Decoders:
        """Return decoding processes for one run, which closes them.

        Args:
            preprocessor: Of the run's tower.
            workers: Most processes, >= 1.
            limits: What one picture may cost.
        """
        ...

    def unload(self) -> None:
        """Let the tower go, once no run uses it any more, and what it holds in memory."""
        ...


class NewTowers:
    """Opens a tower for each run, which ends with it."""

    def open(
        self, spec: ModelSpec, device: Device, on_notice: Callable[[str], None]
    ) -> VisionTower:
        """See `Towers.open`."""
        return open_tower(spec, device, on_notice)

    def seconds_per_picture(self, spec: ModelSpec, tower: VisionTower) -> float:
        """See `Towers.seconds_per_picture`."""
        return embedding_seconds(spec, tower)

    def decoders(
        self, preprocessor: Preprocessor, *, workers: int, limits: DecodeLimits
    ) -> Decoders:
        """See `Towers.decoders`."""
        return new_decoders(preprocessor, workers, limits)

    def unload(self) -> None:
        """Nothing is kept."""


@dataclass(slots=True)
class _Kept:
    """An open tower.

    Attributes:
        spec: Its model.
        device: Where it was to run.
        stamps: Times of its folder and file, which change when the model is fetched or compiled
            anew.
        tower: The tower.
        seconds_per_picture: As measured once; None before.
    """

    spec: ModelSpec
    device: Device
    stamps: tuple[int, ...]
    tower: VisionTower
    seconds_per_picture: float | None = None


class KeptTowers:
    """Keeps the tower of the last run until another one is asked for, or it is let go.

    Safe to use from several threads: a tower that is let go while a run uses it ends with that
    run. One is kept and no more, for two of the large ones would fill a small machine's memory.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept | None = None
        self._decoders = KeptDecoders()
        self._last_ran_on: tuple[str, str] | None = None
        self._on_notice: Callable[[str], None] = _log.warning

    @property
    def ran_on(self) -> tuple[str, str] | None:
        """Device and precision of the tower that is open, or was last; None before the first."""
        with self._lock:
            if self._kept is not None:
                self._last_ran_on = self._kept.tower.device, self._kept.tower.precision
            return self._last_ran_on

    @property
    def is_warm(self) -> bool:
        """Whether a tower is open, or decoding processes wait."""
        with self._lock:
            return self._kept is not None or self._decoders.is_warm

    def open(
        self, spec: ModelSpec, device: Device, on_notice: Callable[[str], None]
    ) -> VisionTower:
        """See `Towers.open`."""
        stamps = _stamps(spec)
        with self._lock:
            self._on_notice = on_notice
            kept = self._kept
            if kept is not None and (kept.spec, kept.device, kept.stamps) == (spec, device, stamps):
                return kept.tower
            self._kept = kept = None  # the former one goes before the next comes
        tower = open_tower(spec, device, self._tell)
        with self._lock:
            self._kept = _Kept(spec, device, stamps, tower)
            self._last_ran_on = tower.device, tower.precision
        return tower

    def seconds_per_picture(self, spec: ModelSpec, tower: VisionTower) -> float:
        """See `Towers.seconds_per_picture`; measured once for each tower."""
        with self._lock:
            kept = self._kept
        if kept is None or kept.tower is not tower:
            return embedding_seconds(spec, tower)
        if kept.seconds_per_picture is None:
            try:
                kept.seconds_per_picture = embedding_seconds(spec, tower)
            except (ModelError, DeviceError):
                self.unload()
                raise
        return kept.seconds_per_picture

    def decoders(
        self, preprocessor: Preprocessor, *, workers: int, limits: DecodeLimits
    ) -> Decoders:
        """See `Towers.decoders`; those of small runs are kept."""
        return self._decoders.lend(preprocessor, workers, limits)

    def unload(self) -> None:
        """See `Towers.unload`."""
        self._decoders.unload()
        with self._lock:
            self._kept = None

    def _tell(self, notice: str) -> None:
        with self._lock:
            tell = self._on_notice
        tell(notice)


def open_tower(spec: ModelSpec, device: Device, on_notice: Callable[[str], None]) -> VisionTower:
    """Open a picture tower as a run uses it: several callers with one thread each.

    Args:
        spec: The model.
        device: Where it shall run.
        on_notice: As for `VisionTower`.

    Raises:
        ModelError, DeviceError: As `VisionTower`.
    """
    return VisionTower(
        spec,
        threads=1,
        device=device,
        substitutes=partial(substitutes_on_cpu, spec),
        on_notice=on_notice,
    )


def _stamps(spec: ModelSpec) -> tuple[int, ...]:
    stamps = []
    for path in (spec.directory, spec.vision_path):
        with suppress(OSError):  # the tower itself says what is wrong
            stamps.append(path.stat().st_mtime_ns)
    return tuple(stamps)
