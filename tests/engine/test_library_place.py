"""A library and its pictures that were copied together keep their places to one another."""

from __future__ import annotations

import pytest

from siglip_search.engine.library_place import beside_library


@pytest.mark.parametrize(
    ("folder", "former", "now", "found"),
    [
        (b"/media/usb/Photos", b"/media/usb/library", b"/mnt/d/library", b"/mnt/d/Photos"),
        (b"/media/usb/a/b", b"/media/usb/l/m", b"/x/l/m", b"/x/a/b"),
        (b"/media/usb", b"/media/usb/library", b"/mnt/library", b"/mnt"),
        (b"/media/usb/lib/in", b"/media/usb/lib", b"/mnt/l", b"/mnt/l/in"),
        (rb"E:\Photos", rb"E:\library", b"/media/usb/library", b"/media/usb/Photos"),
        (rb"E:\Photos\2024", rb"e:\library", rb"F:\library", rb"F:\Photos\2024"),
        (b"/media/usb/Photos", b"/media/usb/library", rb"F:\library", rb"F:\Photos"),
        (rb"\\nas\p\Photos", rb"\\nas\p\library", rb"D:\library", rb"D:\Photos"),
        (b"E:/Photos", rb"E:\library", rb"\\nas\p\library", rb"\\nas\p\Photos"),
        # The same place, other drives, and more folders up than there are.
        (b"/a/Photos", b"/a/library", b"/a/library", None),
        (rb"E:\Photos", rb"C:\library", rb"D:\library", None),
        (b"/photos", b"/media/usb/library", b"/library", None),
    ],
)
def test_place_beside_the_library(
    folder: bytes, former: bytes, now: bytes, found: bytes | None
) -> None:
    assert beside_library(folder, former, now) == found
