"""Pixels of any mode and colour space become 8-bit sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms

from siglip_search.photos.bad_data import BAD_DATA_ERRORS
from siglip_search.photos.icc_profiles import adobe_rgb_profile, cicp_profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siglip_search.photos.cicp import Cicp

# Transparent pictures are mostly drawn for light pages, and dark lines would vanish on black.
_BACKGROUND = (255, 255, 255)

# Those of printing presses have 2 MB at most; a larger one is no profile for a picture.
_MAX_PROFILE_BYTES = 8 * 1024**2

# So many levels of 255 are lost by rounding alone: profiles of sRGB differ by this from each other.
_SAME_COLOUR_LEVELS = 2

# Modes whose pixels a profile of this colour space describes, as ICC names it.
_PROFILE_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}

_UNCALIBRATED, _ADOBE_RGB = 0xFFFF, 2
_DCF_ADOBE_RGB = "R03"

_PROFILE_ERRORS: tuple[type[Exception], ...] = (ImageCms.PyCMSError, *BAD_DATA_ERRORS)

_JPEG_FORMATS = frozenset({"JPEG", "MPO"})


def to_srgb(image: Image.Image, cicp: Cicp | None = None) -> Image.Image:
    """Convert any of Pillow's modes to 8-bit sRGB.

    A picture's own colour profile is applied unless it is sRGB's; without one, the colour space
    that the file names otherwise. Transparency is laid on white afterwards. Greyscale of more than
    8 bits is scaled by the smallest power of two that fits its brightest pixel; floating point in
    [0, 1] by 255; any other range is stretched from its minimum to its maximum.

    Args:
        image: Loaded. A profile that is damaged, or of another kind of picture, is left out.
        cicp: What the file states by number.

    Returns:
        Mode "RGB"; a new image.

    Raises:
        ValueError: If a picture in floating point or LAB has no colours that can be shown.
    """
    profile = _profile_of(image, cicp)
    if image.mode.startswith("I;") or image.mode in ("I", "F"):
        image = Image.fromarray(_scaled_to_8_bit(np.asarray(image)))
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if not image.has_transparency_data:
        return _converted(image, profile)
    translucent = image if image.mode == "LA" else image.convert("RGBA")
    opaque = Image.new("RGB", image.size, _BACKGROUND)
    colours = translucent.getchannel("L") if image.mode == "LA" else translucent.convert("RGB")
    opaque.paste(_converted(colours, profile), mask=translucent.getchannel("A"))
    return opaque


def _converted(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an opaque picture, through its profile where that fits."""
    if image.mode not in _PROFILE_SPACES:
        # Palettes, black and white, YCbCr and HSV: a profile describes their RGB.
        image = image.convert("RGB")
    if profile is not None:
        transform = _transform(profile, image.mode)
        if transform is not None:
            try:
                converted = ImageCms.applyTransform(image, transform)
            except _PROFILE_ERRORS:
                converted = None
            if converted is not None:
                return converted
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what turns pixels of a mode into sRGB.

    Returns:
        None when that would change nothing, or cannot be: the profile is sRGB's, is damaged, or
        describes another kind of picture.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _PROFILE_SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            # Ink on paper is never quite black; without this, its shadows would be grey.
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "CMYK":
            return transform
        probe = _probe(mode)
        before = np.asarray(probe.convert("RGB"), np.int16)
        after = np.asarray(ImageCms.applyTransform(probe, transform), np.int16)
    except _PROFILE_ERRORS:
        return None
    return None if np.abs(after - before).max() <= _SAME_COLOUR_LEVELS else transform


def _probe(mode: str) -> Image.Image:
    """Return a small picture of colours from all over the cube, or of greys."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3))


def _profile_of(image: Image.Image, cicp: Cicp | None) -> bytes | None:
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and 0 < len(profile) <= _MAX_PROFILE_BYTES:
        return profile
    if cicp is not None:
        return cicp_profile(cicp.primaries, cicp.transfer)
    if image.format in _JPEG_FORMATS and _is_dcf_adobe_rgb(image):
        return adobe_rgb_profile()
    return None


def _is_dcf_adobe_rgb(image: Image.Image) -> bool:
    """Tell a camera's Adobe RGB, which DCF 2.0 names in the EXIF data and nowhere else."""
    try:
        exif = image.getexif()
        space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        if space != _UNCALIBRATED:
            return bool(space == _ADOBE_RGB)
        index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    except BAD_DATA_ERRORS:
        return False
    return isinstance(index, str) and index.rstrip("\0 ") == _DCF_ADOBE_RGB


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
