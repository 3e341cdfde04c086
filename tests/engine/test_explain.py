from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from photos.drawn_pictures import quarters
from photos.drawn_raws import dng

from siglip_search import demo, open_library
from siglip_search.errors import PathError
from siglip_search.photos.optional_formats import raw_available
from siglip_search.photos.scan import ScanRules, scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siglip_search import Library
    from siglip_search.engine.explain import Explanation


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "pictures"
    source = sorted(demo.gallery_directory().rglob("*.jpg"))
    for number, name in enumerate(
        (
            *("a.jpg", "trip/b.jpg", "@eaDir/c.jpg", ".hidden/d.jpg", "drafts/e.jpg"),
            *("trip/f.jpg", "roots/g.jpg", "trip/@eaDir/deep/h.jpg", "bad.jpg"),
        )
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source[number], folder / name)
    (folder / "bad.jpg").write_bytes(b"damaged")
    (folder / "film.mp4").write_bytes(b"x")
    (folder / "a.xmp").write_bytes(b"x")
    (folder / "README").write_bytes(b"x")
    (folder / "._a.jpg").write_bytes(b"x")
    (folder / "trip" / ".siglipignore").write_text("# mine\n\nf.*\n")
    (folder / "there.jpg.nextcloud").write_bytes(b" ")
    return folder


