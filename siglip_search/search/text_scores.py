"""What the cosine of a picture with one text says, on every scale that there is."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from siglip_search.search.scoring import cosine_for_probability, match_probability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.search.background import Background
    from siglip_search.search.calibration import Calibration


class Scale(NamedTuple):
    """How the cosines of a model become probabilities in a library.

    Attributes:
        logit_scale: Temperature after exp(), > 0.
        logit_bias: None for a model without one, which states no probabilities.
        min_probability: The model's own cut, in [0, 1).
        calibration: None where nothing was calibrated.
        sample: Unit vectors of pictures of the library, shape (n, dimension), against which the
            calibration holds a text; None where there is no calibration.
        pictures: How many the library holds, on which the calibration's cut depends; 0 where that
            is not known.
    """

    logit_scale: float
    logit_bias: float | None
    min_probability: float
    calibration: Calibration | None = None
    sample: NDArray[np.float32] | None = None
    pictures: int = 0

    @property
    def calibrated_cut(self) -> float | None:
        """The calibration's cut in this library, None where nothing was calibrated.

        It is that of the whole library, also within a filter: a filter only takes away.
        """
        if self.calibration is None:
            return None
        return self.calibration.cut_for(self.pictures) if self.pictures else self.calibration.cut


class TextScores:
    """The scores of one text with any picture; each grows with the cosine.

    Args:
        vector: Unit vector of the text, or of a sum of texts, shape (dimension,).
        scale: Of the model and the library.
    """

    def __init__(self, vector: NDArray[np.float32], scale: Scale) -> None:
        self.vector = vector
        self._scale = scale

    @cached_property
    def _background(self) -> Background:
        from siglip_search.search.background import background_of

        assert self._scale.sample is not None
        return background_of(self.vector, self._scale.sample)

    def probability(self, cosine: float) -> float | None:
        """Return the model's own match probability, None where it states none."""
        scale = self._scale
        if scale.logit_bias is None:
            return None
        return match_probability(cosine, logit_scale=scale.logit_scale, logit_bias=scale.logit_bias)

    @property
    def is_calibrated(self) -> bool:
        """Whether there are calibrated probabilities."""
        return self._scale.calibration is not None

    def calibrated(self, cosines: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the calibrated probabilities of cosines, shape (n,); only where there are any."""
        assert self._scale.calibration is not None
        return self._scale.calibration.probabilities(cosines, self._background)

    def cosine_for_probability(self, probability: float) -> float:
        """Return the cosine at which the model's own probability takes this value."""
        assert self._scale.logit_bias is not None
        return cosine_for_probability(
            probability, logit_scale=self._scale.logit_scale, logit_bias=self._scale.logit_bias
        )

    def cosine_for_calibrated(self, probability: float) -> float:
        """Return the cosine at which the calibrated probability takes this value."""
        assert self._scale.calibration is not None
        return self._scale.calibration.cosine_for(probability, self._background)
