"""What the checks work with: the demonstration model made ready, its gallery, and open towers.

Towers are opened by `open_session` and not by `VisionTower`, which stands in for a device that
fails: here the failure is what is looked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hardware.outcome import NotPossibleError
from siglip_search import demo
from siglip_search.models.model_folder import load_model_folder
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.settings import models_directory
from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.devices import open_session
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.preprocess import Preprocessor, normalise
from siglip_search.towers.qnn_chip import this_processor
from siglip_search.towers.qnn_target import DEFAULT_TARGET
from siglip_search.towers.wrapped_context import tower_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.devices import OpenedSession
    from siglip_search.towers.embedding import EmbeddingGraph
    from siglip_search.towers.qnn_target import Target
    from siglip_search.towers.session import Device

FIXED, W8A16 = "demo-fixed", "demo-w8a16"
"""Models that the first checks make for the others: for a batch of 1, and quantised."""

QUICK_PICTURES = 10


@dataclass(frozen=True)
class OpenTower:
    """An open tower."""

    opened: OpenedSession
    graph: EmbeddingGraph

    def embed(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return unit vectors, one run for each row."""
        return self.graph.run(values, rows_per_run=1)

    @property
    def nodes(self) -> str:
        """How many of its nodes are on the NPU."""
        found = self.opened.assignment
        return "none" if found is None else f"{found.npu} of {found.npu + found.cpu}"


@dataclass(frozen=True)
class Bench:
    """Where and how the checks are made.

    Attributes:
        folder: Is deleted at the end.
        device: "npu" or "npu-emulator".
        quick: With a few pictures and short runs.
        seconds: How long a long run is.
    """

    folder: Path
    device: Device
    quick: bool
    seconds: float

    @property
    def emulator(self) -> bool:
        """Whether times say nothing about an NPU."""
        return self.device == "npu-emulator"

    @property
    def chip(self) -> Target | None:
        """The chip that graphs are prepared for; None if it is not recognised."""
        return DEFAULT_TARGET if self.emulator else this_processor().target

    @property
    def target(self) -> Target:
        """The chip, for checks that need to know it."""
        if self.chip is None:
            raise NotPossibleError("the chip is not recognised")
        return self.chip

    @cached_property
    def original(self) -> ModelSpec:
        """The demonstration model as it comes with the program."""
        return load_model_folder(demo.model_directory())

    def model(self, name: str) -> ModelSpec:
        """Return one of the models that earlier checks made."""
        directory = models_directory() / name
        if not directory.is_dir():
            raise NotPossibleError(f"the model {name} could not be made, see above")
        return load_model_folder(directory)

    @cached_property
    def truth(self) -> list[dict[str, Any]]:
        """What the gallery's pictures show, as many as are used."""
        text = (demo.gallery_directory() / "gallery.json").read_text(encoding="utf-8")
        pictures: list[dict[str, Any]] = json.loads(text)["pictures"]
        # Every so many: the gallery is sorted by place.
        return pictures[:: len(pictures) // QUICK_PICTURES] if self.quick else pictures

    @cached_property
    def pixel_values(self) -> NDArray[np.float32]:
        """The gallery as a picture tower takes it, shape (n, 3, height, width)."""
        vision = self.original.vision
        preprocessor = Preprocessor(vision.image_size, vision.resize, vision.resample)
        pixels = []
        for facts in self.truth:
            with (demo.gallery_directory() / facts["file"]).open("rb") as file:
                pixels.append(preprocessor(decode(file, limits=DecodeLimits()).image))
        return normalise(np.stack(pixels), mean=vision.mean, std=vision.std)

    @cached_property
    def things(self) -> list[str]:
        """What can be asked for: each thing in the pictures once."""
        return sorted({facts["thing"] for facts in self.truth})

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """A query for each thing, as a text tower takes it."""
        return self.encode([f"a {thing}" for thing in self.things])

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return ids, shape (n, length)."""
        return open_tokenizer(self.original).encode(texts)

    def first_is_right(
        self, pictures: NDArray[np.float32], texts: NDArray[np.float32]
    ) -> tuple[int, int]:
        """Return how many queries have a right picture first, and how many there are."""
        best = (texts @ pictures.T).argmax(axis=1)
        right = 0
        for thing, found in zip(self.things, best, strict=True):
            facts = self.truth[int(found)]
            right += thing in {item["thing"] for item in (facts, *facts["others"])}
        return right, len(self.things)


def open_tower(
    spec: ModelSpec, tower: str, device: Device, *, compiled: Sequence[Path] = ()
) -> OpenTower:
    """Open one tower of a model, "vision" or "text"."""
    vision = tower == "vision"
    path = spec.vision_path if vision else spec.text_path
    opened = open_session(path, device=device, threads=1, compiled=compiled, model=spec.name)
    graph = embedding_graph(
        tower_session(opened),
        path=opened.path,
        dimension=spec.dimension,
        input_names=("pixel_values",) if vision else ("input_ids",),
        input_shape=(3, *spec.vision.image_size) if vision else (spec.text.length,),
    )
    return OpenTower(opened, graph)


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows."""
    found: NDArray[np.float64] = np.einsum("nd,nd->n", first, second, dtype=np.float64)
    return found
