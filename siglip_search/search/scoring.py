"""From cosines to SigLIP's match probabilities and back: pure arithmetic."""

from __future__ import annotations

import math


def match_probability(cosine: float, *, logit_scale: float, logit_bias: float) -> float:
    """Return SigLIP's pairwise match probability (arXiv:2303.15343, section 3.2).

    Args:
        cosine: Inner product of two unit vectors, in [-1, 1].
        logit_scale: Temperature after exp(); dimensionless, > 0.
        logit_bias: Added to the scaled cosine.

    Returns:
        sigmoid(logit_scale * cosine + logit_bias), in [0, 1].

    Raises:
        ValueError: If logit_scale <= 0 (a log-scale was passed).
    """
    _require_positive(logit_scale)
    logit = logit_scale * cosine + logit_bias
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    # exp() of a large positive number overflows, of a large negative one only vanishes.
    odds = math.exp(logit)
    return odds / (1.0 + odds)


def cosine_for_probability(probability: float, *, logit_scale: float, logit_bias: float) -> float:
    """Return the cosine at which the match probability takes this value.

    Args:
        probability: In [0, 1].
        logit_scale: Temperature after exp(); dimensionless, > 0.
        logit_bias: Added to the scaled cosine.

    Returns:
        The cosine; -inf for 0 and inf for 1, and beyond [-1, 1] where no cosine reaches it.

    Raises:
        ValueError: If the probability is not in [0, 1] or logit_scale <= 0.
    """
    _require_positive(logit_scale)
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"a probability lies between 0 and 1, not {probability}")
    if probability == 0.0:
        return -math.inf
    if probability == 1.0:
        return math.inf
    return (math.log(probability) - math.log1p(-probability) - logit_bias) / logit_scale


def _require_positive(logit_scale: float) -> None:
    if not logit_scale > 0:
        raise ValueError(f"logit_scale must be > 0, not {logit_scale}; was exp() left out?")
