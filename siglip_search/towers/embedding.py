"""What both towers share: finding the embedding among the outputs, and making it a unit vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.towers.session import Session, TensorInfo

OUTPUT_NAMES: Final = (
    "embedding",  # ours; immich's exports
    "image_embeds",  # transformers' projections
    "text_embeds",
    "pooler_output",  # Xenova's and onnx-community's SigLIP towers
)
"""What the output with the embedding is called, the surest first."""


@dataclass(frozen=True, slots=True)
class EmbeddingGraph:
    """A tower's session with the input and output that matter.

    Attributes:
        session: The open tower.
        path: Its file, for messages.
        input: What is fed.
        output: What is asked for.
        dimension: Length of an embedding.
    """

    session: Session
    path: Path
    input: TensorInfo
    output: TensorInfo
    dimension: int

    def run(self, values: NDArray[Any], *, rows_per_run: int) -> NDArray[np.float32]:
        """Return unit embeddings, shape (n, dimension), of inputs whose first axis is n.

        Args:
            values: Inputs of the right shape; cast to the input's element type.
            rows_per_run: How many the tower sees at once, unless its batch is fixed.

        Raises:
            ModelError: If the tower fails or gives something that is no direction.
        """
        fixed_batch = self.input.shape[0]
        step = fixed_batch or rows_per_run
        embeddings = np.empty((len(values), self.dimension), dtype=np.float32)
        for start in range(0, len(values), step):
            rows = values[start : start + step].astype(self.input.dtype, copy=False)
            count = len(rows)
            if fixed_batch is not None and count < fixed_batch:
                # A fixed batch is filled up with the last row; what comes of it is dropped.
                rows = np.concatenate([rows, np.repeat(rows[-1:], fixed_batch - count, axis=0)])
            result = self.session.run({self.input.name: rows}, [self.output.name])[0]
            if result.shape != (len(rows), self.dimension):
                raise ModelError(
                    f"{self.path} gives embeddings of shape {result.shape}, "
                    f"not ({len(rows)}, {self.dimension})",
                    hint="Its model.toml is another model's: correct `dimension` or fetch the "
                    "model again.",
                )
            embeddings[start : start + count] = result[:count]
        return self.unit(embeddings)

    def unit(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring embeddings of shape (n, dimension) to length 1, in place.

        Raises:
            ModelError: If one is zero or not finite.
        """
        # Exports differ in whether they normalise; doing it twice changes nothing.
        norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
        # A tower that overflows gives inf or nan in one element, which reaches the norm.
        if not np.all(np.isfinite(norms) & (norms > 0.0)):
            raise ModelError(
                f"{self.path} gave an embedding that is zero or not finite",
                hint="The file is damaged, or its precision is too low for this model: fetch the "
                "model again.",
            )
        embeddings /= norms[:, None].astype(np.float32)
        return embeddings


def embedding_graph(
    session: Session,
    *,
    path: Path,
    dimension: int,
    input_names: Sequence[str],
    input_shape: tuple[int, ...],
) -> EmbeddingGraph:
    """Find the tower's one input and its embedding, and check them against the model's facts.

    Args:
        session: The open tower.
        path: Its file, for messages.
        dimension: Length of an embedding.
        input_names: Known names of the input, for towers with more than one.
        input_shape: What will be fed, without the batch.

    Raises:
        ModelError: If there is no such input or output, or their sizes contradict the facts.
    """
    return EmbeddingGraph(
        session=session,
        path=path,
        input=_choose_input(session, path, input_names, input_shape),
        output=_choose_output(session, path, dimension),
        dimension=dimension,
    )


def _choose_input(
    session: Session, path: Path, names: Sequence[str], shape: tuple[int, ...]
) -> TensorInfo:
    if len(session.inputs) != 1:
        listed = ", ".join(tensor.name for tensor in session.inputs)
        raise ModelError(
            f"{path} has the inputs {listed}; a tower has one, {' or '.join(names)}",
            hint="Take the export of the single tower (vision_model.onnx, text_model.onnx).",
        )
    tensor = session.inputs[0]
    fits = len(tensor.shape) == len(shape) + 1 and all(
        size is None or size == wanted for size, wanted in zip(tensor.shape[1:], shape, strict=True)
    )
    if not fits:
        raise ModelError(
            f"{path} takes {tensor.name} of shape {_shape(tensor)}, "
            f"but model.toml says {('batch', *shape)}".replace("'", ""),
            hint="Correct model.toml, or take the export of this size.",
        )
    return tensor


def _choose_output(session: Session, path: Path, dimension: int) -> TensorInfo:
    flat = [tensor for tensor in session.outputs if len(tensor.shape) == 2]
    named = {tensor.name: tensor for tensor in flat}
    chosen = next((named[name] for name in OUTPUT_NAMES if name in named), None)
    if chosen is None:
        right = [tensor for tensor in flat if tensor.shape[1] in (dimension, None)]
        if len(right) != 1:
            listed = ", ".join(f"{t.name} {_shape(t)}" for t in session.outputs)
            raise ModelError(
                f"{path} has no output that is surely the embedding of {dimension} values: "
                f"it has {listed}",
                hint=f"Name the output {OUTPUT_NAMES[0]} when exporting.",
            )
        chosen = right[0]
    if chosen.shape[1] not in (dimension, None):
        raise ModelError(
            f"{path} gives {chosen.name} of {chosen.shape[1]} values, "
            f"but model.toml says dimension = {dimension}",
            hint="Correct model.toml, or take the export of the right model.",
        )
    return chosen


def _shape(tensor: TensorInfo) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in tensor.shape) + ")"
