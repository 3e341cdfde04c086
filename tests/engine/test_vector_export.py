"""Export of many vectors: streamed, and whole or not at all."""

from __future__ import annotations

import io
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from stored_samples import SPACE, fill

from siglip_index import open_store
from siglip_index.records import Space
from siglip_search.engine import vector_export
from siglip_search.engine.output_file import written_whole
from siglip_search.engine.vector_export import (
    ExportOptions,
    export_vectors,
    exported_batches,
    spaces_to_export,
)
from siglip_search.errors import ModelError, PathError

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.engine.vector_export import ExportFormat


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_export, "_BATCH", 50)


@pytest.mark.usefixtures("small_batches")
def test_a_picture_that_vanishes_meanwhile_is_left_out(tmp_path: Path) -> None:
    with open_store(tmp_path / "library", writable=True) as store:
        fill(store, 100)
        (root,) = store.roots()
        files = list(store.files(root.id))
        real = store.photos

        def photos(ids: list[int]) -> object:
            with store.write() as writer:
                writer.mark_vanished([file.id for file in files if file.photo_id == ids[3]])
            return real(ids)

        store.photos = photos  # type: ignore[assignment, method-assign]
        batches = list(exported_batches(store, [SPACE]))
        assert [len(batch.photos) for batch in batches] == [49, 49]
        for batch in batches:
            expected = store.vectors(SPACE.key, [photo.id for photo in batch.photos])
            assert np.array_equal(batch.vectors, expected)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_library(
    tmp_path: Path, form: ExportFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(vector_export, "_BATCH", 100)
    space = Space("wide", 256, "wide")
    peaks = []
    with open_store(tmp_path / "library", writable=True) as store:
        for _ in range(2):
            start = store.counts().pictures
            fill(store, max(start * 3, 500), first=start, space=space)
            tracemalloc.start()
            with (tmp_path / "out").open("wb") as stream:
                rows = export_vectors(store, [space], ExportOptions(form), stream)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert rows == store.counts().pictures
    assert peaks[1] < 1.3 * peaks[0]


def test_spaces_are_found_by_model_and_by_the_beginning_of_a_key(tmp_path: Path) -> None:
    newer = Space("space-a2", 16, "sample")
    other = Space("other", 8, "another")
    with open_store(tmp_path / "library", writable=True) as store:
        for space in (SPACE, newer, other):
            fill(store, 3, space=space)
        assert spaces_to_export(store) == [SPACE]
        assert spaces_to_export(store, every=True) == [SPACE, newer, other]
        assert spaces_to_export(store, model="sample") == [SPACE, newer]
        assert spaces_to_export(store, key="space-a2") == [newer]
        with pytest.raises(ModelError, match="several"):
            spaces_to_export(store, key="space")
        with pytest.raises(ModelError, match="no vectors") as caught:
            spaces_to_export(store, key="o", model="sample")
        assert "another" in caught.value.hint


def test_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("former")
    with pytest.raises(TypeError), written_whole(target, replace=True) as file:
        file.writelines([b"half", "no bytes"])  # type: ignore[list-item]
    assert target.read_text() == "former"
    link = tmp_path / "link"
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("may not make links here")
    with written_whole(link, replace=True) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    fresh = tmp_path / "fresh"
    with (
        pytest.raises(PathError, match="exists already"),
        written_whole(fresh, replace=False) as file,
    ):
        fresh.write_text("somebody else's")
    assert fresh.read_text() == "somebody else's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "link", "out"]


def test_stream_need_not_be_seekable(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise OSError("a pipe")

        def tell(self) -> int:
            raise OSError("a pipe")

    with open_store(tmp_path / "library", writable=True) as store:
        fill(store, 20)
        pipe = Pipe()
        export_vectors(store, [SPACE], ExportOptions("parquet"), pipe)
    assert parquet.read_table(io.BytesIO(pipe.getvalue())).num_rows == 20
