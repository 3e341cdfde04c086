"""Orientation and colour of real pictures, each compared with a decode that is not our own."""

from __future__ import annotations

import io
import os
import warnings
from typing import TYPE_CHECKING

import pillow_heif
import pytest
from photos.drawn_pictures import difference
from PIL import Image, ImageCms, ImageOps

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.photos.scan import ScanRules, scan

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.shared_data

pillow_heif.register_heif_opener()

# Modes that Pillow's own conversion shows rightly; test_colour.py is about the others.
_PLAIN_MODES = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr"})

_SIDE = 48


def reference(path: bytes) -> Image.Image | None:
    """Pillow's turning and LittleCMS' colours; None where Pillow alone does not know them."""
    with Image.open(os.fsdecode(path)) as opened:
        if opened.mode not in _PLAIN_MODES or "transparency" in opened.info:
            return None
        if getattr(opened, "is_animated", False) or opened.format in ("AVIF", "HEIF"):
            # May be blank at first, or state their colours by number.
            return None
        turned = ImageOps.exif_transpose(opened)
        icc = opened.info.get("icc_profile")
    if not icc:
        return turned.convert("RGB")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = {"L": "GRAY", "CMYK": "CMYK"}.get(turned.mode, "RGB ")
    if space == "RGB ":
        turned = turned.convert("RGB")
    if profile.profile.xcolor_space != space:
        return turned.convert("RGB")
    return ImageCms.profileToProfile(
        turned,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


@pytest.mark.parametrize("folder", ["photos", "hostile/exif-orientation", "hostile/pillow"])
def test_every_picture_looks_as_in_the_reference_decode(shared_data: Path, folder: str) -> None:
    root = os.fsencode(shared_data / folder)
    compared, differing = 0, []
    for seen in scan(root, ScanRules()).files:
        path = os.path.join(root, seen.path)
        try:
            with open(path, "rb") as file:
                found = decode(file, limits=DecodeLimits(max_pixels=30_000_000), name=path).image
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = reference(path)
        except UnreadablePictureError:
            continue
        except (OSError, ValueError, SyntaxError, ImageCms.PyCMSError):
            continue  # a profile, or metadata, that the reference stumbles over
        if expected is None:
            continue
        compared += 1
        assert found.size == expected.size, seen.path
        box = (_SIDE, _SIDE)
        if difference(found.resize(box), expected.resize(box)) > 1.5:
            differing.append(seen.path)
    assert differing == []
    least = {"photos": 120, "hostile/exif-orientation": 18, "hostile/pillow": 400}
    assert compared >= least[folder]
