"""Comparing variants with the model that they were made from, and what may follow from it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from siglip_index import open_store
from siglip_search import demo, open_library
from siglip_search.engine.agreement import (
    Figures,
    deciding_figures,
    has_random_weights,
    is_decided,
    is_simulation,
    measure_agreement,
    verdict,
)
from siglip_search.engine.calibration_record import picture_digest
from siglip_search.engine.chosen_model import space_of
from siglip_search.engine.comparison import (
    Contender,
    compare_models,
    line_up,
    refuse_other_checkpoint,
)
from siglip_search.engine.picture_sample import (
    decoded_pictures,
    folder_pictures,
    library_pictures,
)
from siglip_search.engine.precision import (
    make_variant,
    settle_agreement,
)
from siglip_search.engine.query_phrases import PHRASES
from siglip_search.errors import ModelError, PathError
from siglip_search.models.model_folder import load_model_folder
from siglip_search.models.spec import MODEL_FILE, Agreement
from siglip_search.photos.decode import DecodeLimits
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec

PASSING = Agreement(pictures=500, mean_cosine=0.999, worst_cosine=0.9, recall_at_10=0.97)
FAILING = replace(PASSING, recall_at_10=0.94)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / lengths).astype(np.float32)


@pytest.fixture
def tiny(tiny_model: Path) -> ModelSpec:
    return load_model_folder(tiny_model)


@pytest.fixture
def gallery() -> ModelSpec:
    return load_model_folder(demo.model_directory())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


# The figures


def test_a_model_agrees_with_itself_entirely() -> None:
    chance = np.random.default_rng(0)
    pictures, texts = (unit(chance.standard_normal((n, 16))) for n in (40, 7))
    figures = measure_agreement(
        reference_pictures=pictures,
        variant_pictures=pictures.copy(),
        reference_texts=texts,
        variant_texts=texts.copy(),
    )
    assert (figures.pictures, figures.texts) == (40, 7)
    assert figures.recall_at_10 == figures.mixed_recall_at_10 == 1.0
    assert figures.picture_cosine_worst == pytest.approx(1.0, abs=1e-6)
    assert figures.agreement.mean_cosine <= 1.0


def test_recall_is_the_share_of_the_ten_best_that_are_found_again() -> None:
    # Pictures along the axes, in the order in which the one text likes them.
    pictures = np.eye(20, dtype=np.float32)
    text = unit(np.linspace(20, 1, 20)[None])
    swapped = pictures.copy()
    swapped[[8, 9, 10, 11]] = pictures[[10, 11, 8, 9]]  # two of the ten best are the others'
    figures = measure_agreement(
        reference_pictures=pictures,
        variant_pictures=swapped,
        reference_texts=text,
        variant_texts=text,
    )
    assert figures.recall_at_10 == figures.mixed_recall_at_10 == pytest.approx(0.8)
    assert figures.picture_cosine_mean == pytest.approx(0.8)
    assert figures.picture_cosine_worst == 0.0


def test_mixed_recall_sees_a_variant_that_agrees_only_with_itself() -> None:
    chance = np.random.default_rng(0)
    pictures, texts = (unit(chance.standard_normal((n, 16))) for n in (100, 20))
    turned = np.linalg.qr(chance.standard_normal((16, 16)))[0].astype(np.float32)
    figures = measure_agreement(
        reference_pictures=pictures,
        variant_pictures=pictures @ turned,
        reference_texts=texts,
        variant_texts=texts @ turned,
    )
    assert figures.recall_at_10 > 0.99
    assert figures.mixed_recall_at_10 < 0.5
    assert figures.agreement.recall_at_10 == figures.mixed_recall_at_10
    assert not figures.agreement.passed


def test_the_worse_of_each_pair_of_figures_decides() -> None:
    figures = Figures(600, 197, 0.999, 0.98, 0.991, 0.97, 0.96, 0.97)
    assert figures.agreement == Agreement(600, 0.991, 0.97, 0.96)
    assert figures.agreement.passed
    assert not replace(figures, text_cosine_mean=0.98).agreement.passed
    assert not replace(figures, mixed_recall_at_10=0.94).agreement.passed


def test_verdicts(gallery: ModelSpec, tiny: ModelSpec) -> None:
    good = Figures(600, 197, 0.999, 0.98, 0.991, 0.97, 0.96, 0.97)
    assert verdict(gallery, good) == "agrees"
    assert verdict(gallery, replace(good, recall_at_10=0.9)) == "does not agree"
    few = replace(good, pictures=499)
    assert verdict(gallery, few) == "too few pictures (499 of 500)"
    assert not is_decided(gallery, few)
    assert has_random_weights(tiny)
    assert verdict(tiny, good) == "random weights: decides nothing"
    assert not is_decided(tiny, good)


def test_what_was_measured_where_it_runs_decides_and_the_worst_of_it(gallery: ModelSpec) -> None:
    good = Figures(600, 197, 0.999, 0.98, 0.991, 0.97, 0.96, 0.97)
    better = replace(good, picture_cosine_mean=0.9999, text_cosine_mean=0.9999)
    bad = replace(good, recall_at_10=0.9)
    for_npu = replace(gallery, vision=replace(gallery.vision, precision="w8a16"))
    assert deciding_figures(gallery, {}) is None
    assert deciding_figures(gallery, {"cpu": good}) is good
    assert deciding_figures(gallery, {"cpu": better, "npu": good}) is good
    assert deciding_figures(gallery, {"cpu": bad, "npu": good}) is bad
    # On the processor these are a simulation, and the emulator gives way to an NPU.
    assert deciding_figures(for_npu, {"cpu": good}) is None
    assert deciding_figures(for_npu, {"cpu": bad, "npu-emulator": good}) is good
    assert deciding_figures(for_npu, {"npu": good, "npu-emulator": bad}) is good
    assert is_simulation(for_npu, "cpu")
    assert not is_simulation(for_npu, "npu-emulator")
    assert not is_simulation(gallery, "cpu")


def test_there_are_about_two_hundred_queries_each_once() -> None:
    assert 190 <= len(PHRASES) <= 210
    assert len(set(PHRASES)) == len(PHRASES)
    for phrase in PHRASES:
        assert phrase == " ".join(phrase.split())
        assert 1 <= len(phrase.split()) <= 7


# The pictures


def decoded(paths: list[bytes], number: int, spec: ModelSpec) -> int:
    preprocessor = VisionTower(spec).preprocessor
    with decoded_pictures(
        paths, number, preprocessor, workers=1, limits=DecodeLimits()
    ) as pictures:
        found = list(pictures)
    assert all(picture.shape == (1, *spec.vision.image_size, 3) for picture in found)
    return len(found)


def draw(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC).save(path)


def test_what_cannot_be_read_and_copies_make_way_for_other_pictures(
    tmp_path: Path, tiny: ModelSpec
) -> None:
    for number in range(8):
        draw(tmp_path / f"{number}.png", number)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff" + b"\0" * 50)
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    paths = folder_pictures(tmp_path)
    assert len(paths) == 10
    assert paths == folder_pictures(tmp_path)  # the same sample each time
    assert paths != sorted(paths)
    paths.insert(0, os.fsencode(tmp_path / "gone.png"))
    assert decoded(paths, 100, tiny) == 8
    assert decoded(paths, 5, tiny) == 5


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathError, match="nowhere"):
        folder_pictures(tmp_path / "nowhere")


def test_a_library_gives_each_present_picture_once(tmp_path: Path) -> None:
    assert library_pictures(tmp_path / "library") == []
    assert not (tmp_path / "library").exists()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(4):
        draw(pictures / f"{number}.png", number)
    shutil.copy(pictures / "0.png", pictures / "copy.png")
    with open_library(tmp_path / "library", model="demo") as library:
        library.index([pictures])
        (pictures / "3.png").unlink()
        library.index()
    found = [Path(os.fsdecode(path)).name for path in library_pictures(tmp_path / "library")]
    assert len(found) == 3
    assert {"1.png", "2.png"} < set(found)


# The comparison


@pytest.fixture
def drawn(tmp_path: Path) -> list[bytes]:
    """12 pictures."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(12):
        draw(pictures / f"{number}.png", number)
    return folder_pictures(pictures)


