"""Which labels fit which pictures, against a model that looks at one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_search.search.background import background_of
from siglip_search.search.calibration import Calibration
from siglip_search.search.scoring import match_probability
from siglip_search.search.tag_scores import (
    MAX_TAGS,
    LabelScale,
    ModelScale,
    calibrated_scales,
    fitting_labels,
)

CALIBRATION = Calibration(
    cosine_weight=12.0,
    standing_weight=0.8,
    offset=-6.0,
    plain_weight=20.0,
    plain_offset=-8.0,
    locations=(-0.2, 0.3),
    spreads=(0.05, 0.4),
    cut=0.5,
    false_positive_rate=0.05,
    pairs=1000,
    origin="shipped",
)


def unit_vectors(seed: int, rows: int, dimension: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(1, 12), st.floats(0.01, 1.0))
def test_a_label_fits_when_its_own_probability_reaches_the_cut(
    seed: int, pictures: int, labels: int, cut: float
) -> None:
    rng = np.random.default_rng(seed)
    scale, bias = float(rng.uniform(1, 30)), float(rng.uniform(-10, 2))
    vectors, prototypes = unit_vectors(seed, pictures), unit_vectors(seed + 1, labels)
    names = [f"label {number}" for number in range(labels)]
    found = fitting_labels(vectors, prototypes, names, [ModelScale(scale, bias)] * labels, cut)
    products = vectors @ prototypes.T
    for row, tags in zip(products, found, strict=True):
        expected = [
            (name, match_probability(float(cosine), logit_scale=scale, logit_bias=bias))
            for name, cosine in zip(names, row, strict=True)
        ]
        reached = [tag for tag in expected if tag[1] >= cut]
        assert sorted(tags) == sorted(reached)
        assert [chance for _, chance in tags] == sorted((c for _, c in tags), reverse=True)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 10, 200]), st.floats(0.05, 0.99))
def test_calibrated_probabilities_are_those_of_a_query(seed: int, sample: int, cut: float) -> None:
    vectors, prototypes = unit_vectors(seed, 30), unit_vectors(seed + 1, 5)
    pictures = unit_vectors(seed + 2, sample)
    names = list("abcde")
    scales = calibrated_scales(prototypes, CALIBRATION, pictures)
    found = fitting_labels(vectors, prototypes, names, scales, cut)
    products = vectors @ prototypes.T
    for column, (name, prototype) in enumerate(zip(names, prototypes, strict=True)):
        background = background_of(prototype, pictures)
        chances = CALIBRATION.probabilities(products[:, column], background)
        for chance, tags in zip(chances, found, strict=True):
            assert dict(tags).get(name) == (pytest.approx(chance) if chance >= cut else None)


def test_equal_labels_stand_in_their_order_and_only_the_best_are_kept() -> None:
    picture = unit_vectors(1, 1)
    labels = [f"label {number}" for number in range(MAX_TAGS + 5)]
    prototypes = np.repeat(picture, len(labels), axis=0)
    scales: list[LabelScale] = [ModelScale(10.0, 0.0)] * len(labels)
    (tags,) = fitting_labels(picture, prototypes, labels, scales, 0.5)
    assert [label for label, _ in tags] == labels[:MAX_TAGS]


def test_certainty_is_asked_of_no_one_in_vain() -> None:
    picture = unit_vectors(1, 1)
    # sigmoid(100) is 1.0 in double precision, yet a cut of 1 has no finite cosine.
    assert fitting_labels(picture, picture, ["a"], [ModelScale(100.0, 0.0)], 1.0) == [()]
