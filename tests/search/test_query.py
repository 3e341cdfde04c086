"""Answers compared with a model in plain Python, which scores every picture of the library."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_samples import ROOT, SPACE, file_entry, new_photo, unit_vectors

from siglip_index import open_store
from siglip_index.records import Where
from siglip_search.errors import QueryError
from siglip_search.search.arithmetic import direction_of
from siglip_search.search.background import background_of
from siglip_search.search.calibration import Calibration
from siglip_search.search.candidates import Searched
from siglip_search.search.query import Vectors, find
from siglip_search.search.question import SORTS, Question
from siglip_search.search.scoring import match_probability
from siglip_search.search.text_scores import Scale

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from siglip_index.protocol import Store
    from siglip_search.search.ranking import Answer

PICTURES = 90
DIRECTIONS = 40
TEXTS = ("dog", "cat", "sea", "snow", "red")
VECTORS = dict(zip(TEXTS, unit_vectors(len(TEXTS), seed=99), strict=True))
OTHER_PICTURE = unit_vectors(1, seed=98)[0]

CALIBRATION = Calibration(
    cosine_weight=2.0,
    standing_weight=1.5,
    offset=-2.0,
    plain_weight=8.0,
    plain_offset=-2.0,
    locations=(-0.5, 0.5),
    spreads=(0.05, 0.5),
    cut=0.3,
    false_positive_rate=0.05,
    pairs=100,
    origin="shipped",
)
RAW = Scale(logit_scale=8.0, logit_bias=-1.0, min_probability=0.4)
SCALES = {
    "raw": RAW,
    "calibrated": RAW._replace(calibration=CALIBRATION, sample=unit_vectors(50, seed=97)),
    "without bias": RAW._replace(logit_bias=None),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A library in which pictures share vectors, so that many scores are equal."""
    with open_store(tmp_path_factory.mktemp("library"), writable=True) as store:
        vectors = unit_vectors(DIRECTIONS)
        with store.write() as writer:
            writer.ensure_space(SPACE)
            root_id = writer.ensure_root(ROOT, 42).id
            for number in range(PICTURES):
                facts = {
                    "format": "PNG" if number % 3 else "JPEG",
                    "taken_at": f"20{number % 7:02}-05-04T13:14:15" if number % 5 else None,
                }
                photo = new_photo(number, vectors[number % DIRECTIONS], **facts)
                name = f"{'Ab'[number % 2]}{number % 11}/{'xY'[number % 2]}{number * 7 % 50}.jpg"
                photo_id = writer.add_photo(SPACE.key, photo)
                writer.link_files(photo_id, [file_entry(root_id, name.encode(), number)])
        # Gone and back again: the index in memory has them in another order than by number.
        files = [file for file in store.files(root_id) if (file.photo_id or 0) % 2]
        store.nearest(SPACE.key, vectors[:1], 1)
        with store.write() as writer:
            writer.mark_vanished([file.id for file in files])
        store.nearest(SPACE.key, vectors[:1], 1)
        with store.write() as writer:
            writer.refresh_files([(file.id, file.fingerprint, 42) for file in files])
        yield store


