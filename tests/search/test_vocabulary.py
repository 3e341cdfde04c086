"""The labels that pictures are tagged with."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_search.engine.classification import DEFAULT_TEMPLATES
from siglip_search.errors import QueryError
from siglip_search.search.vocabulary import (
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    Vocabulary,
    default_text,
    default_vocabulary,
    labels_in,
)

JUDGEMENTS = """
man woman men women boy girl male female old young black white asian african european fat thin ugly
beautiful poor rich criminal thief terrorist gay nude naked sick disabled christian muslim jewish
immigrant happy sad angry
"""


def test_the_list_of_the_program_has_about_three_hundred_labels_in_sections() -> None:
    vocabulary = default_vocabulary(DEFAULT_TEMPLATES)
    assert 250 <= len(vocabulary.labels) <= 350
    sections: dict[str, int] = {}
    section = ""
    for line in default_text().split("\n\n", 1)[1].split("\n"):
        if line.startswith("# "):
            section = line
        elif line:
            sections[section] = sections.get(section, 0) + 1
    assert len(sections) >= 12
    assert min(sections.values()) >= 7
    assert sum(sections.values()) == len(vocabulary.labels)
    assert {"# People", "# Animals", "# Food and drink", "# Events"} <= set(sections)


def test_its_labels_are_single_lines_that_can_be_keywords_anywhere() -> None:
    for label in default_vocabulary(DEFAULT_TEMPLATES).labels:
        assert label == " ".join(label.split())
        # Signs that make levels or lists of keywords in one program or another.
        assert not set(label) & set(",;|/\\<>&\"'#{}"), label
        assert len(label) <= 40


def test_the_list_of_the_program_judges_no_one() -> None:
    # Of people nothing is said but how many there are, and "baby" and "child".
    words = set(JUDGEMENTS.split())
    judging = {
        label
        for label in default_vocabulary(DEFAULT_TEMPLATES).labels
        if words & set(label.casefold().replace("-", " ").split())
    }
    assert judging == {"black-and-white photograph", "old photograph"}


def test_comments_and_blank_lines_are_no_labels() -> None:
    assert labels_in("# animals\ndog\n\n  red bicycle  \n  # cat\r\nüber\r\n", name="f") == (
        "dog",
        "red bicycle",
        "über",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there are no labels"),
        ("# only\n\n", "there are no labels"),
        ("dog\n...\n", "f, line 2, holds no words"),
        ("dog\n\nDOG\n", "f, line 3, is 'DOG', which f, line 1, is already"),
        ("a\tb", "f, line 1, holds signs that cannot be shown"),
        ("x" * (MAX_LABEL_CHARACTERS + 1), "f, line 1, is longer than 100 signs"),
    ],
)
def test_a_mistake_in_a_list_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        labels_in(text, name="f")
    assert message in str(caught.value)
    assert caught.value.hint


def test_too_many_labels_are_refused() -> None:
    labels = tuple(f"label {number}" for number in range(MAX_LABELS + 1))
    assert len(Vocabulary("f", labels[:-1], ("{}",)).labels) == MAX_LABELS
    with pytest.raises(QueryError, match="f has 2,001 labels"):
        Vocabulary("f", labels, ("{}",))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("abcdé日 ", min_size=1).map(str.strip).filter(bool), min_size=1))
def test_a_vocabulary_survives_json(words: list[str]) -> None:
    unique = {" ".join(word.casefold().split()): word for word in words}
    vocabulary = Vocabulary("lists/animals.txt", tuple(unique.values()), ("{}", "a {}"))
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "no json",
        '{"format": 2, "name": "x", "labels": ["a"], "templates": ["{}"]}',
        '{"format": 1, "name": "x", "labels": [], "templates": ["{}"]}',
        '{"format": 1, "name": "x", "labels": "abc", "templates": ["{}"]}',
        '{"format": 1, "name": "x", "labels": ["a"], "templates": ["no place"]}',
        '{"format": 1, "name": "x", "labels": ["a", 1], "templates": ["{}"]}',
    ],
)
def test_what_is_no_vocabulary_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        Vocabulary.from_json(text)
