"""Leaving out parts of a question and windows of a grid: arithmetic alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.search.attribution import (
    MOST_WORDS,
    Part,
    Term,
    Windows,
    deciding_question,
    direction,
    effects,
    terms_of,
    without_each,
)
from siglip_search.search.question import Question

DIMENSION = 6


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def embedded(*questions: Question) -> dict[str, np.ndarray]:
    """Return a vector of its own for every text of the questions, and for what is left of them."""
    texts: set[str] = set()
    for question in questions:
        texts |= set(question.texts)
        for one in (question, *(Question(words=text) for text in question.texts)):
            texts |= {term.text for _, terms in without_each(one) for term in terms if term.text}
    ordered = sorted(texts)
    return {"": unit(999)} | {text: unit(number) for number, text in enumerate(ordered)}


def test_each_word_is_left_out_as_typed_also_the_small_ones() -> None:
    parts = without_each(Question(words="a  red-hot dog, a dog"))
    assert [part.text for part, _ in parts] == ["a", "red-hot", "dog,", "a", "dog"]
    assert [terms[0].text for _, terms in parts] == [
        "red-hot dog, a dog",
        "a dog, a dog",
        "a red-hot a dog",
        "a red-hot dog, dog",
        "a red-hot dog, a",
    ]


def test_an_only_word_is_held_against_no_words() -> None:
    assert without_each(Question(words="dog")) == [(Part("word", "dog"), (Term(""),))]
    assert without_each(Question(plus=(("dog", 2.0),))) == [(Part("plus", "dog"), (Term(""),))]


def test_an_only_picture_is_held_against_nothing() -> None:
    assert without_each(Question(like=("/a.jpg",))) == []


def test_whole_terms_are_left_out_beside_words() -> None:
    question = Question(
        words="dog", like=("/a.jpg",), like_photo=(7,), plus=(("dog", 2.0),), minus=(("cat", 0.5),)
    )
    everything = terms_of(question)
    assert [term.weight for term in everything] == [1, 1, 1, 2, -0.5]
    parts = without_each(question)
    assert [part for part, _ in parts] == [
        Part("picture", "/a.jpg"),
        Part("picture", "photo 7"),
        Part("word", "dog"),
        Part("plus", "dog"),
        Part("minus", "cat"),
    ]
    for place, (_, terms) in enumerate(parts):
        assert terms == everything[:place] + everything[place + 1 :]


def test_no_more_words_are_tried_than_a_tower_reads() -> None:
    assert len(without_each(Question(words="word " * 500))) == MOST_WORDS


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=5), st.floats(1, 200))
def test_an_effect_is_the_score_less_the_score_of_the_question_without_it(
    words: list[str], scale: float
) -> None:
    question = Question(words=" ".join(words), minus=(("x", 0.5),))
    texts, picture = embedded(question), unit(7)
    whole = direction(terms_of(question), texts, ()) @ picture
    found = effects(question, picture, texts, (), scale=scale)
    assert [effect.part.text for effect in found] == [*words, "x"]
    for place, effect in enumerate(found[:-1]):
        rest = " ".join(words[:place] + words[place + 1 :])
        less = Question(words=rest, minus=question.minus)
        expected = scale * (float(whole) - float(direction(terms_of(less), texts, ()) @ picture))
        assert effect.difference == pytest.approx(expected, abs=1e-4)
    only_words = float(texts[question.words] @ picture)
    assert found[-1].difference == pytest.approx(scale * (float(whole) - only_words), abs=1e-4)


def test_what_has_no_direction_without_a_part_has_no_effect_to_tell() -> None:
    question = Question(words="b", plus=(("a", 1.0),), minus=(("a", 1.0),))
    found = effects(question, unit(1), embedded(question), (), scale=1.0)
    assert [(effect.part.kind, effect.difference is None) for effect in found] == [
        ("word", True),
        ("plus", False),
        ("minus", False),
    ]


def test_the_text_that_decides_is_the_least_of_all_and_the_greatest_of_any() -> None:
    picture = np.eye(4, dtype=np.float32)[0]

    def at(cosine: float) -> np.ndarray:
        return np.array([cosine, np.sqrt(1 - cosine**2), 0, 0], dtype=np.float32)

    texts = {"low": at(0.1), "middle": at(0.2), "high": at(0.3), "highest": at(0.4)}

    def decides(**fields: object) -> str:
        return deciding_question(Question(**fields), texts, picture).words  # type: ignore[arg-type]

    assert decides(all_of=("high", "low")) == "low"
    assert decides(any_of=("high", "low")) == "high"
    assert decides(all_of=("middle",), any_of=("high", "low")) == "middle"
    assert decides(all_of=("highest",), any_of=("low", "high")) == "high"
    assert decides(words="low", all_of=("middle",)) == "low"
    assert decides(words="high", without=("low",)) == "high"
    assert decides(words="high", like=("/a.jpg",), all_of=("low",)) == "high"


def test_the_deciding_text_keeps_how_it_was_said() -> None:
    texts = {"dog": unit(1)}
    question = Question(any_of=("dog",), templates=True, top_k=3)
    assert deciding_question(question, texts, unit(2)) == Question(words="dog", templates=True)


grids = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(
    lambda grid: st.tuples(
        st.just(grid), st.tuples(st.integers(1, grid[0]), st.integers(1, grid[1]))
    )
)


@given(grids, st.integers(0, 100))
def test_a_cell_is_the_mean_of_the_windows_that_cover_it(
    sizes: tuple[tuple[int, int], tuple[int, int]], seed: int
) -> None:
    windows = Windows(*sizes)
    differences = np.random.default_rng(seed).standard_normal(len(windows))
    means = windows.cell_means(differences)
    assert means.shape == windows.grid
    for row in range(windows.grid[0]):
        for column in range(windows.grid[1]):
            covering = [
                difference
                for difference, (down, across) in zip(differences, windows.places, strict=True)
                if down.start <= row < down.stop and across.start <= column < across.stop
            ]
            assert means[row, column] == pytest.approx(np.mean(covering))


@given(grids)
def test_every_window_has_its_size_and_every_cell_a_window(
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    windows = Windows(*sizes)
    masks = windows.masks()
    assert masks.shape == (len(windows), windows.grid[0] * windows.grid[1])
    assert (masks.sum(axis=1) == windows.span[0] * windows.span[1]).all()
    assert masks.any(axis=0).all()
    assert len(np.unique(masks, axis=0)) == len(windows)