class Model:
    """Scores every picture by the definitions, one at a time."""

    def __init__(self, store: Store, scale: Scale, where: Where | None = None) -> None:
        self.store = store
        self.scale = scale
        self.where = where

    def cosines(self, vector: NDArray[np.float32]) -> dict[int, float]:
        found = self.store.matches(SPACE.key, vector, -2.0, self.where)
        return {near.photo_id: near.cosine for near in found}

    def scores(self, vector: NDArray[np.float32]) -> dict[int, tuple[float, float, float]]:
        """Return calibrated probability, the model's own and cosine; 0 where there is none."""
        scale, found = self.scale, {}
        for photo_id, cosine in self.cosines(vector).items():
            own = calibrated = 0.0
            if scale.logit_bias is not None:
                own = match_probability(
                    cosine, logit_scale=scale.logit_scale, logit_bias=scale.logit_bias
                )
            if scale.calibration is not None:
                assert scale.sample is not None
                background = background_of(vector, scale.sample)
                calibrated = scale.calibration.probability(cosine, background)
            found[photo_id] = calibrated, own, cosine
        return found

    def usual_cut(self) -> tuple[float, float, float]:
        if self.scale.calibration is not None:
            return self.scale.calibration.cut, 0.0, -2.0
        if self.scale.logit_bias is not None:
            return 0.0, self.scale.min_probability, -2.0
        return 0.0, 0.0, -2.0

    def cut(self, question: Question) -> tuple[float, float, float]:
        given = (question.min_calibrated, question.min_probability, question.min_similarity)
        if given == (None, None, None):
            return self.usual_cut() if question.has_chance else (0.0, 0.0, -2.0)
        return given[0] or 0.0, given[1] or 0.0, -2.0 if given[2] is None else given[2]

    def condition_cut(self, question: Question) -> tuple[float, float, float]:
        calibrated, own = question.min_calibrated or 0.0, question.min_probability or 0.0
        return (calibrated, own, -2.0) if calibrated or own else self.usual_cut()

    def answer(self, question: Question) -> list[int]:
        """Return all photo ids that answer, in order, pages left aside."""
        terms = [(VECTORS[question.words], 1.0)] if question.words else []
        terms += [(OTHER_PICTURE, 1.0)] if question.has_picture else []
        terms += [(VECTORS[text], weight) for text, weight in question.plus]
        terms += [(VECTORS[text], -weight) for text, weight in question.minus]
        required = [VECTORS[text] for text in question.all_of]
        if question.words and not question.has_picture:
            required.append(VECTORS[question.words])
        any_of = [VECTORS[text] for text in question.any_of]
        direction = None
        if not question.has_chance or question.plus or question.minus:
            direction = self.cosines(direction_of([v for v, _ in terms], [w for _, w in terms]))
        cut = self.condition_cut(question) if question.has_picture else self.cut(question)
        if direction is not None:
            cut = (*cut[:2], -2.0)

        every = {tuple(vector): self.scores(vector) for vector in [*required, *any_of]}

        def matches(vector: NDArray[np.float32], photo_id: int) -> bool:
            scores = every[tuple(vector)][photo_id]
            return all(score >= least for score, least in zip(scores, cut, strict=True))

        found: dict[int, tuple[float, float, float]] = {}
        for photo_id in self.cosines(OTHER_PICTURE):
            if not all(matches(vector, photo_id) for vector in required):
                continue
            columns = [every[tuple(vector)][photo_id] for vector in required]
            if any_of:
                choices = [
                    every[tuple(vector)][photo_id] for vector in any_of if matches(vector, photo_id)
                ]
                if not choices:
                    continue
                columns.append(tuple(map(max, zip(*choices, strict=True))))  # type: ignore[arg-type]
            if direction is None:
                found[photo_id] = tuple(map(min, zip(*columns, strict=True)))  # type: ignore[assignment]
            elif direction[photo_id] >= self.cut(question)[2]:
                found[photo_id] = 0.0, 0.0, direction[photo_id]
        for text in question.without:
            scores = self.scores(VECTORS[text])
            least = self.condition_cut(question)
            for photo_id in list(found):
                if all(s >= c for s, c in zip(scores[photo_id], least, strict=True)):
                    del found[photo_id]
        if question.sort == "score":
            return sorted(found, key=lambda i: (-found[i][0], -found[i][2], i))
        if question.sort == "date":
            moments = self.store.moments(list(found))
            return sorted(sorted(found), key=lambda photo_id: moments[photo_id], reverse=True)
        paths = {photo.id: photo.paths[0] for photo in self.store.photos(list(found))}
        return sorted(found, key=lambda i: (paths[i].rsplit(b"/", 1)[1].lower(), paths[i], i))


