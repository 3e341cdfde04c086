"""Fits find what made the data, lean on the model where there is little, and choose honest cuts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.search.background import UNKNOWN, Background
from siglip_search.search.calibration_fit import (
    LabelledPairs,
    UnfittableError,
    choose_cut,
    cut_slope,
    fit,
    information,
    posterior_of,
)

SCALE, BIAS = 40.0, -6.0


def simulated(number: int, seed: int = 0, *, shift: float = 0.0) -> LabelledPairs:
    """Pairs whose log-odds are 0.8 logit - 0.3 location + 0.5 spread - 1 + shift, in logits."""
    rng = np.random.default_rng(seed)
    locations = rng.uniform(-0.3, 0.0, number)
    spreads = rng.uniform(0.05, 0.15, number)
    cosines = rng.uniform(-0.1, 0.4, number)
    log_odds = (
        0.8 * (SCALE * cosines + BIAS) + SCALE * (0.5 * spreads - 0.3 * locations) - 1 + shift
    )
    return LabelledPairs(
        cosines, locations, spreads, rng.random(number) < 1 / (1 + np.exp(-log_odds))
    )


def test_many_pairs_give_back_the_weights_that_made_them() -> None:
    found = fit(simulated(60_000), logit_scale=SCALE, logit_bias=BIAS, origin="yours")
    assert found.cosine_weight + found.standing_weight == pytest.approx(0.8 * SCALE, rel=0.05)
    assert found.standing_weight == pytest.approx(0.3 * SCALE, rel=0.15)
    assert found.spread_weight == pytest.approx(0.5 * SCALE, rel=0.15)
    assert found.offset == pytest.approx(0.8 * BIAS - 1, abs=0.4)
    assert (found.pairs, found.origin) == (60_000, "yours")


def test_stated_probabilities_hold_on_other_pairs() -> None:
    found = fit(simulated(20_000), logit_scale=SCALE, logit_bias=BIAS, origin="yours")
    other = simulated(20_000, seed=1)
    stated = np.array(
        [
            found.probability(cosine, Background(location, spread, 1000))
            for cosine, location, spread in zip(
                other.cosines, other.locations, other.spreads, strict=True
            )
        ]
    )
    for low in (0.0, 0.25, 0.5, 0.75):
        rows = (stated >= low) & (stated < low + 0.25)
        assert stated[rows].mean() == pytest.approx(other.matches[rows].mean(), abs=0.02)


def test_a_model_without_a_bias_is_fitted_too() -> None:
    found = fit(simulated(20_000), logit_scale=SCALE, logit_bias=None, origin="yours")
    biased = fit(simulated(20_000), logit_scale=SCALE, logit_bias=BIAS, origin="yours")
    background = Background(-0.1, 0.1, 500)
    for cosine in (0.0, 0.1, 0.2, 0.3):
        assert found.probability(cosine, background) == pytest.approx(
            biased.probability(cosine, background), abs=0.01
        )


def test_without_any_pair_the_model_is_believed() -> None:
    empty = simulated(0)
    prior = posterior_of(empty, logit_scale=SCALE, logit_bias=BIAS, centre=2.0)
    assert prior.weights == pytest.approx([1, 0, 0, 2.0])


def test_forty_pairs_move_the_offset_and_hardly_the_slope() -> None:
    """A model that is four logits too timid is believed in its order, not in its height."""
    found = fit(simulated(40, shift=4.0), logit_scale=SCALE, logit_bias=BIAS, origin="yours")
    slope = found.plain_weight / SCALE
    assert 0.4 < slope < 1.4
    middle = -found.plain_offset / found.plain_weight
    assert middle < -BIAS / SCALE - 0.03  # the raw sigmoid is 1/2 where the logit is 0


def test_pairs_that_a_line_separates_have_a_finite_fit() -> None:
    cosines = np.linspace(-0.2, 0.4, 60)
    pairs = LabelledPairs(cosines, np.full(60, -0.1), np.full(60, 0.1), cosines > 0.15)
    found = fit(pairs, logit_scale=SCALE, logit_bias=BIAS, origin="yours")
    assert found.probability(0.4, UNKNOWN) > 0.9
    assert found.probability(-0.2, UNKNOWN) < 0.1


def test_extreme_scores_do_not_overflow() -> None:
    rng = np.random.default_rng(2)
    cosines = rng.choice([-1.0, 1.0], 200)
    pairs = LabelledPairs(cosines, np.zeros(200), np.full(200, 0.5), cosines > 0)
    found = fit(pairs, logit_scale=1000.0, logit_bias=-500.0, origin="yours")
    assert math.isfinite(found.offset)


@pytest.mark.parametrize(("matches", "said"), [(True, "all"), (False, "none")])
def test_one_kind_of_answer_alone_cannot_be_fitted(matches: bool, said: str) -> None:
    pairs = simulated(50)
    alike = LabelledPairs(pairs.cosines, pairs.locations, pairs.spreads, np.full(50, matches))
    with pytest.raises(UnfittableError, match=said):
        fit(alike, logit_scale=SCALE, logit_bias=BIAS, origin="yours")


def test_answers_against_the_order_cannot_be_fitted() -> None:
    pairs = simulated(5000)
    upside_down = LabelledPairs(pairs.cosines, pairs.locations, pairs.spreads, ~pairs.matches)
    with pytest.raises(UnfittableError, match="nearer"):
        fit(upside_down, logit_scale=SCALE, logit_bias=BIAS, origin="yours")


def test_the_weights_are_where_the_posterior_is_greatest() -> None:
    """Checked against the very definition, by small steps in every direction."""
    pairs = simulated(300)
    found = posterior_of(pairs, logit_scale=SCALE, logit_bias=BIAS, centre=0.0)
    features = np.stack(
        [
            SCALE * pairs.cosines + BIAS,
            SCALE * pairs.locations,
            SCALE * pairs.spreads,
            np.ones(300),
        ],
        axis=1,
    )

    def density(weights: np.ndarray) -> float:
        signs = np.where(pairs.matches, 1, -1)
        likelihood = -np.log1p(np.exp(-signs * (features @ weights))).sum()
        prior = ((weights - [1, 0, 0, 0]) / [0.5, 0.5, 0.5, 10.0]) ** 2
        return float(likelihood - 0.5 * prior.sum())

    best = density(found.weights)
    for direction in np.eye(4):
        for step in (-1e-3, 1e-3):
            assert density(found.weights + step * direction) < best


def test_what_is_certain_tells_little_and_what_is_open_tells_much() -> None:
    known = posterior_of(simulated(100), logit_scale=SCALE, logit_bias=BIAS, centre=0.0)
    asked = LabelledPairs(
        np.array([0.9, 0.16, -0.9]), np.full(3, -0.1), np.full(3, 0.1), np.zeros(3, bool)
    )
    gains = information(known, asked, logit_scale=SCALE, logit_bias=BIAS)
    assert gains[1] > gains[0]
    assert gains[1] > gains[2]
    assert (gains >= 0).all()


@given(st.integers(0, 2**31), st.integers(19, 300), st.sampled_from([0.02, 0.05, 0.2]))
def test_a_cut_answers_no_more_than_it_says_of_those_it_was_chosen_on(
    seed: int, number: int, wanted: float
) -> None:
    best = np.random.default_rng(seed).random(number)
    cut, rate = choose_cut(best, wanted)
    assert (best >= cut).mean() <= rate
    assert 0 <= cut <= 1


def test_a_cut_holds_for_queries_to_come() -> None:
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(300):
        cut, _ = choose_cut(rng.beta(1, 4, 60))
        shares.append((rng.beta(1, 4, 400) >= cut).mean())
    assert np.mean(shares) <= 0.05
    assert np.mean(shares) > 0.02  # and is not needlessly strict


def test_few_queries_say_how_little_they_know() -> None:
    assert choose_cut(np.empty(0)) == (0.5, 1.0)
    cut, rate = choose_cut(np.array([0.1, 0.7, 0.2]))
    assert cut == pytest.approx(0.701)
    assert rate == pytest.approx(0.25)


@pytest.mark.parametrize("slope", [0.4, 1.0, 2.5])
def test_the_slope_of_the_cut_is_that_of_the_best_of_many(slope: float) -> None:
    """The best of n draws from a tail that falls by e every `slope` log-odds."""
    rng = np.random.default_rng(3)
    best = {
        size: slope * (math.log(size) + rng.gumbel(size=4000)) - 4 for size in (30, 120, 500, 2500)
    }
    found = cut_slope(best)
    assert found == pytest.approx(slope, rel=0.1)
    kept = [np.quantile(values, 0.95) - found * math.log(size) for size, values in best.items()]
    assert np.ptp(kept) < 0.5 * slope


def test_a_cut_never_falls_though_the_samples_do() -> None:
    assert cut_slope({30: np.array([2.0, 1.0]), 300: np.array([0.0, -1.0])}) == pytest.approx(
        0, abs=1e-3
    )
