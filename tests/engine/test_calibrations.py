"""Which calibration holds: the user's own, else the model's, else none."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from siglip_index import open_store
from siglip_search import demo, open_library
from siglip_search.engine.calibrations import (
    CALIBRATION_FILE,
    RECORD_KIND,
    background_sample,
    calibration_for,
    shipped_calibration,
)
from siglip_search.engine.chosen_model import model_called
from siglip_search.errors import ModelError
from siglip_search.models.model_folder import load_model_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_index.local_store import LocalStore

SPEC = model_called("demo")
BEACH = demo.gallery_directory() / "beach"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of a few drawings: read only."""
    directory = tmp_path_factory.mktemp("indexed") / "library"
    with open_library(directory, model="demo") as library:
        library.index([BEACH])
    return directory


@pytest.fixture
def store(indexed: Path, tmp_path: Path) -> Iterator[LocalStore]:
    shutil.copytree(indexed, tmp_path / "library")
    with open_store(tmp_path / "library", writable=True) as opened:
        yield opened


def put(store: LocalStore, value: str) -> None:
    with store.write() as writer:
        writer.put_record(RECORD_KIND, SPEC.space_key, value)


def test_the_fit_that_comes_with_the_demonstration_is_of_its_very_weights() -> None:
    text = (demo.model_directory() / CALIBRATION_FILE).read_text(encoding="utf-8")
    assert json.loads(text)["space"] == SPEC.space_key
    shipped = shipped_calibration(SPEC)
    assert shipped is not None
    assert (shipped.origin, shipped.false_positive_rate) == ("shipped", 0.05)
    assert shipped.pairs > 1_000_000
    # Measured: a cut that stayed would answer half of what is not there among 2,500 pictures.
    assert (shipped.pictures, shipped.measured_up_to) == (120, 2500)
    assert 0.8 < shipped.cut_slope < 1.3
    assert shipped.cut == shipped.cut_for(120) < 0.9 < shipped.cut_for(2500)


def test_a_library_of_the_demonstration_is_calibrated_by_it(store: LocalStore) -> None:
    assert calibration_for(SPEC, store) == shipped_calibration(SPEC)


def test_the_users_own_fit_goes_first(store: LocalStore) -> None:
    shipped = shipped_calibration(SPEC)
    assert shipped is not None
    own = replace(shipped, origin="yours", cut=0.9)
    put(store, own.to_json())
    assert calibration_for(SPEC, store) == own
    elsewhere = replace(SPEC, space_key="0" * 64)
    assert calibration_for(elsewhere, store) is None


def test_a_fit_of_a_newer_version_is_as_none(store: LocalStore) -> None:
    put(store, json.dumps({"format": 99}))
    assert calibration_for(SPEC, store) == shipped_calibration(SPEC)


def test_a_variant_in_the_same_space_shares_the_fit(tmp_path: Path) -> None:
    elsewhere = replace(SPEC, directory=tmp_path)
    assert shipped_calibration(elsewhere) == shipped_calibration(SPEC)


def test_other_weights_are_uncalibrated(tmp_path: Path, store: LocalStore) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SPEC.directory, folder)
    facts = folder / "model.toml"
    other = re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", facts.read_text(encoding="utf-8"))
    facts.write_text(other, encoding="utf-8")
    assert calibration_for(load_model_folder(folder), store) is None


def test_a_shipped_fit_that_cannot_be_understood_is_told_with_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(SPEC.directory, folder)
    (folder / CALIBRATION_FILE).write_text(f'{{"space": "{SPEC.space_key}"}}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"calibration\.json cannot be understood") as raised:
        shipped_calibration(load_model_folder(folder))
    assert raised.value.hint


def test_the_background_is_a_lasting_sample_of_the_pictures(store: LocalStore) -> None:
    sample = background_sample(store, SPEC.space_key)
    number = store.counts().pictures
    assert sample.shape == (number, SPEC.dimension)
    assert np.linalg.norm(sample, axis=1) == pytest.approx(np.ones(number), abs=1e-3)
    assert (sample == background_sample(store, SPEC.space_key)).all()