def asked(store: Store, question: Question, scale: Scale) -> Answer:
    pictures = [OTHER_PICTURE] if question.has_picture else []
    where = None if question.where.is_empty else question.where
    return find(
        question, Vectors(VECTORS, pictures), searched=Searched(store, SPACE, where), scale=scale
    )


TEXT = st.sampled_from(TEXTS)
SOME = st.lists(TEXT, max_size=3, unique=True).map(tuple)
WEIGHTED = st.lists(st.tuples(TEXT, st.sampled_from([0.5, 1.0, 3.0])), max_size=2).map(tuple)
CHANCE = st.none() | st.sampled_from([0.0, 0.05, 0.2, 0.4])


@st.composite
def questions(draw: st.DrawFn, scales: tuple[str, ...] = tuple(SCALES)) -> tuple[Question, str]:
    """Draw a question, and the name of a scale on which it has a meaning for the most part."""
    name = draw(st.sampled_from(scales))
    scale = SCALES[name]
    has_picture = draw(st.booleans())
    question = Question(
        words=draw(st.just("") | TEXT),
        like=("/other.jpg",) if has_picture else (),
        plus=draw(st.just(()) | WEIGHTED),
        minus=draw(st.just(()) | WEIGHTED),
        without=draw(st.just(()) | SOME),
        all_of=draw(st.just(()) | SOME),
        any_of=draw(st.just(()) | SOME),
        top_k=draw(st.sampled_from([1, 3, 10, 200])),
        offset=draw(st.sampled_from([0, 0, 0, 1, 5, 40])),
        min_similarity=draw(st.none() | st.sampled_from([-1.0, -0.2, 0.0, 0.3])),
        where=draw(st.just(Where()) | st.just(Where(formats=("PNG",)))),
    )
    if not question.has_score:
        question = replace(question, words="dog")
    cuts = {}
    if question.has_chance and scale.logit_bias is not None:
        cuts["min_probability"] = draw(CHANCE)
    if question.has_chance and scale.calibration is not None:
        cuts["min_calibrated"] = draw(CHANCE)
    question = replace(question, **cuts)
    if question.has_chance or question.min_similarity is not None:
        question = replace(question, sort=draw(st.sampled_from(SORTS)))
    return question, name


@settings(deadline=None)
@given(questions())
def test_every_answer_is_the_models(store: Store, drawn: tuple[Question, str]) -> None:
    question, scale = drawn[0], SCALES[drawn[1]]
    where = None if question.where.is_empty else question.where
    try:
        answer = asked(store, question, scale)
    except QueryError:
        return
    expected = Model(store, scale, where).answer(question)
    end = question.offset + question.top_k
    assert [hit.photo_id for hit in answer.hits] == expected[question.offset : end]
    assert answer.more == (len(expected) > end)
    beyond = bool(expected) and question.offset >= len(expected)
    assert answer.passed_over == (len(expected) if beyond else None)
    ranks = [hit.rank for hit in answer.hits]
    assert ranks == list(range(question.offset + 1, question.offset + 1 + len(ranks)))
    assert (answer.best_refused is not None) <= (not expected)


@settings(deadline=None)
@given(questions(), st.integers(1, 30))
def test_pages_joined_are_one_long_answer(
    store: Store, drawn: tuple[Question, str], page: int
) -> None:
    question, scale = drawn[0], SCALES[drawn[1]]
    try:
        whole = asked(store, replace(question, top_k=PICTURES, offset=0), scale)
    except QueryError:
        return
    joined: list[object] = []
    more = True
    while more:
        part = asked(store, replace(question, top_k=page, offset=len(joined)), scale)
        joined += part.hits
        more = part.more
    assert tuple(joined) == whole.hits


@settings(deadline=None)
@given(questions(), st.randoms(use_true_random=False))
def test_the_order_of_terms_makes_no_difference(
    store: Store, drawn: tuple[Question, str], shuffler: object
) -> None:
    question, scale_name = drawn
    shuffled = {}
    for name in ("plus", "minus", "without", "all_of", "any_of"):
        parts = list(getattr(question, name))
        shuffler.shuffle(parts)  # type: ignore[attr-defined]
        shuffled[name] = tuple(parts)
    try:
        answer = asked(store, question, SCALES[scale_name])
    except QueryError:
        return
    assert asked(store, replace(question, **shuffled), SCALES[scale_name]) == answer


