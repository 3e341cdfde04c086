"""Explanations of real answers by the bundled model, also of pictures whose truth is planted."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from siglip_search import Where, open_library
from siglip_search.engine import patch_maps
from siglip_search.engine.attribution import ExplainOptions, HitExplanation, explain_hits
from siglip_search.engine.heatmap_files import check_heatmap_folder, save_heatmap
from siglip_search.errors import ModelError, QueryError
from siglip_search.photos.decode import DecodeLimits
from siglip_search.search.question import Question
from siglip_search.towers.preprocess import Preprocessor
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_search import Library
    from siglip_search.engine.patch_maps import PatchMap

PAPER = (235, 235, 230)
MAPS = ("attention", "occlusion")


def draw_pair(path: Path, *, mirrored: bool = False, width: int = 480) -> None:
    """Draw a red circle on the left and a blue square on the right, or the other way round."""
    picture = Image.new("RGB", (480, 320), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((40, 80, 200, 240), (210, 30, 30))
    draw.rectangle((290, 90, 440, 240), (30, 60, 210))
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    whole = Image.new("RGB", (width, 320), PAPER)
    whole.paste(picture, ((width - 480) // 2, 0))
    whole.save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    directory = tmp_path / "pictures"
    directory.mkdir()
    draw_pair(directory / "pair.png")
    return directory


@pytest.fixture
def library(folder: Path, tmp_path: Path) -> Iterator[Library]:
    """A library that the test may change."""
    with open_library(tmp_path / "library", model="demo") as library:
        library.index([folder])
        yield library


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "pair.png"
    draw_pair(path)
    return path


@pytest.fixture(scope="module")
def indexed(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A library that all tests share."""
    with open_library(tmp_path_factory.mktemp("library"), model="demo") as library:
        library.index([pair.parent])
        yield library


def explained(library: Library, question: Question | str, **options: Any) -> list[HitExplanation]:
    if isinstance(question, str):
        question = Question(words=question)
    question = replace(question, min_probability=None if question.has_picture else 0.0)
    hits = library.answer(question).hits
    return list(explain_hits(library, question, hits, ExplainOptions(**options)))


def map_of(library: Library, question: Question | str, **options: Any) -> PatchMap:
    (explanation,) = explained(library, question, **options)
    assert explanation.problem is None
    assert explanation.patches is not None
    return explanation.patches


def share_on_the_left(patches: PatchMap) -> float:
    """Return the part of all that raises the score which lies in the left half."""
    raising = np.maximum(patches.differences, 0)
    half = raising.shape[1] // 2
    return float(raising[:, :half].sum() / raising.sum())


