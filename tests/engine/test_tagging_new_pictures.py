"""New pictures get their tags at the end of the run, or of the look, that brings them."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from siglip_index import open_store
from siglip_index.verify import verify
from siglip_search import demo, open_library
from siglip_search.engine.chosen_model import add_model, model_called
from siglip_search.engine.classification import DEFAULT_TEMPLATES
from siglip_search.engine.following import Follower
from siglip_search.engine.indexing import IndexListener
from siglip_search.engine.tagging import TagChoice, clear_tags, tag_pictures
from siglip_search.ingest.report import Progress
from siglip_search.photos.settling import Look
from siglip_search.search.vocabulary import Vocabulary
from siglip_search.settings import Settings
from siglip_search.towers import text

if TYPE_CHECKING:
    from pathlib import Path

GALLERY = demo.gallery_directory()
PLACES = TagChoice(
    Vocabulary("places.txt", ("beach", "forest", "snow"), DEFAULT_TEMPLATES), "model"
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place in ("beach", "snow"):
        for picture in sorted((GALLERY / place).glob("*.jpg"))[:2]:
            shutil.copy(picture, folder / f"{place}-{picture.name}")
    return folder


@pytest.fixture
def library(tmp_path: Path, pictures: Path) -> Path:
    directory = tmp_path / "library"
    with open_library(directory, model="demo") as library:
        library.index([pictures])
    return directory


def choose(library: Path, choice: TagChoice = PLACES) -> None:
    with open_store(library, writable=True) as store:
        tag_pictures(store, model_called("demo"), choice, stop=threading.Event())


def counts(library: Path) -> dict[str, int]:
    with open_store(library, writable=False) as store:
        space = store.active_space()
        assert space is not None
        return store.tag_counts(space.key)


def add_forest(pictures: Path) -> Path:
    picture = min((GALLERY / "forest").glob("*.jpg"))
    return shutil.copy(picture, pictures / "new.jpg")


def test_index_tags_what_it_adds_and_nothing_else(library: Path, pictures: Path) -> None:
    choose(library)
    before = counts(library)
    assert before.get("forest", 0) == 0
    add_forest(pictures)
    with open_library(library) as opened:
        report = opened.index()
        assert (report.embedded, report.tagged) == (1, 1)
        assert opened.index().tagged == 0
    assert counts(library) == before | {"forest": 1}
    assert verify(library).is_whole


def test_without_chosen_labels_nothing_is_tagged(library: Path, pictures: Path) -> None:
    choose(library)
    with open_store(library, writable=True) as store:
        clear_tags(store)
    add_forest(pictures)
    with open_library(library) as opened:
        assert opened.index().tagged == 0
    assert counts(library) == {}


def test_a_look_tags_what_it_brings(library: Path, pictures: Path) -> None:
    choose(library)
    add_forest(pictures)
    stop, looks = threading.Event(), [Look(os.fsencode(pictures / "new.jpg"), subfolders=False)]
    with Follower(Settings(library=library)) as follower:
        report = follower.look(looks, stop=stop, listener=IndexListener())
        assert (report.embedded, report.tagged) == (1, 1)
        assert follower.look(looks, stop=stop, listener=IndexListener()).tagged == 0
    assert counts(library)["forest"] == 1


def test_a_look_waits_for_no_text_tower(
    library: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(library)
    with open_store(library, writable=True) as store, store.write() as writer:
        for key in store.records("label-vectors"):
            writer.put_record("label-vectors", key, None)  # as if another model had taken over
    add_forest(pictures)
    looks = [Look(os.fsencode(pictures / "new.jpg"), subfolders=False)]

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a text tower was opened")

    with Follower(Settings(library=library)) as follower:
        with monkeypatch.context() as patch:
            patch.setattr(text.TextTower, "__init__", refuse)
            report = follower.look(looks, stop=threading.Event(), listener=IndexListener())
        assert (report.embedded, report.tagged, report.warnings) == (1, 0, [])
        told: list[Progress] = []
        listener = IndexListener(on_tagging=told.append)
        report = follower.index([], options=None, stop=threading.Event(), listener=listener)
    assert report.tagged == 1
    assert told == [Progress(*counts) for counts in ((0, 3), (2, 3), (3, 3), (0, 1), (1, 1))]
    assert counts(library)["forest"] == 1


def test_a_run_that_is_stopped_leaves_tags_to_the_next(library: Path, pictures: Path) -> None:
    choose(library)
    add_forest(pictures)
    stop = threading.Event()
    with open_library(library) as opened:
        report = opened.index(stop=stop, listener=IndexListener(on_commit=lambda _: stop.set()))
        assert (report.embedded, report.tagged, report.stopped) == (1, 0, True)
        assert opened.index().tagged == 1


def test_a_model_that_takes_over_has_tags_of_its_own(library: Path, tmp_path: Path) -> None:
    choose(library)
    before = counts(library)
    folder = tmp_path / "twin"
    shutil.copytree(demo.model_directory(), folder)
    toml = folder / "model.toml"
    facts = toml.read_text(encoding="utf-8").replace('name = "demo"', 'name = "twin"')
    toml.write_text(facts + '\n[variant]\nof = "demo"\nrecipe = "a copy"\n', encoding="utf-8")
    add_model(folder, replace=True)
    with open_library(library) as opened:
        opened.use_model("twin")
        assert counts(library) == before  # those of the model that answers
        report = opened.index()
        assert (report.switched, report.tagged) == (True, 4)
        assert counts(library) == before
        opened.use_model("demo")
        assert opened.index().tagged == 0
        assert opened.remove_model("twin") == 4
    assert counts(library) == before


def test_what_cannot_be_tagged_is_in_the_library_all_the_same(
    tmp_path: Path, pictures: Path, tiny_model: Path
) -> None:
    tiny = add_model(tiny_model, replace=True).name
    library = tmp_path / "library"
    with open_library(library, model=tiny) as opened:
        opened.index([pictures])
    calibrated = TagChoice(PLACES.vocabulary, "calibrated", 0.5)
    with open_store(library, writable=True) as store, store.write() as writer:
        writer.put_record("vocabulary", "tags", calibrated.to_json())  # fitted then, reset since
    add_forest(pictures)
    with open_library(library) as opened:
        report = opened.index()
        assert opened.status().counts.pictures == 5
    assert (report.embedded, report.tagged) == (1, 0)
    assert [line for line in report.warnings if "new pictures are not tagged" in line]
