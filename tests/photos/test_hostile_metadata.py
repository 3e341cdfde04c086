"""Metadata made to do harm: they never raise, and what they may cost is bounded."""

from __future__ import annotations

import random
import struct
import time
import warnings
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photos.written_metadata import iptc_block, jpeg_with, xmp_list, xmp_packet
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from siglip_search.photos.metadata import read_metadata
from siglip_search.photos.metadata_values import MAX_KEYWORDS
from siglip_search.photos.metadata_xmp import MAX_XMP_BYTES, XmpFields, read_xmp

TAG = ExifTags.Base

BOMB = (
    '<!DOCTYPE b [<!ENTITY a "'
    + "x" * 1000
    + '">'
    + "".join(f'<!ENTITY a{n} "{"&a;" * 10}">' for n in range(5))
    + "]>"
)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0" * 100,
        b"<",
        b"no XML",
        xmp_packet('xmp:Rating="5"', before=BOMB),
        xmp_packet('xmp:Rating="5"', before='<!DOCTYPE r SYSTEM "file:///etc/passwd">'),
        b'<?xml version="1.0" encoding="rot13"?>' + xmp_packet(),
    ],
)
def test_packet_that_is_no_xmp_says_nothing(packet: bytes) -> None:
    assert read_xmp(packet) in (None, XmpFields())


def test_xmp_in_utf_16_is_read() -> None:
    packet = xmp_packet('xmp:Rating="5"').decode().partition("?>")[2].rpartition("<?")[0]
    assert read_xmp(packet.encode("utf-16")) == XmpFields(rating=5)


def test_what_stands_before_the_damage_is_kept() -> None:
    packet = xmp_packet('xmp:Rating="5"', xmp_list("dc:subject", ["one", "two"]))
    cut = packet[: packet.index(b"two")]
    assert read_xmp(cut) == XmpFields(rating=5, keywords=("one",))


def test_metadata_of_any_size_take_little_time_and_little_room() -> None:
    words = [f"word {number} " + "x" * 500 for number in range(20_000)]
    packet = xmp_packet("", xmp_list("dc:subject", words))
    assert len(packet) > 10 * 10**6 > MAX_XMP_BYTES
    deep = xmp_packet("", "<dc:subject>" * 100_000)
    comment = xmp_packet("", f"<dc:title>{'t' * 3_000_000}</dc:title>")
    many = xmp_packet("", xmp_list("dc:subject", [f"w{number}" for number in range(100_000)]))
    start = time.monotonic()
    assert read_xmp(packet) is None
    assert read_xmp(deep) in (None, XmpFields())
    assert len((read_xmp(comment) or XmpFields()).title or "") == 300
    assert len((read_xmp(many) or XmpFields()).keywords) == MAX_KEYWORDS
    assert time.monotonic() - start < 20


def test_control_and_direction_characters_and_surrogates_do_not_come_through() -> None:
    words = ["a\u202eb", "c\u200bd", "&#x9;tab", "\U000e0041x"]
    found = read_xmp(xmp_packet("", xmp_list("dc:subject", words)))
    assert found is not None
    assert found.keywords == ("a b", "c d", "tab", "x")
    sets = [(1, 90, b"\x1b%G"), (2, 25, b"\xed\xa0\x80evil\x1b[31m"), (2, 25, b"\xff\xfe")]
    with Image.open(BytesIO(jpeg_with(iptc=iptc_block(sets)))) as image:
        keywords = read_metadata(image).keywords
    for word in keywords:
        word.encode()
        assert word.isprintable()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_hostile_metadata_never_raise(data: st.DataObject) -> None:
    content = jpeg_with(
        capture={TAG.DateTimeOriginal: "2019:05:01 12:30:05", TAG.ISOSpeedRatings: 100},
        gps={1: "N", 2: (1.0, 2.0, 3.0), 3: "E", 4: (1.0, 2.0, 3.0), 6: IFDRational(1, 2)},
        iptc=iptc_block([(1, 90, b"\x1b%G"), (2, 25, b"word"), (2, 55, b"20210504")]),
        xmp=xmp_packet('xmp:Rating="4"', xmp_list("dc:subject", ["night"])),
    )
    end = content.index(b"\xff\xdb")  # the tables after the metadata
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(20, end - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the decoder has it
        try:
            image = Image.open(BytesIO(bytes(damaged)))
            image.load()
        except (OSError, SyntaxError, ValueError, struct.error):
            return
        found = read_metadata(image)
    facts = found.facts(1, 1, "JPEG")
    assert facts.rating in (None, -1, 0, 1, 2, 3, 4, 5)
    for text in (*facts.keywords, facts.title or "", facts.lens or "", facts.camera or ""):
        text.encode()
        assert "\n" not in text


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_damaged_xmp_never_raises(seed: int, changes: int) -> None:
    generator = random.Random(seed)
    packet = bytearray(
        xmp_packet(
            'exif:ExposureTime="1/125" exif:GPSLatitude="52,30.6N" xmp:CreateDate="2021-05-04"',
            xmp_list("dc:subject", ["night", "rain"]),
        )
    )
    for _ in range(changes):
        packet[generator.randrange(len(packet))] = generator.randrange(256)
    read_xmp(bytes(packet))
