"""A file's bytes become upright RGB pixels, or one line that says why not."""

from __future__ import annotations

import threading
import unicodedata
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from siglip_index.records import PhotoFacts
from siglip_search.errors import NotAPictureError, UnreadablePictureError
from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.exif import read_exif
from siglip_search.photos.fingerprint import is_storage_failure, refused_read
from siglip_search.photos.formats import (
    OPENED_CONTAINER_FORMATS,
    OPENED_FORMATS,
    SIGNATURE_BYTES,
    describe_other,
    is_container,
    sniff_format,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

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

# Transparent pictures are mostly drawn for light pages, and dark lines would vanish on black.
_BACKGROUND = (255, 255, 255)

_REASON_MAX_CHARACTERS = 120

# Pillow's limits and Python's warning filters belong to the whole process, so one picture at a
# time may change them. The pool's workers have a process each and never wait here.
_PROCESS_WIDE_STATE = threading.RLock()


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one picture may cost.

    Attributes:
        max_pixels: Width times height that the file states, > 0; checked before decoding.
        max_seconds: Wall-clock time, > 0; kept by the pool, which kills its worker.
        max_memory_bytes: Address space beyond a worker's own, > 0; kept by the pool where the
            operating system knows such a limit (not on Windows or macOS).
    """

    max_pixels: int = 250_000_000
    max_seconds: float = 60
    max_memory_bytes: int = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """The first frame of a picture.

    Attributes:
        image: Upright, mode "RGB"; smaller than the original when `min_side` allowed it.
        facts: What is known of the original; its width and height are upright too.
    """

    image: Image.Image
    facts: PhotoFacts


def decode(file: BinaryIO, *, limits: DecodeLimits, min_side: int | None = None) -> DecodedPicture:
    """Decode the first frame of a picture, turned upright by its EXIF orientation.

    Transparency is laid on white. Colour profiles are not applied, as in the training of the
    models that look at the result. Greyscale of more than 8 bits is scaled by the smallest power
    of two that fits its brightest pixel; floating point in [0, 1] by 255; any other range is
    stretched from its minimum to its maximum.

    Args:
        file: A regular file, open for reading; it stays open.
        limits: Only max_pixels is kept here.
        min_side: Length in pixels that both sides keep at least; lets a JPEG be decoded at a
            half, a quarter or an eighth, which is much faster. None decodes it whole.

    Raises:
        NotAPictureError: If the content is of no picture format that is opened.
        UnreadablePictureError: If it is damaged or exceeds a limit; str() is the reason.
        TryAgainError: If the operating system could not read the file.
    """
    try:
        file.seek(0)
        head = file.read(SIGNATURE_BYTES)
    except OSError as error:
        raise refused_read(error) from None
    if not head:
        raise NotAPictureError("the file is empty")
    with _PROCESS_WIDE_STATE, _own_limits(), _open(file, head, limits) as image:
        return _load(image, limits, min_side)


class _BorrowedFile:
    """A file that Pillow may read but not close, as some of its plugins do (FTEX)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        """Leave the file open for its owner."""


def _open(file: BinaryIO, head: bytes, limits: DecodeLimits) -> ImageFile.ImageFile:
    formats = OPENED_FORMATS
    if is_container(head):
        _register_heif()
        formats = OPENED_CONTAINER_FORMATS
    try:
        image = Image.open(cast("BinaryIO", _BorrowedFile(file)), formats=formats)
    except UnidentifiedImageError:
        announced = sniff_format(head)
        if announced is not None:
            raise UnreadablePictureError(f"damaged or unsupported {announced}") from None
        raise NotAPictureError(describe_other(head) or "not a picture") from None
    except BAD_DATA_ERRORS as error:
        raise _unreadable(error, sniff_format(head) or "picture", limits) from None
    width, height = image.size
    if width <= 0 or height <= 0:
        raise UnreadablePictureError(f"damaged {image.format}: it has no pixels")
    if width * height > limits.max_pixels:
        raise UnreadablePictureError(
            f"{width} x {height} pixels is more than the limit of "
            f"{limits.max_pixels:,} (--max-pixels)"
        )
    return image


def _load(image: ImageFile.ImageFile, limits: DecodeLimits, min_side: int | None) -> DecodedPicture:
    # Read before converting or turning, which returns an image without it.
    picture_format = image.format or "picture"
    # For pictures inside the picture, as icons have them: the same cap, kept by Pillow.
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    try:
        width, height = image.size
        # HEIF's draft() would take an embedded thumbnail, which need not show the same.
        drafted = min_side is not None and picture_format in _JPEG_FORMATS
        if drafted:
            image.draft(None, (min_side, min_side))  # type: ignore[arg-type]
        image.load()
        if not drafted:
            # HEIF and icons may turn out to have another size than they stated.
            width, height = image.size
        exif = read_exif(image)
        upright = _to_rgb(image)
        if exif.orientation in _TURN_UPRIGHT:
            upright = upright.transpose(_TURN_UPRIGHT[exif.orientation])
            if exif.orientation in _SIDES_SWAPPED:
                width, height = height, width
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadablePictureError(
            f"a picture inside it has more pixels than the limit of "
            f"{limits.max_pixels:,} (--max-pixels)"
        ) from None
    except BAD_DATA_ERRORS as error:
        raise _unreadable(error, picture_format, limits) from None
    facts = PhotoFacts(
        width=width,
        height=height,
        format=picture_format,
        taken_at=exif.taken_at,
        camera=exif.camera,
        latitude=exif.latitude,
        longitude=exif.longitude,
    )
    return DecodedPicture(upright, facts)


@contextmanager
def _own_limits() -> Iterator[None]:
    """Replace Pillow's process-wide limits by ours for one picture, and keep it silent."""
    max_pixels, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    # Our cap is checked after opening, with numbers in its message.
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = max_pixels
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated


def _register_heif() -> None:
    # Imported on demand: it costs 50 ms, and most folders hold no HEIF.
    import pillow_heif

    if "HEIF" not in Image.OPEN:
        pillow_heif.register_heif_opener()


def _unreadable(
    error: Exception, picture_format: str, limits: DecodeLimits
) -> UnreadablePictureError:
    """Turn an exception from inside the imaging libraries into a reason for people."""
    if isinstance(error, OSError) and is_storage_failure(error):
        return refused_read(error)
    message = _one_line(str(error))
    if isinstance(error, MemoryError) or "memory" in message.lower():
        return UnreadablePictureError(needs_more_memory(limits.max_memory_bytes))
    if isinstance(error, EOFError) or "truncated" in message.lower():
        return UnreadablePictureError(f"truncated {picture_format}")
    if isinstance(error, NotImplementedError) or message.lower().startswith("unsupported"):
        return UnreadablePictureError(f"unsupported {picture_format}{_detail(message)}")
    # The words of a KeyError or TypeError from inside a plugin help nobody; nor do those of a
    # seek to a place that the file made up, the only errors with a number left here.
    says_something = isinstance(error, OSError | SyntaxError | ValueError | RuntimeError)
    if not says_something or getattr(error, "errno", None) is not None:
        message = ""
    return UnreadablePictureError(f"damaged {picture_format}{_detail(message)}")


def _detail(message: str) -> str:
    return f": {message}" if message else ""


def needs_more_memory(max_memory_bytes: int) -> str:
    """Return the reason that is given when a picture exceeds the limit of memory."""
    gibibytes = max_memory_bytes / 1024**3
    return f"needs more than {gibibytes:.3g} GiB of memory"


def _one_line(text: str) -> str:
    printable = "".join(
        " " if unicodedata.category(character).startswith(("C", "Z")) else character
        for character in text[: 10 * _REASON_MAX_CHARACTERS]
    )
    return " ".join(printable.split())[:_REASON_MAX_CHARACTERS].rstrip(" .")


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any of Pillow's modes to 8-bit RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode.startswith("I;") or image.mode in ("I", "F"):
        return Image.fromarray(_scaled_to_8_bit(np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.has_transparency_data:
        return _on_background(image)
    return image.convert("RGB")


def _on_background(image: Image.Image) -> Image.Image:
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    translucent = image.convert("RGBA")
    opaque = Image.new("RGB", image.size, _BACKGROUND)
    opaque.paste(translucent, mask=translucent.getchannel("A"))
    return opaque


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    # Pillow converts from LAB through a colour profile only.
    try:
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        converted = ImageCms.applyTransform(image, transform)
    except ImageCms.PyCMSError as error:
        raise ValueError(str(error)) from None
    if converted is None:
        raise ValueError("its colours cannot be converted")
    return converted


def _scaled_to_8_bit(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale greyscale of any depth to [0, 255].

    Args:
        grey: Integers or floating point, shape (height, width).

    Returns:
        Same shape.
    """
    if np.issubdtype(grey.dtype, np.integer):
        darkest, brightest = int(grey.min()), int(grey.max())
        if darkest >= 0:
            # 12-bit cameras and scanners store their values in 16 bits without scaling them:
            # divided by 256, such a picture would be almost black.
            surplus_bits = max(brightest.bit_length() - 8, 0)
            return cast("NDArray[np.uint8]", (grey >> surplus_bits).astype(np.uint8))
        return _stretched(grey.astype(np.float32), darkest, brightest)

    values = grey.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("none of its pixels is a number")
    low, high = float(values[finite].min()), float(values[finite].max())
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    if low >= 0 and high <= 1:
        low, high = 0, 1
    elif low >= 0 and high <= 255:
        low, high = 0, 255
    return _stretched(values, low, high)


def _stretched(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    span = high - low
    if span <= 0:
        return np.zeros(values.shape, np.uint8)
    # In double precision: float32 would overflow on a picture that spans all of its range.
    scaled = (values.astype(np.float64) - low) * (255 / span)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
