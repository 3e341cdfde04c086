"""Checks of time, memory, energy, wrong inputs, threads and endurance, and of the two commands."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware import machine
from hardware.bench import FIXED, W8A16, Bench, OpenTower, open_tower
from hardware.outcome import NotPossibleError, Outcome, judged
from siglip_search import demo
from siglip_search.engine.indexing import available_cores
from siglip_search.errors import ModelError
from siglip_search.towers.process_memory import peak_memory_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RUNS, QUICK_RUNS = 100, 3
SHARED, QUICK_SHARED = 16, 4
"""Pictures whose vectors are compared, of one thread and of several."""
THREADS = 4
LEAST_RUNS = 4
"""Of a long run, whatever its length."""
MOST_SLOWER = 1.5
"""The last quarter of a long run may take this many times the first quarter's median."""

_REPORT = "Report this page, with what else the machine was doing."


def check_time(bench: Bench) -> Outcome:
    """Measure single runs, and pictures a second against every core of the processor."""
    figures = {}
    runs = QUICK_RUNS if bench.quick else RUNS
    for title, name in (("fp16", FIXED), ("w8a16", W8A16)):
        spec = bench.model(name)
        for tower, values in (("vision", bench.pixel_values), ("text", bench.ids)):
            times = _times(open_tower(spec, tower, bench.device), values, runs)
            median, high = np.median(times), np.percentile(times, 95)
            figures[f"{title} {tower}: median, p95"] = f"{median:.2f} ms, {high:.2f} ms"
            if tower == "vision":
                figures[f"{title} pictures a second"] = f"{1000 / float(np.mean(times)):.1f}"
    cores = available_cores()
    tower = open_tower(bench.original, "vision", "cpu")
    rate = _rate(tower, bench.pixel_values, cores, 2 * runs)
    figures[f"processor, fp32, {cores} cores: pictures a second"] = f"{rate:.1f}"
    if bench.emulator:
        figures["note"] = "the emulator's times say nothing about an NPU's"
    return judged(True, figures, "")


def _times(tower: OpenTower, values: NDArray[Any], runs: int) -> list[float]:
    """Return the milliseconds of single runs, after two that do not count."""
    times = []
    for n in range(runs + 2):
        row = values[n % len(values)][None]
        begun = time.perf_counter()
        tower.embed(row)
        times.append(1000 * (time.perf_counter() - begun))
    return times[2:]


def _rate(tower: OpenTower, values: NDArray[Any], threads: int, runs: int) -> float:
    """Return the runs a second when several threads share a session."""
    rows = [values[n % len(values)][None] for n in range(runs)]
    tower.embed(rows[0])
    with ThreadPoolExecutor(threads) as pool:
        begun = time.perf_counter()
        list(pool.map(tower.embed, rows))
        return runs / (time.perf_counter() - begun)


def check_memory(bench: Bench) -> Outcome:
    """Measure what a process holds at most, before and after both towers have run."""
    before = peak_memory_bytes()
    spec = bench.model(FIXED)
    for tower, values in (("vision", bench.pixel_values), ("text", bench.ids)):
        open_tower(spec, tower, bench.device).embed(values[:2])
    after = peak_memory_bytes()
    if before is None or after is None:
        raise NotPossibleError("the system does not tell the memory of a process")
    figures = {
        "peak with the program alone, MB": f"{before / 1e6:.0f}",
        "peak with both towers on the device, MB": f"{after / 1e6:.0f}",
    }
    return judged(True, figures, "")


def check_ids(bench: Bench) -> Outcome:
    """See that ids outside the vocabulary are refused, and that the next run is right."""
    tower = open_tower(bench.model(FIXED), "text", bench.device)
    ids = bench.ids[:1]
    right = tower.embed(ids)
    figures = {}
    passed = True
    for wrong in (-1, 2**31 - 1):
        bad = ids.copy()
        bad[0, 0] = wrong
        try:
            tower.embed(bad)
        except ModelError as error:
            figures[f"id {wrong}"] = f"refused: {error}"
        else:
            passed, figures[f"id {wrong}"] = False, "was taken"
    same = bool(np.array_equal(tower.embed(ids), right))
    figures["the next run"] = "the same vector" if same else "another vector"
    return judged(passed and same, figures, _REPORT)


def check_threads(bench: Bench) -> Outcome:
    """Let several threads share one session."""
    tower = open_tower(bench.model(FIXED), "vision", bench.device)
    count = QUICK_SHARED if bench.quick else SHARED
    rows = [row[None] for row in bench.pixel_values[:count]]
    alone = [tower.embed(row) for row in rows]
    with ThreadPoolExecutor(THREADS) as pool:
        shared = list(pool.map(tower.embed, rows))
    same = sum(bool(np.array_equal(a, b)) for a, b in zip(alone, shared, strict=True))
    runs = QUICK_RUNS if bench.quick else RUNS
    figures = {
        "vectors equal to those of one thread": f"{same} of {len(rows)}",
        "pictures a second, 1 thread": f"{_rate(tower, bench.pixel_values, 1, runs):.1f}",
        f"pictures a second, {THREADS} threads": (
            f"{_rate(tower, bench.pixel_values, THREADS, runs):.1f}"
        ),
    }
    return judged(same == len(rows), figures, _REPORT)


