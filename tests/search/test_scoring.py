"""Probabilities are SigLIP's, and the way back is exact."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.search.scoring import cosine_for_probability, match_probability

COSINES = st.floats(-1, 1)
SCALES = st.floats(1, 150)
BIASES = st.floats(-20, 5)


def test_published_logits_give_the_published_probabilities() -> None:
    # The model card test of google/siglip-base-patch16-224: "a photo of 2 cats", "... dogs".
    for logit, probability in ((-0.7567, 0.31937), (-10.3354, 3.2463e-05)):
        found = match_probability(logit, logit_scale=1.0, logit_bias=0.0)
        assert found == pytest.approx(probability, rel=1e-3)


@given(COSINES, COSINES, SCALES, BIASES)
def test_more_cosine_is_never_less_probability(
    a: float, b: float, scale: float, bias: float
) -> None:
    low, high = (
        match_probability(cosine, logit_scale=scale, logit_bias=bias) for cosine in sorted((a, b))
    )
    assert 0.0 <= low <= high <= 1.0


@given(st.floats(1e-6, 1 - 1e-6), SCALES, BIASES)
def test_the_cosine_of_a_probability_has_that_probability(
    probability: float, scale: float, bias: float
) -> None:
    cosine = cosine_for_probability(probability, logit_scale=scale, logit_bias=bias)
    back = match_probability(cosine, logit_scale=scale, logit_bias=bias)
    assert back == pytest.approx(probability, rel=1e-6)


def test_certainty_is_beyond_every_cosine() -> None:
    assert cosine_for_probability(0.0, logit_scale=10, logit_bias=0) == -math.inf
    assert cosine_for_probability(1.0, logit_scale=10, logit_bias=0) == math.inf


def test_a_log_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="exp"):
        match_probability(0.1, logit_scale=-0.5, logit_bias=0)


def test_extreme_logits_do_not_overflow() -> None:
    assert match_probability(1.0, logit_scale=1e6, logit_bias=0) == 1.0
    assert match_probability(-1.0, logit_scale=1e6, logit_bias=0) == 0.0
