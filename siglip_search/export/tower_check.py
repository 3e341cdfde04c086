"""Do the exported towers compute what the checkpoint's own library computes?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.preprocess import normalise
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.export.torch_towers import TorchTowers
    from siglip_search.models.spec import ModelSpec

MAX_DIFFERENCE: Final = 2e-6
"""Of any component of two unit vectors. Sums in another order make up to 5e-7; the approximation of
GELU that a model was not trained with makes 4e-5, at a cosine that still rounds to 1."""

_TEXTS: Final = ("a red bicycle", "two cats asleep on a sofa, 1987", "Nebel über dem Tal", "")
_PICTURES: Final = 3


@dataclass(frozen=True, slots=True)
class TowerDifferences:
    """Largest differences between components of unit vectors.

    Attributes:
        vision: Of the picture towers.
        text: Of the text towers.
    """

    vision: float
    text: float


def check_towers(spec: ModelSpec, towers: TorchTowers) -> TowerDifferences:
    """Run an exported model on a few pictures and texts, as a search does, against its source.

    Args:
        spec: The exported model.
        towers: What it was exported from.

    Raises:
        ModelError: If a tower cannot be run, or differs by more than `MAX_DIFFERENCE`.
    """
    differences = TowerDifferences(
        vision=_vision_difference(spec, towers), text=_text_difference(spec, towers)
    )
    for path, difference in (
        (spec.vision_path, differences.vision),
        (spec.text_path, differences.text),
    ):
        if not difference <= MAX_DIFFERENCE:
            raise ModelError(
                f"{path.name} differs from the checkpoint that it was exported from by "
                f"{difference:.1e}; {MAX_DIFFERENCE:.0e} is allowed",
                hint="The exporter of this torch does not know the model well enough: try another "
                "--opset, or another version of torch.",
            )
    return differences


def _vision_difference(spec: ModelSpec, towers: TorchTowers) -> float:
    pixels = _pictures(spec.vision.image_size)
    values = normalise(pixels, mean=spec.vision.mean, std=spec.vision.std)
    return _largest(VisionTower(spec).embed(pixels) - towers.vision.embed(values))


def _text_difference(spec: ModelSpec, towers: TorchTowers) -> float:
    ids = open_tokenizer(spec).encode(_TEXTS)
    return _largest(TextTower(spec).embed(_TEXTS) - towers.text.embed(ids))


def _largest(differences: NDArray[np.float32]) -> float:
    return float(np.abs(differences).max())


def _pictures(image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return pictures of coarse to fine coloured blocks, shape (n, height, width, 3)."""
    generator = np.random.default_rng(0)
    pictures = np.empty((_PICTURES, *image_size, 3), dtype=np.uint8)
    for picture, blocks in zip(pictures, (2, 12, 96), strict=True):
        block = max(1, max(image_size) // blocks)
        coarse = generator.integers(0, 256, (blocks + 1, blocks + 1, 3), dtype=np.uint8)
        rows, columns = (np.minimum(np.arange(side) // block, blocks) for side in image_size)
        picture[:] = coarse[rows][:, columns]
    return pictures
