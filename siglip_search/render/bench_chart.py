"""The bench as a picture: bars side by side for pictures and for queries, a row for each model."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from siglip_index.durable_files import write_durably
from siglip_search.errors import PathError, SiglipSearchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIXES: Final = (".png", ".svg")

_INK: Final = "#222222"
_FAINT: Final = "#777777"
# Told apart by people who do not see all colours: Okabe and Ito, jfly.uni-koeln.de/color.
_COLOURS: Final = {
    "fp32": "#0072B2",
    "fp16": "#56B4E9",
    "int8": "#E69F00",
    "w8a16": "#009E73",
}
_OTHER_COLOUR: Final = "#999999"
_ROW_INCHES: Final = 0.62
_AROUND_INCHES: Final = 1.9
_WIDTH_INCHES: Final = 11.0
_DOTS_PER_INCH: Final = 150
_BEYOND: Final = 1.25
"""How far an axis reaches beyond its longest bar, for the figures beside it."""


@dataclass(frozen=True, slots=True)
class BenchBar:
    """A model on a device.

    Attributes:
        model: The model's name.
        device: Where it runs.
        precision: Of its arithmetic; it gives the bar its colour.
        pictures_per_second: Throughput of the picture tower; None if it was not measured.
        query_ms: Median time of a query; None if it was not measured.
        note: Stands beneath the name: what it loses in accuracy, say; may be "".
        absence: Stands where a bar is missing.
    """

    model: str
    device: str
    precision: str
    pictures_per_second: float | None
    query_ms: float | None
    note: str
    absence: str


def check_chart(path: Path) -> None:
    """Raise now what `save_bench_chart` would raise after minutes of measuring.

    Args:
        path: Where the chart shall be written.

    Raises:
        PathError: Its suffix names no format that is drawn, or it cannot be written there.
        SiglipSearchError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PathError(
            f"{path} is no name for a chart: it must end in {' or '.join(SUFFIXES)}",
            # A name such as ".png" is all stem, and has no suffix to change.
            hint="Name it, for example, "
            + ("bench.png." if path.name.startswith(".") else f"{path.with_suffix('.png').name}."),
        )
    if path.is_dir():
        raise PathError(f"{path} is a folder", hint="Name a file.")
    if not path.parent.is_dir():
        raise PathError(
            f"the chart {path} cannot be written: there is no folder {path.parent}",
            hint="Make the folder first, or name another file.",
        )
    try:
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        # Really: a folder's permissions do not say what its file system takes.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".bench-"):
            pass
    except OSError as error:
        raise PathError(
            f"the chart {path} cannot be written: {error.strerror or error}",
            hint="Name a file in a folder of your own.",
        ) from error
    if find_spec("matplotlib") is None:
        raise SiglipSearchError(
            "a chart needs the package matplotlib, which is not installed",
            hint='pip install "siglip-search[plot]"',
        )


def save_bench_chart(bars: Sequence[BenchBar], path: Path, *, title: str) -> None:
    """Draw the bars and write them to a file, whose suffix names the format.

    A former file is replaced once the new one is whole.

    Args:
        bars: From top to bottom, at least one.
        path: Where to write; one of `SUFFIXES`.
        title: What was measured on what; stands above everything.

    Raises:
        PathError: The file cannot be written.
        SiglipSearchError: matplotlib is not installed.
    """
    check_chart(path)
    figure_class: Any = import_module("matplotlib.figure").Figure
    height = _AROUND_INCHES + _ROW_INCHES * len(bars)
    figure = figure_class(figsize=(_WIDTH_INCHES, height), dpi=_DOTS_PER_INCH, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    figure.suptitle("siglip-search model bench", x=0.01, ha="left", color=_INK, weight="bold")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, bars, [bar.pictures_per_second for bar in bars], "{:,.1f}")
    left.set_xlabel("pictures a second: longer is better", color=_INK)
    _draw(right, bars, [bar.query_ms for bar in bars], "{:,.1f} ms")
    right.set_xlabel("milliseconds a query (median): shorter is better", color=_INK)
    left.set_yticks(range(len(bars)), [_label(bar) for bar in bars])
    left.invert_yaxis()
    figure.supxlabel(title, x=0.01, ha="left", color=_FAINT, size=8, parse_math=False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:].lower())
    try:
        write_durably(path, lambda file: file.write(drawn.getbuffer()))
    except OSError as error:
        raise PathError(
            f"the chart {path} cannot be written: {error.strerror or error}",
            hint="Name another file, or make room.",
        ) from error


def _draw(
    axes: Any, bars: Sequence[BenchBar], values: Sequence[float | None], written: str
) -> None:
    longest = max((value for value in values if value is not None), default=1.0)
    for row, (bar, value) in enumerate(zip(bars, values, strict=True)):
        if value is None:
            axes.text(0.01 * longest, row, bar.absence, va="center", color=_FAINT, style="italic")
            continue
        axes.barh(row, value, height=0.6, color=_COLOURS.get(bar.precision, _OTHER_COLOUR))
        axes.text(
            value + 0.015 * longest, row, written.format(value), va="center", color=_INK, size=9
        )
    axes.set_xlim(0, _BEYOND * longest)
    axes.set_ylim(-0.6, len(bars) - 0.4)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, colors=_INK, labelsize=9)
    axes.xaxis.grid(visible=True, color="#e4e4e4")
    axes.set_axisbelow(True)


def _label(bar: BenchBar) -> str:
    name = f"{bar.model} · {bar.precision} · {bar.device}"
    return f"{name}\n{bar.note}" if bar.note else name
