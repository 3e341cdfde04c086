"""Laws of groups, pairs and bursts, against simpler computations."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_index.records import PhotoFacts
from siglip_search.search.duplicate_groups import cliques
from siglip_search.search.exposures import (
    Frame,
    Moment,
    are_different_exposures,
    bursts,
    camera_moment,
    may_be_one_burst,
)
from siglip_search.search.neighbour_pairs import near_cosine, nearest_pairs, typical_cosine

ITEMS = 9
PAIRS = list(itertools.combinations(range(ITEMS), 2))
some_pairs = st.sets(st.sampled_from(PAIRS))


@given(alike=some_pairs, asked=some_pairs, ranked=st.permutations(range(ITEMS)))
def test_every_two_in_a_group_are_alike_and_nothing_stands_twice(
    alike: set[tuple[int, int]], asked: set[tuple[int, int]], ranked: list[int]
) -> None:
    questions: list[frozenset[int]] = []

    def are_alike(first: int, second: int) -> bool:
        questions.append(frozenset((first, second)))
        return tuple(sorted((first, second))) in alike

    groups = cliques(ranked, asked, are_alike)
    for group in groups:
        assert len(group) > 1
        assert [ranked.index(item) for item in group] == sorted(map(ranked.index, group))
        for first, second in itertools.combinations(group, 2):
            assert tuple(sorted((first, second))) in alike
    everything = [item for group in groups for item in group]
    assert len(everything) == len(set(everything))
    assert len(questions) == len(set(questions))
    # What begins no group and is in none had nobody left to go with.
    alone = set(range(ITEMS)) - set(everything)
    for first, second in itertools.combinations(sorted(alone), 2):
        assert (first, second) not in alike & asked


@given(length=st.integers(3, 8))
def test_a_chain_is_not_a_group(length: int) -> None:
    chain = [(item, item + 1) for item in range(length - 1)]
    groups = cliques(range(length), chain, lambda one, two: abs(one - two) == 1)
    assert all(len(group) == 2 for group in groups)


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 40),
    block=st.integers(1, 12),
    least=st.floats(-0.5, 0.9),
    neighbours=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_pairs_are_those_of_a_full_table(
    count: int, block: int, least: float, neighbours: int, seed: int
) -> None:
    vectors = np.random.default_rng(seed).standard_normal((count, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    halves = vectors.astype(np.float16)
    found = nearest_pairs(halves, least, neighbours=neighbours, block=block)
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert all(first < second for first, second in pairs)
    wide = halves.astype(np.float32)
    table = (wide @ wide.T).astype(np.float64) if count else np.empty((0, 0))
    np.fill_diagonal(table, -np.inf)
    for first, second in itertools.combinations(range(count), 2):
        product = table[first, second]
        nearer = min((table[first] > product + 1e-6).sum(), (table[second] > product + 1e-6).sum())
        if product >= least + 1e-6 and nearer < neighbours:
            kept_by_ties = min(
                (table[first] > product - 1e-6).sum(), (table[second] > product - 1e-6).sum()
            )
            assert (first, second) in pairs or kept_by_ties > neighbours
        elif product < least - 1e-6 or nearer >= neighbours:
            assert (first, second) not in pairs
    assert np.allclose(table[found.first, found.second], found.cosines, atol=1e-5)


def test_crowds_are_counted() -> None:
    one = np.zeros((20, 4), dtype=np.float16)
    one[:, 0] = 1.0
    assert nearest_pairs(one, 0.9, neighbours=5).crowded == 20
    assert nearest_pairs(one, 0.9, neighbours=19).crowded == 0
    assert len(nearest_pairs(one, 0.9, neighbours=19).first) == 190


def test_how_near_is_near_depends_on_how_far_apart_pictures_are() -> None:
    assert typical_cosine(np.ones((1, 3), dtype=np.float16)) is None
    assert near_cosine(None) == 0.95
    assert near_cosine(0.2) == 0.8
    assert near_cosine(0.99) == 0.95
    opposite = np.array([[1, 0], [0, 1]], dtype=np.float16)
    assert typical_cosine(opposite) == 0.0


def facts(**values: object) -> PhotoFacts:
    defaults = {"width": 4000, "height": 3000, "format": "JPEG", "taken_source": "exif"}
    return PhotoFacts(**{**defaults, **values})  # type: ignore[arg-type]


def test_what_cameras_write_tells_exposures_apart() -> None:
    first = facts(taken_at="2024-06-01T10:00:00.25", camera="Sony A7", iso=100, f_number=2.8)
    copy = facts(taken_at="2024-06-01T10:00:00", camera="Sony A7", width=800, height=600)
    stripped = facts(taken_source=None)
    later = facts(taken_at="2024-06-01T10:00:00.35", camera="Sony A7")
    bracket = facts(taken_at="2024-06-01T10:00:00.25", camera="Sony A7", iso=400)
    zone = facts(taken_at="2024-06-01T10:00:00+02:00", camera="A7")
    other = facts(taken_at="2024-06-01T10:00:00", camera="Canon R5")
    named = facts(taken_at="2024-06-01T12:00:00", taken_source="file-name")
    prefixed = facts(taken_at="2024-06-01T10:00:00", camera="SONY Sony A7")
    longer = facts(taken_at="2024-06-01T10:00:00", camera="Sony A7 III")
    newer = facts(taken_at="2024-06-01T10:00:00", camera="Sony A7000")
    for same in (copy, stripped, zone, named, prefixed, first):
        assert not are_different_exposures(first, same)
        assert not are_different_exposures(same, first)
    for different in (later, bracket, other, longer, newer):
        assert are_different_exposures(first, different)
        assert are_different_exposures(different, first)


def test_frames_of_one_second_may_be_a_burst_unless_the_clock_is_finer() -> None:
    plain = facts(taken_at="2024-06-01T10:00:00", camera="Sony A7")
    fine = facts(taken_at="2024-06-01T10:00:00.10", camera="Sony A7")
    small = facts(taken_at="2024-06-01T10:00:00", camera="Sony A7", width=800, height=600)
    assert may_be_one_burst(plain, plain)
    assert may_be_one_burst(plain, fine)
    assert not may_be_one_burst(fine, fine)
    assert not may_be_one_burst(plain, small)
    assert not may_be_one_burst(plain, facts())


def test_time_that_no_camera_told_is_none_of_a_camera() -> None:
    assert camera_moment(facts(taken_at="2024-06-01T10:00:00", taken_source="sidecar")) is None
    assert camera_moment(facts(taken_at="yesterday")) is None
    found = camera_moment(facts(taken_at="2024-06-01T10:00:00.5+02:00"))
    assert found is not None
    assert found.is_exact
    assert found.seconds % 60 == 0.5


@given(
    times=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(0, 2)), max_size=20
    )
)
def test_frames_of_a_burst_follow_one_another_and_look_alike(
    times: list[tuple[str, int, int]],
) -> None:
    frames = [
        Frame(number, camera, Moment(seconds / 2, True))
        for number, (camera, seconds, _) in enumerate(times)
    ]
    looks = [look for _, _, look in times]
    rows = bursts(frames, lambda one, two: looks[one] == looks[two], gap_seconds=1.0)
    everything = [number for row in rows for number in row]
    assert len(everything) == len(set(everything))
    for row in rows:
        assert len(row) > 1
        assert len({frames[number].camera for number in row}) == 1
        assert len({looks[number] for number in row}) == 1
        seconds = [frames[number].moment.seconds for number in row]
        assert all(0 <= late - early <= 1.0 for early, late in itertools.pairwise(seconds))
