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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A  DOG,\ta cat!\n", "a dog, a cat!"),
        ("Tom &amp; Jerry", "tom & jerry"),
        ("&amp;lt;b&amp;gt;", "<b>"),
        ("&nbsp;a&#x20;b&nbsp;", "a b"),
        ("<i>&amp;amp;</i>", "<i>&</i>"),
        ("dÃ©jÃ\xa0 vu", "déjà vu"),
        ("\u201ccurly\u201d it\u2019s", '"curly" it\'s'),
        ("\ufb01nger \uff21", "finger a"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\ud800", "\ufffd"),
        ("ΟΔΟΣ İ", "οδος i\u0307"),
        ("", ""),
    ],
)
def test_clip_mends_unescapes_collapses_space_and_lowers(text: str, expected: str) -> None:
    assert canonicalize(text, "clip") == expected


def test_clip_unescapes_twice_where_the_mending_takes_the_text_for_markup() -> None:
    assert canonicalize("&amp;amp;amp;lt;", "clip") == "<"
    assert canonicalize("<&amp;amp;amp;lt;", "clip") == "<&amp;lt;"


@given(st.text(st.characters(codec="ascii", exclude_characters="&"), max_size=80))
def test_clip_canonicalising_plain_words_twice_changes_nothing(text: str) -> None:
    once = canonicalize(text, "clip")
    assert canonicalize(once, "clip") == once


@given(st.text(st.characters(exclude_categories=[]), max_size=80))
def test_clip_leaves_no_white_space_twice_and_no_lone_surrogate(text: str) -> None:
    once = canonicalize(text, "clip")
    assert once == " ".join(once.split()) == once.lower()
    once.encode("utf-8")


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
