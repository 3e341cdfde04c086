"""SentencePiece models, padded and closed as SigLIP's towers expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.tokenizers.canonicalize import canonicalize as canonical_form
from siglip_search.tokenizers.vocabulary import check_special_ids, fill_row, without_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.models.spec import Canonicalization


class UnigramTokenizer:
    """A SentencePiece model with a fixed output length.

    Thread-safe once it is open.
    """

    def __init__(
        self,
        path: Path,
        *,
        canonicalize: Canonicalization,
        length: int,
        pad_id: int,
        end_id: int,
        start_id: int | None = None,
    ) -> None:
        """Open the SentencePiece model at `path`.

        Args:
            path: The serialized model (`spiece.model`, `tokenizer.model`).
            canonicalize: What is done to the words first.
            length: Number of ids per text, >= 1.
            pad_id: Fills up to `length` on the right.
            end_id: Closes every text, also one that was cut.
            start_id: Opens every text; None for a model without one.

        Raises:
            ModelError: If the file is no SentencePiece model, or `pad_id`, `end_id` or `start_id`
                is not in its vocabulary.
        """
        self._processor = _open_sentencepiece(path)
        self._canonicalize: Canonicalization = canonicalize
        self._length = length
        self._pad_id = pad_id
        self._end_id = end_id
        self._start_id = start_id
        check_special_ids(path, self.vocabulary_size, pad_id, end_id, start_id)

    @property
    def length(self) -> int:
        """Number of ids per text."""
        return self._length

    @property
    def vocabulary_size(self) -> int:
        """Number of pieces; every id is below it."""
        return int(self._processor.vocab_size())

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the ids of `texts`, shape (n, length).

        Each row is `start_id` if there is one, the text's ids as far as they fit, `end_id`, then
        `pad_id` to the end. Words that look like control pieces ("</s>") are words. Lone
        surrogates, which a command line in a wrong encoding can contain, count as "?".
        """
        # SigLIP pools the last position and attends to the padding, so pad even one short query.
        rows = np.full((len(texts), self._length), self._pad_id, dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            words = without_surrogates(canonical_form(text, self._canonicalize))
            fill_row(row, self._processor.encode(words), self._end_id, self._start_id)
        return rows


def _open_sentencepiece(path: Path) -> Any:
    import sentencepiece

    try:
        serialized = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}",
            hint="Check the file or fetch the model again.",
        ) from error
    processor = sentencepiece.SentencePieceProcessor()
    try:
        # Parsed from memory: the library's own file reading prints to stderr when it fails.
        parsed = processor.LoadFromSerializedProto(serialized)
    except RuntimeError:
        parsed = False
    # An empty file parses, as a model without a single piece.
    if not parsed or processor.vocab_size() == 0:
        raise ModelError(
            f"{path} is not a SentencePiece model",
            hint="The file is damaged or of another kind: fetch the model again.",
        )
    return processor
