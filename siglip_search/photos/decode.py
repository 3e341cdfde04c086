"""A file's bytes become upright sRGB pixels, or one line that says why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from PIL import ExifTags, Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.cicp import stated_cicp
from siglip_search.photos.colour import to_srgb
from siglip_search.photos.exif import PictureExif, read_exif
from siglip_search.photos.frame_choice import load_first_drawn_frame
from siglip_search.photos.metadata import read_metadata, read_raw_metadata
from siglip_search.photos.open_picture import open_picture, own_limits
from siglip_search.photos.raw import PREVIEW_MIN_SIDE, NotRawError, RawFile, open_raw
from siglip_search.photos.raw_exif import read_tiff_exif, stated_orientation
from siglip_search.photos.raw_signature import may_be_raw, raw_type
from siglip_search.photos.reasons import unreadable

if TYPE_CHECKING:
    from PIL import ImageFile

    from siglip_index.records import PhotoFacts

# EXIF 2.32, tag 0x0112: what turns the stored pixels upright.
_TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIDES_SWAPPED = frozenset({5, 6, 7, 8})

_JPEG_FORMATS = frozenset({"JPEG", "MPO"})


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one picture may cost.

    Attributes:
        max_pixels: Width times height that the file states, > 0; checked before decoding.
        max_seconds: Wall-clock time, > 0; kept by the pool, which kills its worker.
        max_memory_bytes: Address space beyond a worker's own, > 0; kept by the pool where the
            operating system knows such a limit (not on Windows or macOS).
        shared_memory_bytes: What it may cost while others are decoded too, > 0; one that needs more
            is decoded once more, alone. None to let all have max_memory_bytes.
        download_cloud: Whether a file may be read that only the cloud has, which downloads it.
    """

    max_pixels: int = 250_000_000
    max_seconds: float = 60
    max_memory_bytes: int = 2 * 1024**3
    shared_memory_bytes: int | None = None
    download_cloud: bool = False


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """One picture out of a file.

    Attributes:
        image: Upright, mode "RGB", in sRGB; smaller than the original when `min_side` allowed it.
        facts: What is known of the original; its width and height are upright too.
    """

    image: Image.Image
    facts: PhotoFacts


def decode(
    file: BinaryIO, *, limits: DecodeLimits, min_side: int | None = None, name: bytes = b""
) -> DecodedPicture:
    """Decode a picture, turned upright and converted to sRGB.

    Of an animation it is the first frame that is not blank, of a TIFF the first page that is no
    thumbnail, of a camera's RAW the preview inside it when that is large enough. docs/formats.md
    has the rest.

    Args:
        file: A regular file, open for reading; it stays open.
        limits: Only max_pixels is kept here.
        min_side: Length in pixels that both sides keep at least; lets a JPEG be decoded at a
            half, a quarter or an eighth, which is much faster. None decodes it whole.
        name: The file's name, with or without its folder. It decides only whether LibRaw may try
            a content that does not tell what it is.

    Raises:
        NotAPictureError: If the content is of no picture format that is opened.
        UnreadablePictureError: If it is damaged, exceeds a limit or needs an extra; str() is the
            reason.
        TryAgainError: If the operating system could not read the file.
    """
    try:
        kind = raw_type(file)
        is_raw_by_name = kind is None and may_be_raw(file, name)
    except OSError as error:
        raise unreadable(error, "picture", limits.max_memory_bytes) from None
    with own_limits(limits):
        if kind is not None:
            return _decode_raw(file, kind, limits, min_side)
        if is_raw_by_name:
            try:
                return _decode_raw(file, "RAW", limits, min_side)
            except NotRawError:
                pass  # an ordinary picture under a RAW file's name, or none at all
        with open_picture(file, limits) as image:
            return _load(image, file, limits, min_side)


