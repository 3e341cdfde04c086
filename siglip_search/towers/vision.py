"""The picture tower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.models.compiled_contexts import compiled_contexts
from siglip_search.towers.devices import open_session
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.preprocess import Preprocessor, normalise
from siglip_search.towers.wrapped_context import tower_session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Device

_PIXELS_PER_RUN: Final = 384 * 384
"""Large pictures are slower in a batch (10 % at 384 px); small ones save the call's overhead."""


class VisionTower:
    """Embeds pictures. `embed` may be called from several threads, which share the weights."""

    def __init__(self, spec: ModelSpec, *, threads: int = 1, device: Device = "cpu") -> None:
        """Open a model's picture tower.

        Args:
            spec: The model.
            threads: Threads that one call uses on the processor. Several callers with one thread
                each get more out of it than one caller with several.
            device: Where it shall run; see `open_session`.

        Raises:
            ModelError: If the tower cannot be loaded or contradicts the model's facts.
            DeviceError: If the device was asked for by name and cannot be used.
        """
        height, width = spec.vision.image_size
        self.opened = open_session(
            spec.vision_path,
            device=device,
            threads=threads,
            compiled=compiled_contexts(spec.directory, "vision"),
            model=spec.name,
        )
        self._graph = embedding_graph(
            tower_session(self.opened),
            path=self.opened.path,
            dimension=spec.dimension,
            input_names=("pixel_values", "image"),
            input_shape=(3, height, width),
        )
        self._spec = spec
        self._rows_per_run = max(1, _PIXELS_PER_RUN // (height * width))

    @property
    def preprocessor(self) -> Preprocessor:
        """Brings an upright picture to the tower's size; can be sent to another process."""
        vision = self._spec.vision
        return Preprocessor(vision.image_size, vision.resize, vision.resample)

    @property
    def precision(self) -> str:
        """Of the arithmetic where it is less than that of the weights, else of the weights."""
        return self.opened.precision_of(self._spec.vision.precision)

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "npu" or "npu-emulator"."""
        return self.opened.device

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return unit embeddings, shape (n, dimension).

        Args:
            pixels: What `preprocessor` returns, stacked: shape (n, height, width, 3).

        Raises:
            ValueError: If the pixels are of another shape or type.
            ModelError: If the tower fails or an embedding is zero or not finite.
        """
        vision = self._spec.vision
        if (
            pixels.dtype != np.uint8
            or pixels.ndim != 4
            or pixels.shape[1:] != (*vision.image_size, 3)
        ):
            raise ValueError(
                f"pixels are {pixels.dtype} of shape {pixels.shape}, "
                f"not uint8 of shape (n, {vision.image_size[0]}, {vision.image_size[1]}, 3)"
            )
        step = self._rows_per_run
        # Normalised piece by piece: as float32 a picture is four times its pixels.
        pieces = [
            self._graph.run(
                normalise(pixels[start : start + step], mean=vision.mean, std=vision.std),
                rows_per_run=step,
            )
            for start in range(0, len(pixels), step)
        ]
        if not pieces:
            return np.empty((0, self._spec.dimension), dtype=np.float32)
        return np.concatenate(pieces)