def test_variants_are_compared_with_the_reference(
    tiny: ModelSpec, models: Path, drawn: list[bytes]
) -> None:
    int8 = make_variant(tiny, "int8", models).spec
    fp16 = make_variant(tiny, "fp16", models).spec
    seen: list[int] = []
    figures = compare_models(
        tiny,
        [Contender(int8, "cpu"), Contender(fp16, "cpu")],
        drawn,
        pictures=10,
        cores=2,
        limits=DecodeLimits(),
        on_progress=seen.append,
    )
    assert seen == list(range(1, 11))
    assert len(figures) == 2
    for each in figures:
        assert (each.pictures, each.texts) == (10, len(PHRASES))
        assert each.picture_cosine_worst > 0.99
        assert each.text_cosine_worst > 0.99
        assert each.recall_at_10 == 1.0  # of ten pictures
    assert figures[1].picture_cosine_worst > 0.99999


def test_pictures_that_are_held_out_make_way_for_others(
    tiny: ModelSpec, models: Path, drawn: list[bytes]
) -> None:
    fp16 = make_variant(tiny, "fp16", models).spec
    preprocessor = VisionTower(tiny).preprocessor
    with decoded_pictures(drawn, 4, preprocessor, workers=1, limits=DecodeLimits()) as pictures:
        held_out = {picture_digest(pixels) for pixels in pictures}
    assert len(held_out) == 4
    compared = []
    for number in (6, 100):
        figures = compare_models(
            tiny,
            [Contender(fp16, "cpu")],
            drawn,
            pictures=number,
            cores=1,
            limits=DecodeLimits(),
            held_out=held_out,
        )
        compared.append(figures[0].pictures)
    assert compared == [6, 8]


