"""What a RAW file says of itself, as far as it is a TIFF or holds a camera's own JPEG."""

from __future__ import annotations

from typing import BinaryIO, cast

from PIL import ExifTags, Image

from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.exif import PictureExif, read_exif


class _TiffTags:
    """The directories of a TIFF in the place of a picture that has them."""

    def __init__(self, file: BinaryIO) -> None:
        self._exif = Image.Exif()
        file.seek(0)
        self._exif.load_from_fp(file)

    def getexif(self) -> Image.Exif:
        return self._exif


def read_tiff_exif(file: BinaryIO) -> PictureExif | None:
    """Read the EXIF data of a RAW file that is a TIFF.

    Args:
        file: Open for reading; its position changes.

    Returns:
        None when it is no TIFF, or says nothing of when and with what it was taken.
    """
    try:
        exif = read_exif(cast("Image.Image", _TiffTags(file)))
    except BAD_DATA_ERRORS:
        return None
    return exif if exif.camera or exif.taken_at else None


def stated_orientation(preview: Image.Image) -> int | None:
    """Return the orientation in a preview's own EXIF data; None where it has none."""
    try:
        is_stated = ExifTags.Base.Orientation in preview.getexif()
    except BAD_DATA_ERRORS:
        return None
    return read_exif(preview).orientation if is_stated else None
