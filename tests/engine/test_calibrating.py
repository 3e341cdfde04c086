"""A session with a simulated user, who knows what the drawings show."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from siglip_index import open_store
from siglip_search import demo, open_library
from siglip_search.engine.calibrating import (
    NEEDED_PAIRS,
    calibration_state,
    forget_calibrations,
    judged_pairs,
    keep_calibration,
    kept_worth,
    state_of,
)
from siglip_search.engine.calibration_session import (
    MOST_OF_A_QUERY,
    QUERIES,
    CalibrationSession,
    session_queries,
)
from siglip_search.engine.calibrations import calibration_for
from siglip_search.engine.chosen_model import model_called
from siglip_search.engine.judgements import forget_judgements, keep, kept_judgements
from siglip_search.models.spec import ScoreSpec
from siglip_search.search.background import background_of
from siglip_search.search.calibration_quality import calibration_error, tally
from siglip_search.search.scoring import match_probability
from siglip_search.towers.text import TextTower

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siglip_index.local_store import LocalStore
    from siglip_search.engine.calibration_session import Question
    from siglip_search.engine.judgements import Judgement
    from siglip_search.models.spec import ModelSpec

GALLERY = demo.gallery_directory()
TRUTH: dict[str, Any] = json.loads((GALLERY / "gallery.json").read_text(encoding="utf-8"))
SHOWN = {
    facts["file"]: {facts["thing"], *(one["thing"] for one in facts["others"])}
    for facts in TRUTH["pictures"]
}
SPEC = model_called("demo")
THINGS = sorted({*TRUTH["things"], *TRUTH["absent_things"]})
# Half of the things are asked about in the session, the other half judges the fit.
ASKED, OTHERS = THINGS[::2], THINGS[1::2]
# Five logits too timid, as models of real photographs are.
TIMID = replace(
    SPEC, score=ScoreSpec(SPEC.score.logit_scale, (SPEC.score.logit_bias or 0.0) - 5.0, 0.0)
)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the gallery: read only."""
    directory = tmp_path_factory.mktemp("indexed") / "library"
    with open_library(directory, model="demo") as library:
        library.index([GALLERY])
    return directory


