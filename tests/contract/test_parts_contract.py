"""What is asked of a part of a root, or of some photos, is said of these alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_samples import ROOT, SPACE, file_entry, fill

from siglip_index import local_store, open_store
from siglip_index.records import Companion, Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_index.protocol import Store

# "!" and "0" come before and after "/".
NAMES = st.sampled_from([b"a", b"ab", b"a.jpg", b"a0", b"a!", b"\xff", b"b"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "library", writable=True) as opened:
        yield opened


def is_part(path: bytes, under: bytes, *, subfolders: bool) -> bool:
    if path == under:
        return True
    prefix = under + b"/" if under else b""
    return path.startswith(prefix) and (subfolders or b"/" not in path[len(prefix) :])


@settings(max_examples=100, deadline=None)
@given(
    paths=st.sets(PATHS, min_size=1, max_size=25),
    under=st.one_of(st.just(b""), PATHS),
    subfolders=st.booleans(),
    step=st.integers(1, 5),
)
def test_files_and_placeholders_of_a_part_of_a_root(
    paths: set[bytes],
    under: bytes,
    *,
    subfolders: bool,
    step: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    meant = {path for path in paths if is_part(path, under, subfolders=subfolders)}
    with (
        open_store(tmp_path_factory.mktemp("parts"), writable=True) as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(local_store, "_FILES_PER_READ", step)
        with store.write() as writer:
            root = writer.ensure_root(ROOT, None)
            other = writer.ensure_root(b"/elsewhere", None)
            for path in paths:
                sidecar = Companion(path + b".xmp", "sidecar", Fingerprint(1, 2, 3))
                entry = file_entry(root.id, path)
                writer.record_failure(replace(entry, companions=(sidecar,)), "bad")
                writer.record_failure(file_entry(other.id, path), "bad")
            writer.mark_vanished([1])  # vanished ones included
        found = list(store.files(root.id, under, subfolders=subfolders))
        assert [file.path for file in found] == sorted(meant)
        assert all(file.companions[0].path == file.path + b".xmp" for file in found)

        with store.write() as writer:
            for file in store.files(root.id):
                writer.drop_files([file.id])
            writer.set_online_only(root.id, paths)
            writer.set_online_only(root.id, [], under, subfolders=subfolders)
        assert set(store.online_only()) == {ROOT + b"/" + path for path in paths - meant}
        with store.write() as writer:
            writer.set_online_only(root.id, paths, under, subfolders=subfolders)
        assert set(store.online_only()) == {ROOT + b"/" + path for path in paths}


def test_root_that_is_a_file_is_its_own_part(store: Store) -> None:
    with store.write() as writer:
        root = writer.ensure_root(b"/one.jpg", None)
        writer.record_failure(file_entry(root.id, b""), "bad")
    for subfolders in (True, False):
        assert [file.path for file in store.files(root.id, b"", subfolders=subfolders)] == [b""]


def test_placeholders_of_another_part_are_passed_over(store: Store) -> None:
    with store.write() as writer:
        root = writer.ensure_root(ROOT, None)
        writer.set_online_only(root.id, [b"a/1.jpg", b"a/b/2.jpg"])
        now = [b"a/3.jpg", b"c/4.jpg", b"a/b/5.jpg"]
        writer.set_online_only(root.id, now, b"a", subfolders=False)
    assert store.online_only() == [ROOT + b"/a/3.jpg", ROOT + b"/a/b/2.jpg"]


def test_vectors_and_metadata_of_some_photos(store: Store) -> None:
    many = fill(store, 2000)
    assert store.photos_in_space(SPACE.key, among=many[::2]) == set(many[::2])
    assert store.photos_in_space(SPACE.key, among=[many[3], 10**9]) == {many[3]}
    assert store.photos_in_space(SPACE.key, among=[]) == set()
    assert store.photos_with_older_metadata(1, among=many[5:7]) == set(many[5:7])
    assert store.photos_with_older_metadata(0, among=many[5:7]) == set()
