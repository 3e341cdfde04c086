"""Opening with Pillow: only formats that are meant, and never more pixels than allowed."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from siglip_search.errors import NotAPictureError, UnreadablePictureError
from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.formats import (
    OPENED_CONTAINER_FORMATS,
    OPENED_FORMATS,
    OPENED_JXL_FORMATS,
    SIGNATURE_BYTES,
    describe_other,
    is_container,
    sniff_format,
)
from siglip_search.photos.frame_choice import choose_page
from siglip_search.photos.jxl import register_jxl, stated_size
from siglip_search.photos.reasons import too_many_pixels, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siglip_search.photos.decode import DecodeLimits

# Pillow's limits and Python's warning filters belong to the whole process, so one picture at a
# time may change them. The pool's workers have a process each and never wait here.
_PROCESS_WIDE_STATE = threading.RLock()

# Pillow refuses a picture whose text or colour profile is larger than 1 MiB; those of printing
# are.
_MAX_PNG_CHUNK_BYTES = 16 * 1024**2


class _BorrowedFile:
    """A file that Pillow may read but not close, as some of its plugins do (FTEX)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """Leave the file open for its owner."""


@contextmanager
def own_limits(limits: DecodeLimits) -> Iterator[None]:
    """Replace Pillow's process-wide limits by ours for one picture, and keep it silent."""
    with _PROCESS_WIDE_STATE:
        max_pixels, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        max_chunk_bytes = PngImagePlugin.MAX_TEXT_CHUNK
        # For pictures inside the picture, as icons have them. What the file itself states is
        # checked by us, with numbers in the message.
        Image.MAX_IMAGE_PIXELS = limits.max_pixels
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        PngImagePlugin.MAX_TEXT_CHUNK = _MAX_PNG_CHUNK_BYTES
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                yield
        finally:
            Image.MAX_IMAGE_PIXELS = max_pixels
            ImageFile.LOAD_TRUNCATED_IMAGES = truncated
            PngImagePlugin.MAX_TEXT_CHUNK = max_chunk_bytes


def open_picture(file: BinaryIO, limits: DecodeLimits) -> ImageFile.ImageFile:
    """Open a picture without decoding it; a TIFF at the page that is the photograph.

    To be called within `own_limits`, which holds until the picture is loaded.

    Args:
        file: Open for reading; it stays open.
        limits: Only max_pixels is kept here.

    Raises:
        NotAPictureError: If the content is of no picture format that is opened.
        UnreadablePictureError: If it is damaged, has too many pixels, or needs an extra.
        TryAgainError: If the operating system could not read the file.
    """
    announced: str | None = None
    try:
        file.seek(0)
        head = file.read(SIGNATURE_BYTES)
        if not head:
            raise NotAPictureError("the file is empty")
        announced = sniff_format(head)
        image = _opened(file, head, announced, limits)
        if image.format == "TIFF":
            choose_page(image)
    except UnidentifiedImageError:
        if announced is not None:
            raise UnreadablePictureError(f"damaged or unsupported {announced}") from None
        raise NotAPictureError(describe_other(head) or "not a picture") from None
    except BAD_DATA_ERRORS as error:
        if announced == "JXL" and type(error) is RuntimeError:
            # The plugin's words are for those who build it.
            raise UnreadablePictureError("damaged or truncated JPEG XL") from None
        raise unreadable(error, announced or "picture", limits.max_memory_bytes) from None
    width, height = image.size
    if width <= 0 or height <= 0:
        raise UnreadablePictureError(f"damaged {image.format}: it has no pixels")
    _check_pixels(width, height, limits)
    return image


def _opened(
    file: BinaryIO, head: bytes, announced: str | None, limits: DecodeLimits
) -> ImageFile.ImageFile:
    formats = OPENED_FORMATS
    if announced == "JXL":
        register_jxl()
        # It is decoded by opening it.
        size = stated_size(file)
        if size is None:
            raise UnreadablePictureError("damaged or truncated JPEG XL")
        _check_pixels(*size, limits)
        file.seek(0)
        formats = OPENED_JXL_FORMATS
    elif is_container(head):
        _register_heif()
        formats = OPENED_CONTAINER_FORMATS
    # Pillow's own check would come before ours, and without numbers.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(cast("BinaryIO", _BorrowedFile(file)), formats=formats)
    finally:
        Image.MAX_IMAGE_PIXELS = limits.max_pixels


def _check_pixels(width: int, height: int, limits: DecodeLimits) -> None:
    if width * height > limits.max_pixels:
        raise UnreadablePictureError(too_many_pixels(width, height, limits.max_pixels))


def _register_heif() -> None:
    # Imported on demand: it costs 50 ms, and most folders hold no HEIF.
    import pillow_heif

    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener()
