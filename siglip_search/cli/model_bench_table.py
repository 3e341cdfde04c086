"""What `model bench` prints: the table, the notes beneath it, and the same as one object."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from siglip_search.cli.console import count, shown
from siglip_search.towers.devices import EMULATOR_NOTICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siglip_search.engine.agreement import Figures
    from siglip_search.engine.bench_models import BenchedModel
    from siglip_search.engine.bench_timing import TimedTower, TowerTiming
    from siglip_search.towers.devices import DeviceReport

NOT_MEASURED = "not measured"
EMULATOR = "npu-emulator"

_BACKENDS = {
    "cpu": "ONNX Runtime CPU",
    "npu": "QNN HTP",
    EMULATOR: "QNN HTP, emulated",
}
_HEADINGS = (
    "model",
    "tower",
    "device",
    "backend",
    "precision",
    "median ms",
    "p95 ms",
    "load ms",
    "cosine",
    "recall@10",
    "nodes NPU/CPU",
    "MB",
    "pictures/s",
    "peak MB",
)
_KEYS = 3
"""Columns that stand before each part of a table that is wider than the terminal."""
_LEFT = 5
"""Columns of words, which begin on one line; the figures after them end on one."""
_NARROWEST = 60
_READABLE = 100
"""How wide sentences are where no terminal says how wide it is."""
_GAP = "  "


def print_bench(models: Sequence[BenchedModel], missing: Sequence[DeviceReport]) -> None:
    """Print what was measured of a reference and its variants.

    Args:
        models: The reference first.
        missing: Devices that were not asked of, because they cannot be used here.
    """
    cells = [_cells(models[0], model, row) for model in models for row in model.rows]
    refused: list[tuple[tuple[str, str, str], str]] = [
        ((model.spec.name, row.tower, row.device), _sentence(row.reason, row.hint))
        for model in models
        for row in model.rows
        if row.timing is None
    ]
    refused += [
        (("every model", "", device.name), _sentence(device.reason, device.hint))
        for device in missing
    ]
    _print_table([row for row in cells if row], refused)
    _print_notes([row for model in models for row in model.rows])
    _print_agreement(models)


def as_objects(models: Sequence[BenchedModel]) -> list[dict[str, Any]]:
    """Return the same for JSON, the reference first; None is "not measured"."""
    return [_as_object(models[0], model) for model in models]


def device_as_object(report: DeviceReport, *, asked: bool) -> dict[str, Any]:
    """Return what is known of a device for JSON.

    Args:
        report: The device.
        asked: Whether models were measured on it.
    """
    return {
        "device": report.name,
        "chip": report.chip,
        "usable": report.usable,
        "benched": asked,
        "reason": report.reason,
        "hint": report.hint,
    }


def cosine_of(figures: Figures, tower: str) -> float:
    """Return the mean cosine of one tower to the reference's."""
    return figures.picture_cosine_mean if tower == "picture" else figures.text_cosine_mean


def _cells(reference: BenchedModel, model: BenchedModel, row: TimedTower) -> list[str]:
    """Return the row's cells, none if nothing was measured."""
    timing = row.timing
    if timing is None:
        return []
    figures = model.figures.get(row.device)
    mark = " *" if row.device == EMULATOR else ""
    cosine = recall = NOT_MEASURED
    if model is reference and row.device == "cpu":
        cosine = recall = "original"
    elif figures is not None:
        cosine = f"{cosine_of(figures, row.tower):.5f}"
        recall = f"{figures.agreement.recall_at_10:.3f}"
    return [
        model.spec.name,
        row.tower,
        row.device,
        _BACKENDS[row.device],
        timing.precision,
        f"{timing.median_ms:,.1f}{mark}",
        NOT_MEASURED if timing.p95_ms is None else f"{timing.p95_ms:,.1f}{mark}",
        f"{timing.load_ms:,.0f}{mark}",
        cosine,
        recall,
        "0/all" if timing.nodes_npu is None else f"{timing.nodes_npu}/{timing.nodes_cpu}",
        f"{timing.file_bytes / 1e6:,.1f}",
        _rate(row, timing),
        _peak(timing) + (mark if timing.peak_memory_bytes else ""),
    ]


def _rate(row: TimedTower, timing: TowerTiming) -> str:
    if row.tower == "text":
        return ""
    rate = timing.pictures_per_second
    return NOT_MEASURED if rate is None else f"{rate:,.2f}"


def _peak(timing: TowerTiming) -> str:
    peak = timing.peak_memory_bytes
    return NOT_MEASURED if peak is None else f"{peak / 1e6:,.0f}"


def _print_table(
    cells: Sequence[Sequence[str]], refused: Sequence[tuple[tuple[str, str, str], str]]
) -> None:
    """Print as many columns beside one another as fit, the others beneath them."""
    limit = _terminal_width()
    keys = [key for key, _ in refused]
    widths = [
        max(len(row[index]) for row in (_HEADINGS, *cells, *(keys if index < _KEYS else ())))
        for index in range(len(_HEADINGS))
    ]
    for number, part in enumerate(_parts(widths, limit)):
        if number:
            print()
        for row in (_HEADINGS, *cells):
            print(_line([(row[index], index) for index in part], widths))
        for key, reason in refused if not number else ():
            begin = _line([(cell, index) for index, cell in enumerate(key)], widths) + _GAP
            begin += " " * (sum(widths[:_KEYS]) + len(_GAP) * _KEYS - len(begin))
            _print_wrapped(shown(reason), limit, begin)


