"""The bench: models of one checkpoint side by side, on every device, and what that decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from siglip_search.engine.agreement import (
    deciding_figures,
    is_decided,
    is_simulation,
    verdict,
)
from siglip_search.engine.bench_timing import time_model
from siglip_search.engine.calibration_record import calibration_record, is_calibrated
from siglip_search.engine.comparison import Contender, compare_models
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.errors import SiglipSearchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siglip_search.engine.agreement import Figures
    from siglip_search.engine.bench_timing import BenchDevice, TimedTower, TowerName
    from siglip_search.engine.comparison import Lineup
    from siglip_search.models.spec import ModelSpec
    from siglip_search.photos.decode import DecodeLimits

RECORD_MISSING: Final = "may have been quantised with some of these pictures: decides nothing"


@dataclass(frozen=True, slots=True)
class BenchedModel:
    """One model in a bench.

    Attributes:
        spec: The model.
        rows: Each of its towers on each device.
        figures: How it agrees with the reference, by device; empty for the reference on the
            processor, which is what the others are compared with, and where nothing was compared.
        may_overlap: It was quantised with pictures of the user's, and with which was not noted.
        compared: A comparison with the reference was tried, for there were pictures. Without
            figures none of them could be used.
        failure: What broke the comparison off, of this model or another one, and what can be done
            about that; "" if nothing did.
    """

    spec: ModelSpec
    rows: tuple[TimedTower, ...]
    figures: dict[str, Figures] = field(default_factory=dict)
    may_overlap: bool = False
    compared: bool = False
    failure: str = ""

    @property
    def devices(self) -> list[BenchDevice]:
        """Where both its towers ran."""
        return _ran_on(self.rows)

    @property
    def deciding(self) -> Figures | None:
        """The figures that decide whether it may share the space of its reference, if any do."""
        if self.spec.variant is None or self.may_overlap:
            return None
        figures = deciding_figures(self.spec, self.figures)
        return figures if figures is not None and is_decided(self.spec, figures) else None

    def verdict(self, device: str) -> str:
        """Return in a few words what its figures on a device say."""
        if is_simulation(self.spec, device):
            return "a simulation: decides nothing"
        if self.may_overlap:
            return RECORD_MISSING
        return verdict(self.spec, self.figures[device])


@dataclass(frozen=True, slots=True)
class BenchListener:
    """Who wants to know how far a bench is.

    Attributes:
        on_row: Called with the model's name, the tower and the device before it is timed.
        on_timed: Called with the model's name and what was measured, after each.
        on_comparison: Called with the seconds that comparing will take, roughly, and with the most
            pictures.
        on_progress: Called with the number of pictures compared so far.
    """

    on_row: Callable[[str, TowerName, BenchDevice], None] = lambda _model, _tower, _device: None
    on_timed: Callable[[str, TimedTower], None] = lambda _model, _row: None
    on_comparison: Callable[[float, int], None] = lambda _seconds, _pictures: None
    on_progress: Callable[[int], None] = lambda _: None


def bench_models(
    lineup: Lineup,
    paths: Sequence[bytes],
    *,
    devices: Sequence[BenchDevice],
    pictures: int,
    cores: int,
    limits: DecodeLimits,
    listener: BenchListener | None = None,
) -> list[BenchedModel]:
    """Time both towers of every model on every device, then compare what ran with the reference.

    What was timed stays if a comparison fails, which takes place in this process; the failure is
    noted with each model that was to be compared.

    Args:
        lineup: Who is compared with whom.
        paths: Pictures in the order in which they are taken; may be empty.
        devices: Usable ones, at least one.
        pictures: Most pictures to compare, >= 1.
        cores: Pictures embedded at the same time, >= 1.
        limits: What decoding one picture may cost.
        listener: Who wants to know.

    Returns:
        The reference first, then the variants in their order.
    """
    listener = listener or BenchListener()
    specs = (lineup.reference, *lineup.variants)
    rows: list[tuple[TimedTower, ...]] = []
    for spec in specs:

        def on_row(tower: TowerName, device: BenchDevice, name: str = spec.name) -> None:
            listener.on_row(name, tower, device)

        def on_timed(row: TimedTower, name: str = spec.name) -> None:
            listener.on_timed(name, row)

        rows.append(
            tuple(time_model(spec, devices, callers=cores, on_row=on_row, on_timed=on_timed))
        )
    contenders = [
        Contender(spec, device)
        for spec, its in zip(specs, rows, strict=True)
        for device in _ran_on(its)
        if (spec, device) != (lineup.reference, "cpu")
    ]
    compared: list[Figures] = []
    failure = ""
    tried = bool(contenders and paths) and lineup.reference.variant is None
    if tried:
        held_out = frozenset[str]().union(
            *(calibration_record(spec.directory) or () for spec in lineup.variants)
        )
        # How many of these pictures are held out shows only when they are decoded.
        number = min(pictures, len(paths))
        everything = [row for its in rows for row in its]
        listener.on_comparison(_seconds_to_compare(everything, number, cores), number)
        try:
            compared = compare_models(
                lineup.reference,
                contenders,
                paths,
                pictures=pictures,
                cores=cores,
                limits=limits,
                held_out=held_out,
                on_progress=listener.on_progress,
            )
        except SiglipSearchError as error:
            failure = f"{error}. {error.hint}" if error.hint else str(error)
    found = list(zip(contenders, compared, strict=bool(compared)))
    return [
        BenchedModel(
            spec,
            its,
            {who.device: figures for who, figures in found if who.spec == spec},
            may_overlap=is_calibrated(spec) and calibration_record(spec.directory) is None,
            compared=tried,
            failure=failure,
        )
        for spec, its in zip(specs, rows, strict=True)
    ]


def _ran_on(rows: Sequence[TimedTower]) -> list[BenchDevice]:
    """Return the devices on which every tower was timed."""
    failed = {row.device for row in rows if row.timing is None}
    return [device for device in dict.fromkeys(row.device for row in rows) if device not in failed]


def _seconds_to_compare(rows: Sequence[TimedTower], pictures: int, cores: int) -> float:
    """Return about how long embedding the pictures and queries takes."""
    milliseconds = 0.0
    for row in rows:
        if row.timing is not None:
            number = pictures / cores if row.tower == "picture" else len(PHRASES)
            milliseconds += number * row.timing.median_ms
    return milliseconds / 1e3
