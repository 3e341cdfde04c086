"""Whatever happens on disk between runs, the library ends as a fresh index of the same tree.

And no content is embedded twice: the tower counts. Random sequences of what people do to folders
and drives go through the real scan, plan, pipeline and store; the decoding processes are started
once, because a hundred starts would take minutes.
"""

from __future__ import annotations

import io
import os
import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from counted_indexing import CountingTower, run_index, shared_processes
from hypothesis import given, settings
from hypothesis import strategies as st
from photos.written_metadata import xmp_packet
from PIL import Image

from siglip_index import open_store
from siglip_index.verify import verify
from siglip_search.engine.relocation import RootPlaces
from siglip_search.errors import PathError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from siglip_index.local_store import LocalStore

CONTENTS = 6
FOLDERS = ("one", "one/inner", "two")
NAMES = ("a.bmp", "A.bmp", "b.bmp", "é.bmp", "e\u0301.bmp", "a.jpg", "a.dng", "b.dng")
PICTURES = tuple({os.path.splitext(name)[1] for name in NAMES})
BESIDE = ("{stem}.xmp", "{name}.xmp", "{stem}.mov", "{stem}.cr2")


@cache
def content(number: int) -> bytes:
    """Return one of a few pictures, all of one size in bytes."""
    file = io.BytesIO()
    colour = (number * 40, 255 - number * 40, 60 + number)
    Image.new("RGB", (20, 20), colour).save(file, "BMP")
    return file.getvalue()


@pytest.fixture(scope="module")
def _shared_processes() -> Iterator[None]:
    with shared_processes():
        yield


def what_it_holds(library: Path) -> tuple[dict[bytes, tuple[Any, ...]], int, int]:
    """Return what is known of every content, and the numbers of files and failures."""
    with open_store(library, writable=False) as store:
        counts = store.counts()
        return contents_of(store), counts.files, counts.failed


def contents_of(store: LocalStore) -> dict[bytes, tuple[Any, ...]]:
    """Return paths, companions, rating and version of metadata of each visible content."""
    space = store.active_space()
    assert space is not None
    ids = sorted(store.photos_in_space(space.key))
    return {
        photo.content_hash: (
            sorted(photo.paths),
            sorted(photo.companions),
            photo.facts.rating,
            photo.facts.metadata_version,
        )
        for photo in store.photos(ids)
    }


