"""A camera's RAW through rawpy (LibRaw): the preview inside it, or a development at half size."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.optional_formats import install_line, raw_available
from siglip_search.photos.reasons import needs_more_memory, one_line, too_many_pixels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PREVIEW_MIN_SIDE = 1024
"""Length in pixels of a preview's longer side from which on it is as good as the picture."""

# LibRaw's flip: bit 0 mirrors left and right, bit 1 top and bottom, bit 2 swaps the axes.
_ORIENTATION_BY_FLIP = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}
_AXES_SWAPPED = 4

# Closer to a square than this, a shape does not tell how it was turned.
_SQUARE_RATIO = 1.05

_LIBRAW_SOFTWARE = b"\0dcraw v"

# That of sRGB, as LibRaw takes it: the exponent, and the slope of its straight beginning.
_SRGB_GAMMA = (2.4, 12.92)


class NotRawError(UnreadablePictureError):
    """LibRaw takes the file for no RAW at all."""


class RawFile:
    """An opened RAW file; made by `open_raw`.

    Attributes:
        width: Of the sensor's picture, upright.
        height: Of the sensor's picture, upright.
        orientation: How the sensor's pixels must be turned, as in EXIF.
    """

    def __init__(self, raw: Any, raw_type: str, max_memory_bytes: int) -> None:
        self._raw = raw
        self._type = raw_type
        self._max_memory_bytes = max_memory_bytes
        sizes = raw.sizes
        flip = sizes.flip & 7
        self.orientation = _ORIENTATION_BY_FLIP[flip]
        sides = (sizes.width, sizes.height)
        self.width, self.height = sides[::-1] if flip & _AXES_SWAPPED else sides

    def preview(self) -> io.BytesIO | Image.Image | None:
        """Return the largest preview: a JPEG file, or pixels that are not turned yet.

        Returns:
            None when there is none that can be read. A preview may be small.
        """
        import rawpy

        try:
            preview = self._raw.extract_thumb()
        except (rawpy.LibRawError, rawpy.NotSupportedError):
            return None
        except BAD_DATA_ERRORS:
            return None
        if preview.format == rawpy.ThumbFormat.JPEG:
            return io.BytesIO(_without_exif_of_libraw(preview.data))
        try:
            return _image(preview.data)
        except BAD_DATA_ERRORS:
            return None

    def orientation_of_preview(self, size: tuple[int, int], stated: int | None) -> int:
        """Return how a preview must be turned, as in EXIF.

        A preview may say so itself, may leave it to the RAW file around it, or may be turned
        already. Its shape decides which is right: it must come out standing or lying as the RAW
        does.

        Args:
            size: Width and height as they are stored.
            stated: In the preview's own EXIF data, None where nothing is.
        """
        own = self.orientation if stated is None else stated
        for orientation in (own, self.orientation, 1):
            width, height = size[::-1] if orientation > 4 else size
            if _shape(width, height) == _shape(self.width, self.height):
                return orientation
        return own

    def develop(self) -> Image.Image:
        """Develop the sensor's own data at half the size: upright, mode "RGB", sRGB.

        With the camera's white balance and without LibRaw's automatic brightening, which would
        make day of every night.

        Raises:
            UnreadablePictureError: If that cannot be done.
        """
        import rawpy

        with _reasons(self._type, self._max_memory_bytes):
            pixels = self._raw.postprocess(
                half_size=True,
                use_camera_wb=True,
                no_auto_bright=True,
                output_color=rawpy.ColorSpace.sRGB,
                output_bps=8,
                gamma=_SRGB_GAMMA,
            )
            return _image(pixels).convert("RGB")


@contextmanager
def open_raw(
    file: BinaryIO, raw_type: str, *, max_pixels: int, max_memory_bytes: int
) -> Iterator[RawFile]:
    """Open a RAW file and read what it says of itself; nothing is developed yet.

    Args:
        file: A regular file, open for reading; it stays open and its position changes.
        raw_type: Such as "NEF", for the reasons.
        max_pixels: The sensor's width times height that is accepted.
        max_memory_bytes: For the reason when memory is short.

    Raises:
        NotRawError: If LibRaw knows no such format.
        UnreadablePictureError: If it is damaged, has too many pixels, or the extra is missing:
            the reason then has the line that installs it.
    """
    if not raw_available():
        raise UnreadablePictureError(f"a camera's RAW: to read such, {install_line('raw')}")
    import rawpy

    raw = rawpy.RawPy()
    try:
        with _reasons(raw_type, max_memory_bytes):
            file.seek(0)
            raw.open_buffer(file)
        sizes = raw.sizes
        if sizes.raw_width * sizes.raw_height > max_pixels:
            raise UnreadablePictureError(
                too_many_pixels(sizes.raw_width, sizes.raw_height, max_pixels)
            )
        yield RawFile(raw, raw_type, max_memory_bytes)
    finally:
        raw.close()


def _image(pixels: NDArray[Any]) -> Image.Image:
    """Return pixels of shape (height, width, 1 or 3); a sensor without filters counts light."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _without_exif_of_libraw(jpeg: bytes) -> bytes:
    """Undo what LibRaw does to a JPEG that does not begin with EXIF data: it puts some in front.

    That has a made-up date, and would hide the camera's own further behind.
    """
    if jpeg[2:4] != b"\xff\xe1":
        return jpeg
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:2] + jpeg[end:] if _LIBRAW_SOFTWARE in jpeg[4:end] else jpeg


def _shape(width: int, height: int) -> str:
    if width > height * _SQUARE_RATIO:
        return "landscape"
    return "portrait" if height > width * _SQUARE_RATIO else "square"


@contextmanager
def _reasons(raw_type: str, max_memory_bytes: int) -> Iterator[None]:
    """Turn LibRaw's errors into reasons for people."""
    import rawpy

    try:
        yield
    except rawpy.LibRawFileUnsupportedError:
        raise NotRawError(f"damaged or unsupported {raw_type}") from None
    except (rawpy.LibRawUnsufficientMemoryError, rawpy.LibRawTooBigError, MemoryError):
        raise UnreadablePictureError(needs_more_memory(max_memory_bytes)) from None
    except rawpy.LibRawIOError:
        raise UnreadablePictureError(f"truncated {raw_type}") from None
    except rawpy.LibRawError as error:
        text = error.args[0] if error.args else b""
        message = one_line(text.decode("ascii", "replace") if isinstance(text, bytes) else text)
        raise UnreadablePictureError(f"damaged {raw_type}: {message}") from None
