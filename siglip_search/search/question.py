"""What can be asked of a library: words, pictures, arithmetic on both, conditions and filters."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, get_args

from siglip_index.records import Where
from siglip_search.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterable

Sort = Literal["score", "date", "name"]
"""Best first; newest first; by file name."""

SORTS: Final[tuple[Sort, ...]] = get_args(Sort)

Term = tuple[str, float]
"""A text and its weight, > 0."""

_WEIGHTED: Final = r"(?s)(?P<text>.*\S)\s*=\s*(?P<weight>[+-]?(\d+\.?\d*|\.\d+))\s*"


@dataclass(frozen=True, slots=True)
class Question:
    """Everything that is asked at once. `checked` says whether it can be answered.

    The terms `words`, `like`, `like_photo`, `plus` and `minus` are added up to one direction: unit
    vectors by their weights, the sum brought back to unit length. `all_of`, `any_of` and `without`
    are conditions, each text on its own. Where no picture is asked with, the words are a condition
    as well: they decide what is an answer, and `plus` and `minus` the order. Nothing depends on the
    order within a field. A question may be no more than a filter: then every picture that it leaves
    is an answer, newest first.

    Attributes:
        words: What is in the picture; empty for none.
        like: Absolute paths of pictures; a file that is indexed costs no decoding.
        like_photo: Numbers of indexed pictures.
        plus: Texts to be nearer to; they shift the order, and let nothing in.
        minus: Texts to be further from; they shift the order, and leave nothing out.
        without: Texts whose matches are left out.
        all_of: Texts that all have to match: the least probable one counts.
        any_of: Texts one of which has to match: the most probable one counts.
        templates: Say each text in several ways and take the mean, as `classify` does.
        top_k: At most so many hits, > 0.
        offset: So many of the best are passed over first, >= 0.
        sort: Order of all pictures that reach the cut, before `offset` and `top_k` choose: best
            first (newest first where nothing has a score), newest first, or by file name.
        min_probability: Smallest match probability of the model's own, in [0, 1].
        min_calibrated: Smallest calibrated probability, in [0, 1].
        min_similarity: Smallest cosine with the direction of the terms, in [-1, 1].
        where: Which pictures may be returned.
        places: Names of places near which they were taken.
    """

    words: str = ""
    like: tuple[str, ...] = ()
    like_photo: tuple[int, ...] = ()
    plus: tuple[Term, ...] = ()
    minus: tuple[Term, ...] = ()
    without: tuple[str, ...] = ()
    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    templates: bool = False
    top_k: int = 10
    offset: int = 0
    sort: Sort = "score"
    min_probability: float | None = None
    min_calibrated: float | None = None
    min_similarity: float | None = None
    where: Where = field(default_factory=Where)
    places: tuple[str, ...] = ()

    @property
    def has_picture(self) -> bool:
        """Whether a picture is among the terms: then a similarity is found, no probability."""
        return bool(self.like or self.like_photo)

    @property
    def has_chance(self) -> bool:
        """Whether there are texts that match a picture with a probability: of sums nobody knows."""
        return not self.has_picture and bool(self.words.strip() or self.all_of or self.any_of)

    @property
    def is_shifted(self) -> bool:
        """Whether something shifts the order."""
        return bool(self.plus or self.minus)

    @property
    def has_direction(self) -> bool:
        """Whether there are terms that are added up."""
        return bool(self.words.strip() or self.has_picture or self.plus or self.minus)

    @property
    def has_score(self) -> bool:
        """Whether anything is asked that a picture can match more or less."""
        return self.has_direction or bool(self.all_of or self.any_of)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked at all, not even with a filter."""
        return not (self.has_score or self.without or self.places) and self.where.is_empty

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that has to be embedded, each once, in an order that is always the same."""
        terms = (text for text, _ in self.plus + self.minus)
        words = (self.words,) if self.words.strip() else ()
        return tuple(sorted({*words, *terms, *self.without, *self.all_of, *self.any_of}))

    def __str__(self) -> str:
        """Return the question in one line, for people; nothing where it is a filter alone."""
        parts = [self.words] if self.words else []
        parts += [f"like {path}" for path in self.like]
        parts += [f"like picture {photo_id}" for photo_id in self.like_photo]
        for sign, terms in (("plus", self.plus), ("minus", self.minus)):
            parts += [
                f"{sign} {text}" + (f" times {weight:g}" if weight != 1 else "")
                for text, weight in terms
            ]
        for sign, texts in (("all of", self.all_of), ("any of", self.any_of)):
            if texts:
                parts.append(f"{sign} {', '.join(texts)}")
        parts += [f"not {text}" for text in self.without]
        return "; ".join(parts)


def weighted_term(typed: str) -> Term:
    """Return the text and weight of "beach" (weight 1) or "beach=2".

    Only a number behind the last "=" is a weight; "a=b" is a text.

    Raises:
        QueryError: The weight is not above 0, or nothing stands before it.
    """
    match = re.fullmatch(_WEIGHTED, typed)
    if match is None:
        if re.fullmatch(r"\s*=.*", typed, re.DOTALL):
            raise QueryError(f"{typed!r} weighs nothing", hint="Write for example: beach=2")
        return typed.strip(), 1.0
    weight = float(match["weight"])
    _require_weight(match["text"].strip(), weight)
    return match["text"].strip(), weight


def require_words(text: str) -> str:
    """Return the query without surrounding space.

    Raises:
        QueryError: There is no letter, digit or other sign with a meaning in it.
    """
    words = text.strip()
    if not any(_carries_meaning(character) for character in words):
        raise QueryError(
            "the query holds no words",
            hint='Say what is in the picture: siglip-search query "red bicycle"',
        )
    return words


def checked(question: Question) -> Question:
    """Return the question with surrounding space taken from its texts.

    Raises:
        QueryError: It asks for nothing, a text holds no words, a number is out of its range, or
            parts contradict one another.
    """
    if question.words or question.is_empty:
        require_words(question.words)
    for name, texts in (
        ("--plus", [text for text, _ in question.plus]),
        ("--minus", [text for text, _ in question.minus]),
        ("--not", question.without),
        ("--all-of", question.all_of),
        ("--any-of", question.any_of),
    ):
        _require_texts(name, texts)
    for text, weight in question.plus + question.minus:
        _require_weight(text, weight)
    if not all(question.like):
        raise QueryError("--like names no file", hint="Name a picture: --like holiday.jpg")
    if question.top_k < 1:
        raise QueryError(f"cannot return {question.top_k} pictures", hint="Ask for at least 1.")
    if question.offset < 0:
        raise QueryError(
            f"cannot pass over {question.offset} pictures", hint="The first page begins at 0."
        )
    if question.sort not in SORTS:
        raise QueryError(
            f"there is no order called {question.sort!r}", hint=f"Choose one of {', '.join(SORTS)}."
        )
    for probability in (question.min_probability, question.min_calibrated):
        if probability is not None and not 0.0 <= probability <= 1.0:
            raise QueryError(
                f"{probability} is no probability", hint="Choose a number from 0 to 1."
            )
    similarity = question.min_similarity
    if similarity is not None and not -1.0 <= similarity <= 1.0:
        raise QueryError(f"{similarity} is no similarity", hint="Choose a number from -1 to 1.")
    return _stripped(question)


def _require_texts(option: str, texts: Iterable[str]) -> None:
    for text in texts:
        try:
            require_words(text)
        except QueryError:
            raise QueryError(
                f"{option} holds no words: {text!r}", hint=f"Write for example: {option} beach"
            ) from None


def _require_weight(text: str, weight: float) -> None:
    if not (math.isfinite(weight) and weight > 0):
        raise QueryError(
            f"the weight of {text!r} is {weight:g}",
            hint="Weights are above 0; --minus takes a text away.",
        )


def _carries_meaning(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "So"  # So holds the emoji


def _stripped(question: Question) -> Question:
    return replace(
        question,
        words=question.words.strip(),
        plus=tuple((text.strip(), weight) for text, weight in question.plus),
        minus=tuple((text.strip(), weight) for text, weight in question.minus),
        without=tuple(text.strip() for text in question.without),
        all_of=tuple(text.strip() for text in question.all_of),
        any_of=tuple(text.strip() for text in question.any_of),
    )
