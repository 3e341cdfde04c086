"""A newer version of a model never embeds a library again without being told to."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from siglip_search import demo, open_library
from siglip_search.engine.chosen_model import AnotherVersionError, add_model
from siglip_search.engine.embedding_again import cost_of_embedding_again
from siglip_search.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for picture in sorted(demo.gallery_directory().rglob("*.jpg"))[:4]:
        shutil.copy(picture, folder)
    return folder


@pytest.fixture
def newer_model(tiny_model: Path, tmp_path: Path) -> Path:
    """The same towers under the same name, of another checkpoint."""
    folder = tmp_path / "newer"
    shutil.copytree(tiny_model, folder)
    facts = (folder / "model.toml").read_text()
    assert 'checkpoint = "' in facts
    (folder / "model.toml").write_text(facts.replace('checkpoint = "', 'checkpoint = "newer '))
    return folder


@pytest.fixture
def library(tmp_path: Path, pictures: Path, tiny_model: Path, newer_model: Path) -> Path:
    """A library of the older version, on a machine that has only the newer one."""
    add_model(tiny_model, replace=True)
    with open_library(tmp_path / "library", model="random-tiny") as library:
        assert library.index([pictures]).embedded == 4
    add_model(newer_model, replace=True)
    return tmp_path / "library"


@pytest.mark.parametrize("requested", [None, "random-tiny"])
def test_nothing_is_embedded_again_without_asking(
    library: Path, pictures: Path, requested: str | None
) -> None:
    shutil.copy(next(pictures.iterdir()), pictures / "copy.jpg")
    with open_library(library, model=requested) as opened:
        for dry_run in (False, True):
            with pytest.raises(AnotherVersionError, match="another version") as caught:
                opened.index([pictures], dry_run=dry_run)
            assert "siglip-search model use random-tiny" in caught.value.hint
        assert [usage.vectors for usage in opened.status().spaces] == [4]
        assert opened.status().counts.files == 4
        with pytest.raises(ModelError, match="another version") as asked:
            opened.search("dog")
        assert "siglip-search model use random-tiny" in asked.value.hint


@pytest.mark.parametrize("requested", [None, "random-tiny"])
def test_choosing_the_newer_version_agrees_to_it(
    library: Path, pictures: Path, requested: str | None
) -> None:
    with open_library(library, model=requested) as opened:
        switch = opened.use_model("random-tiny")
        assert (switch.left, switch.pictures) == (4, 4)
        report = opened.index([pictures])
        assert report.embedded == 4
        assert report.switched
        assert len(opened.search("dog", min_probability=0.0)) == 4
        assert opened.index([pictures]).embedded == 0


def test_former_version_put_back_goes_on(library: Path, pictures: Path, tiny_model: Path) -> None:
    add_model(tiny_model, replace=True)
    with open_library(library) as opened:
        assert opened.index([pictures]).embedded == 0
        assert len(opened.search("dog", min_probability=0.0)) == 4


def test_cost_is_that_of_the_pictures_that_are_left(library: Path, newer_model: Path) -> None:
    with open_library(library) as opened:
        with pytest.raises(AnotherVersionError) as caught:
            opened.models_for_indexing()
        cost = cost_of_embedding_again(opened, caught.value.spec)
        assert (cost.pictures, cost.switching_to) == (4, "random-tiny")
        assert 0 < cost.seconds < 60
        opened.use_model("random-tiny")
        opened.index()
        assert cost_of_embedding_again(opened, caught.value.spec).pictures == 0
