"""Real and hostile files from other projects; skipped where they are absent."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from photos import photo_preparers as preparers
from photos.drawn_pictures import difference
from PIL import Image

from siglip_search.errors import UnreadablePictureError
from siglip_search.photos.decode import DecodeLimits, decode
from siglip_search.photos.decode_pool import DecodePool
from siglip_search.photos.scan import ScanRules, scan

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.shared_data


def test_every_hostile_file_is_a_picture_or_a_reason(shared_data: Path) -> None:
    root = os.fsencode(shared_data / "hostile")
    seen = scan(root, ScanRules())
    every = [name for _, _, names in os.walk(root) for name in names if name[:1] != b"."]
    assert len(seen.files) + seen.ignored == len(every)
    assert len(seen.files) > 1_300

    limits = DecodeLimits(max_seconds=60, max_memory_bytes=2 * 1024**3)
    pictures, reasons = 0, []
    with DecodePool(preparers.nothing, workers=2, limits=limits, min_side=448) as pool:
        futures = [pool.decode(os.path.join(root, file.path)) for file in seen.files]
        for future in futures:
            error = future.exception()
            if error is None:
                pictures += 1
                facts = future.result().facts
                assert facts.width > 0
                assert facts.height > 0
                continue
            assert isinstance(error, UnreadablePictureError)
            reasons.append(str(error))
    assert pictures > 1_200
    for reason in reasons:
        assert reason.isprintable()
        assert 0 < len(reason) < 200
        assert "Traceback" not in reason
        assert os.fsdecode(root) not in reason
    # A crash or a time-out is a failure as good as any other, but none is known.
    assert not [reason for reason in reasons if "crashed" in reason or "took longer" in reason]


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' limit of memory")
def test_pictures_larger_than_the_limit_of_memory_are_refused(shared_data: Path) -> None:
    limits = DecodeLimits(max_memory_bytes=256 * 1024**2)
    path = shared_data / "hostile/pillow_heif/heif_special/200MP.heic"
    with DecodePool(preparers.nothing, workers=1, limits=limits, min_side=None) as pool:
        error = pool.decode(os.fsencode(path)).exception()
    assert isinstance(error, UnreadablePictureError)
    # libheif does not always say what it ran out of.
    assert "memory" in str(error) or str(error).startswith("damaged HEIF: Internal error")


@pytest.mark.parametrize("kind", ["Landscape", "Portrait"])
def test_examples_of_every_orientation_look_the_same(shared_data: Path, kind: str) -> None:
    folder = shared_data / "hostile/exif-orientation"
    upright = []
    for orientation in range(9):
        with (folder / f"{kind}_{orientation}.jpg").open("rb") as file:
            found = decode(file, limits=DecodeLimits(), min_side=224)
        assert (found.facts.width > found.facts.height) == (kind == "Landscape")
        upright.append(found.image.resize((90, 90), Image.Resampling.BICUBIC))
    for picture in upright:
        # Each example carries its own number, so a small part differs.
        assert difference(picture, upright[1]) < 12


def test_photographs_come_out_upright_and_as_pillow_sees_them(shared_data: Path) -> None:
    root = os.fsencode(shared_data / "photos")
    refused = []
    files = scan(root, ScanRules()).files
    assert len(files) > 150
    for seen in files:
        with open(os.path.join(root, seen.path), "rb") as file:
            try:
                found = decode(file, limits=DecodeLimits(), min_side=256)
            except UnreadablePictureError as error:
                refused.append((seen.path, str(error)))
                continue
        assert found.image.mode == "RGB"
        assert np.asarray(found.image).ndim == 3
        facts = found.facts
        assert facts.width / facts.height == pytest.approx(
            found.image.width / found.image.height, rel=0.03
        )
    assert sorted(refused) == [
        (b"skimage/multipage_rgb.tif", "damaged or unsupported TIFF"),
        (b"skimage/truncated.jpg", "truncated JPEG"),
    ]
