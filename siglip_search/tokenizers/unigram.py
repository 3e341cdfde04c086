"""SentencePiece models, padded and closed as SigLIP's towers expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from siglip_search.errors import ModelError
from siglip_search.tokenizers.canonicalize import canonicalize as canonical_form

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
    ) -> None:
        """Open the SentencePiece model at `path`.

        Args:
            path: The serialized model (`spiece.model`, `tokenizer.model`).
            canonicalize: What is done to the words first.
            length: Number of ids per text, >= 1.
            pad_id: Fills up to `length` on the right.
            end_id: Closes every text, also one that was cut.

        Raises:
            ModelError: If the file is no SentencePiece model, or `pad_id` or `end_id` is not in
                its vocabulary.
        """
        self._processor = _open_sentencepiece(path)
        self._canonicalize: Canonicalization = canonicalize
        self._length = length
        self._pad_id = pad_id
        self._end_id = end_id
        for key, value in (("pad_id", pad_id), ("end_id", end_id)):
            if not 0 <= value < self.vocabulary_size:
                raise ModelError(
                    f"{path} has {self.vocabulary_size} pieces, but the model's {key} is {value}",
                    hint="This is another model's tokenizer: put the right one there or fetch the "
                    "model again.",
                )

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

        Each row is the text's first `length - 1` ids, `end_id`, then `pad_id` to the end. Words
        that look like control pieces ("</s>") are words. Lone surrogates, which a command line
        in a wrong encoding can contain, count as unknown characters.
        """
        # SigLIP pools the last position and attends to the padding, so pad even one short query.
        ids = np.full((len(texts), self._length), self._pad_id, dtype=np.int64)
        for row, text in enumerate(texts):
            words = canonical_form(text, self._canonicalize)
            pieces = self._processor.encode(words.encode("utf-8", "replace").decode("utf-8"))
            kept = pieces[: self._length - 1]
            ids[row, : len(kept)] = kept
            ids[row, len(kept)] = self._end_id
        return ids


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
