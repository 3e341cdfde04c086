"""The daemon's answers are those of a lone command, whatever is asked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from siglip_search import Question, Where, demo, open_library
from siglip_search.engine.library import Library
from siglip_search.errors import PathError, QueryError
from siglip_search.service.resident_search import ResidentSearch
from siglip_search.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for place in ("beach", "snow"):
        shutil.copytree(demo.gallery_directory() / place, folder / place)
    directory = tmp_path_factory.mktemp("library")
    with open_library(directory, model="demo") as library:
        library.index([folder])
    return directory


def test_every_kind_of_question_gets_the_same_digits(indexed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.radial_gradient("L").convert("RGB").save(other)
    with open_library(indexed) as library:
        known = library.search("a dog", min_probability=0.0)[0]
    questions = (
        Question("a dog", min_probability=0.0),
        Question("a dog", min_similarity=-1.0, offset=3, top_k=5),
        Question("a dog", plus=(("snow", 2.0),), minus=(("beach", 0.5),), min_probability=0.0),
        Question("a dog", without=("red",), min_probability=0.0),
        Question(all_of=("a dog", "red"), min_probability=0.0),
        Question(any_of=("a dog", "a car"), min_probability=0.001),
        Question("a dog", templates=True, min_probability=0.0),
        Question(like=(known.path,)),
        Question(like=(str(other),)),
        Question("snow", like=(str(other),), like_photo=(known.photo_id,)),
        Question("a dog", min_similarity=-0.9, sort="name"),
        Question("a dog", min_similarity=-0.9, sort="date"),
        Question(where=Where(formats=("JPEG",))),
        Question("the prime minister"),
    )
    settings = replace(load_settings(), library=indexed)
    resident = ResidentSearch(settings)
    for question in questions:
        with Library(settings, one_shot=True) as alone:
            expected = alone.answer(question)
        for _ in range(2):  # cold, and warm
            assert resident.answer(question).answer == expected
    assert resident.answered == 2 * len(questions)
    assert resident.is_warm
    resident.start_afresh()


def test_a_question_that_cannot_be_answered_harms_nothing(indexed: Path, tmp_path: Path) -> None:
    resident = ResidentSearch(replace(load_settings(), library=indexed))
    with pytest.raises(QueryError):
        resident.answer(Question(" "))
    with pytest.raises(PathError):
        resident.answer(Question(like=(str(tmp_path / "nothing.jpg"),)))
    assert resident.answer(Question("a dog", min_probability=0.0)).answer.hits
    resident.start_afresh()
