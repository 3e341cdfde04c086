"""Snapshots belong to a version of their format and of FAISS: others are built anew."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

import faiss
import numpy as np
import pytest
from stored_samples import SPACE, fill, unit_vectors

from siglip_index import open_store, snapshot
from siglip_index.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def library(tmp_path: Path) -> Path:
    with open_store(tmp_path / "library", writable=True) as store:
        fill(store, 100)
    return tmp_path / "library"


def another_format(library: Path) -> None:
    change_manifest(library, format=snapshot.MANIFEST_FORMAT + 1)


def unknown_fact(library: Path) -> None:
    change_manifest(library, compression="zstd")


def another_kind_of_index(library: Path) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(SPACE.dimension))
    index.add_with_ids(unit_vectors(100), np.arange(100))
    replace_index(library, faiss.serialize_index(index).tobytes())


def unknown_to_this_faiss(library: Path) -> None:
    (path,) = library.glob("vectors-*.faiss")
    replace_index(library, b"NewQ" + path.read_bytes()[4:])


def change_manifest(library: Path, **changes: object) -> None:
    path = snapshot.manifest_path(library, 1)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def replace_index(library: Path, content: bytes) -> None:
    """Write another index, with the manifest that its writer would have written."""
    (path,) = library.glob("vectors-*.faiss")
    path.write_bytes(content)
    change_manifest(
        library,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        mtime_ns=path.stat().st_mtime_ns,
    )


@pytest.mark.parametrize(
    "change", [another_format, unknown_fact, another_kind_of_index, unknown_to_this_faiss]
)
def test_snapshot_of_another_version_is_rebuilt_by_itself(
    library: Path, change: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    query = unit_vectors(5)
    with open_store(library, writable=False) as store:
        before = store.nearest(SPACE.key, query, 10)
    change(library)
    with caplog.at_level(logging.WARNING), open_store(library, writable=False) as store:
        assert store.nearest(SPACE.key, query, 10) == before
    assert len([one for one in caplog.records if "rebuilt" in one.getMessage()]) == 1
    open_store(library, writable=True).close()  # as every run of `index` does
    assert verify(library).is_whole
    caplog.clear()
    with caplog.at_level(logging.WARNING), open_store(library, writable=False) as store:
        assert store.nearest(SPACE.key, query, 10) == before
    assert not caplog.records
