"""Hiding parts of a picture from a tower with fixed shapes, on the NPU's emulator."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from npu_emulator import needs_emulator
from PIL import Image, ImageDraw

from siglip_search import demo
from siglip_search.engine.patch_maps import PatchMaps
from siglip_search.export.onnx_weights import write_tower
from siglip_search.export.static_shapes import static_picture_tower
from siglip_search.models.model_folder import load_model_folder
from siglip_search.photos.decode import DecodeLimits
from siglip_search.towers.text import TextTower

if TYPE_CHECKING:
    from pathlib import Path

    from siglip_search.towers.session import Device

pytestmark = needs_emulator


def test_the_emulators_map_is_the_processors(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    base = load_model_folder(demo.model_directory())
    write_tower(static_picture_tower(base), tmp_path / "vision.onnx")
    vision = replace(base.vision, file="vision.onnx")
    spec = replace(base, directory=tmp_path, vision=vision)
    picture = Image.new("RGB", (480, 320), (235, 235, 230))
    ImageDraw.Draw(picture).ellipse((40, 80, 200, 240), (210, 30, 30))
    ball = tmp_path / "ball.png"
    picture.save(ball)
    content = hashlib.sha256(ball.read_bytes()).digest()
    (towards,) = TextTower(base).embed(["a red circle"])
    maps = {}
    devices: tuple[Device, ...] = ("cpu", "npu-emulator")
    for device in devices:
        # So little time that the fewest parts are hidden.
        making = PatchMaps(
            spec, method="occlusion", max_seconds=1e-6, limits=DecodeLimits(), device=device
        )
        try:
            _, prepared = making.decoded([str(ball)], {content})
            found = making.map(
                prepared, lambda vector: 100 * float(vector @ towards), lambda _share: None
            )
        finally:
            making.close()
        assert found is not None
        assert found.device == device
        maps[device] = found.differences
    strongest = np.abs(maps["cpu"]).max()
    # Half precision, on differences of a hundred cosines.
    np.testing.assert_allclose(maps["npu-emulator"], maps["cpu"], atol=0.02 * strongest)
    assert np.unravel_index(maps["npu-emulator"].argmax(), (4, 4))[1] < 2
