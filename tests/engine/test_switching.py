"""Changing the model of a library: nothing is lost, and something always answers."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from siglip_index.verify import verify
from siglip_search import demo, open_library
from siglip_search.engine.chosen_model import add_model
from siglip_search.engine.indexing import IndexListener
from siglip_search.errors import ModelError, UnknownModelError
from siglip_search.settings import models_directory

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.engine.library import Library


@pytest.fixture
def gallery() -> Path:
    return demo.gallery_directory()


@pytest.fixture
def tiny(tiny_model: Path) -> str:
    return add_model(tiny_model, replace=True).name


@pytest.fixture
def pictures(tmp_path: Path, gallery: Path) -> Path:
    folder = tmp_path / "pictures"
    shutil.copytree(gallery / "snow", folder)
    return folder


@pytest.fixture
def indexed(tmp_path: Path, pictures: Path) -> Path:
    library = tmp_path / "library"
    with open_library(library, model="demo") as opened:
        opened.index([pictures])
    return library


def found(library: Library) -> int:
    return len(library.search("snow", top_k=99, min_probability=0.0))


def twin_of_demo(folder: Path, name: str, *, agrees: bool = True) -> None:
    """Install the demo model under another name, as a variant of it."""
    shutil.copytree(demo.model_directory(), folder)
    toml = folder / "model.toml"
    text = toml.read_text(encoding="utf-8").replace('name = "demo"', f'name = "{name}"')
    text += '\n[variant]\nof = "demo"\nrecipe = "a copy"\n'
    if agrees:
        text += (
            "\n[variant.agreement]\npictures = 500\nmean_cosine = 1.0\nworst_cosine = 1.0\n"
            "recall_at_10 = 1.0\n"
        )
    toml.write_text(text, encoding="utf-8")
    add_model(folder, replace=True)


def test_old_model_answers_until_the_new_one_is_ready(indexed: Path, tiny: str) -> None:
    with open_library(indexed) as library:
        count = library.status().counts.pictures
        switch = library.use_model(tiny)
        assert (switch.model, switch.coming) == ("demo", tiny)
        assert (switch.pictures, switch.left) == (count, count)
        assert found(library) == count
        report = library.index()
        assert (report.embedded, report.unchanged, report.model) == (count, count, tiny)
        assert found(library) == count
        # The way back is free, for the former vectors are still there.
        back = library.use_model("demo")
        assert (back.model, back.coming, back.left) == ("demo", None, 0)
    assert verify(indexed).is_whole


def test_stopped_switch_goes_on_where_it_was(indexed: Path, tiny: str) -> None:
    stop = threading.Event()
    with open_library(indexed) as library:
        count = library.status().counts.pictures
        library.use_model(tiny)
        report = library.index(
            stop=stop, listener=IndexListener(on_commit=lambda _: stop.set()), options=None
        )
        assert report.stopped
        first = report.embedded
        assert report.model == ("demo" if first < count else tiny)
    with open_library(indexed) as library:
        assert library.index().embedded == count - first
        assert library.status().model == tiny


def test_new_picture_is_found_at_once_while_the_model_changes(
    indexed: Path, pictures: Path, gallery: Path, tiny: str
) -> None:
    new = next((gallery / "sea").iterdir())
    with open_library(indexed) as library:
        count = library.status().counts.pictures
        library.use_model(tiny)
        shutil.copy(new, pictures / "new.jpg")
        stop = threading.Event()

        def stop_before_the_second_model(estimate: object) -> None:
            if getattr(estimate, "switching_to", None) is not None:
                stop.set()

        report = library.index(
            stop=stop, listener=IndexListener(on_estimate=stop_before_the_second_model)
        )
        assert (report.added, report.embedded, report.stopped) == (1, 1, True)
        assert (report.switching_to, report.left_to_switch) == (tiny, count + 1)
        assert found(library) == count + 1


def test_choosing_the_model_that_answers_cancels_a_change(indexed: Path, tiny: str) -> None:
    with open_library(indexed) as library:
        library.use_model(tiny)
        assert library.status().coming == tiny
        switch = library.use_model("demo")
        assert (switch.model, switch.coming) == ("demo", None)
        assert library.index().embedded == 0


def test_picture_that_cannot_be_reached_holds_the_change_up_until_told_otherwise(
    indexed: Path, pictures: Path, tiny: str
) -> None:
    pictures.rename(pictures.with_name("away"))
    with open_library(indexed) as library:
        count = library.status().counts.pictures
        library.use_model(tiny)
        report = library.index()
        assert (report.model, report.switching_to) == ("demo", tiny)
        assert f"{count} pictures could not be embedded with {tiny}" in report.warnings[-1]
        assert "--now" in report.warnings[-1]
        switch = library.use_model(tiny, now=True)
        assert (switch.model, switch.coming, switch.left) == (tiny, None, count)
        assert found(library) == 0
        pictures.with_name("away").rename(pictures)
        library.index()
        assert found(library) == count


def test_model_of_an_empty_library_is_chosen_beforehand(
    tmp_path: Path, pictures: Path, tiny: str
) -> None:
    with open_library(tmp_path / "new") as library:
        switch = library.use_model(tiny)
        assert (switch.model, switch.pictures, switch.left) == (tiny, 0, 0)
        assert library.index([pictures]).model == tiny


def test_model_that_is_not_here_cannot_be_chosen(indexed: Path) -> None:
    with open_library(indexed) as library, pytest.raises(UnknownModelError):
        library.use_model("nowhere")


def test_variant_that_agrees_shares_the_vectors(indexed: Path, tmp_path: Path) -> None:
    twin_of_demo(tmp_path / "stranger", "demo-stranger", agrees=False)
    twin_of_demo(tmp_path / "twin", "demo-twin")
    with open_library(indexed) as library:
        count = found(library)
        assert library.use_model("demo-stranger").left == count
        switch = library.use_model("demo-twin")
        assert (switch.model, switch.coming, switch.left) == ("demo-twin", None, 0)
        assert library.index().embedded == 0
        assert found(library) == count
        # Its files go, the vectors stay, for the other model made them too.
        library.use_model("demo")
        assert library.remove_model("demo-twin") == 0
        assert found(library) == count
    assert not (models_directory() / "demo-twin").exists()


def test_removed_model_takes_its_vectors_along(indexed: Path, tiny: str) -> None:
    with open_library(indexed) as library:
        count = library.status().counts.pictures
        library.use_model(tiny)
        library.index()
        with pytest.raises(ModelError, match="answers with the model") as refused:
            library.remove_model(tiny)
        assert "model use" in refused.value.hint
        library.use_model("demo")
        assert {usage.space.model for usage in library.status().spaces} == {"demo", tiny}
        assert library.remove_model(tiny) == count
        assert [usage.space.model for usage in library.status().spaces] == ["demo"]
        assert found(library) == count
    assert not (models_directory() / tiny).exists()
    assert verify(indexed).is_whole


def test_vectors_of_the_bundled_model_go_and_its_files_stay(indexed: Path, tiny: str) -> None:
    with open_library(indexed) as library:
        count = library.status().counts.pictures
        library.use_model(tiny)
        library.index()
        assert library.remove_model("demo") == count
        with pytest.raises(ModelError, match="part of the program"):
            library.remove_model("demo")
        assert library.use_model("demo").left == count


def test_space_is_asked_by_whatever_model_makes_its_vectors(
    indexed: Path, tmp_path: Path, pictures: Path
) -> None:
    twin_of_demo(tmp_path / "twin", "demo-twin")
    with open_library(indexed) as library:
        library.use_model("demo-twin")
        count = found(library)
    # By name either will do, for the vectors are the same.
    for name in ("demo", "demo-twin", None):
        with open_library(indexed, model=name) as library:
            assert found(library) == count
    # And when the one is gone, even deleted by hand, the other answers and goes on.
    shutil.rmtree(models_directory() / "demo-twin")
    with open_library(indexed) as library:
        assert found(library) == count
        # Its name can be removed without --force: nothing is lost.
        assert library.remove_model("demo-twin") == 0
        assert library.status().model == "demo"
        report = library.index([pictures])
        assert (report.embedded, report.unchanged, report.warnings) == (0, count, [])


def test_variant_that_no_longer_agrees_does_not_silence_the_library(
    indexed: Path, tmp_path: Path
) -> None:
    twin_of_demo(tmp_path / "good", "demo-twin")
    with open_library(indexed) as library:
        library.use_model("demo-twin")
        count = found(library)
    twin_of_demo(tmp_path / "bad", "demo-twin", agrees=False)
    with open_library(indexed) as library:
        assert found(library) == count


def test_vectors_of_a_model_that_was_deleted_by_hand_can_be_removed(
    indexed: Path, tiny: str
) -> None:
    with open_library(indexed) as library:
        count = found(library)
        library.use_model(tiny)
        library.index()
        library.use_model("demo")
        shutil.rmtree(models_directory() / tiny)
        assert library.remove_model(tiny) == count
        with pytest.raises(UnknownModelError):
            library.remove_model(tiny)
        assert found(library) == count
    assert verify(indexed).is_whole


def test_model_that_was_to_take_over_and_is_gone_is_missed_aloud(indexed: Path, tiny: str) -> None:
    with open_library(indexed) as library:
        library.use_model(tiny)
        shutil.rmtree(models_directory() / tiny)
        report = library.index()
        assert report.model == "demo"
        assert f"{tiny} was to take over, and is not on this machine" in report.warnings[-1]
        library.use_model("demo")
        assert library.index().warnings == []
        assert library.remove_model(tiny) == 0
        assert [usage.space.model for usage in library.status().spaces] == ["demo"]


def test_model_that_cannot_answer_never_takes_over(indexed: Path, tiny: str) -> None:
    text = models_directory() / tiny / "text.onnx"
    whole = text.read_bytes()
    with open_library(indexed) as library:
        count = found(library)
        text.write_bytes(whole[:1000])
        with pytest.raises(ModelError, match=r"text\.onnx"):
            library.use_model(tiny)
        text.write_bytes(whole)
        library.use_model(tiny)
        text.write_bytes(whole[:1000])
        with pytest.raises(ModelError, match=r"text\.onnx"):
            library.index()
        assert library.status().model == "demo"
        assert found(library) == count
        text.write_bytes(whole)
        assert library.index().model == tiny


def test_change_to_a_model_whose_picture_tower_does_not_open_has_not_begun(
    indexed: Path, tiny: str
) -> None:
    vision = models_directory() / tiny / "vision.onnx"
    whole = vision.read_bytes()
    vision.write_bytes(whole[:1000])
    with open_library(indexed, model=tiny) as library, pytest.raises(ModelError, match="vision"):
        library.index()
    vision.write_bytes(whole)
    with open_library(indexed) as library:
        status = library.status()
        assert (status.model, status.coming) == ("demo", None)
        assert [usage.space.model for usage in status.spaces] == ["demo"]
        report = library.index()
        assert (report.embedded, report.model, report.switching_to) == (0, "demo", None)
    with open_library(indexed, model=tiny) as library:
        assert library.index().model == tiny
    assert verify(indexed).is_whole


def test_change_that_is_stopped_before_it_began_is_remembered(indexed: Path, tiny: str) -> None:
    stop = threading.Event()
    stop.set()
    with open_library(indexed, model=tiny) as library:
        assert library.index(stop=stop).stopped
    with open_library(indexed) as library:
        assert library.status().coming == tiny
        assert library.index().model == tiny


@pytest.mark.parametrize("chosen_before", [False, True])
def test_first_run_that_cannot_open_its_tower_leaves_an_empty_library(
    tmp_path: Path, pictures: Path, tiny: str, chosen_before: bool
) -> None:
    vision = models_directory() / tiny / "vision.onnx"
    whole = vision.read_bytes()
    with open_library(tmp_path / "new", model=None if chosen_before else tiny) as library:
        if chosen_before:
            library.use_model(tiny)
        vision.write_bytes(whole[:1000])
        with pytest.raises(ModelError, match="vision"):
            library.index([pictures])
        status = library.status()
        assert library.roots() == []
        assert [usage.space.model for usage in status.spaces] == [tiny] * chosen_before
        assert status.model == (tiny if chosen_before else None)
        vision.write_bytes(whole)
        assert library.index([pictures]).added > 0
    assert verify(tmp_path / "new").is_whole


def test_model_of_a_library_without_pictures_can_be_removed(tmp_path: Path, tiny: str) -> None:
    with open_library(tmp_path / "new") as library:
        library.use_model(tiny)
        assert library.remove_model(tiny) == 0
        assert library.status().model is None
    assert verify(tmp_path / "new").is_whole