class Disk:
    """A tree of two roots, and what people do to it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.roots = [base / "one", base / "two"]
        self.moves = 0
        self.clock = 1_700_000_000_000_000_000
        for folder in FOLDERS:
            (base / folder).mkdir(parents=True, exist_ok=True)
        for root in self.roots:
            (root / "notes.txt").touch()  # an empty root is an unmounted one: it loses nothing

    def folder(self, number: int) -> Path:
        name = FOLDERS[number % len(FOLDERS)]
        root, _, inner = name.partition("/")
        path = self.roots[root == "two"] / inner
        path.mkdir(exist_ok=True)
        return path

    def files(self) -> list[Path]:
        return self._files(lambda path: path.suffix in PICTURES)

    def _files(self, is_meant: Callable[[Path], bool]) -> list[Path]:
        return sorted(path for root in self.roots for path in root.rglob("*.*") if is_meant(path))

    def any_file(self, number: int) -> Path | None:
        files = self.files()
        return files[number % len(files)] if files else None

    def write(self, folder: int, name: int, number: int) -> None:
        path = self.folder(folder) / NAMES[name % len(NAMES)]
        path.write_bytes(content(number % CONTENTS))
        self.touch_path(path)

    def touch_path(self, path: Path) -> None:
        # As if time had passed: two writes within one tick of the clock are not this test's matter.
        self.clock += 60_000_000_001
        os.utime(path, ns=(self.clock, self.clock))

    def modify(self, file: int, number: int) -> None:
        path = self.any_file(file)
        if path is not None:
            path.write_bytes(content(number % CONTENTS))
            self.touch_path(path)

    def delete(self, file: int) -> None:
        path = self.any_file(file)
        if path is not None:
            path.unlink()

    def touch(self, file: int) -> None:
        path = self.any_file(file)
        if path is not None:
            self.touch_path(path)

    def rename(self, file: int, folder: int, name: int) -> None:
        path = self.any_file(file)
        if path is not None:
            path.replace(self.folder(folder) / NAMES[name % len(NAMES)])

    def swap_case(self, file: int) -> None:
        path = self.any_file(file)
        if path is not None:
            path.replace(path.with_name(path.stem.swapcase() + path.suffix))

    def write_beside(self, file: int, form: int, number: int) -> None:
        """Write or change a sidecar, or lay a film or an unread RAW beside a picture."""
        path = self.any_file(file)
        if path is not None:
            name = BESIDE[form % len(BESIDE)].format(stem=path.stem, name=path.name)
            beside = path.with_name(name)
            beside.write_bytes(xmp_packet(f'xmp:Rating="{number % 6}"'))
            self.touch_path(beside)

    def delete_beside(self, number: int) -> None:
        files = self._files(lambda path: path.suffix in {".xmp", ".mov", ".cr2"})
        if files:
            files[number % len(files)].unlink()

    def move_stack(self, file: int, folder: int) -> None:
        """Move a picture with everything of its stem, as a photo program does."""
        path = self.any_file(file)
        if path is not None:
            target = self.folder(folder)
            for member in sorted(path.parent.glob("*.*")):
                if member.name.startswith(f"{path.stem}."):
                    member.replace(target / member.name)

    def copy_tree(self, root: int, *, keep_times: bool) -> None:
        source, target = self.roots[root % 2], self.roots[(root + 1) % 2]
        copy = shutil.copy2 if keep_times else shutil.copy
        shutil.copytree(source, target / "copy", dirs_exist_ok=True, copy_function=copy)
        deepest = target / "copy" / "copy" / "copy"
        shutil.rmtree(deepest, ignore_errors=True)  # or it would double with each step

    def relocate(self, root: int, library: Path, *, grain_ns: int) -> None:
        """Move a root to a file system that keeps coarser times, and tell the library."""
        old = self.roots[root % 2]
        self.moves += 1
        new = self.base / f"moved-{self.moves}"
        shutil.copytree(old, new)
        shutil.rmtree(old)
        for path in new.rglob("*.*"):
            time = path.stat().st_mtime_ns // grain_ns * grain_ns
            os.utime(path, ns=(time, time))
        try:
            with open_store(library, writable=True) as store:
                RootPlaces(store, library).relocate(old, new)
        except PathError:
            # None of what the library knows is there any more, and it says so.
            new.rename(old)
        else:
            self.roots[root % 2] = new

    def unmount(self, root: int, library: Path) -> None:
        """Index while a root is an empty mount point, and while it is missing."""
        path = self.roots[root % 2]
        away = path.with_name("away")
        path.rename(away)
        run_index(library, [])
        path.mkdir()
        run_index(library, [])
        path.rmdir()
        away.rename(path)


NUMBER = st.integers(0, 11)
STEPS = st.one_of(
    st.tuples(st.just("write"), NUMBER, NUMBER, NUMBER),
    st.tuples(st.just("modify"), NUMBER, NUMBER),
    st.tuples(st.just("delete"), NUMBER),
    st.tuples(st.just("touch"), NUMBER),
    st.tuples(st.just("rename"), NUMBER, NUMBER, NUMBER),
    st.tuples(st.just("swap_case"), NUMBER),
    st.tuples(st.just("write_beside"), NUMBER, NUMBER, NUMBER),
    st.tuples(st.just("delete_beside"), NUMBER),
    st.tuples(st.just("move_stack"), NUMBER, NUMBER),
    st.tuples(st.just("copy_tree"), NUMBER, st.booleans()),
    st.tuples(st.just("relocate"), NUMBER, st.sampled_from([1, 100, 10**7, 10**9, 2 * 10**9])),
    st.tuples(st.just("unmount"), NUMBER),
    st.tuples(st.just("index")),
)


def take(disk: Disk, library: Path, step: tuple[Any, ...]) -> None:
    match step:
        case ("index",):
            run_index(library, disk.roots)
        case ("relocate", root, grain):
            disk.relocate(root, library, grain_ns=grain)
        case ("unmount", root):
            disk.unmount(root, library)
        case ("copy_tree", root, keep_times):
            disk.copy_tree(root, keep_times=keep_times)
        case (name, *numbers):
            getattr(disk, name)(*numbers)


@pytest.mark.usefixtures("_shared_processes")
@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEPS, min_size=3, max_size=14))
def test_any_sequence_ends_as_a_fresh_index_and_embeds_each_content_once(
    steps: list[tuple[Any, ...]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    base = tmp_path_factory.mktemp("sequence")
    disk = Disk(base / "disk")
    library = base / "library"
    CountingTower.seen = {}
    for folder in range(len(FOLDERS)):
        disk.write(folder, folder, folder)
    run_index(library, disk.roots)
    for step in steps:
        take(disk, library, step)
    run_index(library, disk.roots)
    assert max(CountingTower.seen.values()) == 1, "a content was embedded again"

    again = run_index(library, disk.roots)
    assert again.added == again.changed == again.moved == again.removed == again.embedded == 0
    assert again.metadata_read == 0

    run_index(base / "fresh", disk.roots)
    assert what_it_holds(library) == what_it_holds(base / "fresh")
    assert verify(library).is_whole
    shutil.rmtree(base)
