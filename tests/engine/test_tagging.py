"""Tags: which labels of a vocabulary fit which pictures, kept in the library."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from siglip_index import open_store
from siglip_index.errors import UnknownSpaceError
from siglip_index.records import Space, Where
from siglip_search import demo, open_library
from siglip_search.engine import tagging
from siglip_search.engine.calibrations import background_sample
from siglip_search.engine.chosen_model import model_called, space_of
from siglip_search.engine.classification import DEFAULT_TEMPLATES, label_prototypes
from siglip_search.engine.tagging import (
    MIN_CALIBRATED,
    TagChoice,
    TaggingReport,
    chosen_tags,
    clear_tags,
    cut_of,
    default_choice,
    tag_new,
    tag_pictures,
    tag_summary,
)
from siglip_search.errors import QueryError
from siglip_search.search.background import background_of
from siglip_search.search.calibration import Calibration
from siglip_search.search.vocabulary import Vocabulary
from siglip_search.towers import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_index.local_store import LocalStore
    from siglip_search.engine.tagging import Scale

GALLERY = demo.gallery_directory()
TRUTH: dict[str, Any] = json.loads((GALLERY / "gallery.json").read_text(encoding="utf-8"))
SPEC = model_called("demo")
KEY = SPEC.space_key

ANIMALS = TagChoice(
    Vocabulary("animals.txt", ("dog", "cat", "penguin", "whale"), DEFAULT_TEMPLATES), "model"
)
OTHERS = TagChoice(Vocabulary("others.txt", ("bicycle", "beach"), DEFAULT_TEMPLATES), "model")

CALIBRATION = Calibration(
    cosine_weight=30.0,
    standing_weight=6.0,
    spread_weight=5.0,
    offset=-7.0,
    plain_weight=15.0,
    plain_offset=-6.0,
    locations=(-1.0, 1.0),
    spreads=(0.01, 1.0),
    cut=0.5,
    false_positive_rate=0.05,
    pairs=500,
    origin="yours",
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
    directory = tmp_path / "library"
    shutil.copytree(indexed, directory)
    with open_store(directory, writable=True) as store:
        yield store


def tag(store: LocalStore, choice: TagChoice, **options: Any) -> TaggingReport:
    return tag_pictures(store, SPEC, choice, **{"stop": threading.Event(), **options})


def all_tags(store: LocalStore) -> dict[int, dict[str, float]]:
    return {photo: dict(tags) for photo, tags in store.tags(KEY, ids(store)).items()}


def ids(store: LocalStore) -> list[int]:
    return sorted(store.photos_in_space(KEY))


def calibrate(store: LocalStore, calibration: Calibration) -> None:
    with store.write() as writer:
        writer.put_record("calibration", KEY, calibration.to_json())


def test_tags_are_the_labels_whose_probability_reaches_the_models_cut(store: LocalStore) -> None:
    report = tag(store, ANIMALS)
    prototypes = label_prototypes(ANIMALS.vocabulary.labels, DEFAULT_TEMPLATES, SPEC)
    cosines = store.vectors(KEY, ids(store)).astype(np.float64) @ prototypes.T.astype(np.float64)
    chances = 1 / (1 + np.exp(-(SPEC.score.logit_scale * cosines + SPEC.score.logit_bias)))
    expected = {
        photo: {
            label: pytest.approx(chance, abs=1e-4)
            for label, chance in zip(ANIMALS.vocabulary.labels, row, strict=True)
            if chance >= SPEC.score.min_probability
        }
        for photo, row in zip(ids(store), chances, strict=True)
    }
    assert all_tags(store) == {photo: tags for photo, tags in expected.items() if tags}
    assert (report.pictures, report.left) == (120, 0)
    assert report.tagged == len(store.tags(KEY, ids(store)))
    assert report.tags == sum(store.tag_counts(KEY).values())
    assert report.cut.scale == "model"
    assert report.cut.min_probability == SPEC.score.min_probability


def test_pictures_are_found_by_their_tags(store: LocalStore) -> None:
    tag(store, ANIMALS)
    (vector,) = label_prototypes(["dog"], ["{}"], SPEC)
    found = store.nearest(KEY, vector[None], 120, Where(tags=("Dog",)))[0]
    names = {store.photos([near.photo_id])[0].paths[0].decode() for near in found}
    shown = {
        str(GALLERY / facts["file"])
        for facts in TRUTH["pictures"]
        if "dog" in {facts["thing"], *(other["thing"] for other in facts["others"])}
    }
    assert names == shown


@pytest.mark.parametrize("scale", ["model", "calibrated"])
def test_most_of_what_the_gallery_shows_is_tagged_and_little_else(
    store: LocalStore, scale: Scale
) -> None:
    labels = tuple(dict.fromkeys([*TRUTH["things"], *TRUTH["places"]]))
    tag(store, TagChoice(Vocabulary("truth.txt", labels, DEFAULT_TEMPLATES), scale))
    tags = all_tags(store)
    photo_of = {path: photo.id for photo in store.photos(ids(store)) for path in photo.paths}
    right = wrong = missed = 0
    for facts in TRUTH["pictures"]:
        found = set(tags.get(photo_of[os.fsencode(GALLERY / facts["file"])], {}))
        shown = {facts["thing"], facts["place"], *(other["thing"] for other in facts["others"])}
        right += len(found & shown)
        wrong += len(found - shown)
        missed += len(shown - found)
    # Measured: 253 right, 35 wrong, 3 missed by the model's own measure; 243, 21 and 13 calibrated.
    assert right / (right + wrong) >= 0.85
    assert right / (right + missed) >= 0.85


def test_a_second_run_compares_nothing_and_again_compares_all(store: LocalStore) -> None:
    tag(store, ANIMALS)
    before = all_tags(store)
    generation = store.generation()
    assert tag(store, ANIMALS).pictures == 0
    assert store.generation() == generation
    assert tag(store, ANIMALS, again=True).pictures == 120
    assert all_tags(store) == before


def test_other_labels_take_the_place_of_the_former_ones(store: LocalStore) -> None:
    tag(store, ANIMALS)
    assert tag(store, OTHERS).pictures == 120
    assert set(store.tag_counts(KEY)) == {"bicycle", "beach"}
    assert chosen_tags(store) == OTHERS


def test_another_cut_compares_all_pictures_anew(store: LocalStore) -> None:
    many = tag(store, replace(ANIMALS, min_probability=0.05))
    few = tag(store, replace(ANIMALS, min_probability=0.99))
    assert (many.pictures, few.pictures) == (120, 120)
    assert many.tags > few.tags > 0
    assert all(chance >= 0.99 for tags in all_tags(store).values() for chance in tags.values())


def test_a_run_that_is_stopped_keeps_what_it_has_and_is_gone_on_with(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "_BLOCK", 32)
    stop = threading.Event()

    def on_progress(done: int, total: int) -> None:
        assert total == 120
        if done >= 64:
            stop.set()

    report = tag(store, ANIMALS, stop=stop, on_progress=on_progress)
    assert (report.pictures, report.left) == (64, 56)
    assert tag(store, ANIMALS).pictures == 56


def test_a_run_that_is_stopped_at_once_has_embedded_no_label(store: LocalStore) -> None:
    stop = threading.Event()
    stop.set()
    report = tag(store, ANIMALS, stop=stop)
    assert (report.pictures, report.left) == (0, 120)
    assert store.records("label-vectors") == {}


def test_a_run_that_is_stopped_amid_the_labels_keeps_those_it_has_embedded(
    store: LocalStore,
) -> None:
    stop = threading.Event()
    report = tag(store, ANIMALS, stop=stop, on_labels=lambda done, _: done and stop.set())
    assert (report.pictures, report.left) == (0, 120)
    seen: list[tuple[int, int]] = []
    tag(store, ANIMALS, on_labels=lambda *counts: seen.append(counts))
    assert seen == [(0, 2), (2, 2)]
    tagged = all_tags(store)
    clear_tags(store)
    tag(store, ANIMALS)
    assert all_tags(store) == tagged


def test_labels_are_embedded_once(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tag(store, ANIMALS)
    before = all_tags(store)

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a text tower was opened")

    with monkeypatch.context() as patch:
        patch.setattr(text.TextTower, "__init__", refuse)
        tag(store, replace(ANIMALS, min_probability=0.9))
        tag(store, ANIMALS, again=True)
    assert all_tags(store) == before


def test_only_labels_that_are_new_are_embedded(store: LocalStore) -> None:
    seen: list[tuple[int, int]] = []
    tag(store, ANIMALS, on_labels=lambda *counts: seen.append(counts))
    assert seen == [(0, 4), (2, 4), (4, 4)]
    more = Vocabulary("more.txt", ("bicycle", "whale", "dog"), DEFAULT_TEMPLATES)
    seen.clear()
    tag(store, TagChoice(more, "model"), on_labels=lambda *counts: seen.append(counts))
    assert seen == [(0, 1), (1, 1)]
    tagged = all_tags(store)
    clear_tags(store)
    tag(store, TagChoice(more, "model"))
    assert all_tags(store) == tagged


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: {},
        lambda record: {**record, "templates": ["{} again"]},
        lambda record: {**record, "labels": [*record["labels"], "one more"]},
        lambda record: {**record, "vectors": "AAAA"},
        lambda record: {**record, "vectors": "no base64"},
        lambda record: {**record, "vectors": record["vectors"].replace("a", "Z")},
    ],
    ids=["empty", "other templates", "more labels", "too short", "no base64", "other numbers"],
)
def test_label_vectors_that_are_damaged_are_made_again(store: LocalStore, damage: Any) -> None:
    tag(store, ANIMALS)
    before, kept = all_tags(store), store.records("label-vectors")
    with store.write() as writer:
        writer.put_record("label-vectors", KEY, json.dumps(damage(json.loads(kept[KEY]))))
    tag(store, ANIMALS, again=True)
    assert all_tags(store) == before
    assert store.records("label-vectors") == kept


def test_where_scores_are_calibrated_the_calibrated_probability_is_kept(store: LocalStore) -> None:
    calibrate(store, CALIBRATION)
    choice = replace(ANIMALS, scale=None)
    report = tag(store, choice)
    assert report.cut.scale == "calibrated"
    assert report.cut.min_probability == MIN_CALIBRATED
    prototypes = label_prototypes(choice.vocabulary.labels, DEFAULT_TEMPLATES, SPEC)
    sample = background_sample(store, KEY)
    vectors = store.vectors(KEY, ids(store))
    expected: dict[int, dict[str, Any]] = {}
    for label, prototype in zip(choice.vocabulary.labels, prototypes, strict=True):
        chances = CALIBRATION.probabilities(vectors @ prototype, background_of(prototype, sample))
        for photo, chance in zip(ids(store), chances, strict=True):
            if chance >= MIN_CALIBRATED:
                expected.setdefault(photo, {})[label] = pytest.approx(chance, abs=1e-4)
    assert expected
    assert all_tags(store) == expected


def test_a_calibration_that_is_stricter_decides_the_cut(store: LocalStore) -> None:
    calibrate(store, replace(CALIBRATION, cut=0.97))
    assert cut_of(replace(ANIMALS, scale=None), SPEC, store).min_probability == 0.97
    chosen = replace(ANIMALS, scale="calibrated", min_probability=0.3)
    assert cut_of(chosen, SPEC, store).min_probability == 0.3


def test_a_new_calibration_compares_all_pictures_anew(store: LocalStore) -> None:
    calibrate(store, CALIBRATION)
    choice = replace(ANIMALS, scale=None)
    tag(store, choice)
    assert tag(store, choice).pictures == 0
    calibrate(store, replace(CALIBRATION, offset=-8.0))
    assert tag(store, choice).pictures == 120


def test_calibrated_tags_need_a_calibration(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "calibration_for", lambda spec, store: None)
    with pytest.raises(QueryError, match="are not calibrated") as caught:
        tag(store, replace(ANIMALS, scale="calibrated", min_probability=0.5))
    assert "siglip-search calibrate" in caught.value.hint
    assert chosen_tags(store) is None


def test_a_model_without_probabilities_makes_no_tags(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagging, "calibration_for", lambda spec, store: None)
    relative = replace(SPEC, score=replace(SPEC.score, logit_bias=None))
    with pytest.raises(QueryError, match="states no probabilities"):
        tag_pictures(store, relative, ANIMALS, stop=threading.Event())


def test_new_pictures_are_tagged_only_where_labels_were_chosen(store: LocalStore) -> None:
    generation = store.generation()
    assert tag_new(store, SPEC, stop=threading.Event()) == 0
    assert store.generation() == generation


def test_only_the_new_pictures_are_tagged(store: LocalStore) -> None:
    tag(store, ANIMALS)
    before = all_tags(store)
    some = ids(store)[:7]
    with store.write() as writer:
        writer.put_tags(KEY, "other labels", [(photo, [("old", 1.0)]) for photo in some])
    assert tag_new(store, SPEC, among=some[:2], stop=threading.Event()) == 2
    assert store.tag_counts(KEY)["old"] == 5
    assert tag_new(store, SPEC, among=(), stop=threading.Event()) == 0
    assert tag_new(store, SPEC, stop=threading.Event()) == 5
    assert all_tags(store) == before


def test_a_model_that_does_not_answer_tags_nothing(store: LocalStore) -> None:
    tag(store, ANIMALS)
    with store.write() as writer:
        writer.ensure_space(Space("another", SPEC.dimension, "another"))
        writer.activate_space("another")
    clear = ids(store)[:3]
    with store.write() as writer:
        writer.put_tags(KEY, "old", [(photo, []) for photo in clear])
    assert tag_new(store, SPEC, stop=threading.Event()) == 0


def test_what_keeps_new_pictures_from_being_tagged_is_a_warning(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(store, CALIBRATION)
    tag(store, replace(ANIMALS, scale="calibrated", min_probability=0.5))
    monkeypatch.setattr(tagging, "calibration_for", lambda spec, store: None)
    warnings: list[str] = []
    assert tag_new(store, SPEC, stop=threading.Event(), on_warning=warnings.append) == 0
    assert len(warnings) == 1
    assert warnings[0].startswith("new pictures are not tagged: ")
    assert "siglip-search calibrate" in warnings[0]


def test_tags_go_with_their_space(store: LocalStore) -> None:
    tag(store, ANIMALS)
    with store.write() as writer:
        writer.ensure_space(Space("another", SPEC.dimension, "another"))
        writer.activate_space("another")
    with store.write() as writer:
        writer.drop_space(KEY)
    with pytest.raises(UnknownSpaceError):
        store.tag_counts(KEY)
    with store.write() as writer:
        writer.ensure_space(space_of(SPEC))
    assert store.tag_counts(KEY) == {}


def test_label_vectors_of_spaces_that_are_gone_are_deleted(store: LocalStore) -> None:
    with store.write() as writer:
        writer.put_record("label-vectors", "gone", "{}")
    tag(store, ANIMALS)
    assert set(store.records("label-vectors")) == {KEY}


def test_clearing_deletes_tags_choice_and_label_vectors(store: LocalStore) -> None:
    tag(store, ANIMALS)
    clear_tags(store)
    assert store.tag_counts(KEY) == {}
    assert chosen_tags(store) is None
    assert store.records("label-vectors") == {}
    assert tag_new(store, SPEC, stop=threading.Event()) == 0
    assert tag(store, ANIMALS).pictures == 120


def test_a_summary_tells_counts_and_what_is_left(store: LocalStore) -> None:
    assert tag_summary(store, KEY, SPEC).choice is None
    report = tag(store, ANIMALS)
    with store.write() as writer:
        writer.put_tags(KEY, "old", [(photo, []) for photo in ids(store)[:3]])
    summary = tag_summary(store, KEY, SPEC)
    assert summary.choice == ANIMALS
    assert summary.cut == report.cut
    assert summary.untagged == 3
    assert set(summary.counts) == {"dog", "cat", "penguin", "whale"}
    without_model = tag_summary(store, KEY, None)
    assert (without_model.counts, without_model.cut) == (summary.counts, None)


@pytest.mark.parametrize(
    "choice",
    [ANIMALS, default_choice(), replace(ANIMALS, scale="calibrated", min_probability=0.25)],
    ids=["model", "default", "calibrated"],
)
def test_a_choice_survives_json(choice: TagChoice) -> None:
    assert TagChoice.from_json(choice.to_json()) == choice


@pytest.mark.parametrize(
    "change",
    [{"scale": "softmax"}, {"min_probability": 0}, {"min_probability": "x"}, {"vocabulary": {}}],
)
def test_a_choice_of_a_newer_version_counts_as_none(
    store: LocalStore, change: dict[str, Any]
) -> None:
    value = json.loads(ANIMALS.to_json()) | change
    with store.write() as writer:
        writer.put_record("vocabulary", "tags", json.dumps(value))
    assert chosen_tags(store) is None
    assert tag_new(store, SPEC, stop=threading.Event()) == 0
