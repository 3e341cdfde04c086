"""Questions and answers on their way between a command and its daemon."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.errors import QueryError
from siglip_search.search.question import Question
from siglip_search.search.question_object import question_as_object
from siglip_search.search.ranking import Answer, Hit
from siglip_search.service.messages import (
    QueryReply,
    question_received,
    reply_from_object,
    reply_object,
)

if TYPE_CHECKING:
    from typing import Any

CHANCE = st.none() | st.floats(0, 1)
HITS = st.builds(
    Hit,
    rank=st.integers(1, 10**6),
    path=st.binary(max_size=8).map(os.fsdecode),
    probability=CHANCE,
    calibrated_probability=CHANCE,
    cosine=st.none() | st.floats(-1, 1),
    copies=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    photo_id=st.integers(0, 2**62),
    width=st.just(4),
    height=st.just(3),
    format=st.just("JPEG"),
    taken_at=st.none(),
    camera=st.none() | st.text(max_size=5),
    keywords=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)
ANSWERS = st.builds(
    Answer,
    hits=st.lists(HITS, max_size=3).map(tuple),
    best_refused=CHANCE,
    calibration=st.sampled_from([None, "shipped", "yours"]),
    cut=CHANCE,
    cut_on=st.sampled_from([None, "calibrated", "probability", "similarity"]),
    more=st.booleans(),
)


@given(ANSWERS, st.none() | st.text())
def test_an_answer_survives_the_way_to_the_last_bit(answer: Answer, notice: str | None) -> None:
    reply = QueryReply(answer, notice)
    assert reply_from_object(json.loads(json.dumps(reply_object(reply)))) == reply


def test_a_question_survives_the_way() -> None:
    question = Question("dog", like=(os.path.abspath("a.jpg"),), plus=(("snow", 2.0),), offset=3)
    sent = json.loads(json.dumps(question_as_object(question)))
    assert question_received(sent) == question


def test_a_picture_without_an_absolute_path_would_be_another_one_for_the_daemon() -> None:
    with pytest.raises(ValueError, match="absolute"):
        question_received(question_as_object(Question(like=("a.jpg",))))


@pytest.mark.parametrize("value", [{"text": "dog"}, {"words": 3}, {"top_k": "x"}])
def test_what_is_no_question_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(QueryError):
        question_received(value)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"answer": None, "notice": None},
        {"answer": {"hits": [{}]}, "notice": None},
        {"answer": {"hits": [], "colour": 1}, "notice": None},
        {"answer": {"hits": []}},
        {"answer": [1], "notice": None},
    ],
)
def test_what_is_no_answer_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no answer"):
        reply_from_object(value)
