"""Sums of unit vectors: laws that hold for any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.errors import QueryError
from siglip_search.search.arithmetic import direction_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIMENSION = 12


@st.composite
def unit_vectors(draw: st.DrawFn) -> NDArray[np.float32]:
    vector = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


WEIGHTS = st.floats(0.1, 10) | st.floats(-10, -0.1)
TERMS = st.lists(st.tuples(unit_vectors(), WEIGHTS), min_size=1, max_size=6)


def direction(terms: list[tuple[NDArray[np.float32], float]]) -> NDArray[np.float32] | None:
    try:
        return direction_of([vector for vector, _ in terms], [weight for _, weight in terms])
    except QueryError:
        return None


@given(TERMS)
def test_a_sum_is_of_unit_length_and_is_the_weighted_sum(
    terms: list[tuple[NDArray[np.float32], float]],
) -> None:
    found = direction(terms)
    if found is None:
        return
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1.0, abs=1e-5)
    expected = sum(weight * vector.astype(np.float64) for vector, weight in terms)
    assert found @ (expected / np.linalg.norm(expected)) == pytest.approx(1.0, abs=1e-5)


@given(TERMS, st.randoms(use_true_random=False))
def test_the_order_of_terms_makes_no_difference_to_the_last_bit(
    terms: list[tuple[NDArray[np.float32], float]], shuffler: object
) -> None:
    other = list(terms)
    shuffler.shuffle(other)  # type: ignore[attr-defined]
    assert np.array_equal(direction(terms), direction(other))  # type: ignore[arg-type]


@given(TERMS, st.floats(0.1, 10))
def test_scaling_all_weights_changes_nothing(
    terms: list[tuple[NDArray[np.float32], float]], factor: float
) -> None:
    found, scaled = direction(terms), direction([(v, w * factor) for v, w in terms])
    if found is not None and scaled is not None:
        assert np.allclose(found, scaled, atol=1e-4)


@given(unit_vectors(), unit_vectors(), st.floats(0.1, 5), st.floats(1.1, 5))
def test_more_weight_is_never_further_away(
    a: NDArray[np.float32], b: NDArray[np.float32], weight: float, factor: float
) -> None:
    less, more = direction([(a, 1.0), (b, weight)]), direction([(a, 1.0), (b, weight * factor)])
    if less is not None and more is not None:
        assert more @ b >= less @ b - 1e-5
    less, more = direction([(a, 1.0), (b, -weight)]), direction([(a, 1.0), (b, -weight * factor)])
    if less is not None and more is not None:
        assert more @ b <= less @ b + 1e-5


@given(unit_vectors(), st.floats(0.1, 10))
def test_one_term_is_its_own_vector(vector: NDArray[np.float32], weight: float) -> None:
    assert np.array_equal(direction_of([vector], [weight]), vector)
    assert np.allclose(direction_of([vector], [-weight]), -vector, atol=1e-6)


@given(unit_vectors(), st.floats(0.1, 10))
def test_terms_that_cancel_are_refused(vector: NDArray[np.float32], weight: float) -> None:
    with pytest.raises(QueryError, match="cancel") as caught:
        direction_of([vector, vector], [weight, -weight])
    assert caught.value.hint
    with pytest.raises(QueryError, match="cancel"):
        direction_of([vector, -vector], [weight, weight])
