"""Words become a vector, and the vector an answer."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Protocol

from siglip_search.errors import QueryError
from siglip_search.search.ranking import Answer, rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_index.records import Where


class WordsTower(Protocol):
    """What a query needs of a text tower."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of shape (len(texts), dimension)."""
        ...


def require_words(text: str) -> str:
    """Return the query without surrounding space.

    Raises:
        QueryError: There is no letter, digit or other sign with a meaning in it.
    """
    words = text.strip()
    if not any(_carries_meaning(character) for character in words):
        raise QueryError(
            "the query holds no words",
            hint='Say what is in the picture: siglip-search query "red bicycle"',
        )
    return words


def _carries_meaning(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "So"  # So holds the emoji


def answer_words(
    text: str,
    *,
    store: Store,
    space_key: str,
    tower: WordsTower,
    top_k: int,
    logit_scale: float,
    logit_bias: float | None,
    min_probability: float,
    where: Where | None = None,
) -> Answer:
    """Return the pictures that match the words, best first.

    Args:
        text: The query.
        store: The library.
        space_key: The embedding space of the tower.
        tower: The text tower of the model whose pictures are searched.
        top_k: At most so many hits, > 0.
        logit_scale: The model's temperature after exp(), > 0.
        logit_bias: The model's bias, None where it has none.
        min_probability: Smallest probability of a hit, in [0, 1].
        where: Which pictures may be returned.

    Raises:
        QueryError: The query holds no words.
    """
    vectors = tower.embed([require_words(text)])
    (neighbours,) = store.nearest(space_key, vectors, top_k, where)
    return rank(
        store,
        neighbours,
        logit_scale=logit_scale,
        logit_bias=logit_bias,
        min_probability=min_probability,
    )
