"""Do two towers of one checkpoint say the same? Pure arithmetic on their embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.models.spec import MIN_PICTURES, Agreement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelFacts

_TOP: Final = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """How well a variant agrees with its reference.

    Attributes:
        pictures: How many pictures were compared.
        texts: How many queries.
        picture_cosine_mean: Between the two embeddings of each picture, in [-1, 1].
        picture_cosine_worst: The least of them.
        text_cosine_mean: Between the two embeddings of each query.
        text_cosine_worst: The least of them.
        recall_at_10: Share of the reference's ten best pictures of a query that are among the ten
            best of the variant, both its towers; mean over the queries, in [0, 1].
        mixed_recall_at_10: The same for the variant's pictures and the reference's queries: in one
            embedding space they meet.
    """

    pictures: int
    texts: int
    picture_cosine_mean: float
    picture_cosine_worst: float
    text_cosine_mean: float
    text_cosine_worst: float
    recall_at_10: float
    mixed_recall_at_10: float

    @property
    def agreement(self) -> Agreement:
        """What decides: of each pair of figures the worse one."""
        return Agreement(
            pictures=self.pictures,
            mean_cosine=min(self.picture_cosine_mean, self.text_cosine_mean),
            worst_cosine=min(self.picture_cosine_worst, self.text_cosine_worst),
            recall_at_10=min(self.recall_at_10, self.mixed_recall_at_10),
        )


def measure_agreement(
    *,
    reference_pictures: NDArray[np.float32],
    variant_pictures: NDArray[np.float32],
    reference_texts: NDArray[np.float32],
    variant_texts: NDArray[np.float32],
) -> Figures:
    """Compare the embeddings of the same pictures and queries.

    Args:
        reference_pictures: Unit vectors, shape (pictures, dimension); at least one.
        variant_pictures: Likewise, of the same pictures in the same order.
        reference_texts: Unit vectors, shape (texts, dimension); at least one.
        variant_texts: Likewise, of the same texts in the same order.
    """
    picture_cosines = _cosines(reference_pictures, variant_pictures)
    text_cosines = _cosines(reference_texts, variant_texts)
    wanted = _best(reference_texts, reference_pictures)
    return Figures(
        pictures=len(reference_pictures),
        texts=len(reference_texts),
        picture_cosine_mean=float(picture_cosines.mean()),
        picture_cosine_worst=float(picture_cosines.min()),
        text_cosine_mean=float(text_cosines.mean()),
        text_cosine_worst=float(text_cosines.min()),
        recall_at_10=_recall(wanted, _best(variant_texts, variant_pictures)),
        mixed_recall_at_10=_recall(wanted, _best(reference_texts, variant_pictures)),
    )


def has_random_weights(facts: ModelFacts) -> bool:
    """Tell whether a model says of itself that its weights are random: no figure of it counts."""
    return "random weights" in f"{facts.title} {facts.notice or ''}".lower()


def verdict(facts: ModelFacts, figures: Figures) -> str:
    """Return what the figures decide, in a few words.

    Args:
        facts: The variant's.
        figures: Its agreement with the reference.
    """
    if has_random_weights(facts):
        return "random weights: decides nothing"
    if figures.pictures < MIN_PICTURES:
        return f"too few pictures ({figures.pictures} of {MIN_PICTURES})"
    return "agrees" if figures.agreement.passed else "does not agree"


def is_decided(facts: ModelFacts, figures: Figures) -> bool:
    """Tell whether the figures say anything about the variant, for or against it."""
    return not has_random_weights(facts) and figures.pictures >= MIN_PICTURES


def is_simulation(facts: ModelFacts, device: str) -> bool:
    """Tell whether a model's figures on a device are near what will run, and not of it.

    Towers of w8a16 are made for an NPU: the processor computes in fp32 on rounded numbers.
    """
    return device == "cpu" and "w8a16" in {facts.vision.precision, facts.text.precision}


def deciding_figures(facts: ModelFacts, by_device: Mapping[str, Figures]) -> Figures | None:
    """Return the figures that a variant is judged by: of those that count, the worst.

    A simulation does not count, nor does the emulator beside an NPU. Whatever else it ran on does,
    because its vectors may come from there.

    Args:
        facts: The variant's.
        by_device: Its agreement with the reference, by the device that it ran on.
    """
    counting = [
        figures
        for device, figures in by_device.items()
        if not is_simulation(facts, device)
        and not (device == "npu-emulator" and "npu" in by_device)
    ]
    return min(
        counting,
        key=lambda figures: (figures.agreement.passed, figures.agreement.mean_cosine),
        default=None,
    )


def _cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", first, second, dtype=np.float64)
    # Unit vectors in single precision: their product may exceed 1 by a rounding.
    return cosines.clip(-1.0, 1.0)


def _best(texts: NDArray[np.float32], pictures: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the numbers of each text's best pictures, shape (texts, min(10, pictures))."""
    top = min(_TOP, len(pictures))
    # Stable: pictures with one and the same embedding come in one and the same order.
    return np.argsort(-(texts @ pictures.T), axis=1, kind="stable")[:, :top]


def _recall(wanted: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    hits = [len(np.intersect1d(*rows)) for rows in zip(wanted, found, strict=True)]
    return sum(hits) / wanted.size
