"""Words become token ids of fixed length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec


class Tokenizer(Protocol):
    """Turns texts into ids as one model was trained on them."""

    @property
    def length(self) -> int:
        """Number of ids per text."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """Ids are below it."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return ids, shape (n, length), each in [0, vocabulary_size)."""
        ...


def open_tokenizer(spec: ModelSpec) -> Tokenizer:
    """Open a model's tokenizer.

    Raises:
        ModelError: If its file cannot be read or its ids do not fit the model's facts.
    """
    # The library behind a tokenizer is loaded only when one of its kind is opened.
    text = spec.text
    if text.tokenizer == "clip-bpe":
        from siglip_search.tokenizers.clip_bpe import ClipBpeTokenizer

        return ClipBpeTokenizer(
            spec.tokenizer_path,
            canonicalize=text.canonicalize,
            length=text.length,
            pad_id=text.pad_id,
            end_id=text.end_id,
            start_id=text.start_id,
        )
    from siglip_search.tokenizers.unigram import UnigramTokenizer

    return UnigramTokenizer(
        spec.tokenizer_path,
        canonicalize=text.canonicalize,
        length=text.length,
        pad_id=text.pad_id,
        end_id=text.end_id,
        start_id=text.start_id,
    )
