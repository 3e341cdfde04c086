"""What a model was trained to expect of its words, before they are cut into pieces."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from siglip_search.models.spec import Canonicalization

_NO_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)


def canonicalize(text: str, rule: Canonicalization) -> str:
    """Return `text` in the form that the model was trained on.

    "lowercase-no-punctuation" is SigLIP's: lower case, ASCII punctuation removed, runs of white
    space collapsed to one space and trimmed (big_vision `pp/ops_text.py`, transformers
    `SiglipTokenizer.canonicalize_text`). "lowercase" is SigLIP 2's: punctuation and white space
    stay (big_vision's SigLIP 2 configurations).

    Idempotent under either rule.
    """
    lowered = text.lower()
    if rule == "lowercase":
        return lowered
    return " ".join(lowered.translate(_NO_PUNCTUATION).split())
