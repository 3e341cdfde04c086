"""Exported towers against the libraries that defined the models.

Small models with random weights go the whole way: saved as their library saves them, exported, run
in our sessions. docs/parity.md has the same comparison in true shapes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import reference_models
from PIL import Image
from reference_models import FAMILIES, SmallModel

from siglip_search.errors import ModelError
from siglip_search.export.checkpoint import find_checkpoint
from siglip_search.export.model_export import export_model
from siglip_search.export.open_clip_models import load_open_clip_towers
from siglip_search.export.tower_check import check_towers
from siglip_search.export.transformers_models import load_transformers_towers
from siglip_search.models.registry import find_row
from siglip_search.search.scoring import match_probability
from siglip_search.tokenizers import open_tokenizer
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.preprocess import normalise
from siglip_search.towers.session_cpu import CpuSession
from siglip_search.towers.text import TextTower
from siglip_search.towers.vision import VisionTower

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from siglip_search.export.torch_towers import TorchTowers

pytestmark = pytest.mark.reference

TOLERANCE = 2e-6  # of a unit vector's components; the mistakes that are planted below make 5e-6
LOGIT_TOLERANCE = 2e-4
SEED = 11

COCO_CATS = "SIGLIP_SEARCH_COCO_CATS"
"""Names the file of COCO's picture 39769, two cats on a sofa, for the test with real weights."""


@pytest.fixture(scope="module", params=FAMILIES)
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SmallModel:
    folder = tmp_path_factory.mktemp(request.param)
    row = reference_models.small_row(request.param)
    vocabulary = reference_models.write_checkpoint(request.param, folder / "checkpoint")
    exported = export_model(row, folder / "model", weights=folder / "checkpoint")
    return SmallModel(row, folder / "checkpoint", vocabulary, exported)


@pytest.fixture(scope="module")
def reference(small: SmallModel) -> Any:
    """The checkpoint, opened by its own library's own loader."""
    opened = reference_models.script("random_checkpoint").open_reference
    return opened(small.row, small.checkpoint)


def pictures(small: SmallModel, count: int = 6) -> NDArray[np.uint8]:
    make = reference_models.script("random_checkpoint").random_pictures
    made: NDArray[np.uint8] = make(count, small.exported.spec.vision.image_size, seed=SEED)
    return made


def ids_of_the_whole_vocabulary(small: SmallModel, count: int = 8) -> NDArray[np.int64]:
    make = reference_models.script("random_checkpoint").random_ids
    made: NDArray[np.int64] = make(count, small.row.hub, small.vocabulary, seed=SEED)
    return made