def test_without_pictures_nothing_is_compared(
    tmp_path: Path, tiny: ModelSpec, models: Path
) -> None:
    int8 = Contender(make_variant(tiny, "int8", models).spec, "cpu")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff" + b"\0" * 50)
    for paths in ([], [os.fsencode(broken)]):
        assert not compare_models(tiny, [int8], paths, pictures=10, cores=1, limits=DecodeLimits())


def test_who_is_compared_with_whom(tiny: ModelSpec, gallery: ModelSpec, models: Path) -> None:
    int8 = make_variant(tiny, "int8", models).spec
    fp16 = make_variant(tiny, "fp16", models).spec
    installed = [gallery, tiny, int8, fp16]
    names = {
        tuple(each.name for each in named): [
            (lineup.reference.name, [variant.name for variant in lineup.variants])
            for lineup in line_up(named, installed)
        ]
        for named in ([tiny], [int8], [int8, fp16], [fp16, tiny], [gallery, int8, int8])
    }
    tiny_int8, tiny_fp16 = int8.name, fp16.name
    assert names == {
        (tiny.name,): [(tiny.name, [tiny_int8, tiny_fp16])],
        (tiny_int8,): [(tiny.name, [tiny_int8])],
        (tiny_int8, tiny_fp16): [(tiny.name, [tiny_int8, tiny_fp16])],
        (tiny_fp16, tiny.name): [(tiny.name, [tiny_int8, tiny_fp16])],
        ("demo", tiny_int8, tiny_int8): [("demo", []), (tiny.name, [tiny_int8])],
    }
    (alone,) = line_up([int8], [gallery, int8])
    assert (alone.reference, alone.variants) == (int8, ())


def test_variant_of_another_checkpoint_is_refused(
    random_tower: ModuleType, tmp_path: Path, tiny: ModelSpec, models: Path
) -> None:
    int8 = make_variant(tiny, "int8", models).spec
    other = load_model_folder(
        random_tower.write_random_model(tmp_path / "other", name=tiny.name, seed=5)
    )
    for refused in (
        lambda: line_up([int8], [other, int8]),
        lambda: compare_models(
            other, [Contender(int8, "cpu")], [], pictures=1, cores=1, limits=DecodeLimits()
        ),
    ):
        with pytest.raises(ModelError, match="not made from the installed random-tiny") as caught:
            refused()
        assert "--replace" in caught.value.hint
    # Named alone, the other model has no variants.
    assert [lineup.variants for lineup in line_up([other], [other, int8])] == [()]


def test_variant_with_another_tokenizer_is_refused(tiny: ModelSpec, models: Path) -> None:
    int8 = make_variant(tiny, "int8", models).spec
    with int8.tokenizer_path.open("ab") as tokenizer:
        tokenizer.write(b"\0")
    with pytest.raises(ModelError, match="tokenizer"):
        refuse_other_checkpoint(int8, tiny)


def test_variant_of_a_variant_is_refused(tiny: ModelSpec, models: Path) -> None:
    int8 = make_variant(tiny, "int8", models).spec
    with pytest.raises(ModelError, match="was made from random-tiny itself"):
        refuse_other_checkpoint(int8, int8)
    with pytest.raises(ModelError, match="was made from random-tiny itself"):
        make_variant(int8, "fp16", models)


# Making variants, and their spaces


