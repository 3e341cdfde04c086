"""The facts of a picture whose vector is there already: read again, without its pixels if possible.

After a sidecar changed, or under a version of the program that reads more metadata.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.exif import PictureExif, read_exif
from siglip_search.photos.file_name_dates import dated_by_name
from siglip_search.photos.metadata import read_metadata, read_raw_metadata, with_sidecar
from siglip_search.photos.open_picture import open_picture, own_limits
from siglip_search.photos.raw import NotRawError, open_raw
from siglip_search.photos.raw_exif import read_tiff_exif
from siglip_search.photos.raw_signature import raw_type
from siglip_search.photos.reasons import unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from siglip_index.records import PhotoFacts
    from siglip_search.photos.decode import DecodeLimits
    from siglip_search.photos.metadata_xmp import XmpFields

# They may keep EXIF data or XMP behind the pixels.
_METADATA_AT_THE_END = frozenset({"PNG"})

_RAW = "RAW"


def read_facts_again(file: BinaryIO, facts: PhotoFacts, limits: DecodeLimits) -> PhotoFacts:
    """Return the facts of a picture with its own metadata as they are read today.

    Args:
        file: The picture, open for reading; its position changes.
        facts: What is known of it; size and format stay.
        limits: As for decoding: damaged files do harm here too.

    Raises:
        NotAPictureError, UnreadablePictureError, TryAgainError: As `decode` does.
    """
    try:
        # A RAW that only its name told was recorded as one.
        kind = raw_type(file) or (_RAW if facts.format == _RAW else None)
        file.seek(0)
        with own_limits(limits):
            if kind is not None:
                exif = read_tiff_exif(file) or _exif_of_preview(file, kind, limits)
                metadata = read_raw_metadata(file, exif)
            else:
                with open_picture(file, limits) as image:
                    if image.format in _METADATA_AT_THE_END:
                        image.load()
                    metadata = read_metadata(image)
    except BAD_DATA_ERRORS as error:
        raise unreadable(error, facts.format, limits.max_memory_bytes) from None
    return metadata.facts(facts.width, facts.height, facts.format)


def _exif_of_preview(file: BinaryIO, kind: str, limits: DecodeLimits) -> PictureExif:
    try:
        with open_raw(
            file, kind, max_pixels=limits.max_pixels, max_memory_bytes=limits.max_memory_bytes
        ) as raw:
            preview = raw.preview()
    except NotRawError:
        return PictureExif()
    if not isinstance(preview, io.BytesIO):
        return PictureExif()
    with open_picture(preview, limits) as image:
        return read_exif(image)


def facts_of_file(facts: PhotoFacts, name: bytes, sidecars: Iterable[XmpFields]) -> PhotoFacts:
    """Return a picture's own facts with what stands beside it: in sidecars, and in its name.

    Args:
        facts: The picture's own, as it was decoded or read again.
        name: Of the file under which the content is found first.
        sidecars: Each counts for more than those before it: give "IMG_1.xmp" before
            "IMG_1.CR2.xmp".
    """
    for sidecar in sidecars:
        facts = with_sidecar(facts, sidecar)
    return dated_by_name(facts, name)
