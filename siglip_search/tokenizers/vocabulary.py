"""What every vocabulary has in common: how a row of ids is laid out, and what is asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


def check_special_ids(
    path: Path, vocabulary_size: int, pad_id: int, end_id: int, start_id: int | None
) -> None:
    """Check that the ids a model adds to its words are in its vocabulary.

    Args:
        path: The tokenizer's file, for messages.
        vocabulary_size: Number of pieces.
        pad_id: Fills rows.
        end_id: Closes every text.
        start_id: Opens every text; None for a model without one.

    Raises:
        ModelError: If one is not in [0, vocabulary_size).
    """
    for key, value in (("pad_id", pad_id), ("end_id", end_id), ("start_id", start_id)):
        if value is not None and not 0 <= value < vocabulary_size:
            raise ModelError(
                f"{path} has {vocabulary_size} pieces, but the model's {key} is {value}",
                hint="This is another model's tokenizer: put the right one there or fetch the "
                "model again.",
            )


def fill_row(
    row: NDArray[np.int64], pieces: Sequence[int], end_id: int, start_id: int | None
) -> None:
    """Put a text's ids into `row`: the start, the pieces as far as they fit, and the end.

    Args:
        row: Shape (length,), full of padding; changed in place.
        pieces: Ids of the text, of any number.
        end_id: Closes the text, also one that is cut.
        start_id: Opens it; None for a model without one.
    """
    opening = () if start_id is None else (start_id,)
    ids = [*opening, *pieces[: len(row)]][: len(row) - 1]
    row[: len(ids) + 1] = [*ids, end_id]


def without_surrogates(text: str) -> str:
    """Return `text` with each lone surrogate replaced by a question mark.

    A command line in a wrong encoding can contain them, and no tokenizer takes them.
    """
    return text.encode("utf-8", "replace").decode("utf-8")
