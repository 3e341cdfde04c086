"""Questions with all their parts, on a real library with the bundled model."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from siglip_index import open_store
from siglip_index.local_store import LocalStore
from siglip_search import Question, Where, demo, open_library
from siglip_search.errors import PathError, QueryError
from siglip_search.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search import Answer, Library


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gallery") / "pictures"
    shutil.copytree(demo.gallery_directory(), folder)
    return folder


@pytest.fixture(scope="module")
def library(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with open_library(tmp_path_factory.mktemp("library"), model="demo") as library:
        assert library.index([gallery]).added == 120
        yield library


@pytest.fixture(scope="module")
def bicycle(library: Library) -> Path:
    """The gallery's red bicycle."""
    from pathlib import Path

    return Path(library.search("red bicycle")[0].path)


def names(answer: Answer) -> list[str]:
    return [hit.path for hit in answer.hits]


def test_an_indexed_picture_is_asked_by_its_stored_vector(
    library: Library, bicycle: Path, tmp_path: Path
) -> None:
    answer = library.answer(Question(like=(str(bicycle),), top_k=5))
    assert len(answer.hits) == 5
    assert str(bicycle) not in names(answer)
    cosines = [hit.cosine for hit in answer.hits]
    assert cosines == sorted(cosines, reverse=True)  # type: ignore[type-var]
    number = library.search("red bicycle")[0].photo_id
    assert library.answer(Question(like_photo=(number,), top_k=5)) == answer
    # Known by its content, wherever it lies and whatever it is called.
    shutil.copy(bicycle, tmp_path / "no name")
    assert library.answer(Question(like=(str(tmp_path / "no name"),), top_k=5)) == answer