def _parts(widths: Sequence[int], limit: int | None) -> list[list[int]]:
    """Return the numbers of the columns that stand beside one another, in each part."""
    keys = list(range(_KEYS))
    parts = [keys.copy()]
    for index in range(_KEYS, len(widths)):
        wide = sum(widths[column] + len(_GAP) for column in (*parts[-1], index)) - len(_GAP)
        if limit is not None and wide > limit and len(parts[-1]) > _KEYS:
            parts.append(keys.copy())
        parts[-1].append(index)
    return parts


def _line(cells: Sequence[tuple[str, int]], widths: Sequence[int]) -> str:
    return _GAP.join(
        cell.ljust(widths[index]) if index < _LEFT else cell.rjust(widths[index])
        for cell, index in cells
    ).rstrip()


def _print_notes(rows: Sequence[TimedTower]) -> None:
    measured = [(row.device, row.timing) for row in rows if row.timing is not None]
    if not measured:
        return
    limit = _terminal_width() or _READABLE
    callers = max((timing.callers or 0 for _, timing in measured), default=0)
    together = f"; pictures/s with {callers} at once" if callers else ""
    print()
    _print_wrapped(
        "Inference time (median, p95): one prepared picture, or one query, to its vector. On the "
        f"CPU a picture takes one thread, as in indexing, and a query all of them{together}. Load: "
        "opening the tower in a new process, files in the disk's cache. Cosine and recall@10, to "
        "the original: 1 is no loss. MB: the tower's files. Peak: that process's memory, Python "
        "and runtime included.",
        limit,
    )
    few = [timing.runs for _, timing in measured if timing.p95_ms is None]
    if few:
        _print_wrapped(
            f"p95 takes 20 runs, and there was time for {min(few)} only"
            + (f" to {max(few)}." if max(few) > min(few) else "."),
            limit,
        )
    if any((timing.nodes_npu, timing.nodes_cpu) == (1, 0) for _, timing in measured):
        _print_wrapped("Nodes 1/0: a compiled context is one node.", limit)
    if any(device == EMULATOR for device, _ in measured):
        _print_wrapped(f"* The emulator on this processor: {EMULATOR_NOTICE}.", limit)


def _print_agreement(models: Sequence[BenchedModel]) -> None:
    compared = [
        (model, device, figures) for model in models for device, figures in model.figures.items()
    ]
    if not compared:
        return
    first = compared[0][2]
    print(
        f"\nAgreement with {models[0].spec.name} on the CPU, {count(first.pictures, 'picture')} "
        f"and {count(first.texts, 'query', 'queries')} (worst in brackets):"
    )
    names = max(len(model.spec.name) for model, _, _ in compared)
    places = max(len(device) for _, device, _ in compared)
    print(
        f"{'':{names}}  {'':{places}}  {'pictures':>15}  {'queries':>15}  {'recall@10':>9}  "
        f"{'mixed':>5}"
    )
    for model, device, figures in compared:
        print(
            f"{model.spec.name:{names}}  {device:{places}}  "
            f"{_mean_and_worst(figures.picture_cosine_mean, figures.picture_cosine_worst)}  "
            f"{_mean_and_worst(figures.text_cosine_mean, figures.text_cosine_worst)}  "
            f"{figures.recall_at_10:9.3f}  {figures.mixed_recall_at_10:5.3f}"
        )
    for model, device, _ in compared:
        if model is not models[0]:
            print(f"{model.spec.name} on the {device}: {model.verdict(device)}")


def _sentence(reason: str, hint: str) -> str:
    return f"{NOT_MEASURED}: {reason}. {hint}" if hint else f"{NOT_MEASURED}: {reason}"


def _mean_and_worst(mean: float, worst: float) -> str:
    return f"{mean:.4f} ({worst:.4f})"


def _terminal_width() -> int | None:
    """Return the columns of the terminal, None in a pipe: there a row is one line."""
    return max(_NARROWEST, shutil.get_terminal_size().columns) if sys.stdout.isatty() else None


def _print_wrapped(text: str, limit: int | None, begin: str = "") -> None:
    if limit is None:
        print(begin + text)
        return
    beside = limit - len(begin) >= _NARROWEST // 2
    if not beside:
        print(begin.rstrip())
    indent = " " * len(begin) if beside else _GAP * 2
    lines = textwrap.wrap(
        text,
        limit,
        initial_indent=begin if beside else indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    print("\n".join(lines))


def _as_object(reference: BenchedModel, model: BenchedModel) -> dict[str, Any]:
    spec, deciding = model.spec, model.deciding
    return {
        "name": spec.name,
        "precision": spec.vision.precision,
        "variant_of": spec.variant.of if spec.variant else None,
        "disk_bytes": spec.disk_bytes,
        "rows": [_row_as_object(reference, model, row) for row in model.rows],
        "agreement": [
            {
                "device": device,
                **dataclasses.asdict(figures),
                "verdict": None if model is reference else model.verdict(device),
            }
            for device, figures in model.figures.items()
        ],
        "passed": None if deciding is None else deciding.agreement.passed,
    }


def _row_as_object(reference: BenchedModel, model: BenchedModel, row: TimedTower) -> dict[str, Any]:
    figures = model.figures.get(row.device)
    return {
        "tower": row.tower,
        "device": row.device,
        "backend": _BACKENDS[row.device],
        "emulated": row.device == EMULATOR,
        "is_original": model is reference and row.device == "cpu",
        "cosine_mean": None if figures is None else cosine_of(figures, row.tower),
        "recall_at_10": None if figures is None else figures.agreement.recall_at_10,
        "timing": None if row.timing is None else dataclasses.asdict(row.timing),
        "reason": row.reason,
        "hint": row.hint,
    }
