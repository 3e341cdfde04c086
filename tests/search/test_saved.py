from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_index.records import Where
from siglip_search.errors import QueryError
from siglip_search.search.question import Question
from siglip_search.search.saved import (
    SavedSearch,
    checked_name,
    saved_as_text,
    saved_from_text,
)

NOON = datetime(2026, 3, 31, 12, 0)

texts = st.text(min_size=1, max_size=20)


@given(
    words=texts,
    without=st.lists(texts, max_size=2).map(tuple),
    formats=st.lists(st.sampled_from(["JPEG", "HEIF"]), unique=True).map(tuple),
    album=st.none() | texts,
)
def test_a_saved_search_comes_back_as_it_was(
    words: str, without: tuple[str, ...], formats: tuple[str, ...], album: str | None
) -> None:
    question = Question(words=words, without=without, top_k=7, where=Where(formats=formats))
    saved = SavedSearch("beach", question, {"after": "3w"}, album)
    assert saved_from_text("beach", saved_as_text(saved)) == saved


def test_times_are_meant_as_of_the_day_on_which_they_are_asked() -> None:
    question = Question(words="dog", where=Where(taken_from="2020-01-01", min_rating=3))
    saved = SavedSearch("dogs", question, {"after": "1mo", "changed_within": "2d"})
    meant = saved.asked_at(NOON).where
    assert meant.taken_from == "2026-02-28T12:00:00"
    assert meant.changed_from == datetime(2026, 3, 29, 12, 0).timestamp()
    assert meant.min_rating == 3
    assert SavedSearch("dogs", question).asked_at(NOON) == question


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"question": {}, "times": {"before": 3}, "album": null}',
     '{"question": {}, "times": {"since": "3w"}, "album": null}',
     '{"question": {"melody": "la"}, "times": {}, "album": null}', "not JSON"],
)  # fmt: skip
def test_what_is_no_saved_search_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        saved_from_text("beach", text)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, "bell\a"])
def test_a_name_is_one_printable_line(name: str) -> None:
    with pytest.raises(QueryError, match="no name for a search"):
        checked_name(name)
    assert checked_name(" Strand & Meer ") == "Strand & Meer"
