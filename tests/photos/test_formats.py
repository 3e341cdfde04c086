from __future__ import annotations

import subprocess
import sys

import pillow_heif
import pytest
from photos.drawn_pictures import encoded, quarters
from PIL import Image

from siglip_search.photos import formats
from siglip_search.photos.jxl import register_jxl


def test_table_is_what_pillow_and_its_plugins_register_less_the_denied() -> None:
    pytest.importorskip("pillow_jxl", reason="needs the extra jxl")
    Image.init()
    pillow_heif.register_heif_opener()
    register_jxl()
    registered: dict[str, set[bytes]] = {}
    for extension, name in Image.registered_extensions().items():
        if name not in formats.DENIED_FORMATS:
            registered.setdefault(name, set()).add(extension.removeprefix(".").encode())
    assert registered == {name: set(e) for name, e in formats.EXTENSIONS_BY_FORMAT.items()}


def test_every_format_of_pillow_is_either_opened_or_denied() -> None:
    Image.init()
    pillow_heif.register_heif_opener()
    opened = {*formats.OPENED_FORMATS, *formats.OPENED_CONTAINER_FORMATS}
    registered = set(Image.OPEN) - set(formats.OPENED_JXL_FORMATS)
    assert registered == opened | (registered & set(formats.DENIED_FORMATS))
    assert not opened & set(formats.DENIED_FORMATS)
    assert {"EPS", "WMF", "MPEG", "IPTC"} <= set(formats.DENIED_FORMATS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"a.jpg", True),
        (b"A.JPG", True),
        (b"a.b.HeIc", True),
        (b"\xff\xfe.png", True),
        (b"a\n.webp", True),
        (b"a.eps", False),
        (b"a.mp4", False),
        (b"a.jpg.xmp", False),
        (b"jpg", None),
        (b"IMG_0001", None),
    ],
)
def test_names_tell_pictures(name: bytes, expected: bool | None) -> None:
    assert formats.has_picture_extension(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"IMG_0001.CR2", True),
        (b"a/b.dng", True),
        (b"DSC_1.nef", True),
        (b"a.tif", False),
        (b"a.nef.xmp", False),
        (b"raw", False),
        (b"nef", False),
    ],
)
def test_names_tell_raw_files(name: bytes, expected: bool) -> None:
    assert formats.is_raw_name(name) is expected
    if expected:
        assert formats.has_picture_extension(name) is False


@pytest.mark.parametrize(
    "name", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "BMP"]
)
def test_common_formats_are_known_by_their_first_bytes(name: str) -> None:
    pillow_heif.register_heif_opener()
    head = encoded(quarters(), name).read(formats.SIGNATURE_BYTES)
    assert formats.sniff_format(head) == name
    assert formats.describe_other(head) is None


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b"  <svg xmlns=", "SVG"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
    ],
)
def test_what_people_take_for_pictures_is_named(head: bytes, words: str) -> None:
    assert formats.sniff_format(head) is None
    assert words in (formats.describe_other(head) or "")


def test_scanning_needs_neither_pillow_nor_numpy() -> None:
    code = (
        "import sys, siglip_search.photos.scan, siglip_search.photos.optional_formats as o; "
        "o.missing_extra(b'a.nef'); "
        "heavy = {'PIL', 'numpy', 'pillow_heif', 'rawpy', 'pillow_jxl', 'onnxruntime'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"
