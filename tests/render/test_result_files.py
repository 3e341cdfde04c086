"""Results as files of a folder: nothing is replaced, and nothing gets lost."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siglip_search.errors import PathError
from siglip_search.render.result_files import PlacedFiles, Placement, check_folder, place_files

needs_links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
ONE_SECOND = 10**9


def files(folder: Path, *names: str, content: str = "") -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(content or f"{folder.name}/{name}")
    return [str(folder / name) for name in names]


def place(target: Path, *groups: list[str], link: bool = False) -> PlacedFiles:
    return place_files(groups, target, link=link)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_copies_keep_names_bytes_and_times(tmp_path: Path) -> None:
    (path,) = files(tmp_path / "a", "cat.jpg")
    os.utime(path, ns=(ONE_SECOND, 1_500_000_000 * ONE_SECOND))
    done = place(tmp_path / "new" / "out", [path])
    copy = tmp_path / "new" / "out" / "cat.jpg"
    assert done.placed == [(copy, Placement.COPY)]
    assert done.failed == []
    assert copy.read_text() == "a/cat.jpg"
    assert copy.stat().st_mtime_ns == 1_500_000_000 * ONE_SECOND
    assert not copy.is_symlink()


@needs_links
def test_links_lead_to_the_pictures(tmp_path: Path) -> None:
    (path,) = files(tmp_path / "a", "cat.jpg")
    done = place(tmp_path / "out", [path], link=True)
    assert done.placed == [(tmp_path / "out" / "cat.jpg", Placement.LINK)]
    assert os.readlink(tmp_path / "out" / "cat.jpg") == path


@pytest.mark.parametrize("link", [False, pytest.param(True, marks=needs_links)])
def test_names_that_are_taken_get_numbers_and_nothing_is_replaced(
    tmp_path: Path, link: bool
) -> None:
    paths = [files(tmp_path / folder, "cat.jpg")[0] for folder in ("a", "b", "c")]
    out = tmp_path / "out"
    files(out, "cat.jpg", content="somebody's own")
    place(out, *([path] for path in paths), link=link)
    assert contents(out) == {
        "cat.jpg": "somebody's own",
        "cat-2.jpg": "a/cat.jpg",
        "cat-3.jpg": "b/cat.jpg",
        "cat-4.jpg": "c/cat.jpg",
    }


@pytest.mark.parametrize("link", [False, pytest.param(True, marks=needs_links)])
def test_second_time_finds_everything_there(tmp_path: Path, link: bool) -> None:
    paths = [files(tmp_path / folder, "cat.jpg")[0] for folder in ("a", "b")]
    out = tmp_path / "out"
    place(out, *([path] for path in paths), link=link)
    before = {path: path.lstat() for path in out.iterdir()}
    done = place(out, *([path] for path in reversed(paths)), link=link)
    assert done.count(Placement.THERE) == 2
    assert {path: path.lstat() for path in out.iterdir()} == before


def test_files_that_belong_together_get_the_same_number(tmp_path: Path) -> None:
    group = files(tmp_path / "a", "1.jpg", "1.CR2", "1.jpg.xmp", "other.mov")
    out = tmp_path / "out"
    files(out, "1.CR2", content="of another camera")
    place(out, group)
    assert set(contents(out)) == {"1.CR2", "1-2.jpg", "1-2.CR2", "1-2.jpg.xmp", "other-2.mov"}
    assert contents(out)["1.CR2"] == "of another camera"
    assert contents(out)["1-2.CR2"] == "a/1.CR2"


def test_picture_that_is_gone_is_named_and_stops_nothing(tmp_path: Path) -> None:
    (there,) = files(tmp_path / "a", "cat.jpg")
    gone = str(tmp_path / "a" / "gone.jpg")
    for link in (False, True):
        done = place(tmp_path / f"out-{link}", [gone], [there], link=link)
        assert done.failed == [(gone, "it is not there any more")]
        assert len(done.placed) == 1


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    done = place(tmp_path / "out", [str(pipe)])
    assert done.failed == [(str(pipe), "not a regular file")]
    assert contents(tmp_path / "out") == {}


def test_pictures_own_folder_holds_them_already(tmp_path: Path) -> None:
    (path,) = files(tmp_path / "a", "cat.jpg")
    done = place(tmp_path / "a", [path])
    assert done.placed == [(Path(path), Placement.THERE)]
    assert contents(tmp_path / "a") == {"cat.jpg": "a/cat.jpg"}


def refusing(number: int, winerror: int | None = None) -> object:
    def refuse(*_arguments: object, **_options: object) -> None:
        error = OSError(number, os.strerror(number))
        if winerror:
            error.winerror = winerror  # type: ignore[attr-defined, unused-ignore]
        raise error

    return refuse


# The drives and privileges that refuse links cannot be had in a test.
def test_where_symbolic_links_are_refused_hard_ones_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", refusing(errno.EINVAL, 1314))
    (path,) = files(tmp_path / "a", "cat.jpg")
    done = place(tmp_path / "out", [path], link=True)
    assert done.placed == [(tmp_path / "out" / "cat.jpg", Placement.HARD_LINK)]
    assert (tmp_path / "out" / "cat.jpg").samefile(path)


def test_where_all_links_are_refused_copies_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", refusing(errno.EPERM))
    monkeypatch.setattr(os, "link", refusing(errno.EXDEV))
    (path,) = files(tmp_path / "a", "cat.jpg")
    done = place(tmp_path / "out", [path], link=True)
    assert done.placed == [(tmp_path / "out" / "cat.jpg", Placement.COPY)]
    assert not (tmp_path / "out" / "cat.jpg").samefile(path)


def test_full_disk_is_said_and_not_taken_for_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "symlink", refusing(errno.ENOSPC))
    (path,) = files(tmp_path / "a", "cat.jpg")
    done = place(tmp_path / "out", [path], link=True)
    assert done.failed == [(path, os.strerror(errno.ENOSPC))]


def test_file_that_somebody_makes_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = files(tmp_path / "a", "cat.jpg")
    out = tmp_path / "out"

    def copy_slowly(source: BinaryIO, copy: BinaryIO, _length: int) -> None:
        copy.write(source.read())
        (out / "cat.jpg").write_text("somebody's own")

    monkeypatch.setattr(shutil, "copyfileobj", copy_slowly)
    done = place(out, [path])
    assert done.failed == [(path, f"{out / 'cat.jpg'} has been made meanwhile")]
    assert contents(out) == {"cat.jpg": "somebody's own"}


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there")
def test_copy_for_which_there_is_no_room_leaves_nothing(tmp_path: Path) -> None:
    import resource

    (path,) = files(tmp_path / "a", "cat.jpg", content="x" * 100_000)
    (small,) = files(tmp_path / "a", "dog.jpg")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        done = place(tmp_path / "out", [path], [small])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.failed == [(path, os.strerror(errno.EFBIG))]
    assert contents(tmp_path / "out") == {"dog.jpg": "a/dog.jpg"}


def test_folder_that_cannot_be_is_refused_before_the_search(tmp_path: Path) -> None:
    (path,) = files(tmp_path / "a", "cat.jpg")
    for target in (Path(path), Path(path) / "below"):
        with pytest.raises(PathError, match="is no folder") as caught:
            check_folder(target)
        assert caught.value.hint
    check_folder(tmp_path / "new" / "folders")
    assert not (tmp_path / "new").exists()


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_picture_is_there_once_and_every_file_stays(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever the names and contents are, and however often it is done."""
    base = tmp_path_factory.mktemp("base")
    names = st.sampled_from(["a.jpg", "a-2.jpg", "b.jpg", "noext", ".hidden", "a.b.jpg"])
    letters = st.sampled_from("xyz")
    own = data.draw(st.dictionaries(names, letters, max_size=4))
    out = base / "out"
    for name, content in own.items():
        files(out, name, content=content)
    groups = []
    for number, folder in enumerate(
        data.draw(st.lists(st.dictionaries(names, letters, min_size=1)))
    ):
        group = []
        for name, content in folder.items():
            group += files(base / str(number), name, content=content)
        groups.append(group)
    wanted = {Path(path).read_text() for group in groups for path in group}
    for _ in range(2):
        done = place(out, *groups)
        assert done.failed == []
        assert {name: (out / name).read_text() for name in own} == own
        assert {target.read_text() for target, _ in done.placed} == wanted
        left = contents(out)
    assert done.count(Placement.THERE) == len(done.placed)
    assert contents(out) == left
