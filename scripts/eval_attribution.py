"""Do maps of `query --explain` point at the right thing? Pictures whose truth is planted.

Two or four pictures of the demonstration gallery, each of one kind of thing, are put side by side.
A map for the words of one of them should be strongest in its part of the whole:

    python scripts/eval_attribution.py            # the table of docs/explaining.md

"Points right" is the share of maps whose strongest cell lies in the right part, with a 95 % Wilson
interval; "inside" the mean share, of all that raises the score, that lies there. A constant map
would have 1/2 or 1/4 inside. Nothing was chosen on the scenes of the default seed: the windows were
on those of seed 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from siglip_search import demo
from siglip_search.models.model_folder import load_model_folder
from siglip_search.photos.decode import DecodeLimits
from siglip_search.photos.thumbnails import thumbnail
from siglip_search.search.attribution import Windows
from siglip_search.towers.occlusion import occluded
from siglip_search.towers.patch_attention import open_patch_attention
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siglip_search.towers.patch_attention import PatchTokens

SIDE_PX = 480
OCCLUSION = Windows((8, 8), (3, 3))

Box = tuple[float, float, float, float]


@dataclass
class Tally:
    """What a way of making maps has reached so far."""

    right: int = 0
    maps: int = 0
    inside: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, cells: NDArray[np.float64], box: Box, seconds: float) -> None:
        """Count a map against the part of the picture that is right."""
        rows, columns = cells.shape
        down, across = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
        within = ((down >= box[1]) & (down < box[3]))[:, None] & (
            (across >= box[0]) & (across < box[2])
        )
        raising = np.maximum(cells, 0)
        self.maps += 1
        self.right += bool(within.flat[cells.argmax()])
        self.inside.append(float(raising[within].sum() / max(raising.sum(), 1e-12)))
        self.seconds += seconds

    def row(self, name: str) -> str:
        """Return a row of the table."""
        share, number, z = self.right / self.maps, self.maps, 1.96
        middle = (share + z * z / (2 * number)) / (1 + z * z / number)
        half = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
        half /= 1 + z * z / number
        return (
            f"| {name} | {share:.1%} ({middle - half:.1%} to {middle + half:.1%}) "
            f"| {np.mean(self.inside):.2f} | {1000 * self.seconds / number:.0f} |"
        )


class Evaluation:
    """The bundled model, its gallery, and ways of making maps."""

    def __init__(self, seed: int) -> None:
        self.spec = load_model_folder(demo.model_directory())
        head = open_patch_attention(self.spec)
        assert head is not None
        self.head = head
        self.vision = VisionTower(self.spec, threads=os.cpu_count() or 1)
        self.text = TextTower(self.spec)
        folder = demo.gallery_directory()
        pictures = json.loads((folder / "gallery.json").read_text(encoding="utf-8"))["pictures"]
        self.pictures = [picture for picture in pictures if not picture["others"]]
        self.images = {
            picture["file"]: thumbnail(
                os.fsencode(folder / picture["file"]), (SIDE_PX, SIDE_PX), DecodeLimits()
            )
            for picture in self.pictures
        }
        self.rng = random.Random(seed)

    def scene(self, parts: int) -> tuple[NDArray[np.uint8], list[tuple[str, Box]]]:
        """Return pixels for the tower, and what each part shows and where it is."""
        chosen = self.rng.sample(self.pictures, parts)
        while len({picture["thing"] for picture in chosen}) < parts:
            chosen = self.rng.sample(self.pictures, parts)
        height = 1.0 if parts == 2 else 0.5
        truth = []
        whole = Image.new("RGB", (SIDE_PX, SIDE_PX))
        for place, picture in enumerate(chosen):
            left, top = 0.5 * (place % 2), 0.5 * (place // 2)
            size = (SIDE_PX // 2, round(height * SIDE_PX))
            part = self.images[picture["file"]].resize(size)
            whole.paste(part, (round(left * SIDE_PX), round(top * SIDE_PX)))
            colour = "" if picture["colour"] == "natural" else f"{picture['colour']} "
            words = f"a {colour}{picture['thing']}"
            truth.append((words, (left, top, left + 0.5, top + height)))
        return self.vision.preprocessor(whole), truth

    def by_attention(
        self, _pixels: NDArray[np.uint8], tokens: PatchTokens, towards: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """As the program does it for a tower with a head."""
        span = max(1, round(tokens.grid[0] / 4))
        windows = Windows(tokens.grid, (span, span))
        without = self.head.embed_without(tokens, windows.masks())
        return windows.cell_means((tokens.embedding - without).astype(np.float64) @ towards)

    def by_occlusion(
        self, pixels: NDArray[np.uint8], tokens: PatchTokens, towards: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """As the program does it for any tower."""
        (hidden,) = occluded(
            pixels, OCCLUSION.grid, OCCLUSION.places, pictures_at_once=len(OCCLUSION)
        )
        return self._differences(hidden, tokens, towards)

    def by_grey(
        self, pixels: NDArray[np.uint8], tokens: PatchTokens, towards: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """With grey in place of what a blur leaves: the usual choice elsewhere."""
        hidden = np.repeat(pixels[None], len(OCCLUSION), axis=0)
        cell = pixels.shape[0] // OCCLUSION.grid[0]
        for version, (down, across) in zip(hidden, OCCLUSION.places, strict=True):
            version[
                down.start * cell : down.stop * cell, across.start * cell : across.stop * cell
            ] = 128
        return self._differences(hidden, tokens, towards)

    def _differences(
        self, hidden: NDArray[np.uint8], tokens: PatchTokens, towards: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        without = self.vision.embed(hidden)
        return OCCLUSION.cell_means((tokens.embedding - without).astype(np.float64) @ towards)

    def by_shares(
        self, _pixels: NDArray[np.uint8], tokens: PatchTokens, _towards: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """The head's attention by itself, which knows nothing of the words."""
        return tokens.shares.mean(axis=0).reshape(tokens.grid)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=100, help="of each number of parts")
    parser.add_argument("--seed", type=int, default=2)
    options = parser.parse_args()
    evaluation = Evaluation(options.seed)
    ways: dict[str, Callable[..., NDArray[np.float64]]] = {
        "attention": evaluation.by_attention,
        "occlusion (blurred)": evaluation.by_occlusion,
        "for comparison: occlusion (grey)": evaluation.by_grey,
        "for comparison: attention alone, without the words": evaluation.by_shares,
    }
    print("| map | points right | inside | ms |\n| --- | --- | ---: | ---: |")
    for parts in (2, 4):
        tallies = {name: Tally() for name in ways}
        for _ in range(options.scenes):
            pixels, truth = evaluation.scene(parts)
            tokens = evaluation.head.look(pixels)
            assert tokens is not None
            vectors = evaluation.text.embed([words for words, _ in truth])
            for (_, box), towards in zip(truth, vectors, strict=True):
                for name, way in ways.items():
                    began = time.perf_counter()
                    cells = way(pixels, tokens, towards)
                    tallies[name].add(cells, box, time.perf_counter() - began)
        for name, tally in tallies.items():
            print(tally.row(f"{parts} parts, {name}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
