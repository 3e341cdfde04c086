"""What happens to words before they are cut into pieces."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siglip_search.tokenizers.canonicalize import canonicalize

TEXTS = st.text(max_size=80)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A DOG, a cat!", "a dog a cat"),
        ("it's  a\tred_bicycle\n", "its a redbicycle"),
        ("  ", ""),
        ("!?…", "…"),  # only ASCII punctuation goes, as in the reference
        ("Straße ÉCOLE", "straße école"),
        ("</s>", "s"),
    ],
)
def test_siglip_lowers_strips_punctuation_and_collapses_space(text: str, expected: str) -> None:
    assert canonicalize(text, "lowercase-no-punctuation") == expected


def test_siglip2_only_lowers() -> None:
    assert canonicalize("A DOG, a  cat!\n", "lowercase") == "a dog, a  cat!\n"


@given(TEXTS)
def test_canonicalising_twice_changes_nothing(text: str) -> None:
    once = canonicalize(text, "lowercase-no-punctuation")
    assert canonicalize(once, "lowercase-no-punctuation") == once
    once = canonicalize(text, "lowercase")
    assert canonicalize(once, "lowercase") == once


@given(TEXTS)
def test_it_equals_the_reference_written_as_the_reference_does(text: str) -> None:
    # The order of operations of transformers' SiglipTokenizer.
    expected = text.lower()
    for mark in string.punctuation:
        expected = expected.replace(mark, "")
    expected = re.sub(r"\s+", " ", expected).strip()
    assert canonicalize(text, "lowercase-no-punctuation") == expected
