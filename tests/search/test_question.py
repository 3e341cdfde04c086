"""Questions: what can be asked, what is refused, and the way through JSON and back."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_index.records import Where
from siglip_search.errors import QueryError
from siglip_search.search.question import SORTS, Question, checked, weighted_term
from siglip_search.search.question_object import question_as_object, question_from_object

TEXTS = st.text(max_size=20)
WORDS = st.lists(TEXTS, max_size=3).map(tuple)
TERMS = st.lists(st.tuples(TEXTS, st.floats(0.01, 100)), max_size=3).map(tuple)
CHANCES = st.none() | st.floats(0, 1)
PATHS = st.lists(st.binary(max_size=12).map(os.fsdecode), max_size=2).map(tuple)
WHERES = st.builds(
    Where,
    under=st.lists(st.binary(max_size=12), max_size=2).map(tuple),
    taken_from=st.none() | st.just("2024-06"),
    min_width=st.none() | st.integers(0, 10**6),
    tags=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    photo_ids=st.none() | st.frozensets(st.integers(0, 99)),
)
QUESTIONS = st.builds(
    Question,
    words=TEXTS,
    like=PATHS,
    like_photo=st.lists(st.integers(0, 10**9), max_size=2).map(tuple),
    plus=TERMS,
    minus=TERMS,
    without=WORDS,
    all_of=WORDS,
    any_of=WORDS,
    templates=st.booleans(),
    top_k=st.integers(1, 10**6),
    offset=st.integers(0, 10**6),
    sort=st.sampled_from(SORTS),
    min_probability=CHANCES,
    min_calibrated=CHANCES,
    min_similarity=st.none() | st.floats(-1, 1),
    where=WHERES,
    places=WORDS,
)


@given(QUESTIONS)
def test_a_question_survives_json(question: Question) -> None:
    text = json.dumps(question_as_object(question))
    assert text.isascii()
    assert question_from_object(json.loads(text)) == question


def test_what_is_at_its_default_takes_no_room() -> None:
    assert question_as_object(Question("dog")) == {"words": "dog"}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"text": "dog"},
        {"words": 1},
        {"plus": [["beach"]]},
        {"plus": [["beach", "2"]]},
        {"plus": [["beach", True]]},
        {"plus": "beach"},
        {"top_k": 1.5},
        {"top_k": True},
        {"templates": 1},
        {"like_photo": ["7"]},
        {"min_probability": "high"},
        {"min_probability": float("nan")},
        {"where": {"colour": "red"}},
        {"where": []},
    ],
)
def test_what_is_no_question_is_told_in_one_line(value: object) -> None:
    with pytest.raises(QueryError) as caught:
        question_from_object(value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)
NAMES = ("words", "like", "plus", "where", "sort", "top_k", "places", "min_probability", "other")


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_any_object_is_a_question_or_refused(value: dict[str, object]) -> None:
    with suppress(QueryError):
        checked(question_from_object(value))


@pytest.mark.parametrize(
    ("question", "complaint"),
    [
        (Question(), "holds no words"),
        (Question("  "), "holds no words"),
        (Question("?!"), "holds no words"),
        (Question("  ", like=("/a.jpg",)), "holds no words"),
        (Question("dog", plus=((" ", 1.0),)), "--plus holds no words"),
        (Question("dog", minus=(("-", 1.0),)), "--minus holds no words"),
        (Question("dog", without=("",)), "--not holds no words"),
        (Question("dog", all_of=("",)), "--all-of holds no words"),
        (Question("dog", any_of=("",)), "--any-of holds no words"),
        (Question("dog", plus=(("cat", 0.0),)), "the weight of 'cat' is 0"),
        (Question("dog", plus=(("cat", float("inf")),)), "the weight of 'cat' is inf"),
        (Question("dog", minus=(("cat", -1.0),)), "the weight of 'cat' is -1"),
        (Question("dog", like=("",)), "--like names no file"),
        (Question("dog", top_k=0), "cannot return 0"),
        (Question("dog", offset=-1), "cannot pass over -1"),
        (Question("dog", sort="size"), "no order called 'size'"),  # type: ignore[arg-type]
        (Question("dog", min_probability=1.5), "1.5 is no probability"),
        (Question("dog", min_calibrated=-0.1), "-0.1 is no probability"),
        (Question("dog", min_similarity=2.0), "2.0 is no similarity"),
        (Question("dog", min_similarity=float("nan")), "nan is no similarity"),
    ],
)
def test_nonsense_is_refused(question: Question, complaint: str) -> None:
    with pytest.raises(QueryError, match=complaint) as caught:
        checked(question)
    assert caught.value.hint


@pytest.mark.parametrize(
    "question",
    [
        Question("dog"),
        Question(like=("/a.jpg",)),
        Question(like_photo=(3,)),
        Question(plus=(("dog", 2.0),)),
        Question(minus=(("dog", 2.0),)),
        Question(all_of=("dog", "cat")),
        Question(any_of=("dog", "cat")),
        Question(without=("dog",)),
        Question(where=Where(min_width=100)),
        Question(places=("Paris",)),
    ],
)
def test_one_term_or_a_filter_is_enough(question: Question) -> None:
    assert checked(question) == question


def test_space_around_texts_is_nobodys_business() -> None:
    question = Question(" dog ", plus=((" cat\n", 2.0),), without=(" bird",))
    assert checked(question) == Question("dog", plus=(("cat", 2.0),), without=("bird",))


@pytest.mark.parametrize(
    ("typed", "term"),
    [
        ("beach", ("beach", 1.0)),
        (" a sandy beach ", ("a sandy beach", 1.0)),
        ("beach=2", ("beach", 2.0)),
        ("beach = .5", ("beach", 0.5)),
        ("a=b", ("a=b", 1.0)),
        ("a=b=3", ("a=b", 3.0)),
        ("two\nlines=2", ("two\nlines", 2.0)),
        ("E=mc2", ("E=mc2", 1.0)),
    ],
)
def test_weights_stand_behind_the_last_sign(typed: str, term: tuple[str, float]) -> None:
    assert weighted_term(typed) == term


@pytest.mark.parametrize("typed", ["beach=0", "beach=-2", "=2", " = 3", "="])
def test_a_weight_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(QueryError) as caught:
        weighted_term(typed)
    assert caught.value.hint


@given(TEXTS.filter(lambda text: text.strip() and "=" not in text), st.integers(1, 10**6))
def test_a_written_weight_is_read(text: str, weight: int) -> None:
    assert weighted_term(f"{text}={weight}") == (text.strip(), float(weight))


def test_texts_are_named_once_in_one_order() -> None:
    question = Question("b", plus=(("a", 1.0), ("b", 2.0)), without=("c",), any_of=("a",))
    assert question.texts == ("a", "b", "c")
    assert replace(question, plus=question.plus[::-1]).texts == question.texts


def test_a_question_is_said_in_one_line() -> None:
    question = Question(
        "dog", like=("a.jpg",), plus=(("snow", 2.0),), minus=(("red", 1.0),), without=("cat",)
    )
    assert str(question) == "dog; like a.jpg; plus snow times 2; minus red; not cat"
    assert str(Question("dog")) == "dog"
    assert str(Question(all_of=("dog", "cat"), any_of=("sea",))) == "all of dog, cat; any of sea"
