"""Fits a library's own calibration to what its user said, and tells what it is worth."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from siglip_search.engine.calibrations import RECORD_KIND, background_sample
from siglip_search.engine.judgements import kept_judgements
from siglip_search.search.background import background_of
from siglip_search.search.calibration_fit import (
    USUAL_CUT_SLOPE,
    LabelledPairs,
    UnfittableError,
    choose_cut,
    fit,
)
from siglip_search.search.calibration_quality import bootstrap_interval, calibration_error, tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_search.engine.judgements import Judgement
    from siglip_search.models.spec import ModelSpec
    from siglip_search.search.background import Background
    from siglip_search.search.calibration import Calibration

    EmbedTexts = Callable[[Sequence[str]], NDArray[np.float32]]

NEEDED_PAIRS: Final = 40
"""Fewer pairs leave the probabilities uncertain by more than people would put up with."""

NEEDED_OF_EACH: Final = 10
"""So many must match, and so many must not: one kind alone says nothing about the other."""

_FOLDS: Final = 10
# Enough for two digits of an interval; more would be seconds.
_ROUNDS: Final = 500


@dataclass(frozen=True, slots=True, eq=False)
class JudgedPairs:
    """The judgements of a library that can be used with a model.

    Attributes:
        pairs: Their scores.
        queries: Number of each pair's query, shape (n,).
        backgrounds: Of each query, by its number.
        best: Whether the picture is the best one of its query now, shape (n,).
        pictures: How many pictures there are to choose from.
    """

    pairs: LabelledPairs
    queries: NDArray[np.int64]
    backgrounds: tuple[Background, ...]
    best: NDArray[np.bool_]
    pictures: int


@dataclass(frozen=True, slots=True)
class Worth:
    """What a fit is worth: measured by fits that had not seen the query.

    Attributes:
        error: Expected calibration error over the judged pairs, in [0, 1].
        low: Lower end of its 95% interval, drawn over queries.
        high: Upper end.
        refused: How many queries with nothing to find the cut was chosen on.
    """

    error: float
    low: float
    high: float
    refused: int


@dataclass(frozen=True, slots=True)
class CalibrationState:
    """Where the calibration of a library stands.

    Attributes:
        pairs: How many judgements can be used with the model.
        matching: How many of them say that the picture matches.
        queries: How many queries they are about.
        calibration: The fit, None as long as there is none.
        worth: Of the fit.
        missing: Why there is no fit, as a clause; None where there is one.
    """

    pairs: int
    matching: int
    queries: int
    calibration: Calibration | None = None
    worth: Worth | None = None
    missing: str | None = None


def judged_pairs(
    store: Store, spec: ModelSpec, judgements: Sequence[Judgement], embed: EmbedTexts
) -> JudgedPairs:
    """Return the scores of what was judged; pictures without a vector now are left out.

    Args:
        store: The library.
        spec: The model of the space.
        judgements: What was said.
        embed: Makes unit vectors of texts, shape (n, dimension).
    """
    key = spec.space_key
    hashes = list({judgement.content_hash for judgement in judgements})
    known = {
        content_hash: photo_id
        for content_hash, (photo_id, has_vector) in store.photos_by_hash(key, hashes).items()
        if has_vector
    }
    used = [judgement for judgement in judgements if judgement.content_hash in known]
    if not used:
        nothing = np.empty(0)
        pairs = LabelledPairs(nothing, nothing, nothing, nothing.astype(bool))
        return JudgedPairs(pairs, nothing.astype(np.int64), (), nothing.astype(bool), 0)
    queries = list(dict.fromkeys(judgement.query for judgement in used))
    number_of = {query: number for number, query in enumerate(queries)}
    numbers = np.array([number_of[judgement.query] for judgement in used])
    photos = [known[judgement.content_hash] for judgement in used]
    texts = embed(queries)
    sample = background_sample(store, key)
    backgrounds = [background_of(text, sample) for text in texts]
    best = [found[0].photo_id if found else None for found in store.nearest(key, texts, 1)]
    vectors = store.vectors(key, photos).astype(np.float64)
    cosines = np.einsum("nd,nd->n", vectors, texts[numbers].astype(np.float64))
    return JudgedPairs(
        LabelledPairs(
            cosines,
            np.array([backgrounds[number].location for number in numbers]),
            np.array([backgrounds[number].spread for number in numbers]),
            np.array([judgement.matches for judgement in used]),
        ),
        numbers,
        tuple(backgrounds),
        np.array([photo == best[number] for photo, number in zip(photos, numbers, strict=True)]),
        store.photo_count(),
    )


def calibration_state(judged: JudgedPairs, spec: ModelSpec) -> CalibrationState:
    """Fit a calibration if there are enough judgements, and measure what it is worth.

    Args:
        judged: All usable judgements.
        spec: The model.
    """
    pairs = judged.pairs
    matching = int(pairs.matches.sum())
    state = CalibrationState(len(pairs), matching, len(np.unique(judged.queries)))
    if missing := _missing(len(pairs), matching):
        return replace(state, missing=missing)
    try:
        stated = _stated_by_others(judged, spec)
        # Nothing nearer matches either: such a query has nothing to find.
        refused = stated[judged.best & ~pairs.matches]
        cut, rate = choose_cut(refused)
        fitted = _fit(pairs, spec)
        calibration = replace(
            fitted,
            cut=cut,
            false_positive_rate=rate,
            pictures=judged.pictures,
            cut_slope=USUAL_CUT_SLOPE,
            measured_up_to=judged.pictures,
        )
    except UnfittableError as error:
        return replace(state, missing=f"the judgements cannot be fitted: {error}")

    def error_of(rows: NDArray[np.int64]) -> float:
        return calibration_error(tally(stated[rows], pairs.matches[rows]))

    low, high = bootstrap_interval(error_of, judged.queries, rounds=_ROUNDS)
    worth = Worth(error_of(np.arange(len(pairs))), low, high, len(refused))
    return replace(state, calibration=calibration, worth=worth)


def state_of(store: Store, spec: ModelSpec, embed: EmbedTexts) -> CalibrationState:
    """Return where the calibration of a library with a model stands, fitted anew."""
    return calibration_state(judged_pairs(store, spec, kept_judgements(store), embed), spec)


def keep_calibration(store: Store, spec: ModelSpec, state: CalibrationState) -> None:
    """Use a fit for a library's queries from now on; one that is missing takes the former away.

    Args:
        store: The library, opened for writing.
        spec: The model that it holds for.
        state: The fit, and what it is worth.
    """
    value = None
    if state.calibration is not None:
        worth = state.worth and asdict(state.worth)
        value = json.dumps({**json.loads(state.calibration.to_json()), "worth": worth})
    with store.write() as writer:
        writer.put_record(RECORD_KIND, spec.space_key, value)


def kept_worth(store: Store, spec: ModelSpec) -> Worth | None:
    """Return what the library's own calibration was worth when it was fitted, None without one."""
    value = store.records(RECORD_KIND).get(spec.space_key)
    worth = None if value is None else json.loads(value).get("worth")
    return None if worth is None else Worth(**worth)


