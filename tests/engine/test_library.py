"""The Python API on a real library with the bundled model."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from siglip_index.errors import LibraryMissingError
from siglip_search import Where, demo, open_library
from siglip_search.engine.chosen_model import add_model
from siglip_search.engine.indexing import IndexListener
from siglip_search.errors import (
    ModelError,
    NoModelError,
    PathError,
    QueryError,
    UnknownModelError,
)
from siglip_search.settings import models_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siglip_search import Library


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "pictures"
    shutil.copytree(demo.gallery_directory(), folder)
    return folder


@pytest.fixture(scope="module")
def indexed(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with open_library(tmp_path_factory.mktemp("library"), model="demo") as library:
        assert library.index([gallery]).added == 120
        yield library


def test_hits_are_typed_and_ranked(indexed: Library) -> None:
    hits = indexed.search("a dog", top_k=3, min_probability=0.0)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert all(Path(hit.path).is_file() and hit.width > 0 for hit in hits)
    assert all(hit.probability is not None and 0 <= hit.probability <= 1 for hit in hits)


def test_a_cut_of_one_refuses_all_and_tells_how_near_they_came(indexed: Library) -> None:
    answer = indexed.answer("a dog", min_probability=1.0)
    assert answer.hits == ()
    best = indexed.search("a dog", top_k=1, min_probability=0.0)[0]
    assert answer.best_refused == best.probability


def test_conditions_are_kept(indexed: Library, gallery: Path) -> None:
    where = Where(under=(bytes(gallery / "beach"),), formats=("JPEG",))
    hits = indexed.search("a dog", top_k=50, min_probability=0.0, where=where)
    assert hits
    assert all("/beach/" in hit.path and hit.format == "JPEG" for hit in hits)


@pytest.mark.parametrize(
    ("text", "options"),
    [("", {}), (" \n", {}), ("dog", {"top_k": 0}), ("dog", {"min_probability": 1.5})],
)
def test_nonsense_is_refused(indexed: Library, text: str, options: dict[str, int]) -> None:
    with pytest.raises(QueryError) as caught:
        indexed.search(text, **options)  # type: ignore[arg-type]
    assert caught.value.hint


def test_many_threads_may_ask_at_once(indexed: Library) -> None:
    questions = ["a dog", "red car", "snow", "a tree"] * 8
    expected = {
        question: indexed.search(question, min_probability=0.0) for question in set(questions)
    }
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda text: indexed.search(text, min_probability=0.0), questions)
        assert [expected[question] for question in questions] == list(answers)


def test_library_that_is_not_there_is_empty_and_cannot_be_asked(tmp_path: Path) -> None:
    with open_library(tmp_path / "none", model="demo") as library:
        status = library.status()
        assert (status.counts.pictures, status.model, status.roots) == (0, None, ())
        with pytest.raises(LibraryMissingError) as caught:
            library.search("dog")
        assert "siglip-search index" in caught.value.hint
    assert not (tmp_path / "none").exists()


def test_without_a_model_nothing_is_begun(tmp_path: Path) -> None:
    with open_library(tmp_path / "library") as library, pytest.raises(NoModelError):
        library.index([tmp_path])
    with (
        open_library(tmp_path / "library", model="nonsense") as library,
        pytest.raises(UnknownModelError),
    ):
        library.index([tmp_path])
    assert not (tmp_path / "library").exists()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with (
        open_library(tmp_path / "library", model="demo") as library,
        pytest.raises(PathError, match="nowhere"),
    ):
        library.index([tmp_path / "nowhere"])


def test_search_sees_what_was_indexed_meanwhile(tmp_path: Path, gallery: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(gallery / "snow", folder)
    with open_library(tmp_path / "library", model="demo") as library:
        before = library.index([folder]).added
        assert len(library.search("thing", top_k=99, min_probability=0.0)) == before
        shutil.copytree(gallery / "sea", folder / "sea")
        more = library.index([folder]).added
        assert len(library.search("thing", top_k=99, min_probability=0.0)) == before + more


def test_another_model_takes_over_when_all_pictures_are_embedded_again(
    tmp_path: Path, gallery: Path, tiny_model: Path
) -> None:
    add_model(tiny_model, replace=True)
    tiny = next(models_directory().iterdir()).name
    folder = tmp_path / "pictures"
    shutil.copytree(gallery / "snow", folder)
    library = tmp_path / "library"
    with open_library(library, model="demo") as first:
        pictures = first.index([folder]).added

    # Stopped half-way: the old one goes on answering.
    stop = threading.Event()
    with open_library(library, model=tiny) as other:
        report = other.index(
            [folder], stop=stop, listener=IndexListener(on_estimate=lambda _: stop.set())
        )
    assert report.stopped
    with open_library(library) as unchanged:
        assert unchanged.status().model == "demo"
        assert len(unchanged.search("snow", top_k=99, min_probability=0.0)) == pictures

    # The choice is remembered: the next run goes on with it, whatever it was asked to look at.
    single = next(folder.iterdir())
    with open_library(library) as other:
        assert other.status().coming == tiny
        report = other.index([single])
        assert (report.unchanged, report.embedded) == (1, pictures)
        assert (report.model, report.switching_to, report.left_to_switch) == (tiny, None, 0)
        assert (other.status().model, other.status().coming) == (tiny, None)
        assert len(other.search("snow", top_k=99, min_probability=0.0)) == pictures
    with (
        open_library(library, model="demo") as old,
        pytest.raises(ModelError, match="not 'demo'"),
    ):
        old.search("snow")


def test_model_whose_towers_do_not_fit_is_not_added(tmp_path: Path, tiny_model: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    facts = (broken / "model.toml").read_text().replace("dimension = ", "dimension = 1")
    (broken / "model.toml").write_text(facts)
    with pytest.raises(ModelError):
        add_model(broken, replace=False)
    assert not models_directory().exists() or not list(models_directory().iterdir())


def test_stop_amid_the_scan_is_no_completed_run(tmp_path: Path, gallery: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(gallery / "snow", folder)
    stop = threading.Event()
    stop.set()
    with open_library(tmp_path / "library", model="demo") as library:
        pictures = library.index([folder]).added
        report = library.index([folder], stop=stop)
        assert report.stopped
        assert (report.seen, report.removed) == (0, 0)
        assert library.status().counts.pictures == pictures
