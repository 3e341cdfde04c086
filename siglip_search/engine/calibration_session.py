"""Chooses which pictures to ask a person about, so that few answers make a good calibration."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.engine.calibrations import background_sample
from siglip_search.engine.judgements import Judgement
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.search.background import background_of
from siglip_search.search.calibration_fit import LabelledPairs, information, posterior_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_search.engine.calibrating import EmbedTexts
    from siglip_search.models.spec import ModelSpec

QUERIES: Final = 80
"""Queries of a session when the user names none: more would only be asked after hours."""

MOST_OF_A_QUERY: Final = 6
"""Judgements about one query: the next ones tell more about it and less about the others."""

_RANKS: Final = (0, 1, 2, 4, 7, 11, 17, 25, 35, 49)
"""Of each query's pictures, those that may be asked about: dense where matches end."""

_SEED: Final = 0
_BEST_EVERY: Final = 2
"""Every second question is about the best picture of a query that was not asked about: from those
that are wrong the cut is chosen."""


@dataclass(frozen=True, slots=True)
class Question:
    """Does this picture match these words?

    Attributes:
        query: The words.
        photo_id: Number of the picture.
    """

    query: str
    photo_id: int


def session_queries(words: Sequence[str] = ()) -> list[str]:
    """Return the queries to ask about, each once, without needless space.

    Args:
        words: The user's own; everyday ones if there are none.
    """
    queries = list(dict.fromkeys(" ".join(text.split()) for text in words))
    if not queries:
        queries = list(PHRASES)
        random.Random(_SEED).shuffle(queries)  # noqa: S311  an order, not a secret
        queries = queries[:QUERIES]
    return queries


class CalibrationSession:
    """The questions of one session; every answer makes the next one more telling.

    Args:
        store: The library.
        spec: The model.
        queries: At least one; see `session_queries`.
        judgements: What was said before: it counts, and is not asked again.
        embed: Makes unit vectors of texts.
    """

    def __init__(
        self,
        store: Store,
        spec: ModelSpec,
        queries: Sequence[str],
        judgements: Sequence[Judgement],
        embed: EmbedTexts,
    ) -> None:
        self._store = store
        self._spec = spec
        key = spec.space_key
        texts = embed(queries)
        sample = background_sample(store, key)
        found = store.nearest(key, texts, _RANKS[-1] + 1)
        self._questions: list[Question] = []
        ranks, cosines, locations, spreads = [], [], [], []
        for query, text, neighbours in zip(queries, texts, found, strict=True):
            background = background_of(text, sample)
            for rank in _RANKS:
                if rank < len(neighbours):
                    self._questions.append(Question(query, neighbours[rank].photo_id))
                    ranks.append(rank)
                    cosines.append(neighbours[rank].cosine)
                    locations.append(background.location)
                    spreads.append(background.spread)
        self._ranks = np.array(ranks, np.int64)
        self._pairs = LabelledPairs(
            np.array(cosines), np.array(locations), np.array(spreads), np.zeros(len(ranks), bool)
        )
        self._hashes = {
            photo.id: photo.content_hash
            for photo in store.photos(list({one.photo_id for one in self._questions}))
        }
        self._answers: dict[int, bool] = {}
        self._passed_over: set[int] = set()
        self._take_over(judgements)

    def next_question(self) -> Question | None:
        """Return what to ask now, None when nothing is left."""
        open_ones = self._open()
        if not open_ones.any():
            return None
        untouched = open_ones & (self._ranks == 0) & ~self._touched()
        if untouched.any() and len(self._answers) % _BEST_EVERY == 0:
            return self._questions[int(np.flatnonzero(untouched)[0])]
        gains = self._gains()
        gains[~open_ones] = -1.0
        return self._questions[int(gains.argmax())]

    def answer(self, question: Question, *, matches: bool) -> Judgement:
        """Take an answer and return it as what is to be kept; a later one replaces it."""
        number = self._questions.index(question)
        self._answers[number] = matches
        return Judgement(question.query, self._hashes[question.photo_id], matches)

    def pass_over(self, question: Question) -> None:
        """Do not ask this again in this session: the user cannot say."""
        self._passed_over.add(self._questions.index(question))

    def path(self, question: Question) -> str | None:
        """Return where the picture lies, None where it has vanished meanwhile."""
        photos = self._store.photos([question.photo_id])
        return os.fsdecode(photos[0].paths[0]) if photos and photos[0].paths else None

    def _take_over(self, judgements: Sequence[Judgement]) -> None:
        said = {(one.query, one.content_hash): one.matches for one in judgements}
        for number, question in enumerate(self._questions):
            before = said.get((question.query, self._hashes.get(question.photo_id, b"")))
            if before is not None:
                self._answers[number] = before

    def _open(self) -> NDArray[np.bool_]:
        """Return which questions may be asked, shape (questions,)."""
        asked: dict[str, int] = {}
        for number in self._answers:
            query = self._questions[number].query
            asked[query] = asked.get(query, 0) + 1
        return np.array(
            [
                number not in self._answers
                and number not in self._passed_over
                and question.photo_id in self._hashes
                and asked.get(question.query, 0) < MOST_OF_A_QUERY
                for number, question in enumerate(self._questions)
            ],
            dtype=np.bool_,
        )

    def _touched(self) -> NDArray[np.bool_]:
        touched = {self._questions[number].query for number in self._answers}
        return np.array([one.query in touched for one in self._questions], dtype=np.bool_)

    def _gains(self) -> NDArray[np.float64]:
        score = self._spec.score
        scale, bias = score.logit_scale, score.logit_bias
        # A model without a bias may as well be right about half of its best pictures.
        best = self._pairs.cosines[self._ranks == 0]
        centre = scale * float(np.median(best)) + (bias or 0.0)
        answered = np.zeros(len(self._questions), bool)
        answered[list(self._answers)] = True
        said = self._pairs.part(answered)
        matches = np.array([self._answers[number] for number in sorted(self._answers)], bool)
        said = LabelledPairs(said.cosines, said.locations, said.spreads, matches)
        posterior = posterior_of(said, logit_scale=scale, logit_bias=bias, centre=centre)
        return information(posterior, self._pairs, logit_scale=scale, logit_bias=bias)
