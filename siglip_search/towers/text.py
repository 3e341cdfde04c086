"""The text tower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from siglip_search.errors import ModelError
from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.onnx_header import token_table_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec

_TEXTS_PER_RUN: Final = 8


class TextTower:
    """Embeds words. `embed` may be called from several threads, which share the weights."""

    def __init__(
        self, spec: ModelSpec, *, threads: int | None = None, one_shot: bool = False
    ) -> None:
        """Open a model's tokenizer and text tower.

        Args:
            spec: The model.
            threads: Threads that one call uses; None for every processor.
            one_shot: Open fast, for a process that embeds a query and ends.

        Raises:
            ModelError: If either cannot be loaded or contradicts the model's facts.
        """
        from siglip_search.towers.session_cpu import CpuSession

        self._tokenizer = open_tokenizer(spec)
        session = CpuSession(spec.text_path, threads=threads, one_shot=one_shot)
        self._graph = embedding_graph(
            session,
            path=spec.text_path,
            dimension=spec.dimension,
            input_names=("input_ids", "text"),
            input_shape=(spec.text.length,),
        )
        self._spec = spec
        self._check_vocabulary()

    @property
    def precision(self) -> str:
        """Of the weights: "fp32", "fp16" or "int8"."""
        return self._spec.text.precision

    @property
    def device(self) -> str:
        """Where it runs: "cpu"."""
        return self._graph.session.device

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit embeddings, shape (n, dimension).

        Args:
            texts: Any words, of any length; what is beyond the tower's length is cut off.

        Raises:
            ModelError: If the tower fails or an embedding is zero or not finite.
        """
        return self._graph.run(self._tokenizer.encode(texts), rows_per_run=_TEXTS_PER_RUN)

    def _check_vocabulary(self) -> None:
        path = self._spec.text_path
        rows = token_table_rows(path, self._graph.input.name)
        pieces = self._tokenizer.vocabulary_size
        # A table may be larger than its vocabulary (rounded up for speed), never smaller.
        if rows is not None and pieces > rows:
            raise ModelError(
                f"{self._spec.tokenizer_path} has {pieces} pieces, but {path} knows only {rows}",
                hint="The tokenizer is another model's: put the right one there or fetch the model "
                "again.",
            )
