"""A question whose texts and pictures are vectors becomes an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from siglip_search.errors import QueryError
from siglip_search.search.arithmetic import direction_of
from siglip_search.search.cut import Cut, Threshold, cut_for_conditions, cut_of
from siglip_search.search.ranking import Answer, Scored, hits_of
from siglip_search.search.text_scores import TextScores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from siglip_index.records import Neighbour
    from siglip_search.search.candidates import Searched
    from siglip_search.search.question import Question
    from siglip_search.search.text_matches import TextMatches
    from siglip_search.search.text_scores import Scale

_LOWER_CUTS: Final = (1e-2, 1e-4)
"""Probabilities at which the best of what was refused is looked for."""


# A named tuple, as others here: a lone query has little time, and makes one ten times as fast as
# a frozen dataclass.
class Vectors(NamedTuple):
    """The terms of a question as the towers see them.

    Attributes:
        texts: The unit vector of each text, shape (dimension,).
        pictures: The unit vector of each picture, likewise.
        photo_ids: Numbers of those pictures that are in the library; they are no answer.
    """

    texts: Mapping[str, NDArray[np.float32]]
    pictures: Sequence[NDArray[np.float32]] = ()
    photo_ids: frozenset[int] = frozenset()

    def of(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return the vectors of some of the texts."""
        return [self.texts[text] for text in texts]


def find(question: Question, vectors: Vectors, *, searched: Searched, scale: Scale) -> Answer:
    """Return the pictures that answer a question, exactly.

    Args:
        question: As `checked` returned it.
        vectors: Its texts and pictures.
        searched: Where to look.
        scale: What a cosine with a text means.

    Raises:
        QueryError: The terms cancel one another out, or there is no cut where one is needed.
    """
    if not question.has_score:
        return _filtered(question, vectors, searched, scale)
    cut = cut_of(question, scale)
    if question.sort != "score" and cut.refuses_nothing:
        raise QueryError(
            f"without a cut every picture is an answer, whichever --sort {question.sort} begins "
            "with",
            hint="Give one: --min-similarity 0.7"
            if not question.has_chance or scale.logit_bias is None
            else "Leave the usual one in force, or give one: --min-probability 0.1",
        )
    search = _Search(question, vectors, searched, scale, cut)
    ranked, refused = search.by_direction() if search.has_direction_only else search.by_texts()
    if question.sort != "score":
        from siglip_search.search.ordering import in_order

        ranked = in_order(searched.store, ranked, question.sort)
    calibration = scale.calibration if question.has_chance else None
    answer = Answer(
        hits=(),
        calibration=None if calibration is None else calibration.origin,
        cut=cut.first[0],
        cut_on=cut.first[1],
    )
    if refused is not None:
        (refused,) = search.with_chances([refused])
        value, cut_on = cut.refusing(refused)
        scores = {
            "calibrated": refused.calibrated,
            "probability": refused.probability,
            "similarity": refused.cosine,
        }
        best_refused = None if cut_on is None else scores[cut_on]
        return replace(answer, best_refused=best_refused, cut=value, cut_on=cut_on)
    page = search.with_chances(ranked[question.offset : question.offset + question.top_k])
    return _paged(answer, ranked, page, question, searched)


def _filtered(question: Question, vectors: Vectors, searched: Searched, scale: Scale) -> Answer:
    """Return what a filter leaves; there is no score, so the newest come first."""
    if (question.min_calibrated, question.min_probability, question.min_similarity) != (None,) * 3:
        raise QueryError(
            "a filter alone gives no scores, and there is nothing to cut",
            hint="Say what is in the picture as well.",
        )
    from siglip_search.search.ordering import in_order

    left_out = _Search(question, vectors, searched, scale, Cut()).left_out()
    found = [Scored(photo_id) for photo_id in searched.everything(but=left_out)]
    ranked = in_order(searched.store, found, "name" if question.sort == "name" else "date")
    page = ranked[question.offset : question.offset + question.top_k]
    return _paged(Answer(()), ranked, page, question, searched)


def _paged(
    answer: Answer,
    ranked: Sequence[Scored],
    page: Sequence[Scored],
    question: Question,
    searched: Searched,
) -> Answer:
    """Return an answer with one page of what was ranked, and what there is beside it."""
    hits = hits_of(searched.store, page, offset=question.offset)
    return replace(
        answer,
        hits=hits,
        more=len(ranked) > question.offset + question.top_k,
        passed_over=len(ranked) if ranked and not page else None,
        is_filtered_out=not ranked and searched.where is not None and not searched.everything(),
    )


