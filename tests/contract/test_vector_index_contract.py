"""What every vector index must do, whatever it is made of."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_samples import as_stored, unit_vectors

from siglip_index.errors import InvalidVectorError
from siglip_index.faiss_index import FaissIndex

if TYPE_CHECKING:
    from siglip_index.protocol import VectorIndex

IMPLEMENTATIONS = [FaissIndex]
DIMENSION = 16


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda kind: kind.__name__)
def index(request: pytest.FixtureRequest) -> VectorIndex:
    return request.param(DIMENSION)


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_new_index_is_empty_and_finds_nothing(index: VectorIndex) -> None:
    assert (len(index), index.dimension) == (0, DIMENSION)
    found, products = index.search(unit_vectors(2), 5)
    assert found.shape == products.shape == (2, 0)
    found, products = index.range_search(unit_vectors(1)[0], -1.0)
    assert len(found) == len(products) == 0
    assert index.remove(ids(1, 2)) == 0


def test_wrong_vectors_and_ids_are_refused_and_nothing_is_added(index: VectorIndex) -> None:
    index.add(ids(1), unit_vectors(1))
    bad = unit_vectors(2)
    bad[1, 3] = np.nan
    infinite = unit_vectors(2)
    infinite[0, 0] = np.inf
    for some_ids, vectors in [
        (ids(2, 3), unit_vectors(2, DIMENSION + 1)),
        (ids(2, 3), bad),
        (ids(2, 3), infinite),
        (ids(2, 2), unit_vectors(2)),
        (ids(1, 2), unit_vectors(2)),
        (ids(2), unit_vectors(2)),
        (ids(2), unit_vectors(1)[0]),
    ]:
        with pytest.raises(InvalidVectorError):
            index.add(some_ids, vectors)
    assert len(index) == 1
    for queries in (bad, unit_vectors(1, DIMENSION - 1), unit_vectors(1)[0]):
        with pytest.raises(InvalidVectorError):
            index.search(queries, 1)
    with pytest.raises(InvalidVectorError):
        index.range_search(bad[1], 0.0)
    with pytest.raises(ValueError, match="k is 0"):
        index.search(unit_vectors(1), 0)


def test_removed_ids_can_be_added_again_with_another_vector(index: VectorIndex) -> None:
    vectors = unit_vectors(3)
    index.add(ids(10, 20, 30), vectors)
    assert index.remove(ids(20, 99)) == 1
    assert sorted(index.search(vectors[:1], 9)[0][0]) == [10, 30]
    index.add(ids(20), -vectors[1:2])
    found, products = index.search(-vectors[1:2], 1)
    assert found[0, 0] == 20
    assert products[0, 0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("known", [(1, 7, 40), (1, 7, 2**40), (-3, 7, 40), (2**62, 2**40, 0)])
def test_any_ids_can_be_selected(index: VectorIndex, known: tuple[int, ...]) -> None:
    vectors = unit_vectors(3)
    index.add(ids(*known), vectors)
    for wanted in [(7,), known[:2], known, (), (2**62 + 1, -9, 3), (*known[1:], 41, 2**63 - 1)]:
        only = ids(*wanted, *wanted)
        found, _ = index.search(vectors[:2], 5, only)
        assert all(set(row) == set(wanted) & set(known) for row in found.tolist())
        near, products = index.range_search(vectors[0], -2.0, only)
        assert set(near.tolist()) == set(wanted) & set(known)
        assert (np.diff(products) <= 0).all()
    index.remove(ids(known[1]))
    assert len(index.search(vectors[:1], 5, ids(*known))[0][0]) == 2


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(IMPLEMENTATIONS),
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "remove"]), st.sets(st.integers(0, 400), max_size=60)),
        max_size=8,
    ),
    only=st.none() | st.sets(st.integers(0, 500), max_size=80),
    k=st.integers(1, 100),
    least=st.floats(-1, 1),
    seed=st.integers(0, 2**16),
)
def test_answers_are_those_of_brute_force(
    kind: type[VectorIndex],
    steps: list[tuple[str, set[int]]],
    only: set[int] | None,
    k: int,
    least: float,
    seed: int,
) -> None:
    index = kind(DIMENSION)
    pool = as_stored(unit_vectors(401, seed=seed))
    truth: set[int] = set()
    for what, which in steps:
        if what == "add":
            new = ids(*sorted(which - truth))
            index.add(new, pool[new])
            truth |= which
        else:
            assert index.remove(ids(*which)) == len(which & truth)
            truth -= which
    assert len(index) == len(truth)
    queries = unit_vectors(3, seed=seed + 1)
    reachable = sorted(truth if only is None else truth & only)
    selection = None if only is None else ids(*only)
    found, products = index.search(queries, k, selection)
    assert found.shape == products.shape == (3, min(k, len(reachable)))
    for query, found_ids, found_products in zip(queries, found, products, strict=True):
        expected = np.sort(pool[reachable] @ query)[::-1][:k]
        np.testing.assert_allclose(found_products, expected, atol=2e-5)
        np.testing.assert_allclose(pool[found_ids] @ query, found_products, atol=2e-5)
        assert set(found_ids) <= set(reachable)
    found_ids, found_products = index.range_search(queries[0], least, selection)
    exact = dict(zip(reachable, pool[reachable] @ queries[0], strict=True))
    assert all(product >= least for product in found_products.tolist())
    assert list(found_products) == sorted(found_products, reverse=True)
    surely = {number for number, product in exact.items() if product > least + 2e-5}
    perhaps = {number for number, product in exact.items() if product > least - 2e-5}
    assert surely <= set(found_ids.tolist()) <= perhaps


def test_few_and_many_allowed_ids_give_the_same_answers(index: VectorIndex) -> None:
    vectors = unit_vectors(5000)
    index.add(np.arange(5000, dtype=np.int64), vectors)
    query = unit_vectors(1, seed=9)
    for count in (1, 20, 99, 101, 2500, 5000):
        only = np.random.default_rng(count).permutation(5000)[:count].astype(np.int64)
        found, products = index.search(query, 10, only)
        expected = np.sort(as_stored(vectors)[only] @ query[0])[::-1][:10]
        np.testing.assert_allclose(products[0], expected, atol=2e-5)
        assert set(found[0]) <= set(only)
        inside, _ = index.range_search(query[0], 0.1, only)
        assert set(inside) <= set(only)
        assert abs(len(inside) - (as_stored(vectors)[only] @ query[0] >= 0.1).sum()) <= 1


def test_range_may_hold_any_number(index: VectorIndex) -> None:
    vectors = unit_vectors(6000)
    index.add(np.arange(6000, dtype=np.int64), vectors)
    for least in (-2.0, 0.0, 0.3, 0.99, 2.0):
        found, products = index.range_search(vectors[7], least)
        exact = as_stored(vectors) @ vectors[7]
        assert abs(len(found) - (exact >= least).sum()) <= 1
        assert (np.diff(products) <= 0).all()
        assert len(set(found.tolist())) == len(found)


def test_searching_while_adding_and_removing_is_safe(index: VectorIndex) -> None:
    vectors = unit_vectors(4000)
    index.add(ids(0), vectors[:1])
    failures: list[BaseException] = []
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                found, products = index.search(vectors[:2], 50)
                assert found[0, 0] == 0
                assert np.isfinite(products).all()
                index.range_search(vectors[0], 0.5, ids(0, 1, 2))
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(1, 4000, 43):
        batch = np.arange(start, min(start + 43, 4000), dtype=np.int64)
        index.add(batch, vectors[batch])
        index.remove(batch[::5])
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
