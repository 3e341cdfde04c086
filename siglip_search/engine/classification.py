"""Zero-shot classification: which of these labels fit these pictures, or none of them."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siglip_search.engine.chosen_model import model_called
from siglip_search.engine.picture_vectors import picture_vectors
from siglip_search.errors import PathError, QueryError
from siglip_search.ingest.report import Failure
from siglip_search.photos.decode import DecodeLimits
from siglip_search.search.classify import (
    LabelScore,
    check_labels,
    check_templates,
    prompts_for,
    prototypes_of,
    score_labels,
)
from siglip_search.typed_paths import absolute_path

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Device

DEFAULT_TEMPLATES: Final = ("{}", "a photo of {}", "a photo of a {}", "a picture of a {}")
"""Ways of saying a label whose mean is less a matter of wording than each of them."""


@dataclass(frozen=True, slots=True)
class ClassifiedPicture:
    """What the labels say of one picture.

    Attributes:
        path: Absolute path; bytes that are not text stand in it as os.fsdecode leaves them.
        none_of_these: Whether no label reaches the cut; None where the model has no learned bias:
            then its scores are relative, and whether any label fits cannot be said.
        labels: Every label with its scores, best first.
    """

    path: str
    none_of_these: bool | None
    labels: tuple[LabelScore, ...]


def classify_pictures(
    pictures: Sequence[str | os.PathLike[str]],
    labels: Sequence[str],
    *,
    model: str | ModelSpec,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    min_probability: float | None = None,
    limits: DecodeLimits | None = None,
    jobs: int = 1,
    device: Device = "cpu",
) -> Generator[ClassifiedPicture | Failure, None, None]:
    """Say of each picture which labels fit it; several may, or none. No library is needed.

    What is wrong with the arguments is raised by the call itself, before any picture is read.
    Then pictures are decoded and embedded as they are asked for, a few ahead; to end early, close
    the generator.

    Args:
        pictures: Picture files. One that cannot be read yields a Failure and stops nothing.
        labels: Words, each said once; case makes no difference.
        model: An installed model, or its name.
        templates: Ways of saying a label, each with {} where it goes. A label is the direction of
            the mean of their embeddings.
        min_probability: The cut below which a label does not match, in [0, 1]; the model's own
            when None.
        limits: What one picture may cost.
        jobs: Pictures worked on at the same time, >= 1.
        device: Where both towers run.

    Yields:
        For each picture, in order, its labels or why it could not be read.

    Raises:
        QueryError: A label holds no words or is said twice, a template has no {}, or the cut is
            no probability or meaningless for this model.
        PathError: A folder stands among the pictures.
        NoModelError, UnknownModelError: The model is not installed.
        ModelError, DeviceError, WorkerError: A tower, or the decoding processes, fail.

    Example:
        >>> from siglip_search.engine.classification import classify_pictures
        >>> for answer in classify_pictures(["a.jpg"], ["dog", "cat"], model="demo"):
        ...     print(answer)  # doctest: +SKIP
    """
    labels, templates = check_labels(labels), check_templates(templates)
    paths = [_picture_path(picture) for picture in pictures]
    spec = model_called(model) if isinstance(model, str) else model
    cut = _cut(spec, min_probability)
    prototypes = label_prototypes(labels, templates, spec, threads=jobs, device=device)
    vectors = picture_vectors(
        paths, spec, limits=limits or DecodeLimits(), jobs=jobs, device=device
    )
    return _classify(paths, vectors, labels, prototypes, spec, cut)


def label_prototypes(
    labels: Sequence[str],
    templates: Sequence[str],
    spec: ModelSpec,
    *,
    threads: int | None = None,
    device: Device = "cpu",
) -> NDArray[np.float32]:
    """Return one unit vector a label, shape (labels, dimension).

    The text tower is closed again: beside the picture tower it would only take up memory.

    Args:
        labels: Words.
        templates: Ways of saying them, each with {} in it.
        spec: The model.
        threads: Threads of the text tower; None for every processor.
        device: Where it runs.

    Raises:
        ModelError, DeviceError: The tower cannot be opened or fails.
    """
    from siglip_search.towers.text import TextTower

    vectors = TextTower(spec, threads=threads, device=device).embed(prompts_for(labels, templates))
    return prototypes_of(vectors, labels=len(labels))


def _classify(
    paths: Sequence[bytes],
    vectors: Generator[NDArray[np.float32] | Failure, None, None],
    labels: Sequence[str],
    prototypes: NDArray[np.float32],
    spec: ModelSpec,
    cut: float,
) -> Generator[ClassifiedPicture | Failure, None, None]:
    with closing(vectors):
        for path, vector in zip(paths, vectors, strict=True):
            if isinstance(vector, Failure):
                yield vector
                continue
            scores = score_labels(
                vector,
                prototypes,
                labels,
                logit_scale=spec.score.logit_scale,
                logit_bias=spec.score.logit_bias,
                min_probability=cut,
            )
            # The best label has the greatest probability: if it does not match, none does.
            none_of_these = None if scores[0].matches is None else not scores[0].matches
            yield ClassifiedPicture(os.fsdecode(path), none_of_these, scores)


def _picture_path(picture: str | os.PathLike[str]) -> bytes:
    path = absolute_path(picture)
    if path.is_dir():
        raise PathError(
            f"{path} is a folder", hint=f"Name the pictures in it: {path / '*.jpg'}, say."
        )
    return bytes(path)


def _cut(spec: ModelSpec, min_probability: float | None) -> float:
    if min_probability is None:
        return spec.score.min_probability
    if not 0.0 <= min_probability <= 1.0:
        raise QueryError(
            f"{min_probability} is no probability", hint="Choose a number from 0 to 1."
        )
    if spec.score.logit_bias is None:
        raise QueryError(
            f"the model {spec.name!r} states no probabilities, so none can be asked for",
            hint="Leave the smallest probability out; the scores are relative, best first.",
        )
    return min_probability
