"""Asks a user's own pictures whose truth is known: a folder of classes, or a file of labels."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
from retrieval.captions import InputError
from retrieval.labelled import read_labelled

from no_match.asked import AskedQuery
from siglip_search.engine.judgements import read_labels
from siglip_search.engine.picture_vectors import picture_vectors
from siglip_search.ingest.report import Failure
from siglip_search.photos.decode import DecodeLimits
from siglip_search.search.background import background_from
from siglip_search.towers.text import TextTower

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec

UNKNOWN, WRONG, RIGHT = -1, 0, 1


def ask_classes(folder: Path, spec: ModelSpec, *, jobs: int) -> tuple[list[AskedQuery], list[str]]:
    """Ask for every class of a folder of folders, with and without its pictures.

    Returns:
        The queries, and the pictures that could not be read.

    Raises:
        InputError: There are fewer than two classes.
    """
    known = read_labelled(folder)
    vectors, failed = _embed(known.paths, spec, jobs=jobs)
    truth = np.array(
        [[number == c for c in range(len(known.classes))] for number in known.class_of]
    )
    return _ask(known.classes, truth[list(vectors)].astype(int), vectors, spec), failed


def ask_labels(file: Path, spec: ModelSpec, *, jobs: int) -> tuple[list[AskedQuery], list[str]]:
    """Ask every query of a labels file of all pictures in it, with and without those that match.

    Returns:
        The queries, and the pictures that could not be read.

    Raises:
        PathError: The file cannot be read, or a line of it cannot be understood.
    """
    labels = read_labels(file)
    queries = tuple(dict.fromkeys(label.query for label in labels))
    paths = tuple(dict.fromkeys(os.fsencode(label.path) for label in labels))
    truth = np.full((len(paths), len(queries)), UNKNOWN)
    row_of = {path: row for row, path in enumerate(paths)}
    column_of = {query: column for column, query in enumerate(queries)}
    for label in labels:
        row, column = row_of[os.fsencode(label.path)], column_of[label.query]
        truth[row, column] = RIGHT if label.matches else WRONG
    vectors, failed = _embed(paths, spec, jobs=jobs)
    return _ask(queries, truth[list(vectors)], vectors, spec), failed


def _embed(
    paths: Sequence[bytes], spec: ModelSpec, *, jobs: int
) -> tuple[dict[int, NDArray[np.float32]], list[str]]:
    """Return the vectors of the pictures that can be read, by their number, and the others."""
    vectors: dict[int, NDArray[np.float32]] = {}
    failed = []
    with closing(picture_vectors(paths, spec, limits=DecodeLimits(), jobs=jobs)) as made:
        for number, vector in enumerate(made):
            if isinstance(vector, Failure):
                failed.append(f"{os.fsdecode(vector.path)}: {vector.reason}")
            else:
                vectors[number] = vector
    if not vectors:
        raise InputError("none of the pictures can be read")
    return vectors, failed


def _ask(
    queries: Sequence[str],
    truth: NDArray[np.int_],
    vectors: dict[int, NDArray[np.float32]],
    spec: ModelSpec,
) -> list[AskedQuery]:
    texts = TextTower(spec).embed(list(queries))
    cosines = np.stack(list(vectors.values())).astype(np.float64) @ texts.T.astype(np.float64)
    asked = []
    for column in range(len(queries)):
        right = truth[:, column] == RIGHT
        for kind, rows in (("present", np.full(len(right), right.any())), ("absent", ~right)):
            # What nobody judged may match: without it, whether a query is answered is certain.
            rows = rows & (truth[:, column] != UNKNOWN)
            if rows.any():
                chosen = cosines[rows, column]
                clear = np.full(len(chosen), fill_value=True)
                # Judged or not, the other pictures are what the query is held against.
                rest = cosines[~right if kind == "absent" else slice(None), column]
                background = background_from(rest)
                asked.append(AskedQuery(kind, column, chosen, right[rows], clear, background))
    return asked