def check_long_run(bench: Bench) -> Outcome:
    """Run for a while: latency must stay, and each picture's vector too."""
    tower = open_tower(bench.model(FIXED), "vision", bench.device)
    rows = [row[None] for row in bench.pixel_values[:LEAST_RUNS]]
    first = [tower.embed(row) for row in rows]
    times, wrong = [], 0

    def run(n: int) -> None:
        nonlocal wrong
        begun = time.perf_counter()
        found = tower.embed(rows[n % len(rows)])
        times.append(1000 * (time.perf_counter() - begun))
        wrong += not np.array_equal(found, first[n % len(rows)])

    _keep_running(run, bench.seconds)
    quarter = max(1, len(times) // 4)
    begin, end = np.median(times[:quarter]), np.median(times[-quarter:])
    figures = {
        "seconds, runs": f"{bench.seconds:g}, {len(times)}",
        "median of the first quarter": f"{begin:.2f} ms",
        "median of the last quarter": f"{end:.2f} ms",
        "slowest run": f"{max(times):.2f} ms",
        "vectors that changed": str(wrong),
    }
    # The emulator shares the processor with whatever else runs there.
    steady = bench.emulator or end <= MOST_SLOWER * begin
    return judged(not wrong and bool(steady), figures, _REPORT)


def check_energy(bench: Bench) -> Outcome:
    """Measure what the machine draws from its battery, idle and at work."""
    if machine.battery_watts() is None:
        raise NotPossibleError(
            "not measured: the system tells no power drawn from a battery (Linux does, on battery)"
        )
    tower = open_tower(bench.model(FIXED), "vision", bench.device)
    watts: dict[str, list[float]] = {"idle": [], "at work": []}

    def idle(_: int) -> None:
        time.sleep(1.0)
        watts["idle"].append(machine.battery_watts() or 0.0)

    def work(n: int) -> None:
        tower.embed(bench.pixel_values[n % len(bench.pixel_values)][None])
        watts["at work"].append(machine.battery_watts() or 0.0)

    _keep_running(idle, bench.seconds / 2)
    _keep_running(work, bench.seconds)
    figures = {f"{name}, whole machine": f"{np.mean(found):.2f} W" for name, found in watts.items()}
    above = np.mean(watts["at work"]) - np.mean(watts["idle"])
    joules = above * bench.seconds / len(watts["at work"])
    figures["joules a picture, above idle"] = f"{joules:.4f}"
    return judged(True, figures, "")


def _keep_running(run: Callable[[int], None], seconds: float) -> None:
    end = time.perf_counter() + seconds
    n = 0
    while n < LEAST_RUNS or time.perf_counter() < end:
        run(n)
        n += 1


def check_commands(bench: Bench) -> Outcome:
    """Index the gallery into a library of its own on the device, and ask it."""
    pictures = bench.folder / "pictures"
    for facts in bench.truth:
        target = pictures / facts["file"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(demo.gallery_directory() / facts["file"], target)
    spec = bench.model(FIXED)
    options = ("--library", os.fspath(bench.folder / "library"), "--device", bench.device)
    report = _json("index", "--json", *options, "--model", spec.name, os.fspath(pictures))
    with closing(sqlite3.connect(bench.folder / "library" / "library.sqlite3")) as database:
        made = database.execute("SELECT DISTINCT precision, device FROM vector").fetchall()
    thing = bench.truth[0]["thing"]
    hits = _json("query", "--json", *options, "--min-probability", "0", "-n", "1", f"a {thing}")
    relative = os.path.relpath(hits[0]["path"], pictures).replace(os.sep, "/")
    best = next(facts for facts in bench.truth if facts["file"] == relative)
    right = thing in {item["thing"] for item in (best, *best["others"])}
    figures = {
        "indexed": f"{report['added']} of {len(bench.truth)}, failed {report['failed']}",
        "seconds": f"{report['seconds']:.1f}",
        "noted with the vectors": ", ".join(f"{p} on {d}" for p, d in made),
        f"first answer to 'a {thing}'": f"{relative} ({'right' if right else 'wrong'})",
    }
    done = report["added"] == len(bench.truth) and made == [("fp16", bench.device)]
    return judged(done and right, figures, _REPORT)


def _json(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "siglip_search", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if not done.stdout.strip():
        raise ModelError(
            f"`siglip-search {arguments[0]}` ended with {done.returncode}: {done.stderr.strip()}"
        )
    return json.loads(done.stdout)
