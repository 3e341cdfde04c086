"""What thumbnails cost: ten JPEGs of 12 megapixels in a terminal and on contact sheets.

Processor time is that of this process and of those that decode, their start included.

python scripts/bench_previews.py
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from siglip_search import demo
from siglip_search.render.contact_sheet import SheetRow, Tile
from siglip_search.render.previews import previews
from siglip_search.render.sheet_file import save_sheet
from siglip_search.render.terminal import CellSize, Protocol, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

PICTURES = 10
SIZE = (4000, 3000)
ROUNDS = 5


def made_tiles(folder: Path) -> list[Tile]:
    """Enlarge drawings of the gallery to the size of photographs."""
    tiles = []
    for number, drawing in enumerate(sorted(demo.gallery_directory().rglob("*.jpg"))[:PICTURES]):
        path = folder / f"{number}.jpg"
        with Image.open(drawing) as image:
            image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
        tiles.append(Tile(str(path), f"{number + 1} 90.0%", path.name))
    return tiles


def measured(work: Callable[[], int]) -> str:
    """Return the median processor time and the size of what was made, as cells of a table."""
    seconds = []
    for _ in range(ROUNDS):
        begun = processor_seconds()
        size = work()
        seconds.append(processor_seconds() - begun)
    return f"{statistics.median(seconds):.2f} s | {size / 1000:,.0f} kB"


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Print the table."""
    print("| shown as | processor time | written |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        tiles = made_tiles(Path(name))
        for protocol in Protocol:
            terminal = Terminal(protocol, 120, 50, CellSize(9, 18), true_colour=True)
            print(f"| {protocol} |", measured(lambda at=terminal: written(tiles, at)), "|")
        for sheet in (Path(name) / "sheet.png", Path(name) / "sheet.html"):
            print(f"| {sheet.name} |", measured(lambda to=sheet: saved(tiles, to)), "|")


def written(tiles: list[Tile], terminal: Terminal) -> int:
    """Make the strips; return how many bytes a terminal gets."""
    return sum(map(len, previews(tiles, terminal)))


def saved(tiles: list[Tile], path: Path) -> int:
    """Write a sheet; return its size in bytes."""
    save_sheet([SheetRow("what", tiles)], path, title="")
    return path.stat().st_size


if __name__ == "__main__":
    main()
