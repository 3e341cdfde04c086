"""Paths are bytes, whatever is in them."""

from __future__ import annotations

import pytest

from siglip_index.locations import display_text, join, relative_to


@pytest.mark.parametrize(
    ("root", "relative", "path"),
    [
        (b"/photos", b"a/b.jpg", b"/photos/a/b.jpg"),
        (b"/photos", b"", b"/photos"),
        (b"/", b"a.jpg", b"/a.jpg"),
        (b"C:\\", b"a.jpg", b"C:\\a.jpg"),
        (b"/\xff", b"\xfe", b"/\xff/\xfe"),
    ],
)
def test_join(root: bytes, relative: bytes, path: bytes) -> None:
    assert join(root, relative) == path


@pytest.mark.parametrize(
    ("path", "folder", "relative"),
    [
        (b"/photos/a", b"/photos", b"a"),
        (b"/photos/a/", b"/photos/", b"a"),
        (b"/photos", b"/photos/", b""),
        (b"/photos2", b"/photos", None),
        (b"/photos", b"/photos/a", None),
        (b"/a", b"/", b"a"),
        (b"/", b"/", b""),
    ],
)
def test_relative_to(path: bytes, folder: bytes, relative: bytes | None) -> None:
    assert relative_to(path, folder, windows=False) == relative


def test_backslashes_separate_on_windows_only() -> None:
    assert relative_to(b"C:\\photos\\a\\b", b"C:\\photos", windows=True) == b"a/b"
    assert relative_to(b"/photos\\a", b"/photos", windows=False) is None


def test_display_is_always_text() -> None:
    assert display_text(b"a\xffb") == "a?b"
    assert display_text("gr\u00fcn".encode()) == "gr\u00fcn"
