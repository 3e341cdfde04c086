"""One model, one set: embed it and return the figures."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from retrieval.captions import InputError
from retrieval.figures import (
    Share,
    class_ranks,
    picture_to_text_ranks,
    share_within,
    text_to_picture_ranks,
)
from siglip_search.engine.classification import label_prototypes
from siglip_search.engine.picture_vectors import picture_vectors
from siglip_search.ingest.report import Failure
from siglip_search.photos.decode import DecodeLimits
from siglip_search.search.classify import check_labels, check_templates
from siglip_search.towers.text import TextTower

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from retrieval.captions import CaptionSet
    from retrieval.labelled import LabelledSet
    from siglip_search.models.spec import ModelSpec

RECALL_AT = (1, 5, 10)
ACCURACY_AT = (1, 5)

TEXTS_AT_ONCE = 256


@dataclass
class Measurement:
    """What came out.

    Attributes:
        shares: Each figure by its name, "text to image R@1", say.
        pictures: How many were embedded.
        texts: How many captions, or classes, they were compared with.
        failures: Pictures that were left out: path and reason.
        picture_seconds: For decoding and embedding the pictures.
        text_seconds: For embedding the texts.
    """

    shares: dict[str, Share]
    pictures: int
    texts: int
    picture_seconds: float
    text_seconds: float
    failures: list[tuple[str, str]] = field(default_factory=list)


def measure_captions(
    spec: ModelSpec,
    folder: Path,
    captions: CaptionSet,
    *,
    jobs: int,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Measurement:
    """Return recall both ways. A picture that cannot be read goes out together with its captions.

    Args:
        spec: The model.
        folder: Of the pictures.
        captions: Which pictures, and what was said of each.
        jobs: Pictures worked on at the same time.
        on_progress: Called with what is being embedded, how many are done, and of how many.

    Raises:
        InputError: No picture can be read.
        ModelError, WorkerError: A tower, or the decoding processes, fail.
    """
    paths = [_existing(folder, picture.files) for picture in captions.pictures]
    pictures, kept, failures, picture_seconds = _embed_pictures(spec, paths, jobs, on_progress)
    said = [captions.pictures[number].captions for number in kept]
    picture_of = np.repeat(np.arange(len(kept)), [len(texts) for texts in said])
    texts, text_seconds = _embed_texts(spec, [text for all_ in said for text in all_], on_progress)
    directions = {
        "text to image": text_to_picture_ranks(texts, pictures, picture_of),
        "image to text": picture_to_text_ranks(pictures, texts, picture_of),
    }
    shares = {
        f"{name} R@{k}": share_within(ranks, k)
        for name, ranks in directions.items()
        for k in RECALL_AT
    }
    return Measurement(shares, len(pictures), len(texts), picture_seconds, text_seconds, failures)


def measure_classes(
    spec: ModelSpec,
    labelled: LabelledSet,
    *,
    templates: Sequence[str],
    limit: int | None = None,
    jobs: int,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Measurement:
    """Return zero-shot accuracy: how often the picture's class has the greatest cosine.

    Args:
        spec: The model.
        labelled: Pictures and classes.
        templates: Ways of saying a class, whose mean it is.
        limit: Take only so many pictures, of each class in turn.
        jobs: Pictures worked on at the same time.
        on_progress: As in `measure_captions`.

    Raises:
        QueryError: A class is called as another, or a template has no place for it.
        InputError, ModelError, WorkerError: As in `measure_captions`.
    """
    classes = check_labels(labelled.classes, origins=[f"class {c!r}" for c in labelled.classes])
    check_templates(templates)
    pictures, kept, failures, picture_seconds = _embed_pictures(
        spec, labelled.paths[:limit], jobs, on_progress
    )
    started = time.perf_counter()
    prototypes = label_prototypes(classes, templates, spec)
    text_seconds = time.perf_counter() - started
    ranks = class_ranks(pictures, prototypes, np.array(labelled.class_of)[kept])
    # With five classes or fewer every answer is among the first five.
    shares = {f"top {k}": share_within(ranks, k) for k in ACCURACY_AT if k < len(classes)}
    return Measurement(
        {f"zero-shot {name}": share for name, share in shares.items()},
        len(pictures),
        len(classes),
        picture_seconds,
        text_seconds,
        failures,
    )


def _embed_pictures(
    spec: ModelSpec,
    paths: Sequence[bytes],
    jobs: int,
    on_progress: Callable[[str, int, int], None],
) -> tuple[NDArray[np.float32], list[int], list[tuple[str, str]], float]:
    """Return vectors, the positions of the paths that have one, failures, and seconds."""
    started = time.perf_counter()
    vectors, kept, failures = [], [], []
    outcomes = picture_vectors(paths, spec, limits=DecodeLimits(), jobs=jobs)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Failure):
            failures.append((os.fsdecode(outcome.path), outcome.reason))
        else:
            vectors.append(outcome)
            kept.append(number)
        on_progress("pictures", number + 1, len(paths))
    if not vectors:
        first = f"{failures[0][0]}: {failures[0][1]}" if failures else ""
        raise InputError(f"none of {len(paths)} pictures can be read", hint=f"The first is {first}")
    return np.array(vectors), kept, failures, time.perf_counter() - started


def _embed_texts(
    spec: ModelSpec, texts: Sequence[str], on_progress: Callable[[str, int, int], None]
) -> tuple[NDArray[np.float32], float]:
    started = time.perf_counter()
    tower = TextTower(spec)
    # Each wording once: the same words must tie with themselves to the last bit.
    rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    wordings = list(rows)
    vectors = []
    for start in range(0, len(wordings), TEXTS_AT_ONCE):
        vectors.append(tower.embed(wordings[start : start + TEXTS_AT_ONCE]))
        on_progress("captions", min(start + TEXTS_AT_ONCE, len(wordings)), len(wordings))
    table = np.concatenate(vectors)
    return table[[rows[text] for text in texts]], time.perf_counter() - started


def _existing(folder: Path, files: Sequence[str]) -> bytes:
    paths = [os.path.abspath(os.fsencode(folder / file)) for file in files]
    return next((path for path in paths if os.path.exists(path)), paths[0])
