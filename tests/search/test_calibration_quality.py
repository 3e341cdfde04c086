"""Calibration error and its intervals are what plain loops say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.search.calibration_quality import (
    bootstrap_interval,
    calibration_error,
    reliability,
    tally,
)

pairs = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(pairs, st.integers(1, 20))
def test_the_error_is_the_mean_gap_of_the_bins(said: list[tuple[float, bool]], bins: int) -> None:
    stated = np.array([chance for chance, _ in said])
    matches = np.array([match for _, match in said])
    expected = 0.0
    for number in range(bins):
        rows = [
            (chance, match) for chance, match in said if min(int(chance * bins), bins - 1) == number
        ]
        expected += abs(sum(chance for chance, _ in rows) - sum(match for _, match in rows))
    error = calibration_error(tally(stated, matches, bins))
    assert error == pytest.approx(expected / len(said), abs=1e-9)


@given(pairs, pairs)
def test_tallies_add_up(first: list[tuple[float, bool]], second: list[tuple[float, bool]]) -> None:
    def tallied(said: list[tuple[float, bool]]) -> np.ndarray:
        return tally(np.array([one for one, _ in said]), np.array([two for _, two in said]))

    assert tallied(first) + tallied(second) == pytest.approx(tallied(first + second))


def test_nothing_has_no_error() -> None:
    empty = tally(np.empty(0), np.empty(0, bool))
    assert math.isnan(calibration_error(empty))
    assert reliability(empty) == ()


def test_bins_tell_what_was_said_and_what_was_true() -> None:
    found = reliability(tally(np.array([0.1, 0.12, 1.0]), np.array([False, True, True]), 10))
    assert [(one.pairs, one.observed) for one in found] == [(2, 0.5), (1, 1.0)]
    assert found[0].stated == pytest.approx(0.11)


def test_an_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        values = rng.normal(size=80)
        low, high = bootstrap_interval(
            lambda rows, values=values: float(values[rows].mean()), np.arange(80), rounds=150
        )
        covered += low <= 0 <= high
    assert 50 <= covered <= 60


def test_what_belongs_together_is_drawn_together() -> None:
    """Ten copies of each value tell no more than one."""
    values = np.repeat(np.random.default_rng(1).normal(size=20), 10)

    def mean(rows: np.ndarray) -> float:
        return float(values[rows].mean())

    together = bootstrap_interval(mean, np.repeat(np.arange(20), 10))
    apart = bootstrap_interval(mean, np.arange(200))
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])
    assert together == bootstrap_interval(mean, np.repeat(np.arange(20), 10))
