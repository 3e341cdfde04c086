"""Which pictures a variant was quantised with: they must not judge it as well.

A file of digests in the variant's folder, beside the files that `model.toml` names. A copy of the
model that was made by those names goes without it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelFacts

RECORD_FILE: Final = "quantized-with.txt"

_DIGITS: Final = 32


def picture_digest(pixels: NDArray[np.uint8]) -> str:
    """Return what tells a prepared picture from others: 32 hexadecimal digits.

    Args:
        pixels: As a tower takes them, shape (1, height, width, 3).
    """
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:_DIGITS]


def write_calibration_record(folder: Path, pictures: Iterable[NDArray[np.uint8]]) -> None:
    """Note the pictures that a variant was quantised with.

    Args:
        folder: The variant's.
        pictures: Each of shape (1, height, width, 3).

    Raises:
        OSError: If the file cannot be written.
    """
    lines = "".join(f"{picture_digest(pixels)}\n" for pixels in pictures)
    (folder / RECORD_FILE).write_text(lines, encoding="ascii")


def calibration_record(folder: Path) -> frozenset[str] | None:
    """Return the digests of the pictures, or None if they were not noted."""
    try:
        return frozenset((folder / RECORD_FILE).read_text(encoding="ascii").split())
    except (OSError, UnicodeDecodeError):
        return None


def is_calibrated(facts: ModelFacts) -> bool:
    """Tell whether a model was quantised with the user's pictures, by this program."""
    return facts.variant is not None and facts.variant.recipe.startswith("siglip-search w8a16 ")