def forget_calibrations(store: Store) -> None:
    """Use no own calibration any more, whatever the model."""
    keys = list(store.records(RECORD_KIND))
    with store.write() as writer:
        for key in keys:
            writer.put_record(RECORD_KIND, key, None)


def _missing(pairs: int, matching: int) -> str | None:
    if pairs < NEEDED_PAIRS:
        return f"{pairs} of {NEEDED_PAIRS} judgements are there"
    if matching < NEEDED_OF_EACH:
        return f"{matching} of {NEEDED_OF_EACH} judgements that say yes are there"
    if pairs - matching < NEEDED_OF_EACH:
        return f"{pairs - matching} of {NEEDED_OF_EACH} judgements that say no are there"
    return None


def _stated_by_others(judged: JudgedPairs, spec: ModelSpec) -> NDArray[np.float64]:
    """Return for each pair what a fit says that was made without its query, shape (n,)."""
    pairs = judged.pairs
    stated = np.empty(len(pairs))
    for fold in range(min(_FOLDS, len(judged.backgrounds))):
        calibration = _fit(pairs.part(judged.queries % _FOLDS != fold), spec)
        for query in range(fold, len(judged.backgrounds), _FOLDS):
            asked = judged.queries == query
            background = judged.backgrounds[query]
            stated[asked] = calibration.probabilities(pairs.cosines[asked], background)
    return stated


def _fit(pairs: LabelledPairs, spec: ModelSpec) -> Calibration:
    score = spec.score
    return fit(pairs, logit_scale=score.logit_scale, logit_bias=score.logit_bias, origin="yours")