def pixel_values(small: SmallModel, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    vision = small.exported.spec.vision
    return normalise(pixels, mean=vision.mean, std=vision.std)


def embedded_ids(small: SmallModel, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    spec = small.exported.spec
    graph = embedding_graph(
        CpuSession(spec.text_path),
        path=spec.text_path,
        dimension=spec.dimension,
        input_names=("input_ids",),
        input_shape=ids.shape[1:],
    )
    return graph.run(ids, rows_per_run=3)


def assert_different(embeddings: NDArray[np.float32]) -> None:
    """Towers that give every input the same embedding would agree with anything."""
    cosines = embeddings @ embeddings.T
    assert cosines[np.triu_indices(len(cosines), 1)].max() < 0.99


def worst(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours - theirs).max())


def test_pictures_get_the_embeddings_of_the_library(small: SmallModel, reference: Any) -> None:
    pixels = pictures(small)
    theirs = reference.pictures(pixel_values(small, pixels))
    assert_different(theirs)
    assert worst(VisionTower(small.exported.spec).embed(pixels), theirs) <= TOLERANCE


def test_ids_get_the_embeddings_of_the_library(small: SmallModel, reference: Any) -> None:
    ids = ids_of_the_whole_vocabulary(small)
    theirs = reference.texts(ids)
    assert_different(theirs)
    assert worst(embedded_ids(small, ids), theirs) <= TOLERANCE


def test_words_get_the_embeddings_of_the_library(small: SmallModel, reference: Any) -> None:
    words = ["a red cat", "two boats, 1987, on the sea by night", "", "umbrella " * 100]
    spec = small.exported.spec
    theirs = reference.texts(open_tokenizer(spec).encode(words))
    assert_different(theirs)
    assert worst(TextTower(spec).embed(words), theirs) <= TOLERANCE


def test_logits_and_probabilities_are_those_of_the_library(
    small: SmallModel, reference: Any
) -> None:
    pixels, ids = pictures(small), ids_of_the_whole_vocabulary(small)
    spec, score = small.exported.spec, small.exported.spec.score
    theirs = reference.logits(pixel_values(small, pixels), ids)
    cosines = VisionTower(spec).embed(pixels) @ embedded_ids(small, ids).T
    ours = score.logit_scale * cosines + (score.logit_bias or 0.0)
    assert worst(ours, theirs) <= LOGIT_TOLERANCE
    if small.row.hub is not None and small.row.hub.tokenizer == "clip-bpe":
        assert score.logit_bias is None
        return
    assert score.logit_bias is not None
    # On one side of 0 alone every probability would be next to 0, or to 1.
    assert theirs.min() < -1 < 1 < theirs.max()
    probabilities = [
        match_probability(float(c), logit_scale=score.logit_scale, logit_bias=score.logit_bias)
        for c in cosines.flat
    ]
    sigmoid = 1 / (1 + np.exp(-theirs.astype(np.float64)))
    assert np.abs(np.array(probabilities) - sigmoid.flatten()).max() <= LOGIT_TOLERANCE / 4


def test_the_check_of_an_export_passes_a_sound_one(small: SmallModel) -> None:
    differences = check_towers(small.exported.spec, torch_towers(small))
    assert differences == small.exported.differences
    assert 0 <= differences.vision <= TOLERANCE
    assert 0 <= differences.text <= TOLERANCE


@pytest.mark.parametrize("mutant", ["other_gelu", "other_epsilon"])
def test_the_check_of_an_export_refuses_a_planted_mistake(small: SmallModel, mutant: str) -> None:
    towers = torch_towers(small)
    planted = getattr(reference_models.script("random_checkpoint"), mutant)
    # Of the picture towers, MobileCLIP2's has no LayerNorm.
    for tower, name in ((towers.vision, "vision.onnx"), (towers.text, "text.onnx")):
        if mutant == "other_epsilon" and not has_layer_norm(tower.module):
            continue
        with planted(tower.module), pytest.raises(ModelError, match=f"{name} differs"):
            check_towers(small.exported.spec, towers)


def torch_towers(small: SmallModel) -> TorchTowers:
    load = {"transformers": load_transformers_towers, "open_clip": load_open_clip_towers}
    assert small.row.hub is not None
    checkpoint = find_checkpoint(small.row, small.checkpoint)
    return load[small.row.hub.architecture.library](small.row, checkpoint)


def has_layer_norm(module: Any) -> bool:
    import torch

    return any(isinstance(part, torch.nn.LayerNorm) for part in module.modules())


def test_the_published_logits_come_out_of_the_published_weights(tmp_path: Path) -> None:
    """Transformers' own test (tests/models/siglip/test_modeling_siglip.py) has these figures."""
    row = find_row("siglip-base-patch16-224")
    assert row.hub is not None
    picture = os.environ.get(COCO_CATS)
    if picture is None:
        pytest.skip(f"{COCO_CATS} does not name the COCO picture 39769")
    for repository, name in (
        (row.hub.checkpoint_repo, row.hub.weights_file),
        (row.hub.checkpoint_repo, "config.json"),
        (row.hub.checkpoint_repo, row.hub.preprocessor_file),
        (row.hub.tokenizer_repo, row.hub.tokenizer_file),
    ):
        if not in_the_hub_cache(repository, name):
            pytest.skip(f"{name} of {repository} is not in the hub's cache")
    spec = export_model(row, tmp_path / "model").spec
    vision = VisionTower(spec)
    with Image.open(picture) as opened:
        pixels = vision.preprocessor(opened)[None]
    texts = TextTower(spec).embed(["a photo of 2 cats", "a photo of 2 dogs"])
    assert spec.score.logit_bias is not None
    logits = spec.score.logit_scale * vision.embed(pixels) @ texts.T + spec.score.logit_bias
    # Published with four digits, and of a picture that another JPEG decoder reads.
    np.testing.assert_allclose(logits[0], [-0.7567, -10.3354], atol=5e-3)


def in_the_hub_cache(repository: str, name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, name), str)