@settings(deadline=None)
@given(questions(("raw", "calibrated")), TEXT)
def test_what_is_left_out_is_what_the_text_would_find(
    store: Store, drawn: tuple[Question, str], text: str
) -> None:
    question, scale = drawn[0], SCALES[drawn[1]]
    question = replace(question, top_k=PICTURES, offset=0, sort="score", without=())
    cuts = {"min_probability": question.min_probability, "min_calibrated": question.min_calibrated}
    if not any(cuts.values()):
        cuts = {}
    try:
        every = {hit.photo_id for hit in asked(store, question, scale).hits}
        left = {
            hit.photo_id for hit in asked(store, replace(question, without=(text,)), scale).hits
        }
    except QueryError:
        return
    found = Question(text, top_k=PICTURES, where=question.where, **cuts)  # type: ignore[arg-type]
    assert left == every - {hit.photo_id for hit in asked(store, found, scale).hits}


SHIFTS = st.lists(st.tuples(TEXT, st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=2)


@settings(deadline=None)
@given(questions(), SHIFTS.map(tuple), st.booleans())
def test_what_is_added_and_taken_away_shifts_the_order_and_nothing_else(
    store: Store, drawn: tuple[Question, str], terms: tuple[Any, ...], plus: bool
) -> None:
    question, scale = drawn[0], SCALES[drawn[1]]
    plain = replace(
        question, plus=(), minus=(), like=(), min_similarity=None, top_k=PICTURES, offset=0
    )
    if not plain.has_chance:
        plain = replace(plain, words="dog")
    shifted = replace(plain, **{"plus" if plus else "minus": terms})
    try:
        before, after = asked(store, plain, scale), asked(store, shifted, scale)
    except QueryError:
        return

    def chances(answer: Answer) -> dict[int, tuple[float | None, float | None]]:
        return {hit.photo_id: (hit.probability, hit.calibrated_probability) for hit in answer.hits}

    assert chances(after) == chances(before)
    same = ("best_refused", "calibration", "cut", "cut_on", "more")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    if shifted.sort == "score":
        order = [(-(hit.cosine or 0.0), hit.photo_id) for hit in after.hits]
        assert order == sorted(order)


def test_a_sum_without_words_has_similarities(store: Store) -> None:
    for terms in ({"plus": (("dog", 1.0), ("sea", 2.0))}, {"minus": (("red", 1.0),)}):
        answer = asked(store, Question(**terms), SCALES["calibrated"])  # type: ignore[arg-type]
        assert len(answer.hits) == 10
        assert {(hit.probability, hit.calibrated_probability) for hit in answer.hits} == {
            (None, None)
        }
        assert (answer.cut, answer.cut_on, answer.calibration) == (None, None, None)


def test_the_cut_that_refused_is_told(store: Store) -> None:
    question = Question("dog", min_probability=0.1, min_similarity=0.999)
    best = asked(store, Question("dog", min_similarity=-1.0, top_k=1), RAW).hits[0]
    for asking in (question, replace(question, all_of=("dog",))):
        answer = asked(store, asking, RAW)
        assert (answer.cut, answer.cut_on) == (0.999, "similarity")
        assert answer.best_refused == best.cosine
    shifted = asked(store, replace(question, plus=(("sea", 1.0),)), RAW)
    assert (shifted.cut, shifted.cut_on) == (0.999, "similarity")
    assert shifted.best_refused is not None
    nothing = asked(store, replace(question, min_probability=1.0, plus=(("sea", 1.0),)), RAW)
    assert (nothing.cut, nothing.cut_on) == (1.0, "probability")
    assert nothing.best_refused == best.probability


@pytest.mark.parametrize(
    "question",
    [
        Question("dog"),
        Question("dog", plus=(("sea", 1.0),)),
        Question(all_of=("dog", "cat")),
        Question(like=("/a.jpg",)),
        Question(like=("/a.jpg",), any_of=("dog",)),
        Question(),
        Question(without=("dog",)),
    ],
)
def test_a_filter_that_leaves_nothing_is_told_from_a_cut(store: Store, question: Question) -> None:
    nowhere = asked(store, replace(question, where=Where(formats=("GIF",))), RAW)
    assert (nowhere.hits, nowhere.best_refused, nowhere.is_filtered_out) == ((), None, True)
    jpegs = replace(question, where=Where(formats=("JPEG",)))
    assert not asked(store, jpegs, RAW).is_filtered_out
    beyond = asked(store, replace(jpegs, offset=PICTURES), RAW)
    assert (beyond.hits, beyond.more, beyond.is_filtered_out) == ((), False, False)
    assert beyond.passed_over == len(asked(store, replace(jpegs, top_k=PICTURES), RAW).hits) > 0
    everywhere = asked(store, replace(question, words="dog", min_similarity=1.0), RAW)
    assert not everywhere.is_filtered_out


def test_scores_are_those_of_the_definition(store: Store) -> None:
    scale = SCALES["calibrated"]
    scores = {text: Model(store, scale).scores(VECTORS[text]) for text in ("dog", "cat")}
    for question, choose in (
        (Question(all_of=("dog", "cat"), min_similarity=-1.0, top_k=99), min),
        (Question(any_of=("dog", "cat"), min_similarity=-1.0, top_k=99), max),
        (Question("dog", all_of=("cat",), min_similarity=-1.0, top_k=99), min),
    ):
        answer = asked(store, question, scale)
        assert len(answer.hits) == PICTURES
        for hit in answer.hits:
            both = [scores[text][hit.photo_id] for text in ("dog", "cat")]
            calibrated, own, cosine = (choose(pair) for pair in zip(*both, strict=True))
            assert (hit.calibrated_probability, hit.probability) == (calibrated, own)
            assert hit.cosine == cosine
            assert hit.score == calibrated
    assert (answer.calibration, answer.cut, answer.cut_on) == ("shipped", -1.0, "similarity")


def test_a_picture_in_the_question_leaves_no_probability(store: Store) -> None:
    answer = asked(store, Question("dog", like=("/other.jpg",)), SCALES["calibrated"])
    assert len(answer.hits) == 10
    assert {(hit.probability, hit.calibrated_probability) for hit in answer.hits} == {(None, None)}
    assert (answer.cut, answer.cut_on, answer.calibration) == (None, None, None)
    direction = direction_of([OTHER_PICTURE, VECTORS["dog"]], [1.0, 1.0])
    assert answer.hits[0].score == max(Model(store, RAW).cosines(direction).values())


def test_pictures_of_the_question_are_no_answer(store: Store) -> None:
    nearest = asked(store, Question("dog", min_probability=0.0, top_k=3), RAW).hits
    vectors = Vectors(
        VECTORS, [VECTORS["dog"]], frozenset({nearest[0].photo_id, nearest[1].photo_id})
    )
    answer = find(
        Question(like=("/a.jpg",), top_k=1),
        vectors,
        searched=Searched(store, SPACE),
        scale=RAW,
    )
    assert answer.hits[0].photo_id == nearest[2].photo_id


@pytest.mark.parametrize("scale_name", ["raw", "calibrated"])
@pytest.mark.parametrize(
    "question",
    [Question("dog"), Question("dog", all_of=("cat",)), Question("dog", without=("cat",))],
)
def test_nothing_matches_and_how_near_it_came(
    store: Store, question: Question, scale_name: str
) -> None:
    scale = SCALES[scale_name]
    on = "min_calibrated" if scale_name == "calibrated" else "min_probability"
    refusing = replace(question, **{on: 1.0})
    everything = replace(question, min_similarity=-1.0)
    answer = asked(store, refusing, scale)
    assert answer.hits == ()
    assert (answer.cut, answer.cut_on) == (1.0, on.removeprefix("min_"))
    assert answer.best_refused is not None
    if not question.without:
        assert answer.best_refused == asked(store, everything, scale).hits[0].score


def test_the_usual_cut_is_the_calibrations_else_the_models(store: Store) -> None:
    cuts = {name: asked(store, Question("dog"), scale) for name, scale in SCALES.items()}
    assert (cuts["raw"].cut, cuts["raw"].cut_on) == (0.4, "probability")
    assert (cuts["calibrated"].cut, cuts["calibrated"].cut_on) == (0.3, "calibrated")
    assert (cuts["without bias"].cut, cuts["without bias"].cut_on) == (None, None)
    assert len(cuts["without bias"].hits) == 10
    assert {hit.probability for hit in cuts["without bias"].hits} == {None}


def test_all_cuts_that_are_given_hold(store: Store) -> None:
    question = Question(
        "dog", min_calibrated=0.1, min_probability=0.3, min_similarity=0.05, top_k=PICTURES
    )
    hits = asked(store, question, SCALES["calibrated"]).hits
    assert hits
    for hit in hits:
        assert hit.calibrated_probability is not None
        assert hit.probability is not None
        assert hit.cosine is not None
        assert hit.calibrated_probability >= 0.1
        assert hit.probability >= 0.3
        assert hit.cosine >= 0.05


@pytest.mark.parametrize(
    ("question", "scale_name", "complaint"),
    [
        (Question("dog", min_calibrated=0.5), "raw", "uncalibrated"),
        (Question("dog", min_probability=0.5), "without bias", "states no probabilities"),
        (Question(like=("/a.jpg",), min_probability=0.5), "raw", "no probabilities"),
        (Question(like=("/a.jpg",), min_calibrated=0.5), "calibrated", "no probabilities"),
        (Question("dog", without=("cat",)), "without bias", "do not say whether"),
        (Question(like=("/a.jpg",), any_of=("cat",)), "without bias", "do not say whether"),
        (Question(like=("/a.jpg",), sort="date"), "raw", "without a cut"),
        (Question(minus=(("dog", 1.0),), sort="date"), "raw", "without a cut"),
        (Question(plus=(("dog", 1.0),), min_probability=0.1), "raw", "without words"),
        (Question("dog", sort="name"), "without bias", "without a cut"),
        (Question("dog", sort="name", min_probability=0.0), "raw", "without a cut"),
        (Question("dog", minus=(("dog", 1.0),)), "raw", "cancel"),
        (Question(where=Where(formats=("PNG",)), min_probability=0.1), "raw", "nothing to cut"),
    ],
)
def test_what_has_no_meaning_is_refused(
    store: Store, question: Question, scale_name: str, complaint: str
) -> None:
    with pytest.raises(QueryError, match=complaint) as caught:
        asked(store, question, SCALES[scale_name])
    assert caught.value.hint


def test_a_filter_alone_brings_the_newest_first(store: Store) -> None:
    where = Where(formats=("JPEG",))
    answer = asked(store, Question(where=where, top_k=20), RAW)
    moments = store.moments([hit.photo_id for hit in answer.hits])
    shown = [moments[hit.photo_id] for hit in answer.hits]
    assert shown == sorted(shown, reverse=True)
    assert {hit.format for hit in answer.hits} == {"JPEG"}
    assert {(hit.score, hit.cosine) for hit in answer.hits} == {(None, None)}
    assert answer.more
    rest = asked(store, Question(where=where, top_k=20, offset=20), RAW)
    assert len(answer.hits) + len(rest.hits) == math.ceil(PICTURES / 3)
    without = asked(store, Question(where=where, without=("dog",), top_k=PICTURES), RAW)
    dogs = asked(store, Question("dog", where=where, top_k=PICTURES), RAW)
    assert len(without.hits) + len(dogs.hits) == math.ceil(PICTURES / 3)
    assert len(dogs.hits) > 0