@pytest.fixture(scope="module")
def library(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with open_library(tmp_path_factory.mktemp("library"), model="demo") as library:
        library.index([pictures])
        library.folders().exclude(pictures, ["roots/"], remove=False)
        shutil.copy(pictures / "a.jpg", pictures / "new.jpg")
        yield library


def explained(library: Library, path: Path, **changes: object) -> Explanation:
    options = dataclasses.replace(library.index_options(), **changes)  # type: ignore[arg-type]
    return library.folders().explain(path, (), options)


@pytest.mark.parametrize(
    ("path", "taken", "rule", "words"),
    [
        ("a.jpg", True, "unchanged", "in the library"),
        ("new.jpg", True, "new", "read and added"),
        ("a.xmp", True, "companion", "a.jpg"),
        ("@eaDir/c.jpg", False, "default", "Synology"),
        ("trip/@eaDir/deep/h.jpg", False, "default", "'!@eaDir/'"),
        (".hidden/d.jpg", False, "hidden", "--hidden"),
        ("._a.jpg", False, "hidden", "--hidden"),
        ("drafts/e.jpg", False, "exclude", "drafts/"),
        ("roots/g.jpg", False, "exclude", "roots exclude"),
        ("trip/f.jpg", False, "ignore-file", "line 3 of"),
        ("film.mp4", False, "name", "name"),
        ("README", False, "content", "first bytes"),
        ("bad.jpg", False, "known-failure", "--retry-failed"),
        ("there.jpg.nextcloud", False, "online-only", "client"),
    ],
)
def test_the_rule_that_decides_is_named(
    library: Library, pictures: Path, path: str, taken: bool, rule: str, words: str
) -> None:
    found = explained(library, pictures / path, exclude=("drafts/",))
    assert (found.taken, found.rule) == (taken, rule)
    assert words in found.reason
    assert found.path == os.fsencode(pictures / path)
    assert found.root == os.fsencode(pictures)


def test_folder_above_that_is_left_out_is_named(library: Library, pictures: Path) -> None:
    found = explained(library, pictures / "trip/@eaDir/deep/h.jpg")
    assert found.decided_at == os.fsencode(pictures / "trip/@eaDir")
    assert found.pattern == "@eaDir/"
    assert explained(library, pictures / "@eaDir").decided_at is None


def test_ignore_file_and_line_are_given(library: Library, pictures: Path) -> None:
    found = explained(library, pictures / "trip/f.jpg")
    assert found.source == os.fsencode(pictures / "trip/.siglipignore")
    assert (found.line, found.pattern) == (3, "f.*")


def test_options_change_the_answer(library: Library, pictures: Path) -> None:
    assert explained(library, pictures / ".hidden/d.jpg", hidden=True).taken
    assert explained(library, pictures / "@eaDir/c.jpg", exclude=("!@eaDir/",)).taken
    assert explained(library, pictures / "bad.jpg", retry_failed=True).taken


def test_folder_that_is_looked_into_is_counted(library: Library, pictures: Path) -> None:
    found = explained(library, pictures)
    assert (found.taken, found.rule) == (True, "folder")
    assert found.counts == {
        "new": 1,
        "unchanged": 3,
        "known-failure": 1,
        "companion": 1,
        "online-only": 1,
        "no-picture": 2,
    }
    assert explained(library, pictures / "trip").counts == {"unchanged": 1}


def test_folder_that_is_not_indexed_yet(library: Library, pictures: Path) -> None:
    other = pictures.parent / "other"
    other.mkdir(exist_ok=True)
    shutil.copy(pictures / "a.jpg", other / "a.jpg")
    found = explained(library, other / "a.jpg")
    assert (found.taken, found.rule, found.root) == (False, "not-indexed", None)
    options = library.index_options()
    assert library.folders().explain(other / "a.jpg", [other], options).rule == "new"


def test_what_is_not_there_is_an_error(library: Library, pictures: Path) -> None:
    with pytest.raises(PathError):
        explained(library, pictures / "absent.jpg")


def test_explanation_and_scan_agree_about_every_file(library: Library, pictures: Path) -> None:
    rules = ScanRules(exclude=("roots/", "drafts/"))
    scanned = scan(os.fsencode(pictures), rules)
    seen = {file.path for file in scanned.files}
    seen |= {companion.path for file in scanned.files for companion in file.companions}
    for path in pictures.rglob("*"):
        if path.is_file():
            found = explained(library, path, exclude=("drafts/",))
            is_seen = os.fsencode(path.relative_to(pictures)) in seen
            assert is_seen is (found.taken or found.rule == "known-failure"), path


@pytest.mark.skipif(sys.platform == "win32", reason="links need special rights on Windows")
def test_link_to_a_folder_that_has_a_path_of_its_own_is_no_second_one(
    library: Library, tmp_path: Path, pictures: Path
) -> None:
    folder = tmp_path / "linked"
    (folder / "own").mkdir(parents=True)
    (folder / "@eaDir").mkdir()
    shutil.copy(pictures / "a.jpg", folder / "own" / "a.jpg")
    shutil.copy(pictures / "a.jpg", folder / "@eaDir" / "b.jpg")
    (folder / "link").symlink_to("own")
    (folder / "thumbs").symlink_to("@eaDir")
    (folder / "file.jpg").symlink_to("own/a.jpg")
    options = library.index_options()

    def rule(name: str) -> str:
        return library.folders().explain(folder / name, [folder], options).rule

    assert [rule(name) for name in ("own/a.jpg", "file.jpg", "thumbs/b.jpg")] == ["new"] * 3
    assert [rule(name) for name in ("link", "link/a.jpg")] == ["linked"] * 2
    (scanned,) = {file.path for file in scan(os.fsencode(folder), ScanRules()).files} - {
        b"own/a.jpg",
        b"file.jpg",
    }
    assert scanned == b"thumbs/b.jpg"


@pytest.mark.skipif(not raw_available(), reason="needs rawpy")
def test_raw_of_a_broken_jpeg_is_a_picture(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (folder / "a.dng").write_bytes(dng(quarters()).getvalue())
    with open_library(tmp_path / "library", model="demo") as library:
        assert library.index([folder]).added == 1
        assert explained(library, folder / "a.dng").rule == "unchanged"
        assert explained(library, folder).counts == {"unchanged": 1, "known-failure": 1}


def test_place_that_a_rule_leaves_out_is_told_of_when_it_is_named(
    library: Library, pictures: Path
) -> None:
    for name in ("@eaDir", "@eaDir/c.jpg", ".hidden"):
        (warning,) = library.index([pictures / name], dry_run=True).warnings
        assert "left out by a rule" in warning
        assert str(pictures / name) in warning
