"""What one tower costs on one device: time, loading, memory. In a process of its own.

    python -m siglip_search.engine.bench_timing FOLDER picture cpu --callers 2

A fresh process for each, because peak memory is a process's, a first load is, the NPU's library
keeps the first chip that it was told, and a driver that crashes must cost no more than its own row.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from siglip_search.engine.query_phrases import PHRASES
from siglip_search.errors import DeviceError, ModelError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.child_process import answer_parent, ask_child
from siglip_search.towers.process_memory import peak_memory_bytes
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.devices import OpenedSession

TowerName = Literal["picture", "text"]
BenchDevice = Literal["npu", "cpu", "npu-emulator"]

LEAST_RUNS_FOR_P95: Final = 20
"""Of fewer runs, no share of a twentieth can be told."""

_MODULE: Final = "siglip_search.engine.bench_timing"  # not __name__, which is __main__ in the child
_MOST_RUNS: Final = 100
_ENOUGH_SECONDS: Final = 1.5
"""Enough time once there are runs for a 95th percentile."""
_MOST_SECONDS: Final = 20.0
"""Time for a slow tower, which may then have fewer runs."""
_THROUGHPUT_SECONDS: Final = 1.5
_MOST_ROUNDS: Final = 50
_TIMEOUT_SECONDS: Final[dict[str, float]] = {"cpu": 600.0, "npu": 600.0, "npu-emulator": 3600.0}
"""For the emulator there is room: a picture of SigLIP base at 384 px took it a minute to embed
(docs/measurements/npu_true_shape.txt), larger towers and slower processors take longer."""


@dataclass(frozen=True, slots=True)
class TowerTiming:
    """What one tower costs on one device of this machine, now.

    Attributes:
        precision: Of the arithmetic where it is less than that of the weights, else of the weights.
        load_ms: Opening the tower (and the tokenizer with a text tower) in a process just started,
            the runtime's own library included, files in the disk's cache.
        runs: Inferences behind `median_ms` and `p95_ms`; the first one is left out, unless it took
            so long that it is the only one.
        median_ms: One picture or query a call, from prepared pixels or words to a unit vector. On
            the processor a picture takes one thread, as in indexing, and a query all of them.
        p95_ms: 95th percentile (nearest rank); None for fewer than `LEAST_RUNS_FOR_P95` runs.
        pictures_per_second: With `callers` pictures at the same time, as in indexing; None for text
            towers, and on the emulator.
        callers: Pictures embedded at the same time for that; None where it was not measured.
        peak_memory_bytes: Most physical memory of that process, Python and the runtime included;
            None where the system does not tell.
        nodes_npu: Nodes of the graph that run on the NPU; None on the processor.
        nodes_cpu: Nodes that run on the processor beside an NPU; None on the processor, where all
            of them do.
        file_bytes: Size of the files that were opened for it.
    """

    precision: str
    load_ms: float
    runs: int
    median_ms: float
    p95_ms: float | None
    pictures_per_second: float | None
    callers: int | None
    peak_memory_bytes: int | None
    nodes_npu: int | None
    nodes_cpu: int | None
    file_bytes: int


@dataclass(frozen=True, slots=True)
class TimedTower:
    """One row of the bench.

    Attributes:
        tower: Which of the model's two.
        device: Where it was to run.
        timing: What was measured; None if nothing was.
        reason: Why nothing was; "" if it was.
        hint: What can be done about that; "" if nothing.
    """

    tower: TowerName
    device: BenchDevice
    timing: TowerTiming | None
    reason: str = ""
    hint: str = ""


def time_model(
    spec: ModelSpec,
    devices: Sequence[BenchDevice],
    *,
    callers: int,
    on_row: Callable[[TowerName, BenchDevice], None] = lambda _tower, _device: None,
    on_timed: Callable[[TimedTower], None] = lambda _row: None,
) -> list[TimedTower]:
    """Time both towers of a model on each device, one after the other.

    A tower that does not run on a device, or takes its process down, is a row with the reason.

    Args:
        spec: An installed model.
        devices: Usable ones.
        callers: Pictures embedded at the same time for throughput, >= 1.
        on_row: Called before each is measured.
        on_timed: Called with each row.
    """
    rows: list[TimedTower] = []
    towers: tuple[TowerName, ...] = ("picture", "text")
    for device in devices:
        for tower in towers:
            on_row(tower, device)
            try:
                timing = _time_tower(spec, tower, device, callers)
            except (ModelError, DeviceError) as error:
                rows.append(TimedTower(tower, device, None, str(error), error.hint))
            else:
                rows.append(TimedTower(tower, device, timing))
            on_timed(rows[-1])
    return rows


def _time_tower(
    spec: ModelSpec, tower: TowerName, device: BenchDevice, callers: int
) -> TowerTiming:
    answer = ask_child(
        _MODULE,
        [str(spec.directory), tower, device, "--callers", str(callers)],
        what=f"the {tower} tower of {spec.name} cannot be timed on the {device}",
        hint="Try again, or leave that device out.",
        timeout_seconds=_TIMEOUT_SECONDS[device],
    )
    return TowerTiming(**answer)


def main() -> None:
    """Be the child: time the tower that the command line names."""
    parser = argparse.ArgumentParser(description="Time a tower.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("tower", choices=["picture", "text"])
    parser.add_argument("device", choices=list(_TIMEOUT_SECONDS))
    parser.add_argument("--callers", type=int, default=1)
    options = parser.parse_args()

    def work() -> dict[str, Any]:
        spec = load_model_folder(options.folder)
        return asdict(measure(spec, options.tower, options.device, options.callers))

    answer_parent(work)


def measure(spec: ModelSpec, tower: TowerName, device: BenchDevice, callers: int) -> TowerTiming:
    """Time a tower here, in this process.

    Raises:
        ModelError: If the tower cannot be loaded or run there.
        DeviceError: If the device cannot be used.
    """
    for path in _files_of(spec, tower):
        _read_through(path)
    started = time.perf_counter()
    opened_tower: VisionTower | TextTower
    if tower == "picture":
        vision = opened_tower = VisionTower(spec, threads=1, device=device)
        load_seconds = time.perf_counter() - started
        pictures = _made_up_pictures(spec)

        def run(number: int) -> None:
            vision.embed(pictures[number % len(pictures)])
    else:
        text = opened_tower = TextTower(spec, device=device)
        load_seconds = time.perf_counter() - started

        def run(number: int) -> None:
            text.embed([PHRASES[number % len(PHRASES)]])

    seconds = timed_runs(run)
    median = statistics.median(seconds)
    # The emulator's throughput would be a figure of nothing that exists.
    rate = None
    if tower == "picture" and device != "npu-emulator":
        rate = _pictures_per_second(run, median, callers)
    assignment = opened_tower.opened.assignment
    return TowerTiming(
        precision=opened_tower.precision,
        load_ms=1e3 * load_seconds,
        runs=len(seconds),
        median_ms=1e3 * median,
        p95_ms=None if (p95 := percentile_95(seconds)) is None else 1e3 * p95,
        pictures_per_second=rate,
        callers=None if rate is None else callers,
        peak_memory_bytes=peak_memory_bytes(),
        nodes_npu=None if assignment is None else assignment.npu,
        nodes_cpu=None if assignment is None else assignment.cpu,
        file_bytes=_opened_bytes(spec, tower, opened_tower.opened),
    )


def timed_runs(run: Callable[[int], None]) -> list[float]:
    """Return the seconds of each run, of at least one.

    Args:
        run: Called with 0, 1, 2, ...
    """
    first = _seconds_of(run, 0)
    if first >= _MOST_SECONDS:
        return [first]
    taken: list[float] = []  # without the first, which allocates and is not typical
    spent = 0.0
    while len(taken) < _MOST_RUNS:
        taken.append(_seconds_of(run, len(taken) + 1))
        spent += taken[-1]
        if spent >= (_ENOUGH_SECONDS if len(taken) >= LEAST_RUNS_FOR_P95 else _MOST_SECONDS):
            break
    return taken


def percentile_95(seconds: Sequence[float]) -> float | None:
    """Return the 95th percentile (nearest rank), None of too few runs."""
    if len(seconds) < LEAST_RUNS_FOR_P95:
        return None
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1]


def _seconds_of(run: Callable[[int], None], number: int) -> float:
    started = time.perf_counter()
    run(number)
    return time.perf_counter() - started


def _pictures_per_second(run: Callable[[int], None], one: float, callers: int) -> float:
    number = callers * max(1, min(_MOST_ROUNDS, round(_THROUGHPUT_SECONDS / one)))
    with ThreadPoolExecutor(callers, thread_name_prefix="embed") as threads:
        list(threads.map(run, range(callers)))  # each caller's first run allocates
        started = time.perf_counter()
        list(threads.map(run, range(number)))
        return number / (time.perf_counter() - started)


def _made_up_pictures(spec: ModelSpec) -> list[Any]:
    height, width = spec.vision.image_size
    chance = np.random.default_rng(0)
    return [chance.integers(0, 256, (1, height, width, 3), np.uint8) for _ in range(4)]


def _files_of(spec: ModelSpec, tower: TowerName) -> list[Path]:
    facts = spec.vision if tower == "picture" else spec.text
    return [spec.directory / name for name in (facts.file, *facts.data_files)]


def _opened_bytes(spec: ModelSpec, tower: TowerName, opened: OpenedSession) -> int:
    files = _files_of(spec, tower)
    if opened.path not in files:
        # A context that was compiled for this chip: its binary lies beside it and begins likewise,
        # as does the record of what it was compiled from, which is not opened.
        files = [
            path
            for path in opened.path.parent.glob(f"{opened.path.stem}*")
            if path.suffix != ".json"
        ]
    return sum(path.stat().st_size for path in files)


def _read_through(path: Path) -> None:
    """Read a file once, so that it is the disk's cache that is loaded from, each time."""
    try:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError:
        return  # opening the tower says better what is wrong with it


if __name__ == "__main__":
    main()
