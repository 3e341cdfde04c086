"""Several texts as conditions on a picture: all of them, any of them, none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siglip_search.search.cut import Threshold
from siglip_search.search.ranking import Scored
from siglip_search.search.text_scores import TextScores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from siglip_search.search.candidates import Searched
    from siglip_search.search.cut import Cut
    from siglip_search.search.text_scores import Scale


@dataclass(frozen=True, slots=True, eq=False)
class TextMatches:
    """Finds what texts match, each on its own.

    Attributes:
        searched: Where to look.
        scale: What a cosine with a text means.
        cut: From which score on a text matches a picture.
    """

    searched: Searched
    scale: Scale
    cut: Cut

    def of_any(self, vectors: Iterable[NDArray[np.float32]]) -> set[int]:
        """Return the numbers of the pictures that one of the texts matches.

        Args:
            vectors: Unit vectors of the texts, each of shape (dimension,).
        """
        found = [self._cosines(TextScores(vector, self.scale))[0] for vector in vectors]
        return set(np.concatenate(found).tolist()) if found else set()

    def of_all(
        self, all_of: Iterable[NDArray[np.float32]], any_of: Sequence[NDArray[np.float32]]
    ) -> set[int]:
        """Return the numbers of the pictures that all of some texts and one of others match.

        Args:
            all_of: As for `of_any`.
            any_of: Likewise; where there is none, all_of decides.
        """
        required = [self._cosines(TextScores(vector, self.scale))[0] for vector in all_of]
        choices = [self._cosines(TextScores(vector, self.scale))[0] for vector in any_of]
        return set(_in_all_and_any(required, choices).tolist())

    def scored(
        self,
        all_of: Iterable[NDArray[np.float32]],
        any_of: Sequence[NDArray[np.float32]],
        *,
        but: AbstractSet[int] = frozenset(),
        wanted: int | None = None,
    ) -> list[Scored]:
        """Return the same pictures with their scores, best first.

        Their scores are the least over the texts that all have to match, and among these the
        greatest over those of which one has to. One text at least is given.

        Args:
            all_of: As for `of_any`.
            any_of: Likewise.
            but: Numbers of pictures that are left out.
            wanted: At most so many; None for all.
        """
        required = [TextScores(vector, self.scale) for vector in all_of]
        choices = [TextScores(vector, self.scale) for vector in any_of]
        found = {scores: self._cosines(scores) for scores in (*required, *choices)}
        photo_ids = _in_all_and_any(
            [found[scores][0] for scores in required], [found[scores][0] for scores in choices]
        )
        if but:
            photo_ids = np.setdiff1d(photo_ids, np.fromiter(but, np.int64), assume_unique=True)
        table = {scores: _looked_up(photo_ids, *found[scores]) for scores in found}
        nearest = _least_and_greatest(
            [table[scores] for scores in required], [table[scores] for scores in choices]
        )
        is_calibrated = self.scale.calibration is not None
        chances = np.zeros(len(photo_ids))
        if is_calibrated:
            columns = {scores: scores.calibrated(column) for scores, column in table.items()}
            chances = _least_and_greatest(
                [columns[scores] for scores in required], [columns[scores] for scores in choices]
            )
        # Equal ones by number. The scores of most of a large library are never looked at.
        order = np.lexsort((photo_ids, -nearest, -chances))[:wanted]
        one = (required or choices)[0]
        return [
            Scored(
                photo_id,
                cosine,
                one.probability(cosine),
                chance if is_calibrated else None,
            )
            for photo_id, cosine, chance in zip(
                photo_ids[order].tolist(),
                nearest[order].tolist(),
                chances[order].tolist(),
                strict=True,
            )
        ]

    def _cosines(self, scores: TextScores) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the numbers of the pictures that a text matches, ascending, and their cosines."""
        found = self.searched.matching(scores.vector, Threshold(self.cut, scores))
        # As arrays: of half a million pictures a dict a text would take 100 MB.
        photo_ids = np.fromiter((near.photo_id for near in found), np.int64, len(found))
        cosines = np.fromiter((near.cosine for near in found), np.float64, len(found))
        order = np.argsort(photo_ids)
        return photo_ids[order], cosines[order]


def _in_all_and_any(
    required: Sequence[NDArray[np.int64]], choices: Sequence[NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the numbers that are in each required set and, if there are choices, in one of them.

    Sets are arrays without repetitions; there is at least one.
    """
    groups = [*required]
    if choices:
        groups.append(np.unique(np.concatenate(choices)))
    common = groups[0]
    for group in groups[1:]:
        common = np.intersect1d(common, group, assume_unique=True)
    return common


def _looked_up(
    photo_ids: NDArray[np.int64], known: NDArray[np.int64], cosines: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a text's cosines with pictures, -inf where it does not match one.

    Args:
        photo_ids: The pictures' numbers.
        known: Those that it matches, ascending.
        cosines: One for each of these.
    """
    found = np.full(len(photo_ids), -np.inf)
    if len(known):
        # A text of any_of that does not match a picture has no say in it.
        places = np.minimum(np.searchsorted(known, photo_ids), len(known) - 1)
        matches = known[places] == photo_ids
        found[matches] = cosines[places[matches]]
    return found


def _least_and_greatest(
    required: Sequence[NDArray[np.float64]], choices: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the least of the required columns and of the greatest of the others."""
    columns = [*required]
    if choices:
        columns.append(np.max(choices, axis=0))
    least: NDArray[np.float64] = np.min(columns, axis=0)
    return least
