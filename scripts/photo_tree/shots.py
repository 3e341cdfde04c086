"""Pictures with what cameras, telephones and programs write into them, and the facts of each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from PIL import ExifTags
from PIL.TiffImagePlugin import IFDRational

from photo_tree.drawing import SIZE, colours, encoded

# Behind drawing, which lets the tests' writers be found.
from photos.drawn_pictures import STORED_AS  # isort: skip
from photos.written_metadata import iptc_block, xmp_list, xmp_packet  # isort: skip

if TYPE_CHECKING:
    from PIL import Image

    from photo_tree.tree import Tree

_TAG = ExifTags.Base
_FIRST_MOMENT = datetime(2009, 1, 1)
_MOST_SECONDS = 15 * 365 * 86_400
_OFFSETS = ("", "+02:00", "-07:00", "+05:45", "+00:00")
_FRACTIONS = (("", ""), ("12", ".12"), ("070", ".07"), ("000", ""), ("5", ".5"))
_CAMERAS = (
    ("Canon", "Canon EOS R5", "Canon EOS R5"),
    ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
    ("Apple", "iPhone 14 Pro", "Apple iPhone 14 Pro"),
    ("samsung", "SM-G991B", "samsung SM-G991B"),
)
_PLACES = (
    ((46, 32, 30), "N", (7, 57, 45), "E", 46.541666, 7.9625),
    ((33, 51, 36), "S", (151, 12, 54), "E", -33.86, 151.215),
    ((37, 49, 12), "N", (122, 28, 42), "W", 37.82, -122.478333),
)
_WORDS = ("sea", "Oma", "Geburtstag", "café", "日本", "dog", "2019", "very long " * 5 + "walk")


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture as a file, and what the library must know of it.

    Attributes:
        content: The file.
        facts: Names and values of `PhotoFacts`.
    """

    content: bytes
    facts: dict[str, Any]


def moment_of(tree: Tree) -> datetime:
    """Return a random time, to the second."""
    return _FIRST_MOMENT + timedelta(seconds=int(tree.random.integers(_MOST_SECONDS)))


def shot(
    tree: Tree,
    picture_format: str = "JPEG",
    *,
    orientation: int | None = None,
    size: tuple[int, int] = SIZE,
    with_time: bool = True,
) -> Shot:
    """Take a picture with a camera's EXIF data, some with a position.

    Args:
        tree: For its random numbers.
        picture_format: "JPEG", "HEIF", "WEBP" or "PNG".
        orientation: As in EXIF; None for a random one.
        size: Width and height, upright.
        with_time: False for a camera that writes none.
    """
    upright = colours(tree.random, size)
    turned = int(tree.random.integers(1, 9)) if orientation is None else orientation
    if picture_format == "HEIF":
        turned = 1  # kept as a property of the container there, and pillow-heif turns by it
    facts: dict[str, Any] = {"width": size[0], "height": size[1], "format": picture_format}
    from PIL import Image

    exif = Image.Exif()
    make, model, camera = tree.choose(_CAMERAS)
    exif.update({_TAG.Make: make, _TAG.Model: model, _TAG.Orientation: turned})
    facts["camera"] = camera
    capture = exif.get_ifd(ExifTags.IFD.Exif)
    if with_time:
        moment = moment_of(tree)
        offset = tree.choose(_OFFSETS)
        digits, fraction = tree.choose(_FRACTIONS)
        capture[_TAG.DateTimeOriginal] = moment.strftime("%Y:%m:%d %H:%M:%S")
        if digits:
            capture[_TAG.SubsecTimeOriginal] = digits
        if offset:
            capture[_TAG.OffsetTimeOriginal] = offset
        facts |= {"taken_at": f"{moment.isoformat()}{fraction}{offset}", "taken_source": "exif"}
    denominator = int(tree.choose((30, 125, 250, 4000)))
    capture[_TAG.ExposureTime] = IFDRational(1, denominator)
    capture[_TAG.FNumber] = IFDRational(28, 10)
    capture[_TAG.ISOSpeedRatings] = 200
    capture[_TAG.FocalLength] = IFDRational(50, 1)
    facts |= {"exposure_seconds": 1 / denominator, "f_number": 2.8, "iso": 200}
    facts["focal_length_mm"] = 50.0
    if tree.chance(0.3):
        north, north_letter, east, east_letter, latitude, longitude = tree.choose(_PLACES)
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps.update({1: north_letter, 2: tuple(map(float, north))})
        gps.update({3: east_letter, 4: tuple(map(float, east))})
        facts |= {"latitude": latitude, "longitude": longitude}
    return Shot(encoded(_stored(upright, turned), picture_format, exif=exif), facts)


def tagged(tree: Tree) -> Shot:
    """Take a picture that a person has rated, named and given keywords: XMP, and some IPTC."""
    rating = int(tree.random.integers(-1, 6))
    words = _words(tree)
    facts: dict[str, Any] = {"width": SIZE[0], "height": SIZE[1], "format": "JPEG"}
    title = f"Title {tree.next_number('title')} & more"
    packet = xmp_packet(
        f'xmp:Rating="{rating}"',
        xmp_list("dc:subject", words) + xmp_list("dc:title", [title.replace("&", "&amp;")], "Alt"),
    )
    content = encoded(colours(tree.random), "JPEG", xmp=packet)
    facts |= {"rating": rating, "title": title, "keywords": words}
    if tree.chance(0.5):
        moment = moment_of(tree)
        content = _with_iptc(
            content,
            [
                (2, 25, b"from-iptc"),
                (2, 55, moment.strftime("%Y%m%d").encode()),
                (2, 60, moment.strftime("%H%M%S+0100").encode()),
            ],
        )
        facts |= {"keywords": [*words, "from-iptc"], "taken_source": "iptc"}
        facts["taken_at"] = moment.isoformat() + "+01:00"
    return Shot(content, facts)


def plain(tree: Tree) -> Shot:
    """Take a picture without a word about it."""
    content = encoded(colours(tree.random), "JPEG")
    facts = {"width": SIZE[0], "height": SIZE[1], "format": "JPEG", "taken_at": None}
    return Shot(content, facts)


def sidecar(tree: Tree) -> Shot:
    """Write what a program writes beside a picture; the facts are those that then count."""
    rating = int(tree.random.integers(0, 6))
    words = _words(tree)
    packet = xmp_packet(f'xmp:Rating="{rating}"', xmp_list("dc:subject", words))
    return Shot(packet, {"rating": rating, "keywords": words})


def _words(tree: Tree) -> list[str]:
    chosen = tree.random.choice(len(_WORDS), size=3, replace=False)
    return [_WORDS[number].strip() for number in chosen]


def _stored(upright: Image.Image, orientation: int) -> Image.Image:
    turn = STORED_AS[orientation]
    return upright if turn is None else upright.transpose(turn)


def _with_iptc(content: bytes, sets: list[tuple[int, int, bytes]]) -> bytes:
    iptc = iptc_block(sets)
    resource = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + b"\0" * (len(iptc) % 2)
    block = b"Photoshop 3.0\0" + resource
    return content[:2] + b"\xff\xed" + (len(block) + 2).to_bytes(2, "big") + block + content[2:]
