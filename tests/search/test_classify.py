"""Labels are checked, prototypes are directions, and the two kinds of score are kept apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from siglip_search.errors import QueryError
from siglip_search.search.classify import (
    check_labels,
    check_templates,
    forced_choice,
    prompts_for,
    prototypes_of,
    score_labels,
)

COSINES = arrays(np.float64, st.integers(1, 20), elements=st.floats(-1, 1))
SCALES = st.floats(0.1, 150)


def unit(rows: object) -> np.ndarray:
    values = np.asarray(rows, dtype=np.float64)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([], "no labels"),
        (["dog", "  "], "label 2 holds no words"),
        (["dog", "?!"], "label 2 holds no words: '\\?!'"),
        (["dog", "cat", "Dog "], "label 3 is 'Dog', which label 1 is already"),
        (["red  bike", "Red bike"], "label 2 is 'Red bike', which label 1 is already"),
        (["STRASSE", "straße"], "label 2 is 'straße'"),
    ],
)
def test_labels_that_cannot_be_told_apart_or_say_nothing_are_refused(
    labels: list[str], complaint: str
) -> None:
    with pytest.raises(QueryError, match=complaint) as caught:
        check_labels(labels)
    assert caught.value.hint


def test_a_refused_label_is_named_by_where_it_came_from() -> None:
    with pytest.raises(QueryError, match="row 7, is 'a', which row 3, is already"):
        check_labels(["a", "a"], origins=["row 3,", "row 7,"])


def test_labels_lose_only_the_space_around_them() -> None:
    assert check_labels([" Red Bike\t", "🐕"]) == ("Red Bike", "🐕")


@pytest.mark.parametrize("templates", [[], ["a photo"], ["{}", "a photo of { }"]])
def test_templates_need_a_place_for_the_label(templates: list[str]) -> None:
    with pytest.raises(QueryError) as caught:
        check_templates(templates)
    assert "{}" in caught.value.hint


def test_every_label_is_said_in_every_way_and_braces_in_it_stay() -> None:
    assert prompts_for(["dog", "{0}"], ["{}", "a {}, {}"]) == [
        "dog",
        "a dog, dog",
        "{0}",
        "a {0}, {0}",
    ]


def test_one_template_gives_back_the_very_vector() -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((5, 64)))
    assert np.allclose(prototypes_of(vectors, labels=5), vectors, rtol=0, atol=1e-7)


def test_a_prototype_is_the_direction_of_the_mean_of_its_own_prompts() -> None:
    vectors = unit([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    half = math.sqrt(0.5)
    assert prototypes_of(vectors, labels=2) == pytest.approx(
        np.array([[half, half, 0], [0, 0, 1]]), abs=1e-7
    )


def test_prompts_that_cancel_each_other_out_have_no_direction() -> None:
    with pytest.raises(ValueError, match="no mean direction"):
        prototypes_of(unit([[1, 0], [-1, 0]]), labels=1)


@given(COSINES, SCALES)
def test_forced_choice_shares_one_whole_in_the_order_of_the_cosines(
    cosines: np.ndarray, scale: float
) -> None:
    shares = forced_choice(cosines, logit_scale=scale)
    assert shares.sum() == pytest.approx(1.0)
    assert (shares >= 0).all()
    assert (np.diff(shares[np.argsort(cosines, kind="stable")]) >= 0).all()


def test_forced_choice_of_two_is_the_logistic_of_their_difference() -> None:
    shares = forced_choice(np.array([0.30, 0.25]), logit_scale=100.0)
    assert shares[0] == pytest.approx(1 / (1 + math.exp(-5.0)))


def test_a_log_scale_is_noticed() -> None:
    with pytest.raises(ValueError, match="exp"):
        forced_choice(np.array([0.1]), logit_scale=0.0)


def test_scores_are_best_first_and_equal_ones_keep_their_order() -> None:
    scores = score_labels(
        unit([1, 0]),
        unit([[0, 1], [1, 0], [1, 0], [3, 4]]),
        ["none", "first", "second", "some"],
        logit_scale=10.0,
        logit_bias=-7.0,
        min_probability=0.5,
    )
    assert [score.label for score in scores] == ["first", "second", "some", "none"]
    assert [score.matches for score in scores] == [True, True, False, False]
    assert scores[2].cosine == pytest.approx(0.6)
    assert scores[2].probability == pytest.approx(1 / (1 + math.exp(1.0)))
    assert sum(score.forced_choice for score in scores) == pytest.approx(1.0)


def test_the_cut_itself_is_a_match() -> None:
    (score,) = score_labels(
        unit([1, 0]), unit([[0, 1]]), ["x"], logit_scale=1.0, logit_bias=0.0, min_probability=0.5
    )
    assert (score.probability, score.matches) == (0.5, True)


def test_without_a_bias_there_is_no_probability_and_no_match() -> None:
    (score,) = score_labels(
        unit([1, 0]), unit([[1, 0]]), ["x"], logit_scale=50.0, logit_bias=None, min_probability=0.0
    )
    assert (score.probability, score.matches, score.forced_choice) == (None, None, 1.0)
    assert score.cosine == pytest.approx(1.0)
