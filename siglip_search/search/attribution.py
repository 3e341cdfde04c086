"""What in a question and in a picture made the score: leaving out, one at a time. Arithmetic only.

What is left out makes a difference to the score, which is exact for just this change. The
differences do not add up to the score: words change each other's meaning, and two that say the same
stand in for one another. A difference is of the logit, logit_scale · cosine + logit_bias, in which
SigLIP's evidence adds up (a probability near 0 or 1 hides it); the bias falls out. Where a picture
is in the question its similarity is no logit, and the differences are of the cosine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from siglip_search.errors import QueryError
from siglip_search.search.arithmetic import direction_of
from siglip_search.search.question import Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

PartKind = Literal["word", "plus", "minus", "picture"]

MOST_WORDS: Final = 64
"""So many are tried: no text tower reads more, for each is a token at least."""

NO_WORDS: Final = ""
"""The text that a question of a single text is held against."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a question that can be left out.

    Attributes:
        kind: "word" for one of the words as typed, between spaces; else a whole term.
        text: The word or text; a picture's path, or "photo" and its number.
    """

    kind: PartKind
    text: str


@dataclass(frozen=True, slots=True)
class Term:
    """A unit vector in the sum that a question is.

    Attributes:
        text: Which text's; None for a picture's.
        picture: Place in the question's pictures; -1 for a text.
        weight: Below 0 to point away from it.
    """

    text: str | None
    weight: float = 1.0
    picture: int = -1


@dataclass(frozen=True, slots=True)
class Effect:
    """What a part of a question does to the score of one picture.

    Attributes:
        part: The part.
        difference: The score less the score without it: above 0 where it raises the score. None
            where the rest has no direction.
    """

    part: Part
    difference: float | None


def deciding_question(
    question: Question, texts: Mapping[str, NDArray[np.float32]], picture: NDArray[np.float32]
) -> Question:
    """Return the part of a question whose score a picture's cosine is.

    Of a sum it is the sum. Of texts that all have to match it is the one with the least cosine, of
    texts one of which has to, the one with the greatest; the words count as one of the former.

    Args:
        question: As `checked` returned it.
        texts: The unit vector of each of its texts, shape (dimension,).
        picture: Unit vector, shape (dimension,).

    Returns:
        A question that is one direction.
    """
    is_sum = question.has_picture or question.is_shifted
    if is_sum or not (question.all_of or question.any_of):
        return replace(question, all_of=(), any_of=(), without=())

    def alone(text: str) -> Question:
        return Question(words=text, templates=question.templates)

    def cosine(one: Question) -> float:
        return float(direction(terms_of(one), texts, ()) @ picture)

    required = [alone(text) for text in question.all_of]
    if question.has_direction:
        required.append(replace(question, all_of=(), any_of=(), without=()))
    if question.any_of:
        required.append(max(map(alone, question.any_of), key=cosine))
    return min(required, key=cosine)


def terms_of(question: Question) -> tuple[Term, ...]:
    """Return the vectors that are added up to the direction of a question."""
    pictures = range(len(question.like) + len(question.like_photo))
    terms = [Term(None, picture=place) for place in pictures]
    if question.words:
        terms.append(Term(question.words))
    terms += [Term(text, weight) for text, weight in question.plus]
    terms += [Term(text, -weight) for text, weight in question.minus]
    return tuple(terms)


def direction(
    terms: Sequence[Term],
    texts: Mapping[str, NDArray[np.float32]],
    pictures: Sequence[NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return the sum of terms as a unit vector, shape (dimension,).

    Args:
        terms: At least one.
        texts: Unit vectors by text.
        pictures: Unit vectors of the pictures.

    Raises:
        QueryError: They cancel one another out.
    """
    vectors = [pictures[term.picture] if term.text is None else texts[term.text] for term in terms]
    return direction_of(vectors, [term.weight for term in terms])


def without_each(question: Question) -> list[tuple[Part, tuple[Term, ...]]]:
    """Return each part of a question with the terms that are left without it.

    Words are those between spaces, each as it was typed and each occurrence by itself; none is
    passed over, however little it means. A text that is the whole question is held against
    `NO_WORDS`; a picture that is, has nothing to be held against and is passed over.

    Args:
        question: One direction, as `deciding_question` returns it.
    """
    terms = terms_of(question)
    names = [*question.like, *(f"photo {number}" for number in question.like_photo)]
    found: list[tuple[Part, tuple[Term, ...]]] = []
    for place, term in enumerate(terms):
        before, after = terms[:place], terms[place + 1 :]
        if term.text is None:
            if before or after:
                found.append((Part("picture", names[term.picture]), before + after))
        elif term.text == question.words and place == len(names):
            for word, rest in _without_each_word(term.text):
                kept = (replace(term, text=rest),) if rest or not (before or after) else ()
                found.append((Part("word", word), before + kept + after))
        else:
            kind: PartKind = "plus" if term.weight > 0 else "minus"
            kept = () if before or after else (Term(NO_WORDS),)
            found.append((Part(kind, term.text), before + kept + after))
    return found


def _without_each_word(text: str) -> Iterator[tuple[str, str]]:
    words = text.split()
    for place, word in enumerate(words[:MOST_WORDS]):
        yield word, " ".join(words[:place] + words[place + 1 :])


def effects(
    question: Question,
    picture: NDArray[np.float32],
    texts: Mapping[str, NDArray[np.float32]],
    pictures: Sequence[NDArray[np.float32]],
    *,
    scale: float,
) -> tuple[Effect, ...]:
    """Return what each part of a question does to the score of a picture.

    Args:
        question: One direction, as `deciding_question` returns it.
        picture: Unit vector, shape (dimension,).
        texts: The unit vector of each text in `without_each` and of the question's own.
        pictures: Unit vectors of the question's pictures.
        scale: Of a cosine, to make it a logit; 1 for differences of the cosine.
    """
    whole = float(direction(terms_of(question), texts, pictures) @ picture)
    found = []
    for part, terms in without_each(question):
        try:
            rest = float(direction(terms, texts, pictures) @ picture)
        except QueryError:
            found.append(Effect(part, None))
        else:
            found.append(Effect(part, scale * (whole - rest)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Windows:
    """Overlapping windows on a grid of cells, one at every place that holds it whole.

    Attributes:
        grid: Rows and columns of cells.
        span: Rows and columns of a window, at most those of the grid.
    """

    grid: tuple[int, int]
    span: tuple[int, int]

    def __len__(self) -> int:
        return (self.grid[0] - self.span[0] + 1) * (self.grid[1] - self.span[1] + 1)

    @property
    def places(self) -> list[tuple[slice, slice]]:
        """The rows and columns of each, from the upper left to the lower right."""
        return [
            (slice(row, row + self.span[0]), slice(column, column + self.span[1]))
            for row in range(self.grid[0] - self.span[0] + 1)
            for column in range(self.grid[1] - self.span[1] + 1)
        ]

    def masks(self) -> NDArray[np.bool_]:
        """Return the cells of each window, shape (windows, cells), row by row."""
        masks = np.zeros((len(self), *self.grid), dtype=np.bool_)
        for mask, place in zip(masks, self.places, strict=True):
            mask[place] = True
        return masks.reshape(len(self), -1)

    def cell_means(self, differences: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each cell the mean over the windows that cover it, shape `grid`.

        This is the only smoothing of a map.

        Args:
            differences: One for each window, shape (windows,).
        """
        masks = self.masks()
        means: NDArray[np.float64] = (differences @ masks) / masks.sum(axis=0)
        return means.reshape(self.grid)
