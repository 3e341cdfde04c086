"""The two towers of a checkpoint as its own library computes them: what an export must equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.models.registry_row import RegistryRow


@dataclass(frozen=True, slots=True)
class TorchTower:
    """One tower.

    Attributes:
        module: A `torch.nn.Module` in evaluation mode, in float32, on the processor.
        pick: Takes the embedding, shape (n, dimension), not normalised, out of what it returns.
    """

    module: Any
    pick: Callable[[Any], Any]

    def embed(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return unit embeddings, shape (n, dimension), of pixel values or ids."""
        import torch

        with torch.inference_mode():
            embeddings = self.pick(self.module(torch.from_numpy(values)))
            unit: NDArray[np.float32] = torch.nn.functional.normalize(embeddings, dim=-1).numpy()
        return unit


@dataclass(frozen=True, slots=True)
class TorchTowers:
    """Both towers and the two scalars between them.

    Attributes:
        vision: From float32 pixel values, shape (n, 3, height, width).
        text: From int64 ids, shape (n, length).
        logit_scale: After exp().
        logit_bias: None for a model without one.
    """

    vision: TorchTower
    text: TorchTower
    logit_scale: float
    logit_bias: float | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a network expects and gives.

    Attributes:
        image_size: Height and width in pixels.
        length: Ids per text.
        dimension: Length of an embedding.
    """

    image_size: tuple[int, int]
    length: int
    dimension: int


def refuse_other_sizes(row: RegistryRow, found: Sizes, *, where: Path | str) -> None:
    """Raise if a network is not of the sizes that its row says.

    Raises:
        ModelError: Naming the first size that differs.
    """
    assert row.hub is not None
    for what, said, wanted in (
        ("an image size of", _by(found.image_size), _by(row.hub.image_size)),
        ("a text length of", found.length, row.hub.length),
        ("embeddings of length", found.dimension, row.dimension),
    ):
        if said != wanted:
            raise ModelError(
                f"{where} describes a model with {what} {said}; {row.name} has {wanted}",
                hint="Name the model that the checkpoint was made from.",
            )


def refuse_foreign_weights(
    where: Path,
    name: str,
    *,
    missing: Collection[str],
    unexpected: Collection[str],
    other_shapes: Mapping[str, str],
) -> None:
    """Raise unless a file holds every weight of a network, in its shape, and nothing else.

    A library that fills what is missing with random numbers does so in a log line.

    Args:
        where: The file.
        name: Of the model.
        missing: Weights that the network has and the file has not.
        unexpected: Weights that the file has and the network has not.
        other_shapes: By name of the weight, the two shapes in words.

    Raises:
        ModelError: Naming one weight of the kind that differs.
    """
    if other_shapes:
        weight, shapes = min(other_shapes.items())
        what = f"{len(other_shapes)} of its weights have another shape: {weight} {shapes}"
    elif missing:
        what = f"{len(missing)} weights are missing, {min(missing)} for one"
    elif unexpected:
        what = f"it has {len(unexpected)} weights too many, {min(unexpected)} for one"
    else:
        return
    raise ModelError(
        f"{where} is no checkpoint of {name}: {what}",
        hint="Name the model that it was trained from; adapters must be merged into it first.",
    )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
