"""A cut chosen in a small collection keeps its promise in a library many times as large."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stored_samples import ROOT, SPACE, file_entry, new_photo, unit_vectors

from siglip_index import open_store
from siglip_search.search.background import background_of
from siglip_search.search.calibration import Calibration
from siglip_search.search.calibration_fit import USUAL_CUT_SLOPE, choose_cut
from siglip_search.search.candidates import Searched
from siglip_search.search.query import Vectors, find
from siglip_search.search.question import Question
from siglip_search.search.text_scores import Scale

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from siglip_index.protocol import Store

FEW, MANY = 60, 3000
PICTURES = unit_vectors(MANY, seed=61)
# No picture was made for any of them, so that nothing is there whatever comes nearest.
ABSENT = unit_vectors(200, seed=62)
CALIBRATION = Calibration(
    cosine_weight=15.0,
    standing_weight=1.0,
    offset=-10.0,
    plain_weight=16.0,
    plain_offset=-10.0,
    locations=(-0.5, 0.5),
    spreads=(0.05, 0.5),
    cut=0.5,
    false_positive_rate=0.05,
    pairs=100,
    origin="yours",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A library of many pictures."""
    with open_store(tmp_path_factory.mktemp("library"), writable=True) as store:
        with store.write() as writer:
            writer.ensure_space(SPACE)
            root_id = writer.ensure_root(ROOT, 42).id
            for number, vector in enumerate(PICTURES):
                photo_id = writer.add_photo(SPACE.key, new_photo(number, vector))
                writer.link_files(photo_id, [file_entry(root_id, b"%d.jpg" % number, number)])
        yield store


def fitted_among_few() -> Calibration:
    """The calibration with its cut chosen on what the first few pictures answer."""
    sample = PICTURES[:FEW]
    best = [
        CALIBRATION.probabilities(sample @ query, background_of(query, sample)).max()
        for query in unit_vectors(400, seed=63)
    ]
    cut, rate = choose_cut(np.array(best))
    assert rate == 0.05
    return replace(CALIBRATION, cut=cut, pictures=FEW, cut_slope=USUAL_CUT_SLOPE)


def answered(
    store: Store, queries: NDArray[np.float32], calibration: Calibration, pictures: int
) -> float:
    """Return the share of queries that get an answer, as `query` asks them."""
    sample = store.vectors(SPACE.key, store.sample_ids(SPACE.key, 256).tolist())
    scale = Scale(15.0, -10.0, 0.5, calibration, sample, pictures)
    searched = Searched(store, SPACE, None)
    question = Question("something")
    return float(
        np.mean(
            [
                bool(find(question, Vectors({"something": q}), searched=searched, scale=scale).hits)
                for q in queries
            ]
        )
    )


def test_what_is_not_there_stays_unanswered_in_a_larger_library(store: Store) -> None:
    calibration = fitted_among_few()
    assert store.photo_count() == MANY
    # The cut of the small collection would answer nearly everything here.
    assert answered(store, ABSENT, calibration, FEW) > 0.5
    assert answered(store, ABSENT, calibration, store.photo_count()) <= 0.05


def test_what_is_there_is_found_in_a_larger_library(store: Store) -> None:
    assert answered(store, PICTURES[:50], fitted_among_few(), store.photo_count()) == 1
