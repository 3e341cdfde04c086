"""Labels in place of a training set: checks, prototypes and scores. Pure arithmetic on vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.errors import QueryError
from siglip_search.search.question import require_words
from siglip_search.search.scoring import match_probability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PLACEHOLDER: Final = "{}"
"""Where a template takes the label."""

BARE_LABEL: Final = (PLACEHOLDER,)
"""The templates that add nothing."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How well one label fits one picture.

    Attributes:
        label: As it was given.
        probability: The model's own match probability, in [0, 1], independent of the other labels;
            None where the model has no learned bias and so states none.
        cosine: Inner product of the unit vectors of label and picture, in [-1, 1].
        forced_choice: Share of this label if one of the labels had to be right: the softmax of
            scale * cosine over all labels, in [0, 1]. Says nothing about whether any is.
        matches: Whether the probability reaches the cut; None where there is no probability.
    """

    label: str
    probability: float | None
    cosine: float
    forced_choice: float
    matches: bool | None


def check_labels(labels: Sequence[str], *, origins: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the labels without surrounding space.

    Args:
        labels: As they were given.
        origins: Where each came from, for messages; "label 1", "label 2", ... when None.

    Raises:
        QueryError: There is none, one holds no words, or two are the same but for case and
            space, which would share between them what belongs to one.
    """
    names = origins or [f"label {number}" for number in range(1, len(labels) + 1)]
    if not labels:
        raise QueryError("there are no labels", hint="Name some: --labels dog,cat,bicycle")
    seen: dict[str, str] = {}
    for label, name in zip(labels, names, strict=True):
        try:
            require_words(label)
        except QueryError:
            raise QueryError(
                f"{name} holds no words: {label.strip()!r}",
                hint="Leave it out; a comma ends a label, so write labels with commas to a file "
                "(--labels-file).",
            ) from None
        key = " ".join(label.casefold().split())
        if key in seen:
            raise QueryError(
                f"{name} is {label.strip()!r}, which {seen[key]} is already",
                hint="Give every label once; case and spaces make no difference.",
            )
        seen[key] = name
    return tuple(label.strip() for label in labels)


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates.

    Raises:
        QueryError: There is none, or one has no place for the label.
    """
    if not templates:
        raise QueryError(
            "there are no templates", hint='The bare label is the template "{}" (--no-templates).'
        )
    for template in templates:
        if PLACEHOLDER not in template:
            raise QueryError(
                f"the template {template!r} has no {PLACEHOLDER} where the label goes",
                hint='Write for example: --template "a photo of a {}"',
            )
    return tuple(templates)


def prompts_for(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return every label in every template: those of the first label, of the second, ..."""
    return [template.replace(PLACEHOLDER, label) for label in labels for template in templates]


def prototypes_of(vectors: NDArray[np.float32], *, labels: int) -> NDArray[np.float32]:
    """Return one unit vector a label: the direction of the mean of its prompts' vectors.

    Args:
        vectors: Unit vectors of what `prompts_for` gave, shape (labels * templates, dimension).
        labels: How many labels there are, >= 1.

    Returns:
        Shape (labels, dimension).

    Raises:
        ValueError: If the prompts of a label cancel each other out, so that there is no direction.
    """
    # In double precision, so that one template gives back its own vector to the last bit.
    means = vectors.astype(np.float64).reshape(labels, -1, vectors.shape[-1]).mean(axis=1)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if not (norms > 0).all():
        raise ValueError("the prompts of a label have no mean direction")
    prototypes: NDArray[np.float32] = (means / norms).astype(np.float32)
    return prototypes


def forced_choice(cosines: NDArray[np.float64], *, logit_scale: float) -> NDArray[np.float64]:
    """Return the softmax of scale * cosine; a bias would be the same for every label and cancel.

    Args:
        cosines: Of all labels with one picture, shape (labels,), in [-1, 1].
        logit_scale: Temperature after exp(); dimensionless, > 0.

    Returns:
        Shape (labels,), >= 0, of sum 1.

    Raises:
        ValueError: If logit_scale <= 0 (a log-scale was passed).
    """
    if not logit_scale > 0:
        raise ValueError(f"logit_scale must be > 0, not {logit_scale}; was exp() left out?")
    # Less the greatest: exp() of a large positive number overflows.
    odds = np.exp(logit_scale * (cosines - cosines.max()))
    shares: NDArray[np.float64] = odds / odds.sum()
    return shares


def score_labels(
    picture: NDArray[np.float32],
    prototypes: NDArray[np.float32],
    labels: Sequence[str],
    *,
    logit_scale: float,
    logit_bias: float | None,
    min_probability: float,
) -> tuple[LabelScore, ...]:
    """Return every label's scores, best first; equal ones in the order in which they were given.

    Args:
        picture: Unit vector, shape (dimension,).
        prototypes: Unit vectors, shape (labels, dimension).
        labels: Their names.
        logit_scale: Temperature after exp(), > 0.
        logit_bias: None for a model without one, whose probabilities are None.
        min_probability: The cut: smallest probability of a match, in [0, 1].
    """
    cosines = prototypes.astype(np.float64) @ picture.astype(np.float64)
    shares = forced_choice(cosines, logit_scale=logit_scale)
    scores = []
    for index in np.argsort(-cosines, kind="stable"):
        cosine = float(cosines[index])
        probability = None
        if logit_bias is not None:
            probability = match_probability(cosine, logit_scale=logit_scale, logit_bias=logit_bias)
        scores.append(
            LabelScore(
                label=labels[index],
                probability=probability,
                cosine=cosine,
                forced_choice=float(shares[index]),
                matches=None if probability is None else probability >= min_probability,
            )
        )
    return tuple(scores)
