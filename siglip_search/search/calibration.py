"""From a query's cosines to the chance that a picture matches it, as labelled pairs showed it.

A logistic fit (Platt, "Probabilities for SV machines", 1999) of three things: the cosine, how far
it stands above the query's background, and how wide that background is. Pure arithmetic.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

import numpy as np

from siglip_search.search.background import MIN_PICTURES
from siglip_search.search.scoring import match_probability

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.search.background import Background

FORMAT: Final = 1
"""Of the JSON form; what is newer is not read."""

Origin = Literal["shipped", "yours"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How the cosines of one embedding space become calibrated probabilities.

    The log-odds of a match are `cosine_weight * cosine + standing_weight * (cosine - location)
    + spread_weight * spread + offset`, with location and spread of the query's background. Where
    the library has too few pictures for one they are `plain_weight * cosine + plain_offset`.

    Attributes:
        cosine_weight: Of either sign.
        standing_weight: Likewise; the sum of both is > 0, so that no picture overtakes a nearer
            one.
        offset: Log-odds.
        spread_weight: Of either sign. A query that tells pictures apart has a wide background.
        plain_weight: > 0.
        plain_offset: Log-odds.
        locations: Least and greatest location of the backgrounds of the fit. One beyond them is
            taken for the nearer of both: in a library of nothing but dogs the background of "dog"
            is no reason to refuse them.
        spreads: Likewise for the spreads, >= 0.
        cut: Smallest calibrated probability that is shown unless another is asked for, in [0, 1],
            in a collection of `pictures`; `cut_for` tells that of other sizes.
        false_positive_rate: Share of queries for what is not there that this cut was chosen to
            answer, in [0, 1].
        pairs: How many labelled pairs of query and picture it was fitted on.
        origin: "shipped" with the model, or "yours": fitted on the user's own judgements.
        pictures: How many pictures the collections had in which that cut keeps that rate, 0 where
            it is not known.
        cut_slope: Log-odds by which the cut rises where there are e times as many, >= 0.
        measured_up_to: Pictures of the largest collections on which the slope was measured, 0 if
            it was not: for more it is carried on.
    """

    cosine_weight: float
    standing_weight: float
    offset: float
    plain_weight: float
    plain_offset: float
    locations: tuple[float, float]
    spreads: tuple[float, float]
    cut: float
    false_positive_rate: float
    pairs: int
    origin: Origin
    spread_weight: float = 0.0
    pictures: int = 0
    cut_slope: float = 0.0
    measured_up_to: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if field.name != "origin" and not all(map(math.isfinite, numbers)):
                raise ValueError(f"{field.name} is {value}")
        if self.origin not in get_args(Origin):
            raise ValueError(f"origin is {self.origin!r}")
        if not (self.cosine_weight + self.standing_weight > 0 and self.plain_weight > 0):
            raise ValueError("probabilities would fall as the cosine grows")
        if (
            not self.locations[0] <= self.locations[1]
            or not 0 <= self.spreads[0] <= self.spreads[1]
        ):
            raise ValueError("the bounds of the background are in no order")
        if not 0 <= self.cut <= 1 or not 0 <= self.false_positive_rate <= 1:
            raise ValueError("the cut and its rate lie between 0 and 1")
        if min(self.cut_slope, self.pictures, self.measured_up_to) < 0:
            raise ValueError("the cut would fall as pictures are added, or their number is below 0")

    def cut_for(self, pictures: int) -> float:
        """Return the cut that keeps the false positive rate among so many pictures.

        The best of n pictures that do not match comes ever nearer as n grows, as the logarithm of
        n does, and the cut goes before it. What a pair's probability says does not depend on how
        many other pictures there are, so that it is the cut that moves.

        Args:
            pictures: How many are searched, >= 0; fewer than make a background count as so many.

        Returns:
            In [0, 1]; it never falls as their number grows.
        """
        if not (self.pictures and self.cut_slope) or self.cut in (0.0, 1.0):
            return self.cut
        rise = self.cut_slope * math.log(max(pictures, MIN_PICTURES) / self.pictures)
        if rise == 0.0:
            return self.cut
        log_odds = math.log(self.cut) - math.log1p(-self.cut) + rise
        moved = match_probability(log_odds, logit_scale=1.0, logit_bias=0.0)
        # There and back again rounds; a cut that moved up must not lie below where it was.
        return max(self.cut, moved) if rise > 0 else min(self.cut, moved)

    def probabilities(
        self, cosines: NDArray[np.floating], background: Background
    ) -> NDArray[np.float64]:
        """Return the calibrated probabilities of one query's cosines.

        Args:
            cosines: With any pictures, shape (n,), in [-1, 1].
            background: The query's.

        Returns:
            Shape (n,), in [0, 1]; a nearer picture never has a smaller one.
        """
        slope, offset = self._line(background)
        # Beyond 700 exp() overflows, and the probability is 0 or 1 long before that.
        log_odds = np.clip(slope * np.asarray(cosines, np.float64) + offset, -700.0, 700.0)
        chances: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-log_odds))
        return chances

    def probability(self, cosine: float, background: Background) -> float:
        """Return the calibrated probability of one cosine: `probabilities` of it alone."""
        return float(self.probabilities(np.array([cosine]), background)[0])

    def cosine_for(self, probability: float, background: Background) -> float:
        """Return the cosine at which the calibrated probability takes this value.

        Args:
            probability: In [0, 1].
            background: The query's.

        Returns:
            The cosine; -inf for 0 and inf for 1, and beyond [-1, 1] where no cosine reaches it.

        Raises:
            ValueError: If the probability is not in [0, 1].
        """
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"a probability lies between 0 and 1, not {probability}")
        if probability in (0.0, 1.0):
            return -math.inf if probability == 0.0 else math.inf
        slope, offset = self._line(background)
        return (math.log(probability) - math.log1p(-probability) - offset) / slope

    def _line(self, background: Background) -> tuple[float, float]:
        """Return slope and offset of the log-odds over the cosine for one query."""
        if not background.is_known:
            return self.plain_weight, self.plain_offset
        location = min(max(background.location, self.locations[0]), self.locations[1])
        spread = min(max(background.spread, self.spreads[0]), self.spreads[1])
        offset = self.offset + self.spread_weight * spread - self.standing_weight * location
        return self.cosine_weight + self.standing_weight, offset

    def to_json(self) -> str:
        """Return it as one JSON object on one line."""
        return json.dumps({"format": FORMAT, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what `to_json` wrote; other names in the object are passed over.

        Raises:
            ValueError: It is no such object, a newer one, or what it says is impossible.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"this is no calibration of format {FORMAT}")
        try:
            return cls(**{field.name: _typed(field.name, values) for field in fields(cls)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"a part is missing or of the wrong kind: {error}") from error


def _typed(name: str, values: dict[str, object]) -> Any:
    value = values[name]
    if name == "origin":
        return value
    if isinstance(value, list):
        low, high = value
        return float(low), float(high)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is no number")
    return int(value) if name in {"pairs", "pictures", "measured_up_to"} else float(value)