def test_an_indexed_picture_is_not_decoded(library: Library, bicycle: Path) -> None:
    script = f"""
import sys
from siglip_search import Question, open_library
with open_library({str(library.directory)!r}, model="demo") as library:
    assert library.search(Question(like=({str(bicycle)!r},)))
print(sorted(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    for module in ("PIL", "siglip_search.towers.vision", "siglip_search.towers.text"):
        assert f"'{module}'" not in done.stdout


def test_another_picture_is_embedded_as_it_would_be_in_the_index(
    library: Library, bicycle: Path, tmp_path: Path
) -> None:
    Image.open(bicycle).rotate(2).save(tmp_path / "turned.png")
    answer = library.answer(Question(like=(str(tmp_path / "turned.png"),), top_k=5))
    assert answer.hits[0].path == str(bicycle)
    assert answer.hits[0].cosine is not None
    assert answer.hits[0].cosine > 0.9
    assert {hit.probability for hit in answer.hits} == {None}


def test_a_picture_whose_drive_is_away_is_still_known(tmp_path: Path, gallery: Path) -> None:
    folder = tmp_path / "drive"
    shutil.copytree(gallery / "snow", folder)
    with open_library(tmp_path / "library", model="demo") as library:
        library.index([folder])
        asked = Question(like=(str(min(folder.iterdir())),))
        answer = library.answer(asked)
        folder.rename(tmp_path / "away")
        assert library.answer(asked) == answer


def test_a_file_that_was_changed_since_is_read_anew(tmp_path: Path, gallery: Path) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(gallery / "snow", folder)
    with open_library(tmp_path / "library", model="demo") as library:
        library.index([folder])
        first, second = sorted(folder.iterdir())[:2]
        of_second = library.answer(Question(like=(str(second),)))
        shutil.copy(second, first)
        assert library.answer(Question(like=(str(first),))) == of_second


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "does not exist"), (b"no picture", "picture"), (b"", "empty|picture")],
)
def test_what_is_no_picture_is_named(
    library: Library, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "thing.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PathError, match=complaint) as caught:
        library.answer(Question(like=(str(path),)))
    assert "thing.jpg" in str(caught.value)
    assert caught.value.hint


def test_a_folder_and_a_number_that_is_not_there_are_refused(
    library: Library, gallery: Path
) -> None:
    with pytest.raises(PathError, match="not a regular file"):
        library.answer(Question(like=(str(gallery),)))
    with pytest.raises(QueryError, match="no picture 123456"):
        library.answer(Question(like_photo=(123456,)))


def test_arithmetic_moves_the_answer(library: Library, bicycle: Path) -> None:
    def best(question: Question) -> str:
        return library.answer(replace(question, top_k=1, min_similarity=-1.0)).hits[0].path

    assert "/beach/" in best(Question("bicycle", plus=(("on the beach", 1.0),)))
    assert best(Question("bicycle", plus=(("red", 1.0),))) == str(bicycle)
    assert best(Question("bicycle", minus=(("red", 1.0),))) != str(bicycle)
    assert "/snow/" in best(Question(like=(str(bicycle),), plus=(("in the snow", 4.0),)))


def test_true_exclusion_differs_from_minus(library: Library, bicycle: Path) -> None:
    with_all = names(library.answer("bicycle"))
    without = names(library.answer(Question("bicycle", without=("red bicycle",))))
    assert str(bicycle) in with_all
    red = names(library.answer(Question("red bicycle", top_k=50)))
    assert without == [path for path in with_all if path not in red]
    minus = names(library.answer(Question("bicycle", minus=(("red bicycle", 0.2),))))
    assert str(bicycle) in minus


def test_all_of_and_any_of(library: Library) -> None:
    dogs, bicycles = (set(names(library.answer(text))) for text in ("dog", "bicycle"))
    either = set(names(library.answer(Question(any_of=("dog", "bicycle"), top_k=50))))
    assert dogs
    assert bicycles
    assert either == dogs | bicycles
    both = set(names(library.answer(Question(all_of=("dog", "bicycle"), top_k=50))))
    assert both == dogs & bicycles
    beside_picture = Question(
        like_photo=(library.search("bicycle")[0].photo_id,), any_of=("dog",), top_k=50
    )
    assert set(names(library.answer(beside_picture))) == dogs


def test_templates_are_the_mean_of_several_ways_to_say_it(library: Library) -> None:
    plain, said = (
        library.answer(Question("bicycle", templates=templates)) for templates in (False, True)
    )
    assert set(names(plain)) & set(names(said))
    assert plain.hits[0].cosine != said.hits[0].cosine
    vectors = library.answering().text_vectors(["bicycle", "dog"], templates=True)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("templates", [False, True])
def test_a_text_is_the_same_in_any_company(library: Library, templates: bool) -> None:
    texts = ["a dog", "bicycle", "snow on the mountains in the evening"]
    answering = library.answering()
    together = answering.text_vectors(texts, templates=templates)
    alone = [answering.text_vectors([text], templates=templates)[0] for text in texts]
    assert np.array_equal(together, np.stack(alone))


def test_older_ways_of_asking_go_on(library: Library, gallery: Path) -> None:
    where = Where(under=(bytes(gallery / "beach"),))
    assert library.answer("dog", top_k=3, min_probability=0.0, where=where) == library.answer(
        Question("dog", top_k=3, min_probability=0.0, where=where)
    )
    # What is given beside a question takes the place of what it says.
    assert len(library.search(Question("dog", top_k=3, min_probability=0.0), top_k=7)) == 7


def test_a_picture_is_decoded_within_the_settings_limits(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from siglip_search import Library as LibraryClass

    Image.new("RGB", (640, 480), "red").save(tmp_path / "large.png")
    settings = replace(load_settings(), library=library.directory, max_pixels=1000)
    with (
        LibraryClass(settings, model="demo") as strict,
        pytest.raises(PathError, match=r"large\.png: .*pixels"),
    ):
        strict.answer(Question(like=(str(tmp_path / "large.png"),)))


def test_a_picture_that_is_pruned_amid_a_question_harms_nothing(
    tmp_path: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_library(tmp_path / "library", model="demo") as library:
        library.index([gallery / "snow"])
        choose = LocalStore.sample_ids
        left = [2]

        def prune_after(store: LocalStore, space_key: str, limit: int) -> NDArray[np.int64]:
            chosen = choose(store, space_key, limit)
            if left[0]:
                left[0] -= 1
                with open_store(library.directory, writable=True) as other, other.write() as writer:
                    files = other.files(other.roots()[0].id)
                    gone = [file.id for file in files if file.photo_id == int(chosen[0])]
                    writer.mark_vanished(gone)
                    writer.prune(time.time() + 1)
            return chosen

        monkeypatch.setattr(LocalStore, "sample_ids", prune_after)
        assert library.search(Question("a dog", min_probability=0.0))
        assert not left[0]