def _load(
    image: ImageFile.ImageFile, file: BinaryIO, limits: DecodeLimits, min_side: int | None
) -> DecodedPicture:
    # Asked before converting or turning, which returns an image without it.
    picture_format = image.format or "picture"
    pixels, size = _pixels(image, file, limits, min_side)
    metadata = read_metadata(image)
    orientation = _orientation_left(image, metadata.orientation)
    if orientation in _SIDES_SWAPPED:
        size = size[::-1]
    return DecodedPicture(_turned(pixels, orientation), metadata.facts(*size, picture_format))


def _pixels(
    image: ImageFile.ImageFile, file: BinaryIO, limits: DecodeLimits, min_side: int | None
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode an opened picture.

    Returns:
        The picture in sRGB, not turned yet; and the width and height of the whole of it.

    Raises:
        UnreadablePictureError: If it is damaged or exceeds a limit.
        TryAgainError: If the operating system could not read the file.
    """
    picture_format = image.format or "picture"
    try:
        size = image.size
        # HEIF's draft() would take an embedded thumbnail, which need not show the same.
        drafted = min_side is not None and picture_format in _JPEG_FORMATS
        if drafted:
            image.draft(None, (min_side, min_side))  # type: ignore[arg-type]
        load_first_drawn_frame(image)
        if not drafted:
            # HEIF and icons may turn out to have another size than they stated.
            size = image.size
        return to_srgb(image, stated_cicp(file, picture_format)), size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadablePictureError(
            f"a picture inside it has more pixels than the limit of "
            f"{limits.max_pixels:,} (--max-pixels)"
        ) from None
    except BAD_DATA_ERRORS as error:
        raise unreadable(error, picture_format, limits.max_memory_bytes) from None


def _orientation_left(image: ImageFile.ImageFile, stated: int) -> int:
    """Return how the pixels must still be turned, where metadata state something."""
    # ISO/IEC 18181-2: the codestream's orientation counts, which libjxl applies, and not that of
    # the EXIF data; unless a JPEG was packed losslessly, which comes out as the JPEG that it was.
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1
    if image.format == "AVIF":
        # Pillow brings `irot` and `imir` as EXIF data in the place of the file's. Without either
        # it would take what XMP says, which an exporter may have left from before it turned them.
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        return stated if ExifTags.Base.Orientation in exif else 1
    return stated


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURN_UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _decode_raw(
    file: BinaryIO, kind: str, limits: DecodeLimits, min_side: int | None
) -> DecodedPicture:
    with open_raw(
        file, kind, max_pixels=limits.max_pixels, max_memory_bytes=limits.max_memory_bytes
    ) as raw:
        upright, exif = _upright_preview(raw, limits, min_side)
        if upright is None:
            upright = raw.develop()
        size = raw.width, raw.height
    metadata = read_raw_metadata(file, read_tiff_exif(file) or exif)
    return DecodedPicture(upright, metadata.facts(*size, kind))


def _upright_preview(
    raw: RawFile, limits: DecodeLimits, min_side: int | None
) -> tuple[Image.Image | None, PictureExif]:
    """Decode the preview of a RAW file.

    Returns:
        The preview, None when it is too small or damaged; and its own EXIF data.
    """
    exif = PictureExif()
    preview = raw.preview()
    if preview is None:
        return None, exif
    if isinstance(preview, Image.Image):
        if max(preview.size) < PREVIEW_MIN_SIDE:
            return None, exif
        orientation = raw.orientation_of_preview(preview.size, None)
        return _turned(to_srgb(preview), orientation), exif
    try:
        with open_picture(preview, limits) as image:
            exif = read_exif(image)
            if max(image.size) < PREVIEW_MIN_SIDE:
                return None, exif
            orientation = raw.orientation_of_preview(image.size, stated_orientation(image))
            pixels, _ = _pixels(image, preview, limits, min_side)
            return _turned(pixels, orientation), exif
    except UnreadablePictureError:
        # The sensor's own data may be whole.
        return None, exif
