"""What a model was trained to expect of its words, before they are cut into pieces."""

from __future__ import annotations

import html
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
    stay (big_vision's SigLIP 2 configurations). "clip" is CLIP's: text that was decoded wrongly
    is mended, HTML entities become their characters, white space collapses as above, lower case
    (open_clip `SimpleTokenizer`).

    Idempotent, but for "clip", which like its reference can uncover what the next pass would
    change: another entity ("<&amp;amp;lt;"), or letters that compose once they are lower-cased.
    """
    if rule == "clip":
        return " ".join(_mended(text).split()).lower()
    lowered = text.lower()
    if rule == "lowercase":
        return lowered
    return " ".join(lowered.translate(_NO_PUNCTUATION).split())


def _mended(text: str) -> str:
    # Loaded for the one family of models that wants it: it costs 20 ms.
    import ftfy

    # Twice, as the reference: pages of the web often hold entities that were escaped again.
    return html.unescape(html.unescape(ftfy.fix_text(text)))