def test_a_variant_says_where_it_comes_from_and_is_a_space_of_its_own(
    tiny: ModelSpec, models: Path
) -> None:
    made = make_variant(tiny, "int8", models)
    assert min(made.picture_cosine, made.text_cosine) > 0.99
    spec = made.spec
    assert spec == load_model_folder(models / "random-tiny-int8")
    assert (spec.vision.precision, spec.text.precision) == ("int8", "int8")
    assert spec.variant is not None
    assert spec.variant.of == "random-tiny"
    assert spec.variant.recipe.startswith("siglip-search dynamic int8 1, weights up to ")
    assert spec.variant.agreement is None
    assert (spec.checkpoint, spec.score, spec.notice) == (tiny.checkpoint, tiny.score, tiny.notice)
    assert spec.space_key != tiny.space_key
    assert [path.name for path in models.iterdir()] == ["random-tiny-int8"]
    fp16 = make_variant(tiny, "fp16", models).spec
    assert len({tiny.space_key, spec.space_key, fp16.space_key}) == 3


def test_a_variant_joins_the_space_when_it_agrees_and_leaves_it_when_not(
    tiny: ModelSpec, models: Path, tmp_path: Path
) -> None:
    own = make_variant(tiny, "int8", models).spec
    assert settle_agreement(own, PASSING, tmp_path / "library") == "joined"
    joined = load_model_folder(own.directory)
    assert joined.variant is not None
    assert joined.variant.agreement == PASSING
    assert joined.space_key == tiny.space_key
    assert settle_agreement(joined, FAILING, tmp_path / "library") == "apart"
    assert load_model_folder(own.directory).space_key == own.space_key
    assert sorted(path.name for path in own.directory.iterdir()) == sorted(own.files)


def test_vectors_of_a_variants_own_space_are_not_orphaned(
    tiny: ModelSpec, models: Path, tmp_path: Path
) -> None:
    own = make_variant(tiny, "int8", models).spec
    with open_store(tmp_path / "library", writable=True) as store, store.write() as writer:
        writer.ensure_space(space_of(own))
    assert settle_agreement(own, PASSING, tmp_path / "library") == "left"
    assert load_model_folder(own.directory) == own
    # Elsewhere, and with other vectors, nothing stands in the way.
    with open_store(tmp_path / "other", writable=True) as store, store.write() as writer:
        writer.ensure_space(space_of(tiny))
    assert settle_agreement(own, PASSING, tmp_path / "other") == "joined"


@pytest.mark.parametrize("number", ["nan", "inf", '"much"', "true"])
def test_agreement_that_is_no_number_is_an_error_with_its_place(
    tiny: ModelSpec, models: Path, number: str
) -> None:
    spec = make_variant(tiny, "int8", models).spec
    settle_agreement(spec, PASSING, models / "no library")
    path = spec.directory / MODEL_FILE
    text = path.read_text(encoding="utf-8").replace(
        "mean_cosine = 0.999", f"mean_cosine = {number}"
    )
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"variant\.agreement\.mean_cosine"):
        load_model_folder(spec.directory)


def test_a_taken_name_is_refused_unless_it_shall_be_replaced(tiny: ModelSpec, models: Path) -> None:
    settle_agreement(make_variant(tiny, "int8", models).spec, PASSING, models / "no library")
    with pytest.raises(ModelError, match="is installed already"):
        make_variant(tiny, "int8", models)
    again = make_variant(tiny, "int8", models, replace_old=True).spec
    assert again.variant is not None
    assert again.variant.agreement is None  # measured on towers that are no more


def test_what_is_no_fp32_model_is_refused_in_one_line(
    tiny: ModelSpec, gallery: ModelSpec, models: Path
) -> None:
    stored_so = replace(tiny, text=replace(tiny.text, precision="fp16"))
    with pytest.raises(ModelError, match="text tower of random-tiny has fp16 weights already"):
        make_variant(stored_so, "int8", models)
    with pytest.raises(ModelError, match="no fp32 weights to store as fp16"):
        make_variant(gallery, "fp16", models)
    assert not models.exists() or list(models.iterdir()) == []


@pytest.mark.parametrize("tower", ["vision.onnx", "text.onnx"])
def test_a_failing_quantisation_leaves_nothing_behind(
    tiny_model: Path, tmp_path: Path, models: Path, tower: str
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    whole = (broken / tower).read_bytes()
    (broken / tower).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=tower):
        make_variant(load_model_folder(broken), "int8", models)
    assert list(models.iterdir()) == []
    (broken / tower).unlink()


def test_models_folder_that_cannot_be_written_is_named(tiny: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="'random-tiny-int8' cannot be made"):
        make_variant(tiny, "int8", tmp_path / "file" / "models")
