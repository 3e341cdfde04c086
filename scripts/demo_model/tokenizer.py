"""Words to ids, as the product makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import sentencepiece

from demo_model.captions import canonicalize

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


class Tokenizer:
    """Canonicalizes, cuts into SentencePiece ids, ends with 1 and pads."""

    def __init__(self, path: Path, *, length: int, pad_id: int) -> None:
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.length = length
        self.pad_id = pad_id

    def __call__(self, texts: list[str], *, tight: bool = False) -> NDArray[np.int64]:
        """Return ids of shape (texts, length), or only as long as needed if `tight`."""
        rows = [
            [*ids[: self.length - 1], 1]
            for ids in self._model.encode([canonicalize(text) for text in texts])
        ]
        width = max(len(row) for row in rows) if tight else self.length
        ids = np.full((len(rows), width), self.pad_id, np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return ids
