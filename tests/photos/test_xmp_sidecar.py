"""New sidecars: what they say, how they are called, and that nothing is ever overwritten."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_search.photos.metadata_values import clean_keywords
from siglip_search.photos.metadata_xmp import read_xmp
from siglip_search.photos.sidecar import read_sidecar
from siglip_search.photos.xmp_sidecar import (
    SidecarFolder,
    create_sidecar,
    package_above,
    sidecar_packet,
)

if TYPE_CHECKING:
    from pathlib import Path

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
DC = "{http://purl.org/dc/elements/1.1/}"
DIGIKAM = "{http://www.digikam.org/ns/1.0/}"
WORDS = ["beach", 'R&D <x> "q"', "Köln · été", "日本", "a,b", "it's"]


def lists_in(packet: bytes) -> list[list[str | None]]:
    """Read a packet as any XML library does: the items of dc:subject and of digiKam's list."""
    root = ET.fromstring(packet)
    (description,) = root.findall(f"{RDF}RDF/{RDF}Description")
    return [
        [item.text for item in description.findall(f"{path}/{RDF}li")]
        for path in (f"{DC}subject/{RDF}Bag", f"{DIGIKAM}TagsList/{RDF}Seq")
    ]


def test_keywords_are_read_back_by_an_xml_library_and_by_the_index() -> None:
    packet = sidecar_packet(WORDS)
    assert lists_in(packet) == [WORDS, WORDS]
    fields = read_xmp(packet)
    assert fields is not None
    assert fields.keywords == tuple(WORDS)
    assert fields.rating is None
    assert fields.title is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=30), max_size=8))
def test_any_words_make_a_packet_that_is_read_back(words: list[str]) -> None:
    expected = clean_keywords(words)
    fields = read_xmp(sidecar_packet(words))
    assert fields is not None
    assert fields.keywords == expected


@pytest.mark.parametrize("program", ["exiftool", "exiv2"])
def test_other_programs_read_the_keywords(program: str, tmp_path: Path) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    file = tmp_path / "a.jpg.xmp"
    file.write_bytes(sidecar_packet(["beach", "red & blue"]))
    arguments = ["-Subject", "-TagsList", "-s3"] if program == "exiftool" else ["-PXt"]
    done = subprocess.run([found, *arguments, file], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["beach, red & blue"] * 2


def test_a_sidecar_is_created_whole(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "a.jpg.xmp")
    create_sidecar(path, sidecar_packet(WORDS))
    fields = read_sidecar(path)
    assert fields is not None
    assert fields.keywords == tuple(WORDS)


@pytest.mark.parametrize("kind", ["file", "empty file", "folder", "link", "link to nothing"])
def test_whatever_is_there_is_left_alone(kind: str, tmp_path: Path) -> None:
    path, other = tmp_path / "a.jpg.xmp", tmp_path / "other"
    match kind:
        case "file":
            path.write_bytes(b"mine")
        case "empty file":
            path.touch()
        case "folder":
            path.mkdir()
        case "link":
            other.write_bytes(b"mine")
            path.symlink_to(other)
        case _:
            path.symlink_to(other)
    before = (path.lstat(), other.exists())
    with pytest.raises(FileExistsError):
        create_sidecar(os.fsencode(path), b"new")
    assert (path.lstat(), other.exists()) == before
    if kind in {"file", "link"}:
        assert path.read_bytes() == b"mine"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on file sizes")
def test_a_sidecar_for_which_there_is_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys\n"
        "from siglip_search.photos.xmp_sidecar import create_sidecar\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try:\n"
        "    create_sidecar(sys.argv[1].encode(), b'x' * 100)\n"
        "except OSError as error:\n"
        "    sys.exit(error.strerror)\n"
    )
    path = tmp_path / "a.jpg.xmp"
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert not path.exists()


def test_every_sidecar_that_the_index_reads_is_seen() -> None:
    folder = SidecarFolder(
        [
            *(b"a.jpg", b"a.jpg.xmp"),
            *(b"b.jpg", b"b.xmp"),
            *(b"c.jpg", b"C.JPG.XMP"),
            *(b"d.jpg", b"d.NEF", b"d.NEF.xmp"),
            *(b"e.CR2", b"e.xmp"),
            *(b"f.jpg", b"f_01.jpg.xmp", b"._f.jpg.xmp"),
            *(b"g", b"g.xmp"),
            b"h.jpg",
        ]
    )
    assert folder.sidecars_of(b"a.jpg") == [b"a.jpg.xmp"]
    assert folder.sidecars_of(b"b.jpg") == [b"b.xmp"]
    assert folder.sidecars_of(b"c.jpg") == [b"C.JPG.XMP"]
    assert folder.sidecars_of(b"d.jpg") == [b"d.NEF.xmp"]
    assert folder.sidecars_of(b"e.CR2") == [b"e.xmp"]
    assert folder.sidecars_of(b"f.jpg") == []
    assert folder.sidecars_of(b"g") == [b"g.xmp"]
    assert folder.sidecars_of(b"h.jpg") == []
    assert b"h.jpg" in folder
    assert b"i.jpg" not in folder


def test_the_stem_alone_names_a_sidecar_only_where_it_names_one_picture() -> None:
    folder = SidecarFolder([b"a.jpg", b"a.NEF", b"b.jpg", b"b.png", b"c.CR2", b"d.JPG", b"D.heic"])
    assert folder.new_name(b"a.jpg", "full") == b"a.jpg.xmp"
    assert folder.new_name(b"a.jpg", "stem") == b"a.xmp"  # of both: the RAW belongs to it
    assert folder.new_name(b"b.jpg", "stem") == b"b.jpg.xmp"
    assert folder.new_name(b"b.png", "stem") == b"b.png.xmp"
    assert folder.new_name(b"c.CR2", "stem") == b"c.xmp"
    assert folder.new_name(b"d.JPG", "stem") == b"d.JPG.xmp"


def test_the_libraries_of_other_programs_are_known() -> None:
    inside = b"/home/a/Photos Library.photoslibrary/originals/1/x.heic"
    assert package_above(inside) == b"/home/a/Photos Library.photoslibrary"
    assert package_above(b"/a/b.LRLIBRARY/c/originals/x.jpg") == b"/a/b.LRLIBRARY"
    assert package_above(b"/home/a/photoslibrary/x.heic") is None
    assert package_above(b"/x.photoslibrary") is None