@pytest.fixture
def store(indexed: Path, tmp_path: Path) -> Iterator[LocalStore]:
    shutil.copytree(indexed, tmp_path / "library")
    with open_store(tmp_path / "library", writable=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return TextTower(SPEC, threads=1)


def shows(path: str, query: str) -> bool:
    """Tell what a person would say."""
    return query in SHOWN[Path(path).relative_to(GALLERY).as_posix()]


def answers(session: CalibrationSession, number: int) -> list[tuple[Question, Judgement]]:
    """Let the simulated user answer so many questions."""
    given = []
    for _ in range(number):
        question = session.next_question()
        if question is None:
            break
        path = session.path(question)
        assert path is not None
        matches = shows(path, question.query)
        given.append((question, session.answer(question, matches=matches)))
    return given


def open_session(
    store: LocalStore, tower: TextTower, *, spec: ModelSpec = TIMID, queries: list[str] = ASKED
) -> CalibrationSession:
    return CalibrationSession(store, spec, queries, kept_judgements(store), tower.embed)


def remember(store: LocalStore, judgements: list[Judgement]) -> None:
    with store.write() as writer:
        keep(writer, judgements)


def test_eighty_answers_make_a_timid_model_say_what_is_true(
    store: LocalStore, tower: TextTower
) -> None:
    given = answers(open_session(store, tower), 80)
    remember(store, [judgement for _, judgement in given])
    state = state_of(store, TIMID, tower.embed)
    assert (state.pairs, state.missing) == (80, None)
    assert state.calibration is not None
    assert state.worth is not None
    assert state.calibration.origin == "yours"
    assert state.worth.low <= state.worth.error <= state.worth.high

    ids, vectors = next(store.iter_vectors(SPEC.space_key))
    paths = [os.fsdecode(photo.paths[0]) for photo in store.photos(ids.tolist())]
    raw, stated, right = [], [], []
    score = TIMID.score
    assert score.logit_bias is not None
    for query, text in zip(OTHERS, tower.embed(OTHERS), strict=True):
        cosines = vectors @ text
        stated += state.calibration.probabilities(cosines, background_of(text, vectors)).tolist()
        raw += [
            match_probability(
                float(cosine), logit_scale=score.logit_scale, logit_bias=score.logit_bias
            )
            for cosine in cosines
        ]
        right += [shows(path, query) for path in paths]
    likely = np.array(stated) >= 0.05
    truth = np.array(right)

    def error(said: list[float]) -> float:
        return calibration_error(tally(np.array(said)[likely], truth[likely]))

    assert error(raw) > 0.3  # it refuses nearly everything
    assert error(stated) < 0.1


def test_nothing_is_asked_twice_nor_one_query_without_end(
    store: LocalStore, tower: TextTower
) -> None:
    given = answers(open_session(store, tower), 60)
    asked = [question for question, _ in given]
    assert len(set(asked)) == len(asked) == 60
    counts = [sum(one.query == query for one in asked) for query in ASKED]
    assert max(counts) <= MOST_OF_A_QUERY
    remember(store, [judgement for _, judgement in given[:30]])
    resumed = [question for question, _ in answers(open_session(store, tower), 30)]
    assert not set(resumed) & set(asked[:30])


def test_a_question_that_was_passed_over_comes_no_more(store: LocalStore, tower: TextTower) -> None:
    session = open_session(store, tower, queries=["dog"])
    seen = []
    while (question := session.next_question()) is not None:
        seen.append(question)
        session.pass_over(question)
    assert len(set(seen)) == len(seen) == 10


def test_the_first_questions_are_about_best_pictures(store: LocalStore, tower: TextTower) -> None:
    question = open_session(store, tower).next_question()
    assert question is not None
    ((nearest,),) = store.nearest(SPEC.space_key, tower.embed([question.query]), 1)
    assert question.photo_id == nearest.photo_id


def test_a_later_answer_replaces_the_former(store: LocalStore, tower: TextTower) -> None:
    session = open_session(store, tower)
    question = session.next_question()
    assert question is not None
    remember(store, [session.answer(question, matches=True)])
    remember(store, [session.answer(question, matches=False)])
    (kept,) = kept_judgements(store)
    assert not kept.matches


def test_too_few_answers_are_kept_and_not_fitted(store: LocalStore, tower: TextTower) -> None:
    given = answers(open_session(store, tower), NEEDED_PAIRS - 1)
    remember(store, [judgement for _, judgement in given])
    state = state_of(store, TIMID, tower.embed)
    assert state.calibration is None
    assert state.missing == f"{NEEDED_PAIRS - 1} of {NEEDED_PAIRS} judgements are there"


def test_one_kind_of_answer_is_not_enough(store: LocalStore, tower: TextTower) -> None:
    session = open_session(store, tower)
    given = []
    while len(given) < NEEDED_PAIRS:
        question = session.next_question()
        assert question is not None
        given.append(session.answer(question, matches=False))
    judged = judged_pairs(store, TIMID, given, tower.embed)
    assert "say yes" in (calibration_state(judged, TIMID).missing or "")


def test_answers_that_contradict_the_scores_are_said_to(
    store: LocalStore, tower: TextTower
) -> None:
    given = [
        replace(judgement, matches=not judgement.matches)
        for _, judgement in answers(open_session(store, tower, spec=SPEC), 400)
    ]
    judged = judged_pairs(store, SPEC, given, tower.embed)
    state = calibration_state(judged, SPEC)
    assert state.calibration is None
    assert "nearer pictures match more rarely" in (state.missing or "")


def test_a_fit_is_kept_with_its_worth_and_can_be_forgotten(
    store: LocalStore, tower: TextTower
) -> None:
    remember(store, [judgement for _, judgement in answers(open_session(store, tower), 60)])
    state = state_of(store, SPEC, tower.embed)
    keep_calibration(store, SPEC, state)
    assert calibration_for(SPEC, store) == state.calibration
    assert kept_worth(store, SPEC) == state.worth
    assert forget_judgements(store) == 60
    forget_calibrations(store)
    assert kept_judgements(store) == []
    assert kept_worth(store, SPEC) is None
    shipped = calibration_for(SPEC, store)
    assert shipped is not None
    assert shipped.origin == "shipped"


def test_judgements_of_pictures_that_are_gone_do_not_count(
    store: LocalStore, tower: TextTower
) -> None:
    given = [judgement for _, judgement in answers(open_session(store, tower), 5)]
    lost = replace(given[0], content_hash=bytes(32))
    judged = judged_pairs(store, SPEC, [lost, *given[1:]], tower.embed)
    assert len(judged.pairs) == 4
    assert len(judged_pairs(store, SPEC, [lost], tower.embed).pairs) == 0


def test_sessions_ask_the_users_words_or_everyday_ones() -> None:
    assert session_queries(["our  dog ", "our dog", "the boat"]) == ["our dog", "the boat"]
    usual = session_queries()
    assert len(set(usual)) == len(usual) == QUERIES
    assert usual == session_queries()