class _Search:
    """One question on its way to its answer."""

    # Written out: a decorated class takes a lone query longer to make than to use.
    def __init__(
        self, question: Question, vectors: Vectors, searched: Searched, scale: Scale, cut: Cut
    ) -> None:
        self.question = question
        self.vectors = vectors
        self.searched = searched
        self.scale = scale
        self.cut = cut

    @property
    def wanted(self) -> int:
        """How many pictures are needed at most: one more tells whether there is a next page."""
        return self.question.offset + self.question.top_k + 1

    @property
    def has_direction_only(self) -> bool:
        """Whether one direction orders what is an answer, rather than the least of some texts."""
        question = self.question
        return (
            not question.has_chance
            or question.is_shifted
            or not (question.all_of or question.any_of)
        )

    @property
    def has_gate(self) -> bool:
        """Whether what is an answer is decided by texts, and its order by something else."""
        return self.question.has_chance and self.question.is_shifted

    def by_texts(self) -> tuple[list[Scored], Scored | None]:
        """Return all that reach the cut, best first, or nothing and the best that does not."""
        left_out = self.left_out()
        wanted = self.wanted if self.question.sort == "score" else None
        reaching = self._texts(self.cut).scored(*self._conditions(), but=left_out, wanted=wanted)
        if reaching or self.cut.refuses_nothing:
            return reaching, None
        return [], self._best_refused(left_out)

    def by_direction(self) -> tuple[list[Scored], Scored | None]:
        """Return what reaches the cut, best first and as much as the page needs; as `by_texts`.

        Where texts decide what is an answer, `with_chances` has still to tell their scores.
        """
        direction = self._direction()
        scores = TextScores(direction, self.scale)
        # The texts are cut by their own scores: what a sum's sigmoid says is no chance.
        threshold = Threshold(
            Cut(similarity=self.cut.similarity) if self.has_gate else self.cut, scores
        )
        searched, left_out = self._gated(), self.left_out()
        reaching: list[Neighbour] = []
        refused: list[Neighbour] = []
        if self.question.sort != "score":
            reaching = searched.matching(direction, threshold, but=left_out)
        if not reaching:
            reaching, refused = searched.best(
                direction, self.wanted, but=left_out, threshold=threshold
            )
        if reaching:
            return self._scored(reaching, scores), None
        if refused or not self.has_gate:
            return [], next(iter(self._scored(refused, scores)), None)
        return [], self._best_refused(left_out)

    def _best_refused(self, left_out: set[int]) -> Scored | None:
        """Return the best picture for the texts, without any cut."""
        cuts = [Cut()]
        # What lies above a lower cut lies above all the rest; most pictures need no look then.
        if self.scale.calibration is not None:
            cuts = [*(Cut(calibrated=least) for least in _LOWER_CUTS), *cuts]
        elif self.scale.logit_bias is not None:
            cuts = [*(Cut(probability=least) for least in _LOWER_CUTS), *cuts]
        for cut in cuts:
            best = self._texts(cut).scored(*self._conditions(), but=left_out, wanted=1)
            if best:
                return best[0]
        return None

    def _scored(self, found: Sequence[Neighbour], scores: TextScores) -> list[Scored]:
        if not self.question.has_chance or self.has_gate:
            # Probabilities are of pictures with texts: the cosines of two pictures, and of a
            # picture with a sum of texts, lie elsewhere.
            return [Scored(near.photo_id, near.cosine) for near in found]
        chances = None
        if scores.is_calibrated:
            chances = scores.calibrated(np.array([near.cosine for near in found]))
        return [
            Scored(
                near.photo_id,
                near.cosine,
                scores.probability(near.cosine),
                None if chances is None else float(chances[place]),
            )
            for place, near in enumerate(found)
        ]

    def with_chances(self, found: Sequence[Scored]) -> list[Scored]:
        """Return pictures with the scores of the texts that decide, where a direction orders."""
        if not self.has_gate or not found:
            return list(found)
        numbers = {scored.photo_id for scored in found}
        # By the cut that let them in: a text of several that does not match has no say.
        for cut in (self.cut.of_chances, Cut()):
            texts = self._texts(cut, self.searched.within(numbers))
            by_number = {scored.photo_id: scored for scored in texts.scored(*self._conditions())}
            if by_number:
                break
        return [
            by_number[scored.photo_id]._replace(cosine=scored.cosine)
            for scored in found
            if scored.photo_id in by_number  # else it has gone meanwhile
        ]

    def _direction(self) -> NDArray[np.float32]:
        question, vectors = self.question, self.vectors
        terms = [(vector, 1.0) for vector in vectors.pictures]
        if question.words:
            terms.append((vectors.texts[question.words], 1.0))
        terms += [(vectors.texts[text], weight) for text, weight in question.plus]
        terms += [(vectors.texts[text], -weight) for text, weight in question.minus]
        return direction_of([vector for vector, _ in terms], [weight for _, weight in terms])

    def left_out(self) -> set[int]:
        """Return the numbers of the pictures that are no answer, whatever their score."""
        left_out = set(self.vectors.photo_ids)
        if self.question.without:
            texts = self._texts(cut_for_conditions(self.question, self.scale))
            left_out |= texts.of_any(self.vectors.of(self.question.without))
        return left_out

    def _gated(self) -> Searched:
        """Return where to look: only what meets the texts that stand beside a direction."""
        required, any_of = self._conditions()
        if self.question.has_picture and (required or any_of):
            cut = cut_for_conditions(self.question, self.scale)
        elif self.has_gate and not self.cut.of_chances.refuses_nothing:
            cut = self.cut.of_chances
        else:
            return self.searched
        return self.searched.within(self._texts(cut).of_all(required, any_of))

    def _conditions(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return the texts that all have to match, the words among them, and those of any_of."""
        question = self.question
        all_of = self.vectors.of(question.all_of)
        if question.words and not question.has_picture:
            all_of.append(self.vectors.texts[question.words])
        return all_of, self.vectors.of(question.any_of)

    def _texts(self, cut: Cut, searched: Searched | None = None) -> TextMatches:
        # Here: most questions have no conditions, and are asked in a process of their own.
        from siglip_search.search.text_matches import TextMatches

        return TextMatches(searched or self.searched, self.scale, cut)
