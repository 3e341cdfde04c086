"""The picture tower."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.models.compiled_contexts import compiled_contexts
from siglip_search.towers.devices import is_compiled, open_session
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.failover import Embedded, Failover, OpenTower, Substitute
from siglip_search.towers.preprocess import Preprocessor, normalise
from siglip_search.towers.wrapped_context import tower_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.devices import OpenedSession
    from siglip_search.towers.embedding import EmbeddingGraph
    from siglip_search.towers.session import Device

_PIXELS_PER_RUN: Final = 384 * 384
"""Large pictures are slower in a batch (10 % at 384 px); small ones save the call's overhead."""


class VisionTower:
    """Embeds pictures. `embed` may be called from several threads, which share the weights.

    When an NPU fails, the same pictures are embedded once more in a new session. If that fails too,
    "auto" goes on on the processor, and a device that was asked for by name is an error.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        threads: int = 1,
        device: Device = "cpu",
        substitutes: Callable[[], Sequence[ModelSpec]] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        """Open a model's picture tower.

        Args:
            spec: The model.
            threads: Threads that one call uses on the processor. Several callers with one thread
                each get more out of it than one caller with several.
            device: Where it shall run; see `open_session`.
            substitutes: Models of the same embedding space whose picture towers may go on on the
                processor when an NPU that "auto" took has failed, the best first; by default the
                model's own, if it is no compiled context. Asked for when it has.
            on_notice: Called with one line when the NPU failed and something else goes on; by
                default it is logged as a warning.

        Raises:
            ModelError: If the tower cannot be loaded or contradicts the model's facts.
            DeviceError: If the device was asked for by name and cannot be used.
        """
        self._spec = spec
        self._threads = threads

        def own_tower() -> list[ModelSpec]:
            return [] if is_compiled(spec.vision_path) else [spec]

        def substitute_towers() -> Iterable[Substitute]:
            for model in (substitutes or own_tower)():
                assert model.space_key == spec.space_key
                yield Substitute(model.name, partial(self._open, model, "cpu"))

        self._failover = Failover(
            self._open(spec, device),
            partial(self._open, spec),
            substitutes=substitute_towers if device == "auto" else None,
            runs_on_cpu=lambda: not is_compiled(spec.vision_path),
            on_notice=on_notice,
        )
        height, width = spec.vision.image_size
        self._rows_per_run = max(1, _PIXELS_PER_RUN // (height * width))

    @property
    def opened(self) -> OpenedSession:
        """The session that runs now."""
        return self._failover.tower.opened

    @property
    def preprocessor(self) -> Preprocessor:
        """Brings an upright picture to the tower's size; can be sent to another process."""
        vision = self._spec.vision
        return Preprocessor(vision.image_size, vision.resize, vision.resample)

    @property
    def precision(self) -> str:
        """Of the arithmetic where it is less than that of the weights, else of the weights."""
        return self._failover.tower.precision

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
            DeviceError: If the device failed, and nothing may or can go on in its place.
        """
        return self.embed_with_provenance(pixels).vectors

    def embed_with_provenance(self, pixels: NDArray[np.uint8]) -> Embedded:
        """Return what `embed` does, with the device and the precision that made these vectors.

        `device` and `precision` tell what runs now, which another thread may have seen change.

        Args:
            pixels: As for `embed`.

        Raises:
            ValueError, ModelError, DeviceError: As `embed`.
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
        return self._failover.run(lambda graph: self._run(graph, pixels))

    def _run(self, graph: EmbeddingGraph, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        vision, step = self._spec.vision, self._rows_per_run
        # Normalised piece by piece: as float32 a picture is four times its pixels.
        pieces = [
            graph.run(
                normalise(pixels[start : start + step], mean=vision.mean, std=vision.std),
                rows_per_run=step,
            )
            for start in range(0, len(pixels), step)
        ]
        if not pieces:
            return np.empty((0, self._spec.dimension), dtype=np.float32)
        return np.concatenate(pieces)

    def _open(self, spec: ModelSpec, device: Device) -> OpenTower:
        opened = open_session(
            spec.vision_path,
            device=device,
            threads=self._threads,
            compiled=() if device == "cpu" else compiled_contexts(spec.directory, "vision"),
            model=spec.name,
        )
        graph = embedding_graph(
            tower_session(opened),
            path=opened.path,
            dimension=spec.dimension,
            input_names=("pixel_values", "image"),
            input_shape=(3, *spec.vision.image_size),
        )
        return OpenTower(opened, graph, opened.precision_of(spec.vision.precision))
