"""The score from which on a picture is an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np

from siglip_search.errors import QueryError

if TYPE_CHECKING:
    from siglip_search.search.question import Question
    from siglip_search.search.ranking import CutOn, Scored
    from siglip_search.search.text_scores import Scale, TextScores

_ROUNDING: Final = 1e-5
"""Cosines are compared a little too generously at first, and then exactly."""


class Cut(NamedTuple):
    """Smallest scores of an answer; every one that is given must be reached.

    Attributes:
        calibrated: Smallest calibrated probability, in [0, 1].
        probability: Smallest probability of the model's own, in [0, 1].
        similarity: Smallest cosine, in [-1, 1].
    """

    calibrated: float | None = None
    probability: float | None = None
    similarity: float | None = None

    @property
    def first(self) -> tuple[float, CutOn] | tuple[None, None]:
        """The value that people are told, and what it is compared with."""
        if self.calibrated is not None:
            return self.calibrated, "calibrated"
        if self.probability is not None:
            return self.probability, "probability"
        if self.similarity is not None:
            return self.similarity, "similarity"
        return None, None

    def refusing(self, scored: Scored) -> tuple[float, CutOn] | tuple[None, None]:
        """The first value that a picture does not reach, as `first`; that one if it reaches all."""
        for least, score, cut_on in (
            (self.calibrated, scored.calibrated, "calibrated"),
            (self.probability, scored.probability, "probability"),
            (self.similarity, scored.cosine, "similarity"),
        ):
            if least is not None and (score is None or score < least):
                return least, cast("CutOn", cut_on)
        return self.first

    @property
    def of_chances(self) -> Cut:
        """The part of it that texts have to reach, each by itself."""
        return Cut(self.calibrated, self.probability)

    @property
    def refuses_nothing(self) -> bool:
        """Whether every picture reaches it."""
        return not (self.calibrated or self.probability) and (
            self.similarity is None or self.similarity <= -1.0
        )


class Threshold:
    """A cut for one direction: tells from a cosine alone whether a picture reaches it.

    Args:
        cut: The cut.
        scores: Of the text, or of a sum of texts.

    Attributes:
        least: A cosine below which nothing reaches the cut; -2 where everything does, and 2 where
            nothing can.
    """

    def __init__(self, cut: Cut, scores: TextScores) -> None:
        self._cut = cut
        self._scores = scores
        least = -2.0 if cut.similarity is None else cut.similarity
        if cut.probability is not None:
            least = max(least, scores.cosine_for_probability(cut.probability) - _ROUNDING)
        if cut.calibrated is not None:
            least = max(least, scores.cosine_for_calibrated(cut.calibrated) - _ROUNDING)
        self.least = min(least, 2.0)

    def reached(self, cosine: float) -> bool:
        """Tell whether a picture of this cosine reaches the cut."""
        # Far from the threshold the cosine decides; near it the very scores that are shown.
        if abs(cosine - self.least) > 2 * _ROUNDING:
            return cosine > self.least
        cut, scores = self._cut, self._scores
        if cut.similarity is not None and cosine < cut.similarity:
            return False
        if cut.probability is not None and (scores.probability(cosine) or 0.0) < cut.probability:
            return False
        return cut.calibrated is None or scores.calibrated(np.array([cosine]))[0] >= cut.calibrated


def cut_of(question: Question, scale: Scale) -> Cut:
    """Return the cut for the pictures that a question asks for.

    What the question says counts; where it says nothing, the calibration's cut, or else the
    model's own. Similarities, of pictures or with sums of texts, have no cut of their own.

    Raises:
        QueryError: It asks for a cut on a scale that there is not.
    """
    given = Cut(question.min_calibrated, question.min_probability, question.min_similarity)
    if not question.has_chance:
        if given.calibrated is not None or given.probability is not None:
            raise QueryError(
                "a query with a picture in it has similarities, no probabilities"
                if question.has_picture
                else "--plus and --minus without words give similarities, no probabilities",
                hint="Cut them with --min-similarity, for example 0.7."
                if question.has_picture
                else "Say in words what is in the picture, or cut with --min-similarity.",
            )
        return given
    if given.calibrated is not None and scale.calibration is None:
        raise QueryError(
            "the scores of this library's model are uncalibrated",
            hint="`siglip-search calibrate` calibrates them; --min-probability cuts the model's "
            "own.",
        )
    if given.probability is not None and scale.logit_bias is None:
        raise QueryError(
            "the library's model states no probabilities", hint="Cut with --min-similarity."
        )
    return _default(scale) if given == Cut() else given


def cut_for_conditions(question: Question, scale: Scale) -> Cut:
    """Return the cut at which a text of a condition matches a picture.

    It is the question's own, so that `--not dog` leaves out what `query dog` would show; but where
    that refuses nothing, or is a similarity, the usual one.

    Raises:
        QueryError: There is none, so that nothing can be said to match or not.
    """
    asked = Cut(question.min_calibrated, question.min_probability)
    for cut in (asked, _default(scale)):
        if not cut.refuses_nothing:
            return cut
    raise QueryError(
        "the scores of this library's model do not say whether a text matches a picture",
        hint="`siglip-search calibrate` teaches them that; --plus and --minus work without.",
    )


def _default(scale: Scale) -> Cut:
    if scale.calibration is not None:
        return Cut(calibrated=scale.calibrated_cut)
    if scale.logit_bias is not None:
        return Cut(probability=scale.min_probability)
    return Cut()
