"""Facts that are read again are those that the decoder found, whatever became of the sidecar."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from photos.written_metadata import jpeg_with, xmp_packet
from PIL import ExifTags, Image

from siglip_index.records import PhotoFacts
from siglip_search.errors import NotAPictureError, UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.photos.metadata_again import facts_of_file, read_facts_again
from siglip_search.photos.metadata_xmp import XmpFields
from siglip_search.photos.optional_formats import raw_available

LIMITS = DecodeLimits()


def pictures() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Model] = "Camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2020:01:02 03:04:05"
    found = {"rich": jpeg_with(xmp=xmp_packet('xmp:Rating="4"'))}
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        target = BytesIO()
        Image.new("RGB", (12, 8), "teal").save(target, kind, exif=exif)
        found[kind] = target.getvalue()
    return found


@pytest.mark.parametrize("name", pictures())
def test_facts_read_again_are_those_of_the_decoder(name: str) -> None:
    content = pictures()[name]
    facts = decode(BytesIO(content), limits=LIMITS).facts
    stale = replace(facts, rating=1, title="stale", camera=None, metadata_version=0)
    assert read_facts_again(BytesIO(content), stale, LIMITS) == facts
    assert facts.camera == "Camera" or facts.rating == 4


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0 cut off"])
def test_file_that_is_no_picture_any_more_is_refused(content: bytes) -> None:
    with pytest.raises((NotAPictureError, UnreadablePictureError)):
        read_facts_again(BytesIO(content), PhotoFacts(1, 1, "JPEG"), LIMITS)


@pytest.mark.skipif(not raw_available(), reason="needs rawpy")
def test_raw_that_only_its_name_told_is_read_again() -> None:
    # LibRaw knows one camera's bare pixels by their number alone.
    content = bytes(range(256)) * 3072
    facts = decode(BytesIO(content), limits=LIMITS, name=b"a.raw").facts
    assert facts.format == "RAW"
    assert read_facts_again(BytesIO(content), replace(facts, rating=1), LIMITS) == facts


def test_the_more_particular_sidecar_counts_for_more_and_the_name_for_least() -> None:
    own = PhotoFacts(1, 1, "CR2", rating=1)
    both = [XmpFields(rating=2, title="of all"), XmpFields(rating=3, taken_at="2001-01-01")]
    found = facts_of_file(own, b"IMG_20240131_235959.CR2", both)
    assert (found.rating, found.title) == (3, "of all")
    assert (found.taken_at, found.taken_source) == ("2001-01-01", "sidecar")
    found = facts_of_file(own, b"IMG_20240131_235959.CR2", [])
    assert (found.rating, found.taken_source) == (1, "file-name")