@pytest.mark.parametrize("method", MAPS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_what_was_drawn_on_one_side_is_found_there(
    library: Library, folder: Path, method: str, mirrored: bool
) -> None:
    if mirrored:
        draw_pair(folder / "pair.png", mirrored=True)
        library.index([folder])
    for words, is_left in (("a red circle", not mirrored), ("a blue square", mirrored)):
        patches = map_of(library, words, method=method)
        assert patches.method == method
        strongest = np.unravel_index(patches.differences.argmax(), patches.differences.shape)
        assert bool(strongest[1] < patches.windows.grid[1] / 2) is is_left
        share = share_on_the_left(patches)
        assert (share if is_left else 1 - share) > 0.7


def test_by_itself_the_head_is_asked_where_there_is_one(indexed: Library) -> None:
    patches = map_of(indexed, "a red circle")
    assert (patches.method, patches.device, patches.model) == ("attention", "cpu", "demo")
    assert patches.windows.grid == (6, 6)
    assert patches.region == (0, 0, 1, 1)


@pytest.mark.parametrize("method", MAPS)
def test_the_towers_score_is_that_of_the_library(indexed: Library, method: str) -> None:
    (explanation,) = explained(indexed, "a red circle", method=method)
    (hit,) = indexed.answer("a red circle", min_probability=0).hits
    score = indexed.answering().spec.score
    assert score.logit_bias is not None
    logit = score.logit_scale * hit.cosine + score.logit_bias
    assert explanation.score == pytest.approx(logit, abs=1e-3)
    assert explanation.patches is not None
    # The library keeps vectors in half precision.
    assert explanation.patches.score == pytest.approx(logit, abs=0.05)


def test_an_occluded_window_is_a_picture_with_that_window_blurred(
    indexed: Library, pair: Path
) -> None:
    spec = indexed.answering().spec
    patches = map_of(indexed, "a red circle", method="occlusion")
    assert (patches.windows.grid, patches.windows.span) == ((8, 8), (3, 3))
    height, width = spec.vision.image_size
    vision = spec.vision
    prepare = Preprocessor(vision.image_size, vision.resize, vision.resample)
    pixels = prepare(Image.open(pair))
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(width / 8)))
    versions = [pixels]
    for row in range(6):
        for column in range(6):
            version = pixels.copy()
            down = slice(row * height // 8, (row + 3) * height // 8)
            across = slice(column * width // 8, (column + 3) * width // 8)
            version[down, across] = blurred[down, across]
            versions.append(version)
    vectors = VisionTower(spec).embed(np.stack(versions))
    towards = indexed.answering().text_vectors(["a red circle"])[0]
    logits = spec.score.logit_scale * (vectors.astype(np.float64) @ towards)
    expected = patches.windows.cell_means(logits[0] - logits[1:])
    np.testing.assert_allclose(patches.differences, expected, atol=1e-3)


def test_each_word_is_what_the_score_loses_without_it(indexed: Library) -> None:
    (explanation,) = explained(indexed, "a red circle", method=None)
    assert explanation.patches is None
    score = indexed.answering().spec.score
    assert score.logit_bias is not None
    without = {"a": "red circle", "red": "a circle", "circle": "a red"}
    assert [effect.part.text for effect in explanation.parts] == list(without)
    for effect in explanation.parts:
        (hit,) = indexed.answer(without[effect.part.text], min_probability=0).hits
        rest = score.logit_scale * hit.cosine + score.logit_bias
        assert effect.difference == pytest.approx(explanation.score - rest, abs=1e-3)
    # The word for the thing matters more than the article.
    by_word = {effect.part.text: effect.difference or 0.0 for effect in explanation.parts}
    assert by_word["circle"] > 3 * abs(by_word["a"])


def test_the_text_that_decided_is_explained(indexed: Library) -> None:
    (explanation,) = explained(indexed, Question(all_of=("red circle", "penguin")), method=None)
    assert explanation.asked == "penguin"
    (explanation,) = explained(indexed, Question(any_of=("red circle", "penguin")), method=None)
    assert explanation.asked == "red circle"
    assert [effect.part.text for effect in explanation.parts] == ["red", "circle"]


def test_templates_are_kept_while_words_are_left_out(indexed: Library) -> None:
    question = Question(words="red circle", templates=True)
    (explanation,) = explained(indexed, question, method=None)
    answering = indexed.answering()
    whole, rest = answering.text_vectors(["red circle", "circle"], templates=True)
    (hit,) = indexed.answer(replace(question, min_probability=0.0)).hits
    (picture,) = answering.store.vectors(answering.spec.space_key, [hit.photo_id])
    expected = answering.spec.score.logit_scale * float(picture @ (whole - rest))
    assert explanation.parts[0].difference == pytest.approx(expected, abs=0.02)


def test_with_a_picture_in_the_question_differences_are_of_the_similarity(
    indexed: Library, tmp_path: Path
) -> None:
    asked = tmp_path / "asked.png"
    draw_pair(asked, mirrored=True)
    question = Question(words="red", like=(str(asked),))
    (explanation,) = explained(indexed, question)
    assert explanation.unit == "cosine"
    assert -1 <= explanation.score <= 1
    assert [effect.part.kind for effect in explanation.parts] == ["picture", "word"]
    assert explanation.patches is not None
    assert np.abs(explanation.patches.differences).max() < 2


def test_only_the_first_hits_are_explained_and_progress_is_told(
    library: Library, folder: Path
) -> None:
    for number in range(3):
        draw_pair(folder / f"{number}.png", width=500 + 20 * number)
    library.index([folder])
    question = Question(words="a red circle", min_probability=0.0)
    hits = library.answer(question).hits
    assert len(hits) == 4
    told: list[tuple[int, float]] = []
    explanations = list(
        explain_hits(
            library,
            question,
            hits,
            ExplainOptions(hits=2),
            on_progress=lambda hit, share: told.append((hit, share)),
        )
    )
    assert [one.photo_id for one in explanations] == [hit.photo_id for hit in hits[:2]]
    assert {hit for hit, _ in told} == {0, 1}
    assert told == sorted(told)
    assert told[-1] == (1, 1.0)


def test_a_slow_tower_hides_fewer_parts(indexed: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_maps, "_OVERTIME", 1e9)  # a busy machine becomes slow meanwhile
    patches = map_of(indexed, "a red circle", method="occlusion", max_seconds=1e-6)
    assert patches.windows.grid == (4, 4)
    assert share_on_the_left(patches) > 0.6


def test_a_tower_that_becomes_slow_is_not_waited_for(
    indexed: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that stands while the tower is timed, and then runs a thousand seconds a look.
    looks = iter([0.0, 0.0, *(1000.0 * number for number in range(100))])
    monkeypatch.setattr(patch_maps.time, "monotonic", lambda: next(looks))
    (explanation,) = explained(indexed, "a red circle", method="occlusion")
    assert explanation.patches is None
    assert explanation.problem is not None
    assert "slow" in explanation.problem
    assert explanation.parts


def test_another_file_of_the_same_picture_takes_its_place(library: Library, folder: Path) -> None:
    shutil.copy(folder / "pair.png", folder / "copy.png")
    library.index([folder])
    (folder / "copy.png").rename(folder / "kept.tmp")
    (folder / "pair.png").rename(folder / "copy.png")
    (explanation,) = explained(library, "a red circle")
    assert explanation.path == str(folder / "copy.png")
    assert explanation.patches is not None


def test_a_picture_that_is_gone_has_its_words_explained(library: Library, folder: Path) -> None:
    (folder / "pair.png").unlink()
    (explanation,) = explained(library, "a red circle")
    assert explanation.problem == "the file is gone"
    assert explanation.patches is None
    assert len(explanation.parts) == 3


@pytest.mark.parametrize("content", ["another", "broken"])
def test_a_file_that_changed_is_not_taken_for_the_picture(
    library: Library, folder: Path, content: str
) -> None:
    if content == "another":
        draw_pair(folder / "pair.png", mirrored=True)
    else:
        (folder / "pair.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (explanation,) = explained(library, "a red circle")
    assert explanation.problem
    assert explanation.patches is None
    assert (content == "another") == ("changed" in explanation.problem)


def test_maps_are_drawn_and_nothing_is_replaced(
    indexed: Library, pair: Path, tmp_path: Path
) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "001-pair.png").write_bytes(b"mine")
    (maps / "001-pair-2.png").symlink_to(tmp_path / "nowhere")
    paths = [explained(indexed, "a red circle", heatmaps=maps)[0].heatmap for _ in range(2)]
    assert paths == [maps / "001-pair-3.png", maps / "001-pair-4.png"]
    assert (maps / "001-pair.png").read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()
    assert sorted(os.listdir(maps)) == [
        *("001-pair-2.png", "001-pair-3.png", "001-pair-4.png", "001-pair.png")
    ]
    original = np.asarray(Image.open(pair)).astype(int)
    with Image.open(maps / "001-pair-3.png") as drawn:
        assert drawn.format == "PNG"
        pixels = np.asarray(drawn).astype(int)[:320, :480]
    warmer = ((pixels - original) @ (1, 0, -1)).clip(min=0)
    assert warmer[:, :240].mean() > 5 * warmer[:, 240:].mean()


@pytest.mark.parametrize("name", ["\udcff\udcfe", "a:b?*", "..", "x" * 200, "犬", "𐌰" * 60])
def test_any_name_of_a_picture_makes_a_name_of_a_map(
    indexed: Library, pair: Path, tmp_path: Path, name: str
) -> None:
    picture = tmp_path / f"{name}.png"
    try:
        shutil.copy(pair, picture)
    except (OSError, ValueError):
        pytest.skip("this file system takes no such name")
    patches = map_of(indexed, "a red circle")
    maps = tmp_path / "maps"
    check_heatmap_folder(maps)
    caption = f"like {picture}\n\x1b[0m"
    drawn = save_heatmap(maps, 7, str(picture), patches, caption, DecodeLimits())
    assert drawn.name.isprintable()
    assert drawn.name.startswith("007-")
    assert len(os.fsencode(drawn.name)) < 150
    with Image.open(drawn) as image:
        image.load()


def test_a_picture_that_was_forgotten_meanwhile_is_passed_over(indexed: Library) -> None:
    question = Question(words="a red circle", min_probability=0.0)
    (hit,) = indexed.answer(question).hits
    hits = [replace(hit, photo_id=hit.photo_id + 1000), hit]
    found = list(explain_hits(indexed, question, hits, ExplainOptions(method=None)))
    assert [explanation.photo_id for explanation in found] == [hit.photo_id]


def test_a_filter_alone_has_nothing_to_explain(indexed: Library) -> None:
    question = Question(where=Where(formats=("PNG",)))
    hits = indexed.answer(question).hits
    assert hits
    with pytest.raises(QueryError, match="a filter alone"):
        list(explain_hits(indexed, question, hits, ExplainOptions()))


def test_what_a_cropping_tower_does_not_see_is_no_part_of_the_map() -> None:
    crop = Preprocessor((96, 96), "shortest-side-crop", "bilinear")
    assert crop.seen((400, 200)) == (0.25, 0.0, 0.75, 1.0)
    assert crop.seen((200, 400)) == (0.0, 0.25, 1.0, 0.75)
    assert crop.seen((300, 300)) == (0.0, 0.0, 1.0, 1.0)
    # What it cuts out is what it says, to a pixel of the tower's.
    ramp = np.tile(np.linspace(0, 255, 400, dtype=np.uint8), (200, 1))
    seen = crop(Image.fromarray(ramp))
    assert seen[0, 0, 0] == pytest.approx(0.25 * 255, abs=2)
    assert seen[0, -1, 0] == pytest.approx(0.75 * 255, abs=2)
    squash = Preprocessor((96, 96), "squash", "bilinear")
    assert squash.seen((400, 200)) == (0.0, 0.0, 1.0, 1.0)


def test_a_tower_without_a_head_is_occluded_and_refuses_only_when_asked(
    indexed: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a tower shows whose attention is one fused operator.
    monkeypatch.setattr(patch_maps, "open_patch_attention", lambda spec: None)
    assert map_of(indexed, "a red circle").method == "occlusion"
    with pytest.raises(ModelError, match="no attention-pooling head") as caught:
        explained(indexed, "a red circle", method="attention")
    assert "--explain-by occlusion" in caught.value.hint
