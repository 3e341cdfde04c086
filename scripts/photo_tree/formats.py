"""Pictures of every format, depth, colour model, shape and orientation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms

from photo_tree import drawing, shots
from siglip_search.photos.icc_profiles import adobe_rgb_profile, cicp_profile

if TYPE_CHECKING:
    from photo_tree.tree import Tree


def rare_formats(tree: Tree) -> None:
    """Depths, colour models, profiles, pages and shapes."""
    random = tree.random

    def add(name: str, image: Image.Image, picture_format: str, **options: Any) -> None:
        needs = options.pop("needs", None)
        facts = {"width": image.width, "height": image.height, "format": picture_format}
        content = drawing.encoded(image, picture_format, **options)
        tree.picture(f"Formats/{name}", content, needs=needs, facts=facts)

    deep = Image.fromarray(random.integers(0, 65_536, (48, 64), np.uint16))
    add("16 bits.png", deep, "PNG")
    add("16 bits.tif", deep, "TIFF")
    colour = drawing.colours(random)
    add("grey.jpg", colour.convert("L"), "JPEG")
    add("grey and clear.png", colour.convert("LA"), "PNG")
    add("two levels.png", colour.convert("1"), "PNG")
    add("palette.png", drawing.colours(random).quantize(16), "PNG", transparency=3)
    add("clear.webp", drawing.colours(random).convert("RGBA"), "WEBP", lossless=True)
    add("cmyk.jpg", drawing.colours(random).convert("CMYK"), "JPEG")
    add("cmyk.tif", drawing.colours(random).convert("CMYK"), "TIFF")
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(drawing.colours(random), srgb, lab, outputMode="LAB")
    assert image is not None
    image.info.clear()  # a profile that has the time of its making
    add("lab.tif", image, "TIFF")
    for name, profile in (
        ("adobe rgb", adobe_rgb_profile()),
        ("display p3", cicp_profile(12, 13)),
        ("bt 2020", cicp_profile(9, 1)),
    ):
        for ending, picture_format in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF")):
            image = drawing.colours(random)
            add(f"{name}.{ending}", image, picture_format, icc_profile=profile)
    pages = [drawing.colours(random) for _ in range(3)]
    add("pages.tiff", pages[0], "TIFF", save_all=True, append_images=pages[1:])
    add("lzw.TIF", drawing.colours(random), "TIFF", compression="tiff_lzw")
    add("panorama.jpg", drawing.colours(random, (4000, 200)), "JPEG")
    add("scroll.png", drawing.colours(random, (8, 9000)), "PNG")
    add("line.png", drawing.colours(random, (3000, 1)), "PNG")
    add("dot.png", Image.new("RGB", (1, 1), (17, 34, 51)), "PNG")
    add("PROGRESSIVE.JPEG", drawing.colours(random), "JPEG", progressive=True)
    add("old.jp2", drawing.colours(random), "JPEG2000")
    add("icon.ico", drawing.colours(random, (32, 32)), "ICO")
    add("picture.ppm", drawing.colours(random), "PPM")
    add("picture.tga", drawing.colours(random), "TGA")
    try:
        import pillow_jxl  # noqa: F401  registers the format
    except ImportError:
        tree.truth.not_made["JXL"] = "the extra jxl is not installed"
    else:
        add("new.jxl", drawing.colours(random), "JXL", effort=1, needs="jxl")
    pair = [drawing.colours(random) for _ in range(2)]
    add("two views.mpo", pair[0], "MPO", save_all=True, append_images=pair[1:])
    add("really heic.jpg", drawing.colours(random), "HEIF")
    add("really jpeg.heic", drawing.colours(random), "JPEG")
    add("really webp.png", drawing.colours(random), "WEBP")
    made = shots.shot(tree)
    moving = made.content + drawing.film(random)
    tree.picture("Formats/motion photo.MP.jpg", moving, facts=made.facts)
    content = drawing.dng(random, (320, 240), preview_size=(1280, 960))
    facts = {"width": 320, "height": 240, "format": "DNG"}
    tree.picture("Formats/with a preview.dng", content, needs="raw", facts=facts)
    # How much of its sensor counts is what LibRaw knows of the camera.
    tree.picture("Formats/stand-in.NEF", drawing.nef(random), needs="raw", facts={"format": "NEF"})


def orientations(tree: Tree) -> None:
    """Every way to hold a camera, mirrored ones too, lying and standing."""
    for orientation in range(1, 9):
        for picture_format, ending in (("JPEG", "jpg"), ("WEBP", "webp"), ("PNG", "png")):
            made = shots.shot(tree, picture_format, orientation=orientation, size=(72, 96))
            name = f"Orientations/{orientation}.{ending}"
            tree.picture(name, made.content, facts=made.facts)
        content = drawing.dng(tree.random, (72, 96), orientation=orientation)
        facts = {"width": 72, "height": 96, "format": "DNG"}
        tree.picture(f"Orientations/raw {orientation}.dng", content, needs="raw", facts=facts)
