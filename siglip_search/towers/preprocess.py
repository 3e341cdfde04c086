"""Upright pictures become the pixels, then the numbers, that a picture tower was trained on.

Runs inside decoding worker processes: imports Pillow and numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siglip_search.models.spec import Resample, Resize

_MIN_SIDE_PX: Final = 384

_MAX_ASPECT = 400
"""Up to here pixels are open_clip's to the last bit, at 80 MB for a tower of 256; beyond, the ends
are cut off first, which moves the middle by less than a pixel."""

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


@dataclass(frozen=True, slots=True)
class Preprocessor:
    """Brings pictures to a tower's size; cheap to send to another process.

    Attributes:
        image_size: Height and width in pixels.
        resize: "squash" ignores the aspect ratio (SigLIP); "shortest-side-crop" brings the
            shortest side to the size and cuts the middle out (MobileCLIP2), for square sizes.
        resample: Pillow's filter of that name: another library's moves embeddings to cosine 0.9.
    """

    image_size: tuple[int, int]
    resize: Resize
    resample: Resample

    @property
    def min_side_px(self) -> int:
        """Least side to which a picture may be reduced while it is decoded.

        Twice what the tower sees, and for small towers more: measured so that no photograph's
        embedding moves by more than a cosine of 0.999 (docs/preprocessing.md).
        """
        return max(2 * max(self.image_size), _MIN_SIDE_PX)

    def seen(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of what the tower sees, as shares of a picture.

        Args:
            size: Width and height of the upright picture, both > 0.
        """
        if self.resize == "squash":
            return 0.0, 0.0, 1.0, 1.0
        across, down = (min(size) / side / 2 for side in size)
        return 0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the pixels of an upright picture, shape (height, width, 3).

        Args:
            image: Any mode; what is not RGB is converted first, as Transformers does. Alpha and
                orientation are the caller's to resolve.
        """
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        if self.resize == "squash":
            height, width = self.image_size
            return np.asarray(rgb.resize((width, height), _FILTERS[self.resample]))
        return np.asarray(self._crop(rgb))

    def _crop(self, image: Image.Image) -> Image.Image:
        target = self.image_size[0]
        # A strip of 100,000 x 1 would become 25,600,000 x 256 first: what lies far from its middle
        # is cut off before.
        longest = _MAX_ASPECT * min(image.size)
        if max(image.size) > longest:
            left, top = (max(side - longest, 0) // 2 for side in image.size)
            image = image.crop((left, top, image.width - left, image.height - top))
        width, height = image.size
        # torchvision's arithmetic: the long side is truncated, the offset rounded half to even.
        if width <= height:
            size = (target, int(target * height / width))
        else:
            size = (int(target * width / height), target)
        resized = image.resize(size, _FILTERS[self.resample])
        left = round((size[0] - target) / 2.0)
        top = round((size[1] - target) / 2.0)
        return resized.crop((left, top, left + target, top + target))


def normalise(
    pixels: NDArray[np.uint8], *, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Return what the tower reads: (value / 255 - mean) / std, channels first.

    Args:
        pixels: Shape (n, height, width, 3), red, green, blue.
        mean: Per channel, of values in [0, 1].
        std: Per channel, > 0.

    Returns:
        Shape (n, 3, height, width), contiguous.
    """
    scale = np.array([1.0 / (255.0 * deviation) for deviation in std], dtype=np.float32)
    offset = np.array(
        [-middle / deviation for middle, deviation in zip(mean, std, strict=True)],
        dtype=np.float32,
    )
    # Bytes are moved while they are small, then converted once and scaled in place.
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    values = planes.astype(np.float32)
    values *= scale[:, None, None]
    values += offset[:, None, None]
    return values
