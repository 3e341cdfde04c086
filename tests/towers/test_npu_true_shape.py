"""A text tower of true shape on the NPU's emulator: what a tiny one may hide shows there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from npu_emulator import needs_emulator

from siglip_search.export.quantization_data import Samples
from siglip_search.export.quantize_w8a16 import quantize_w8a16, write_w8a16
from siglip_search.export.static_shapes import static_text_tower
from siglip_search.models.model_folder import load_model_folder
from siglip_search.towers.embedding import embedding_graph
from siglip_search.towers.qnn_target import DEFAULT_TARGET
from siglip_search.towers.session_cpu import CpuSession
from siglip_search.towers.session_qnn import QnnSession

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from numpy.typing import NDArray

    from siglip_search.models.spec import ModelSpec
    from siglip_search.towers.session import Session

pytestmark = [*needs_emulator, pytest.mark.slow]

WORST_COSINE = 0.9995  # to fp32
SAMPLES, TEXTS = 16, 3


@pytest.fixture(scope="module")
def base(random_tower: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A model with the text tower of SigLIP base, random weights, for one text."""
    # The picture tower is not run here, so a tiny one fills its place.
    directory = random_tower.write_random_model(tmp_path_factory.mktemp("base") / "model", batch=1)
    shape = random_tower.SHAPES["base-384"]
    tower = random_tower.text_tower(shape, np.random.default_rng(3), batch=1)
    onnx.save(tower, str(directory / "text.onnx"))
    spec = load_model_folder(directory)
    text = dataclasses.replace(spec.text, length=shape.length)
    return dataclasses.replace(spec, dimension=shape.dimension, text=text)


def random_ids(random_tower: ModuleType, count: int, seed: int) -> NDArray[np.int64]:
    shape = random_tower.SHAPES["base-384"]
    generator = np.random.default_rng(seed)
    ids = np.ones((count, shape.length), np.int64)  # padding, as in any short query
    for row in ids:
        words = int(generator.integers(1, shape.length))
        row[:words] = generator.integers(2, shape.vocabulary, words)
    return ids


def embed(session: Session, path: Path, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    graph = embedding_graph(
        session, path=path, dimension=768, input_names=("input_ids",), input_shape=ids.shape[1:]
    )
    return graph.run(ids, rows_per_run=1)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", ["fp16", "w8a16"])
def test_a_text_tower_of_true_shape_runs_whole_on_the_npu_and_agrees_with_fp32(
    random_tower: ModuleType, base: ModelSpec, tmp_path: Path, precision: str
) -> None:
    path = base.text_path
    if precision == "w8a16":
        static = static_text_tower(base)
        samples = Samples("input_ids", random_ids(random_tower, SAMPLES, seed=1))
        path = tmp_path / "text.onnx"
        write_w8a16(quantize_w8a16(static, samples, source=base.text_path), path)
    ids = random_ids(random_tower, TEXTS, seed=2)
    session = QnnSession(path, target=DEFAULT_TARGET, emulator=True)
    assert session.assignment.cpu == 0
    assert session.assignment.npu > 200
    expected = embed(CpuSession(base.text_path), base.text_path, ids)
    cosines = np.einsum("nd,nd->n", embed(session, path, ids), expected)
    assert cosines.min() >= WORST_COSINE
    # A tower that gave one vector for everything would agree as well.
    assert np.max((expected @ expected.T)[~np.eye(TEXTS, dtype=bool)]) < 0.99
