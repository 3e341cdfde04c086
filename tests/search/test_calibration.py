"""The laws of a calibrated probability."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.search.background import UNKNOWN, Background
from siglip_search.search.calibration import Calibration

ONE = Calibration(
    cosine_weight=30.0,
    standing_weight=8.0,
    spread_weight=12.0,
    offset=-6.0,
    plain_weight=35.0,
    plain_offset=-4.0,
    locations=(-0.4, 0.1),
    spreads=(0.02, 0.2),
    cut=0.4,
    false_positive_rate=0.05,
    pairs=1000,
    origin="shipped",
)

cosines = st.floats(-1, 1)
backgrounds = st.builds(Background, st.floats(-1, 1), st.floats(0, 1), st.integers(0, 200))
weights = st.floats(0, 200)
calibrations = st.builds(
    lambda a, b, c, d, e, plain: replace(
        ONE,
        cosine_weight=a,
        standing_weight=b + 1e-3,
        spread_weight=c,
        offset=d,
        plain_offset=e,
        plain_weight=plain + 1e-3,
    ),
    weights,
    weights,
    st.floats(-100, 100),
    st.floats(-50, 50),
    st.floats(-50, 50),
    weights,
)


@given(calibrations, backgrounds, st.lists(cosines, min_size=1))
def test_a_nearer_picture_never_has_a_smaller_probability(
    calibration: Calibration, background: Background, near: list[float]
) -> None:
    chances = calibration.probabilities(np.sort(near), background)
    assert (np.diff(chances) >= 0).all()
    assert ((chances >= 0) & (chances <= 1)).all()


@given(backgrounds, st.floats(0.001, 0.999))
def test_the_cosine_of_a_probability_has_that_probability(
    background: Background, chance: float
) -> None:
    assert ONE.probability(ONE.cosine_for(chance, background), background) == pytest.approx(chance)


sizes = st.integers(0, 10**9)
chances = st.floats(0, 1)


def cutting(cut: float, slope: float, pictures: int) -> Calibration:
    return replace(ONE, cut=cut, cut_slope=slope, pictures=pictures)


@given(chances, st.floats(0, 5), sizes, sizes, sizes)
def test_the_cut_never_falls_as_pictures_are_added(
    cut: float, slope: float, pictures: int, few: int, more: int
) -> None:
    calibration = cutting(cut, slope, pictures)
    least, most = calibration.cut_for(min(few, more)), calibration.cut_for(max(few, more))
    assert 0 <= least <= most <= 1


@given(st.floats(0.01, 0.99), st.floats(0, 2), st.integers(30, 10**6), st.integers(1, 1000))
def test_the_odds_of_the_cut_rise_as_a_power_of_the_number(
    cut: float, slope: float, pictures: int, times: int
) -> None:
    rising = cutting(cut, slope, pictures).cut_for(times * pictures)
    odds = cut / (1 - cut) * times**slope
    assert (1 - rising) * odds == pytest.approx(rising, rel=1e-6)


@given(chances, st.floats(0, 5), st.integers(30, 10**9))
def test_where_it_was_fitted_the_cut_is_the_very_one(
    cut: float, slope: float, pictures: int
) -> None:
    assert cutting(cut, slope, pictures).cut_for(pictures) == cut


def test_a_handful_of_pictures_counts_as_a_background() -> None:
    calibration = cutting(0.4, 1.0, 120)
    assert calibration.cut_for(0) == calibration.cut_for(30) < 0.4
    assert cutting(0.4, 1.0, 0).cut_for(9000) == cutting(0.4, 0.0, 120).cut_for(9000) == 0.4


def test_the_largest_library_can_still_be_answered() -> None:
    """A cut of 1 would refuse everything that there is."""
    assert 0.999 < cutting(0.4, 1.0, 120).cut_for(10**9) < 1


def test_the_ends_of_the_scale_are_infinitely_far() -> None:
    assert ONE.cosine_for(0.0, UNKNOWN) == -math.inf
    assert ONE.cosine_for(1.0, UNKNOWN) == math.inf
    with pytest.raises(ValueError, match="between 0 and 1"):
        ONE.cosine_for(1.5, UNKNOWN)


def test_the_log_odds_are_the_stated_sum() -> None:
    background = Background(-0.2, 0.1, 500)
    log_odds = 30 * 0.15 + 8 * (0.15 + 0.2) + 12 * 0.1 - 6
    stated = ONE.probability(0.15, background)
    assert stated == pytest.approx(1 / (1 + math.exp(-log_odds)))


def test_a_vague_query_has_to_reach_further() -> None:
    """The same cosine means less where everything is a little near."""
    vague, sharp = Background(0.05, 0.05, 500), Background(-0.3, 0.05, 500)
    assert ONE.probability(0.2, vague) < ONE.probability(0.2, sharp)


def test_too_few_pictures_leave_the_background_out_of_account() -> None:
    few = Background(0.1, 0.2, 29)
    assert ONE.probability(0.2, few) == ONE.probability(0.2, UNKNOWN)
    assert ONE.probability(0.2, UNKNOWN) == pytest.approx(1 / (1 + math.exp(4 - 35 * 0.2)))


def test_a_library_of_one_thing_only_is_no_reason_to_refuse_it() -> None:
    """Nothing but dogs: the background of "dog" lies where no background of the fit did."""
    only_dogs, utmost = Background(0.9, 0.9, 500), Background(0.1, 0.2, 500)
    assert ONE.probability(0.3, only_dogs) == ONE.probability(0.3, utmost)


@given(calibrations)
def test_json_gives_back_the_very_same(calibration: Calibration) -> None:
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_other_names_in_the_json_are_passed_over() -> None:
    values = {**json.loads(ONE.to_json()), "about": "remark"}
    assert Calibration.from_json(json.dumps(values)) == ONE


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"cut": 1.2},
        {"cut": "high"},
        {"cut": True},
        {"pairs": None},
        {"origin": "theirs"},
        {"locations": [0.2, 0.1]},
        {"locations": [0.2]},
        {"spreads": [-0.1, 0.1]},
        {"cosine_weight": -40.0},
        {"plain_weight": 0.0},
        {"offset": math.nan},
        {"cut_slope": -0.1},
        {"pictures": -1},
        {"measured_up_to": -1},
        {"measured_up_to": None},
        {"false_positive_rate": -0.1},
    ],
)
def test_what_cannot_be_a_calibration_is_refused(change: dict[str, object]) -> None:
    values = {**json.loads(ONE.to_json()), **change}
    with pytest.raises(ValueError, match=r".+"):
        Calibration.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', "null"])
def test_what_is_no_such_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Calibration.from_json(text)


def test_every_field_stands_in_the_json() -> None:
    assert set(asdict(ONE)) < set(json.loads(ONE.to_json()))
