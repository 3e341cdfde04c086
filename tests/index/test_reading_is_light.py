"""A search loads nothing that only writing needs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from stored_samples import fill

from siglip_index import open_store

if TYPE_CHECKING:
    from pathlib import Path

REPORT = "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
HEAVY = {"numpy", "faiss", "sqlite_utils", "filelock", "sqlite3", "asyncio", "click"}


def modules_after(script: str, *arguments: str) -> set[str]:
    output = subprocess.run(
        [sys.executable, "-c", script + REPORT, *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return set(output.split())


def test_importing_the_package_and_its_records_is_nearly_free() -> None:
    loaded = modules_after(
        "import siglip_index, siglip_index.records, siglip_index.errors, siglip_index.protocol"
    )
    assert not loaded & HEAVY


def test_search_needs_numpy_sqlite_and_faiss_only(tmp_path: Path) -> None:
    with open_store(tmp_path, writable=True) as store:
        fill(store, 5)
    script = """
import sys, pathlib, numpy as np
from siglip_index import open_store
from siglip_index.records import Where
store = open_store(pathlib.Path(sys.argv[1]), writable=False)
space = store.active_space()
vector = np.eye(space.dimension, dtype=np.float32)[:1]
(found,) = store.nearest(space.key, vector, 3, Where(formats=("JPEG",)))
assert len(store.photos([neighbour.photo_id for neighbour in found])) == 3
store.close()
"""
    loaded = modules_after(script, str(tmp_path))
    assert loaded & HEAVY == {"numpy", "faiss", "sqlite3"}


def test_writing_without_searching_needs_no_faiss(tmp_path: Path) -> None:
    script = """
import sys, pathlib
from siglip_index import open_store
store = open_store(pathlib.Path(sys.argv[1]), writable=True)
with store.write() as writer:
    writer.ensure_root(b"/photos", None)
store.close()
"""
    assert "faiss" not in modules_after(script, str(tmp_path))
