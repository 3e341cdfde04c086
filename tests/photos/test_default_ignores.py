from __future__ import annotations

import os
from pathlib import Path

import pytest

from siglip_search.photos.default_ignores import DEFAULT_IGNORES
from siglip_search.photos.path_rules import PathRules
from siglip_search.photos.scan import ScanRules, scan


def lay(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def found(root: Path, rules: ScanRules | None = None) -> list[str]:
    result = scan(os.fsencode(root), rules or ScanRules())
    return sorted(os.fsdecode(file.path) for file in result.files)


LEFT_OUT = (
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
    "trip/@eaDir/b.jpg",
    "$RECYCLE.BIN/S-1-5/c.jpg",
    "$Recycle.Bin/S-1-5/c.jpg",
    "System Volume Information/d.jpg",
    "#recycle/e.jpg",
    "@Recycle/f.jpg",
    "Catalog Previews.lrdata/A/AB/g.jpg",
    "catalog.lrcat-data/h.jpg",
    "trip/CaptureOne/Cache/Thumbnails/i.jpg",
    "P.photoslibrary/resources/derivatives/j.jpg",
    "P.photoslibrary/Thumbnails/k.jpg",
    "Q.aplibrary/Previews/l.jpg",
    "R.photolibrary/Thumbnails/m.jpg",
    "L.lrlibrary/0a1b/proxies/n.jpg",
    "S.cocatalog/Cache/o.jpg",
    "lost+found/p.jpg",
    "__MACOSX/trip/q.jpg",
    "#snapshot/2026/r.jpg",
    "site/node_modules/demo/s.jpg",
    "appdata_oc1/preview/1/2/t.jpg",
)
TAKEN = (
    "CaptureOne/u.jpg",
    "L.lrlibrary/0a1b/originals/2026/v.jpg",
    "P.photoslibrary/Masters/2014/w.jpg",
    "P.photoslibrary/originals/A/x.jpg",
    "Q.aplibrary/Masters/2012/y.jpg",
    "R.photolibrary/Originals/z.jpg",
    "S.cocatalog/Originals/2026/1.jpg",
    "trip/Thumbnails/2.jpg",
    "trip/eaDir/3.jpg",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    lay(tmp_path, *LEFT_OUT, *TAKEN)
    return tmp_path


def test_no_thumbnail_is_taken_for_a_photograph_and_no_original_is_lost(tree: Path) -> None:
    assert found(tree) == sorted(TAKEN)


def test_default_folders_are_left_out_with_hidden_files_too(tmp_path: Path) -> None:
    lay(tmp_path, ".thumbnails/a.jpg", ".Trash-1000/files/b.jpg", ".@__thumb/c.jpg")
    lay(tmp_path, ".trashed-1795-d.jpg", ".picasaoriginals/e.jpg", ".f.jpg")
    assert found(tmp_path, ScanRules(hidden=True)) == [".f.jpg", ".picasaoriginals/e.jpg"]


def test_a_pattern_takes_an_entry_back(tree: Path) -> None:
    rules = ScanRules(exclude=("!@eaDir/",))
    assert set(found(tree, rules)) - set(TAKEN) == {LEFT_OUT[0], LEFT_OUT[1]}
    (tree / ".siglipignore").write_text("!node_modules/\n")
    assert set(found(tree)) - set(TAKEN) == {"site/node_modules/demo/s.jpg"}


def test_exclude_leaves_out_what_an_ignore_file_took_back(tree: Path) -> None:
    (tree / ".siglipignore").write_text("!@eaDir/\n")
    assert found(tree, ScanRules(exclude=("@eaDir/",))) == sorted(TAKEN)


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("P.photoslibrary", ["Masters/2014/w.jpg", "originals/A/x.jpg"]),
        ("P.photoslibrary/originals", ["A/x.jpg"]),
        ("P.photoslibrary/resources/derivatives", ["j.jpg"]),
        ("@eaDir", ["a.jpg/SYNOPHOTO_THUMB_M.jpg"]),
        ("$RECYCLE.BIN/S-1-5", ["c.jpg"]),
    ],
)
def test_root_that_was_named_is_taken_wherever_it_lies(
    tree: Path, root: str, expected: list[str]
) -> None:
    assert found(tree / root) == expected


def test_every_entry_has_a_reason_and_decides_about_something() -> None:
    rules = PathRules(b"/root", ())
    for number, entry in enumerate(DEFAULT_IGNORES, 1):
        assert entry.reason
        is_folder = entry.pattern.endswith("/")
        path = entry.pattern.removeprefix("!").removesuffix("/").replace("**/", "in/")
        path = path.removeprefix("\\")
        decision = rules.decision(os.fsencode(path.replace("*", "x")), is_folder, ())
        assert decision is not None, entry
        assert decision.number == number, entry
        assert decision.leaves_out is not entry.pattern.startswith("!")


def test_the_document_names_every_entry() -> None:
    document = Path(__file__).parents[2] / "docs" / "ignoring.md"
    text = document.read_text(encoding="utf-8")
    for entry in DEFAULT_IGNORES:
        name = entry.pattern.removeprefix("!").removeprefix("**/").removeprefix("\\")
        assert f"`{name.split('/')[0]}" in text, entry.pattern
