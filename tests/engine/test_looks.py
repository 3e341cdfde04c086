"""Looks at the touched paths alone lead where a fresh index of everything would."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from counted_indexing import CountingTower, run_index, run_looks, shared_processes
from engine.test_sequences import FOLDERS, NUMBER, Disk, content, what_it_holds
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_index import open_store
from siglip_index.database import DATABASE_NAME
from siglip_index.verify import verify
from siglip_search.photos.ignore_files import IGNORE_FILE_NAME
from siglip_search.photos.settling import Look

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random


@pytest.fixture(scope="module", autouse=True)
def _shared_processes() -> Iterator[None]:
    with shared_processes():
        yield


@pytest.fixture(autouse=True)
def _counter() -> None:
    CountingTower.seen = {}


Tree = dict[bytes, tuple[Any, ...]]


class WatchedDisk(Disk):
    """A disk that tells, as a watcher would, where something happened."""

    def tree(self) -> Tree:
        found: Tree = {}
        for root in self.roots:
            for folder, folders, files in os.walk(os.fsencode(root)):
                for name in (*folders, *files):
                    path = os.path.join(folder, name)
                    status = os.lstat(path)
                    is_folder = name in folders
                    times = () if is_folder else (status.st_mtime_ns, status.st_size)
                    found[path] = (is_folder, status.st_ino, *times)
        return found

    def move_folder(self, number: int) -> None:
        """Rename a folder with all that is in it, or back."""
        inner, other = self.roots[0] / "inner", self.roots[number % 2] / "else"
        if other.exists():
            inner, other = other, inner
        if inner.exists() and not other.exists():
            inner.rename(other)

    def replace_atomically(self, file: int, number: int) -> None:
        """Save as editors do: beside it, then over it."""
        path = self.any_file(file)
        if path is not None:
            beside = path.with_name("saving.part")
            beside.write_bytes(content(number))
            self.touch_path(beside)
            beside.replace(path)

    def delete_folder(self, number: int) -> None:
        shutil.rmtree(self.roots[number % 2] / "copy", ignore_errors=True)

    def become_a_folder(self, file: int) -> None:
        """Put a folder of pictures in the place of a picture, or the other way round."""
        path = self.any_file(file)
        if path is None:
            return
        if path.parent.suffix:
            path = path.parent
            shutil.rmtree(path)
            path.write_bytes(content(file))
        else:
            path.unlink()
            path.mkdir()
            path = path / "inside.bmp"
            path.write_bytes(content(file))
        self.touch_path(path)

    def ignore(self, number: int) -> None:
        folder = os.fsencode(self.folder(number))
        path = os.path.join(folder, IGNORE_FILE_NAME)
        if os.path.exists(path):
            os.unlink(path)
        else:
            with open(path, "wb") as file:
                file.write([b"*.jpg\n", b"/inner\n"][number % 2])

    def link(self, file: int, number: int) -> None:
        """Link to a folder of the same root, which has a path of its own."""
        path = self.roots[0] / f"link-{file % 3}"
        if path.is_symlink():
            path.unlink()
        else:
            path.symlink_to(self.roots[0] / ["inner", "."][number % 2])

    def copy_tree(self, root: int, *, keep_times: bool) -> None:
        for link in self.roots[0].glob("link-*"):
            link.unlink()  # copied, they would be folders in a circle
        super().copy_tree(root, keep_times=keep_times)

    def files(self) -> list[Path]:
        return [path for path in super().files() if path.is_file()]


def looks_at(before: Tree, after: Tree) -> list[Look]:
    """Return a look at each path that came, went or changed, at the uppermost of whole folders."""
    touched = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return [
        Look(path, subfolders=after.get(path, (False,))[0])
        for path in sorted(touched)
        if os.path.dirname(path) not in touched or before.get(path, (False,))[0]
    ]


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
    st.tuples(st.just("move_folder"), NUMBER),
    st.tuples(st.just("replace_atomically"), NUMBER, NUMBER),
    st.tuples(st.just("delete_folder"), NUMBER),
    st.tuples(st.just("become_a_folder"), NUMBER),
    st.tuples(st.just("ignore"), NUMBER),
    st.tuples(st.just("link"), NUMBER, NUMBER),
    st.tuples(st.just("copy_tree"), NUMBER, st.booleans()),
    st.tuples(st.just("look")),
)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(STEPS, min_size=2, max_size=12), chance=st.randoms(use_true_random=False))
def test_looks_at_what_was_touched_end_as_a_fresh_index(
    steps: list[tuple[Any, ...]], chance: Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("looks")
    disk = WatchedDisk(base / "disk")
    library = base / "library"
    CountingTower.seen = {}
    for folder in range(len(FOLDERS)):
        disk.write(folder, folder, folder)
    run_index(library, disk.roots)
    tree = disk.tree()
    for step in [*steps, ("look",)]:
        match step:
            case ("look",):
                now = disk.tree()
                looks = looks_at(tree, now)
                chance.shuffle(looks)
                # All at once, or as two bursts, of which the second may know better.
                half = chance.randrange(len(looks) + 1)
                for burst in (looks[:half], looks[half:]):
                    run_looks(library, burst)
                tree = now
            case ("copy_tree", root, keep_times):
                with suppress(OSError):
                    disk.copy_tree(root, keep_times=keep_times)
            case (name, *numbers):
                with suppress(OSError):  # a folder is where a file was to be
                    getattr(disk, name)(*numbers)
    assert max(CountingTower.seen.values()) == 1, "a content was embedded again"
    run_index(base / "fresh", disk.roots)
    assert what_it_holds(library) == what_it_holds(base / "fresh")
    assert verify(library).is_whole
    again = run_index(library, disk.roots)
    assert again.added == again.changed == again.moved == again.removed == again.embedded == 0
    assert again.metadata_read == 0
    shutil.rmtree(base)


def present(library: Path) -> set[bytes]:
    with open_store(library, writable=False) as store:
        return {
            file.path for root in store.roots() for file in store.files(root.id) if file.present
        }


def all_looks(paths: Any, *, deep: bool | None = None) -> list[Look]:
    depths = (True, False) if deep is None else (deep,)
    return [Look(os.fsencode(path), subfolders=depth) for path in paths for depth in depths]


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_no_look_deletes_what_an_unmounted_drive_holds(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A drive at any depth, unmounted: a look at any path above, at or below its mount point."""
    base = tmp_path_factory.mktemp("drives")
    root, library = base / "root", base / "library"
    inner = root / data.draw(st.sampled_from(["usb", "a/usb", "a/b/usb"]))
    pictures = [inner / "1.bmp", inner / "deep/2.bmp", inner / "deep/er/3.bmp", root / "own.bmp"]
    for number, path in enumerate(pictures):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(number))
    run_index(library, [root])
    # As if the folder had been on another device.
    elsewhere = os.stat(root).st_dev + 1
    with closing(sqlite3.connect(library / DATABASE_NAME)) as connection, connection:
        connection.execute("UPDATE file SET device = ? WHERE path <> ?", [elsewhere, b"own.bmp"])
    before = present(library)
    shutil.rmtree(inner)
    if data.draw(st.booleans()):
        inner.mkdir()  # the empty mount point
    everywhere = [root, *{folder for path in pictures for folder in path.parents}, *pictures]
    inside = sorted({path for path in everywhere if path == root or root in path.parents})
    for _ in range(data.draw(st.integers(1, 3))):
        run_looks(library, all_looks(data.draw(st.sets(st.sampled_from(inside), min_size=1))))
    assert present(library) == before
    shutil.rmtree(base)
