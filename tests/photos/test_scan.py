from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from siglip_search.errors import PathError
from siglip_search.photos import scan as scan_module
from siglip_search.photos.fingerprint import fingerprint
from siglip_search.photos.scan import ScanResult, ScanRules, scan

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

needs_links = pytest.mark.skipif(
    sys.platform == "win32", reason="links need special rights on Windows"
)
needs_any_name = pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
needs_permissions = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions that bind this user"
)


def lay(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def look(root: Path, rules: ScanRules | None = None, *, within: bytes = b"") -> ScanResult:
    return scan(os.fsencode(root), rules or ScanRules(), within=within)


def paths(result: ScanResult) -> list[str]:
    return sorted(os.fsdecode(file.path) for file in result.files)


def test_pictures_are_found_by_extension_and_others_counted(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", "b/c.HEIC", "b/d/e.PnG", "b/f.mp4", "g.txt", "h.eps", "b/i.jpg.xmp")
    result = look(tmp_path)
    assert paths(result) == ["a.jpg", "b/c.HEIC", "b/d/e.PnG"]
    assert result.ignored == 4
    assert result.unreadable == []
    assert set(result.devices) == {b"", b"b", b"b/d"}
    assert result.entries_at_root == 4


def test_every_file_comes_with_its_fingerprint_and_device(tmp_path: Path) -> None:
    lay(tmp_path, "a/b.jpg")
    (file,) = look(tmp_path).files
    status = os.stat(tmp_path / "a" / "b.jpg")
    assert file.fingerprint == fingerprint(status)
    assert file.device == status.st_dev


def test_file_without_extension_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(PNG_SIGNATURE)
    (tmp_path / "README").write_bytes(b"Read me")
    (tmp_path / "empty").touch()
    result = look(tmp_path)
    assert paths(result) == ["picture"]
    assert result.ignored == 2


def test_hidden_files_and_folders_are_passed_over_unless_asked_for(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", ".b.jpg", ".c/d.jpg", ".e/f.txt")
    assert paths(look(tmp_path)) == ["a.jpg"]
    assert look(tmp_path).ignored == 0
    everything = look(tmp_path, ScanRules(hidden=True))
    assert paths(everything) == [".b.jpg", ".c/d.jpg", "a.jpg"]
    assert everything.ignored == 1


def test_hidden_root_is_looked_at(tmp_path: Path) -> None:
    lay(tmp_path, ".root/a.jpg")
    assert paths(look(tmp_path / ".root")) == ["a.jpg"]


def test_resource_forks_of_macos_are_no_pictures(tmp_path: Path) -> None:
    lay(tmp_path, "._a.jpg", "a.jpg")
    result = look(tmp_path, ScanRules(hidden=True))
    assert paths(result) == ["a.jpg"]
    assert result.ignored == 1


@needs_any_name
def test_names_of_any_bytes_survive(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    names = {b"\xff\xfe\x80.jpg", b"new\nline.png", b" .gif", b"-rf.jpg", "ü€.jpg".encode()}
    names.add(b"x" * 251 + b".jpg")
    os.mkdir(root + b"/\xe9t\xe9\n")
    for name in names:
        with open(root + b"/\xe9t\xe9\n/" + name, "wb"):
            pass
    for rules in (ScanRules(), ScanRules(exclude=("nothing",))):
        found = {file.path for file in scan(root, rules).files}
        assert found == {b"\xe9t\xe9\n/" + name for name in names}


@needs_any_name
def test_path_too_long_for_the_system_is_reported_not_fatal(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg")
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(20):
            os.mkdir("d" * 250, dir_fd=here)
            below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
    finally:
        os.close(here)
    result = look(tmp_path)
    assert paths(result) == ["a.jpg"]
    ((path, reason),) = result.unreadable
    assert len(path) > 3500
    assert reason == "File name too long"
    shutil.rmtree(tmp_path / ("d" * 250))


def test_root_may_be_a_file(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", "b.txt")
    result = look(tmp_path / "a.jpg")
    assert [file.path for file in result.files] == [b""]
    assert result.entries_at_root == 1
    assert result.devices == {}
    assert look(tmp_path / "b.txt").ignored == 1


def test_missing_root_is_unreadable(tmp_path: Path) -> None:
    result = look(tmp_path / "absent")
    assert result.unreadable == [(b"", "No such file or directory")]
    assert result.entries_at_root == 0
    assert result.files == []


def test_empty_root_says_so(tmp_path: Path) -> None:
    result = look(tmp_path)
    assert result.entries_at_root == 0
    assert result.unreadable == []
    assert set(result.devices) == {b""}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_pipes_and_sockets_are_ignored_and_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b", "c.txt", ".siglipignore.jpg"):
        os.mkfifo(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.png")
        result = look(tmp_path)
    assert result.files == []
    assert result.ignored == 4
    assert look(tmp_path / "a.jpg").ignored == 1


@needs_permissions
def test_folder_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    lay(tmp_path, "a/b.jpg", "c.jpg")
    (tmp_path / "a").chmod(0)
    try:
        result = look(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o700)
    assert paths(result) == ["c.jpg"]
    assert result.unreadable == [(b"a", "Permission denied")]


def test_listing_that_fails_half_way_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path, "a/b.jpg", "c.jpg")
    list_folder = os.scandir

    def fail_below(path: bytes) -> object:
        if path.endswith(b"a"):
            raise OSError(5, "Input/output error")
        return list_folder(path)

    monkeypatch.setattr(scan_module.os, "scandir", fail_below)
    result = look(tmp_path)
    assert paths(result) == ["c.jpg"]
    assert result.unreadable == [(b"a", "Input/output error")]


# Links


@needs_links
def test_linked_file_counts_as_a_file(tmp_path: Path) -> None:
    lay(tmp_path, "elsewhere/a.jpg", "root/b.jpg")
    (tmp_path / "root/link.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
    assert paths(look(tmp_path / "root")) == ["b.jpg", "link.jpg"]


@needs_links
def test_link_that_leads_nowhere_is_no_failure(tmp_path: Path) -> None:
    for name in ("broken.jpg", "folder", "broken.txt"):
        (tmp_path / name).symlink_to(tmp_path / "absent" / name)
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    result = look(tmp_path)
    assert (result.files, result.ignored, result.unreadable) == ([], 0, [])
    assert sorted(result.dangling_links) == [b"broken.jpg", b"broken.txt", b"circle.jpg", b"folder"]


@needs_links
def test_linked_folder_is_visited_once_under_its_real_path(tmp_path: Path) -> None:
    lay(tmp_path, "z/deep/a.jpg")
    (tmp_path / "1st").symlink_to(tmp_path / "z")
    (tmp_path / "2nd").symlink_to(tmp_path / "z/deep")
    assert paths(look(tmp_path)) == ["z/deep/a.jpg"]


@needs_links
def test_folder_outside_is_visited_under_the_first_of_its_links(tmp_path: Path) -> None:
    lay(tmp_path, "outside/a.jpg", "root/b.jpg")
    for name in ("y", "x"):
        (tmp_path / "root" / name).symlink_to(tmp_path / "outside")
    assert paths(look(tmp_path / "root")) == ["b.jpg", "x/a.jpg"]


@needs_links
def test_circles_of_links_end(tmp_path: Path) -> None:
    lay(tmp_path, "a/b/c.jpg")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "a/itself").symlink_to(".")
    assert paths(look(tmp_path)) == ["a/b/c.jpg"]


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]]]:
    """Folders and links between them, as (where, to which folder)."""
    folder = st.lists(st.sampled_from("abc"), min_size=0, max_size=4).map("/".join)
    folders = draw(st.lists(folder, min_size=1, max_size=8))
    links = draw(st.lists(st.tuples(folder, folder), max_size=6))
    return folders, links


@needs_links
@settings(max_examples=40, deadline=None)
@given(trees())
def test_whatever_links_do_every_reachable_folder_is_visited_once(
    tree: tuple[list[str], list[tuple[str, str]]],
) -> None:
    folders, links = tree
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        for folder in folders:
            (root / "root" / folder).mkdir(parents=True, exist_ok=True)
            (root / "outside" / folder).mkdir(parents=True, exist_ok=True)
        for number, (where, to) in enumerate(links):
            target = root / ("root" if number % 2 else "outside") / to
            (root / "root" / where / f"l{number}").parent.mkdir(parents=True, exist_ok=True)
            (root / "root" / where / f"l{number}").symlink_to(target)
            # Links between outside folders, which are reached through other links only.
            (root / "outside" / where).mkdir(parents=True, exist_ok=True)
            (root / "outside" / where / f"m{number}").symlink_to(target)
        every_folder = [Path(at) for at, _, _ in os.walk(root)]
        for at in every_folder:
            (at / "p.jpg").touch()

        # The model: follow every link to its end, and remember the real folders reached.
        reached: set[Path] = set()
        todo = [root / "root"]
        while todo:
            here = todo.pop().resolve()
            if here not in reached:
                reached.add(here)
                todo.extend(below for below in here.iterdir() if below.is_dir())

        result = scan(os.fsencode(root / "root"), ScanRules())
        found = Counter((root / "root" / os.fsdecode(f.path)).resolve() for f in result.files)
        assert found == Counter(folder / "p.jpg" for folder in reached)
        assert len(result.devices) == len(reached)
        below_root = {folder for folder in reached if folder.is_relative_to(root / "root")}
        real_paths = {os.fsencode((f / "p.jpg").relative_to(root / "root")) for f in below_root}
        assert real_paths <= {file.path for file in result.files}


# Rules


def test_exclude_takes_gitignore_patterns(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", "b.gif", "c/d.gif", "drafts/e.jpg", "f/drafts/g.jpg", "f/h.txt")
    rules = ScanRules(exclude=("*.gif", "drafts/", "*.txt"))
    result = look(tmp_path, rules)
    assert paths(result) == ["a.jpg"]
    assert result.ignored == 0


@pytest.mark.parametrize("pattern", ["!", "/", "[a", "a\\", "[[:nope:]]"])
def test_malformed_pattern_is_an_error_with_a_hint(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(PathError, match="malformed") as caught:
        look(tmp_path, ScanRules(exclude=("*.gif", pattern)))
    assert ".gitignore" in caught.value.hint


@needs_any_name
def test_patterns_match_names_of_any_bytes(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for name in (b"\xff.jpg", b"a\nb.jpg", b"c.jpg"):
        with open(root + b"/" + name, "wb"):
            pass
    (tmp_path / ".siglipignore").write_bytes(b"\xff*\n")
    rules = ScanRules(exclude=("a?b.jpg",))
    assert [file.path for file in scan(root, rules).files] == [b"c.jpg"]


def test_ignore_file_applies_below_its_folder(tmp_path: Path) -> None:
    lay(tmp_path, "a/b.jpg", "a/c/b.jpg", "a/c/d.jpg", "b.jpg")
    (tmp_path / "a/.siglipignore").write_text("# comment\n\nb.jpg\n")
    assert paths(look(tmp_path)) == ["a/c/d.jpg", "b.jpg"]


def test_nearest_ignore_file_decides(tmp_path: Path) -> None:
    lay(tmp_path, "a/b.jpg", "b.jpg", "c.jpg")
    (tmp_path / ".siglipignore").write_text("*.jpg\n")
    (tmp_path / "a/.siglipignore").write_text("!b.jpg\n")
    assert paths(look(tmp_path)) == ["a/b.jpg"]


def test_exclude_takes_precedence_over_ignore_files(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / ".siglipignore").write_text("a.jpg\n!b.jpg\n")
    assert paths(look(tmp_path, ScanRules(exclude=("b.jpg", "!a.jpg")))) == ["a.jpg"]


def test_sound_lines_of_an_ignore_file_hold_beside_malformed_ones(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / ".siglipignore").write_bytes(b"\xef\xbb\xbfa.jpg\r\n!\n\xff\xfe\n")
    assert paths(look(tmp_path)) == ["b.jpg"]


@needs_any_name
def test_folder_whose_ignore_file_cannot_be_used_is_left_alone(tmp_path: Path) -> None:
    lay(tmp_path, "a/b.jpg", "c/d.jpg", "e/f.jpg", "g.jpg")
    os.mkfifo(tmp_path / "a/.siglipignore")
    (tmp_path / "c/.siglipignore").mkdir()
    (tmp_path / "e/.siglipignore").write_bytes(b"x\n" * 600_000)
    result = look(tmp_path)
    assert paths(result) == ["g.jpg"]
    assert sorted(path for path, _ in result.unreadable) == [b"a", b"c", b"e"]
    assert all(".siglipignore" in reason for _, reason in result.unreadable)


NAMES = ("a.jpg", "b.jpg", "c.png")
FOLDERS = ("a", "b", "a/b", "b/a", "a/b/a")
PATTERNS = (
    "a.jpg", "/a.jpg", "*.jpg", "!a.jpg", "!*.jpg", "a/", "/a", "a", "!a/", "b/*", "**/a", "a/**",
    "a/b", "a/**/a.jpg", "!/b/a", "?.png", "[ab].jpg", "# comment", "", "*", "!*/", "b.jpg   ",
    "**", "/**", "!**/b/", "a/***/b", "b**", "[!a].jpg", "[^b-z].jpg", "[a", "[]ab].jpg", "!",
    "\\a.jpg", "\\!a.jpg", "a.jpg\\ ", "[[:alpha:]].*", "[[:nope:]]*", "a\\", "/", "//a", "*/b",
    "*a*", "b/**/", "[z-a]*", "[!z-a].png", "a?jpg", "c.png\r", "*[.]*", "[b-]*", "a/[/b]/a.jpg",
)  # fmt: skip


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")
@settings(max_examples=50, deadline=None)
@example({"": ["a/**", "!a.jpg"]})
@example({"": ["*", "!*/", "!*.jpg"]})
@example({"b": ["a/**"], "b/a": ["!a.jpg"]})
@example({"": ["a.jpg"], "a": ["!*/"]})
@given(st.dictionaries(st.sampled_from(("", *FOLDERS)), st.lists(st.sampled_from(PATTERNS))))
def test_ignore_files_mean_what_gitignore_files_mean(ignores: dict[str, list[str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        lay(root, *NAMES, *(f"{folder}/{file}" for folder in FOLDERS for file in NAMES))
        for folder, patterns in ignores.items():
            for file_name in (".gitignore", ".siglipignore"):
                (root / folder / file_name).write_bytes("\n".join(patterns).encode() + b"\n")
        git = ["git", "-C", name, "-c", "core.excludesFile=", "-c", "init.defaultBranch=main"]
        subprocess.run([*git, "init", "-q"], check=True)
        listed = subprocess.run(
            [*git, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"],
            check=True,
            capture_output=True,
        ).stdout.split(b"\0")
        expected = {path for path in listed if path and b"/." not in b"/" + path}
        assert {file.path for file in scan(os.fsencode(root), ScanRules()).files} == expected


# Part of a root, stopping, progress


def test_within_looks_at_one_folder_under_all_rules(tmp_path: Path) -> None:
    lay(tmp_path, "a/b/c.jpg", "a/b/d.jpg", "a/e.jpg", "f.jpg")
    (tmp_path / "a/.siglipignore").write_text("d.jpg\n")
    result = look(tmp_path, within=b"a/b")
    assert paths(result) == ["a/b/c.jpg"]
    assert set(result.devices) == {b"", b"a", b"a/b"}
    assert result.entries_at_root == 2


def test_within_may_be_a_file(tmp_path: Path) -> None:
    lay(tmp_path, "a/b.jpg", "a/c.jpg")
    assert paths(look(tmp_path, within=b"a/b.jpg")) == ["a/b.jpg"]


@pytest.mark.parametrize(
    "within", [b"a/gone", b"gone/a.jpg", b"a/b.jpg/c", b".h/i.jpg", b"x/y.jpg"]
)
def test_within_what_is_gone_hidden_or_excluded_is_nothing(tmp_path: Path, within: bytes) -> None:
    lay(tmp_path, "a/b.jpg", ".h/i.jpg", "x/y.jpg")
    result = look(tmp_path, ScanRules(exclude=("x/",)), within=within)
    assert (result.files, result.ignored, result.unreadable) == ([], 0, [])


def test_stopped_scan_says_that_nothing_may_be_taken_for_deleted(tmp_path: Path) -> None:
    lay(tmp_path, "a/b.jpg", "c.jpg")
    for within in (b"", b"a"):
        result = scan(os.fsencode(tmp_path), ScanRules(), within=within, should_stop=lambda: True)
        assert result.unreadable == [(within, "the scan was stopped")]


def test_large_folder_is_left_half_way_when_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "_ENTRIES_BETWEEN_CHECKS", 20)
    lay(tmp_path, *(f"{number}.jpg" for number in range(45)))
    answers = iter([False, False, True])
    result = scan(os.fsencode(tmp_path), ScanRules(), should_stop=lambda: next(answers))
    assert len(result.files) < 45
    assert result.unreadable


def test_progress_counts_up_to_all_files(tmp_path: Path) -> None:
    lay(tmp_path, "a.jpg", "b/c.jpg", "b/d.txt")
    counts: list[int] = []
    scan(os.fsencode(tmp_path), ScanRules(), on_progress=counts.append)
    assert counts == [1, 3]
