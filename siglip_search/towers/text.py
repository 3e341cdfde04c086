"""The text tower."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from siglip_search.errors import ModelError
from siglip_search.models.compiled_contexts import compiled_contexts
from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.devices import is_compiled, open_session
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.failover import Failover, OpenTower, Substitute
from siglip_search.towers.onnx_header import token_table_rows
from siglip_search.towers.wrapped_context import tower_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.devices import OpenedSession
    from siglip_search.towers.session import Device

_TEXTS_PER_RUN: Final = 8


class TextTower:
    """Embeds words. `embed` may be called from several threads, which share the weights.

    When an NPU fails, it does what `VisionTower` does, with the model's own tower on the processor.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        threads: int | None = None,
        one_shot: bool = False,
        device: Device = "cpu",
    ) -> None:
        """Open a model's tokenizer and text tower.

        Args:
            spec: The model.
            threads: Threads that one call uses; None for every processor.
            one_shot: Open fast, for a process that embeds a query and ends.
            device: Where it shall run; see `open_session`.

        Raises:
            ModelError: If either cannot be loaded or contradicts the model's facts.
            DeviceError: If the device was asked for by name and cannot be used.
        """
        self._tokenizer = open_tokenizer(spec)
        self._spec = spec
        self._threads = threads
        self._one_shot = one_shot

        def own_tower() -> list[Substitute]:
            on_cpu = Substitute(spec.name, partial(self._open, "cpu"))
            return [] if is_compiled(spec.text_path) else [on_cpu]

        self._failover = Failover(
            self._open(device),
            self._open,
            substitutes=own_tower if device == "auto" else None,
            runs_on_cpu=lambda: not is_compiled(spec.text_path),
        )

    @property
    def opened(self) -> OpenedSession:
        """The session that runs now."""
        return self._failover.tower.opened

    @property
    def precision(self) -> str:
        """Of the arithmetic where it is less than that of the weights, else of the weights."""
        return self._failover.tower.precision

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "npu" or "npu-emulator"."""
        return self.opened.device

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit embeddings, shape (n, dimension).

        Args:
            texts: Any words, of any length; what is beyond the tower's length is cut off.

        Raises:
            ModelError: If the tower fails or an embedding is zero or not finite.
            DeviceError: If the device failed, and nothing may or can go on in its place.
        """
        ids = self._tokenizer.encode(texts)
        return self._failover.run(lambda graph: graph.run(ids, rows_per_run=_TEXTS_PER_RUN)).vectors

    def _open(self, device: Device) -> OpenTower:
        spec = self._spec
        opened = open_session(
            spec.text_path,
            device=device,
            threads=self._threads,
            one_shot=self._one_shot,
            compiled=() if device == "cpu" else compiled_contexts(spec.directory, "text"),
            model=spec.name,
        )
        graph = embedding_graph(
            tower_session(opened),
            path=opened.path,
            dimension=spec.dimension,
            input_names=("input_ids", "text"),
            input_shape=(spec.text.length,),
        )
        self._check_vocabulary(graph.input.name)
        return OpenTower(opened, graph, opened.precision_of(spec.text.precision))

    def _check_vocabulary(self, input_name: str) -> None:
        path = self._spec.text_path
        rows = token_table_rows(path, input_name)
        pieces = self._tokenizer.vocabulary_size
        # A table may be larger than its vocabulary (rounded up for speed), never smaller.
        if rows is not None and pieces > rows:
            raise ModelError(
                f"{self._spec.tokenizer_path} has {pieces} pieces, but {path} knows only {rows}",
                hint="The tokenizer is another model's: put the right one there or fetch the model "
                "again.",
            )
