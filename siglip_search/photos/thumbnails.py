"""Small upright pictures for contact sheets."""

from __future__ import annotations

from PIL import Image

from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.photos.fingerprint import open_regular

# Decoding twice as large as needed before resampling leaves no visible trace of DCT scaling.
_OVERSAMPLING = 2


def thumbnail(path: bytes, size: tuple[int, int], limits: DecodeLimits) -> Image.Image:
    """Decode a picture in this process and shrink it to fit a box.

    Args:
        path: Absolute path.
        size: Width and height of the box in pixels, both > 0. The picture keeps its proportions
            and is never enlarged.
        limits: Only max_pixels is kept, so this is for files that were decoded once before.

    Returns:
        Upright, mode "RGB".

    Raises:
        FileNotFoundError: If the file is not there.
        UnreadablePictureError: If it cannot be decoded.
    """
    with open_regular(path) as file:
        min_side = _OVERSAMPLING * max(size)
        image = decode(file, limits=limits, min_side=min_side, name=path).image
    image.thumbnail(size, Image.Resampling.BICUBIC, reducing_gap=None)
    return image
