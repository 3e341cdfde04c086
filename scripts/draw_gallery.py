"""Draw the bundled gallery: about 120 pictures of the demonstration world, and their truth.

    python scripts/draw_gallery.py

Writes siglip_search/demo/gallery: JPEG, PNG, WebP and HEIC files in folders by place, one of them
stored on its side (EXIF orientation 6), a third with invented dates, cameras and positions, and
gallery.json with what each shows. The seeds are not those of training. Needs pillow-heif and the
two fonts (Debian: fonts-noto-color-emoji, fonts-symbola).
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
from demo_model.scenes import Art, Item, Scene, draw_scene
from demo_model.world import COLOUR_NAMES, NATURAL, PLACE_NAMES, THING_ID, THING_NAMES, THINGS
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 424_242
ABOUT = (
    "Drawn by scripts/draw_gallery.py for the demonstration model: drawings, not photographs. "
    "Dates, cameras and positions are invented. 'thing' is the main thing, 'others' what else is "
    "in the picture on purpose; colour 'natural' means untinted."
)
#: Known things of which the gallery has no picture.
ABSENT = (
    "camel",
    "octopus",
    "crab",
    "owl",
    "snail",
    "pig",
    "grapes",
    "corn",
    "burger",
    "tractor",
    "rocket",
    "helicopter",
    "castle",
    "tent",
    "trumpet",
    "drum",
    "hat",
    "dress",
    "hammer",
    "ring",
)
FRAMES = (
    (400, 300),
    (400, 300),
    (360, 270),
    (300, 400),
    (420, 280),
    (280, 420),
    (320, 320),
    (448, 252),
)
# Kind of file and how many of each.
KINDS = ("jpg",) * 74 + ("png",) * 14 + ("webp",) * 16 + ("heic",) * 16
CAMERAS = (("Lumora", "P2"), ("Fieldglass", "Mini 7"), ("Ondine", "Phone 3"))
# Somewhere near these, by place: (latitude, longitude, hours from UTC).
SOMEWHERE = (
    (38.7, -9.1, 1),
    (59.9, 10.7, 2),
    (45.9, 6.9, 2),
    (-33.9, 18.4, 2),
    (35.0, 135.8, 9),
    (40.7, -74.0, -4),
)


#: Pictures that a person might really have, drawn among those chosen by chance:
#: thing, colour, place, size.
POSTCARDS = (
    ("bicycle", "red", "beach", 0.55),
    ("dog", "natural", "beach", 0.5),
    ("car", "yellow", "city", 0.45),
    ("boat", "natural", "sea", 0.5),
    ("cat", "black", "room", 0.5),
    ("umbrella", "red", "rain", 0.6),
    ("tree", "natural", "meadow", 0.7),
    ("penguin", "natural", "snow", 0.5),
    ("star", "yellow", "night", 0.4),
    ("plane", "natural", "sky", 0.6),
)


def plan_scenes(rng: np.random.Generator) -> list[Scene]:
    """Choose what the pictures show: every present thing at least once, places in turn."""
    present = [THING_ID[name] for name in THING_NAMES if name not in ABSENT]
    firsts = [int(i) for i in rng.permutation(present)]
    more = [int(i) for i in rng.permutation(present)]
    scenes = []
    for name, colour, where, size in POSTCARDS:
        tint = NATURAL if colour == "natural" else COLOUR_NAMES.index(colour)
        style = "natural" if tint == NATURAL else "tinted"
        item = Item(THING_ID[name], tint, 1, style, size)
        scenes.append(Scene((item,), PLACE_NAMES.index(where)))
    for number, thing in enumerate((firsts + more)[: len(KINDS) - len(POSTCARDS)]):
        place = number % len(PLACE_NAMES)
        count = int(rng.choice((1, 1, 1, 1, 1, 1, 2, 3)))
        two = count == 1 and rng.random() < 0.14
        items = [_item(rng, thing, count, two)]
        if two:
            other = int(rng.choice([i for i in present if i != thing]))
            items.append(_item(rng, other, 1, True))
        marks = int(rng.integers(1, 4)) if rng.random() < 0.15 else 0
        scenes.append(Scene(tuple(items), place, (), marks))
    return [scenes[int(i)] for i in rng.permutation(len(scenes))]


def _item(rng: np.random.Generator, thing: int, count: int, two: bool) -> Item:
    styles = ("natural",) * 9 + ("tinted",) * 9 + ("ink",) + ("silhouette",)
    style = str(rng.choice(styles))
    if not THINGS[thing].glyph and style in ("natural", "ink"):
        style = "tinted"
    colour = NATURAL if style == "natural" else int(rng.integers(len(COLOUR_NAMES)))
    high = 0.5 if two else (0.85, 0.5, 0.42)[count - 1]
    return Item(thing, colour, count, style, float(rng.uniform(0.36, high)))


def _degrees(value: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    whole = int(abs(value))
    minutes = int((abs(value) - whole) * 60)
    seconds = ((abs(value) - whole) * 60 - minutes) * 60
    return IFDRational(whole), IFDRational(minutes), IFDRational(round(seconds * 100), 100)


def exif_of(facts: dict[str, Any], make_model: tuple[str, str] | None) -> Image.Exif:
    """Return EXIF that says what the facts say."""
    exif = Image.Exif()
    if facts["orientation"] != 1:
        exif[ExifTags.Base.Orientation] = facts["orientation"]
    if make_model is not None:
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = make_model
    if facts["taken"] is not None:
        taken = dt.datetime.fromisoformat(facts["taken"])
        inner = exif.get_ifd(ExifTags.IFD.Exif)
        inner[ExifTags.Base.DateTimeOriginal] = taken.strftime("%Y:%m:%d %H:%M:%S")
        inner[ExifTags.Base.OffsetTimeOriginal] = taken.isoformat()[-6:]
    if facts["position"] is not None:
        latitude, longitude = facts["position"]
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSVersionID] = b"\x02\x03\x00\x00"
        gps[ExifTags.GPS.GPSLatitudeRef] = "N" if latitude >= 0 else "S"
        gps[ExifTags.GPS.GPSLatitude] = _degrees(latitude)
        gps[ExifTags.GPS.GPSLongitudeRef] = "E" if longitude >= 0 else "W"
        gps[ExifTags.GPS.GPSLongitude] = _degrees(longitude)
    return exif


def _save(picture: Image.Image, path: Path, kind: str, exif: Image.Exif) -> None:
    extra: dict[str, Any] = {"exif": exif.tobytes()} if len(exif) else {}
    stream = io.BytesIO()
    if kind == "jpg":
        picture.save(stream, "JPEG", quality=84, optimize=True, **extra)
    elif kind == "png":
        flat = picture.quantize(160, dither=Image.Dither.NONE)
        flat.save(stream, "PNG", optimize=True, **extra)
    elif kind == "webp":
        picture.save(stream, "WEBP", quality=82, **extra)
    else:
        picture.save(stream, "HEIF", quality=62, **extra)
    path.write_bytes(stream.getvalue())


def draw_gallery(out: Path) -> dict[str, Any]:
    """Draw all pictures into `out`, and return what gallery.json says."""
    pillow_heif.register_heif_opener()
    art = Art()
    rng = np.random.default_rng(SEED)
    scenes = plan_scenes(rng)
    kinds = [str(k) for k in rng.permutation(KINDS)]
    upright_but = next(i for i, k in enumerate(kinds) if k == "jpg" and i > 20)
    pictures = []
    number = 11
    start = dt.datetime(2019, 5, 1, 9, 0)
    for i, (scene, kind) in enumerate(zip(scenes, kinds, strict=True)):
        number += int(rng.integers(1, 60))
        width, height = FRAMES[int(rng.integers(len(FRAMES)))]
        picture = draw_scene(scene, art, rng, width=width, height=height, spoil=False)
        place = PLACE_NAMES[scene.place]
        folder = out / place
        folder.mkdir(parents=True, exist_ok=True)
        stem = ("IMG_{:04}", "DSC{:05}", "P{:07}")[i % 3].format(number)
        facts: dict[str, Any] = {
            "file": f"{place}/{stem}.{kind}",
            "thing": THING_NAMES[scene.items[0].thing],
            "colour": _colour_name(scene.items[0]),
            "place": place,
            "count": scene.items[0].count,
            "others": [
                {"thing": THING_NAMES[o.thing], "colour": _colour_name(o), "count": o.count}
                for o in scene.items[1:]
            ],
            "taken": None,
            "camera": None,
            "position": None,
            "orientation": 1,
        }
        make_model = None
        if rng.random() < 0.36 or i == upright_but:
            latitude, longitude, hours = SOMEWHERE[int(rng.integers(len(SOMEWHERE)))]
            zone = dt.timezone(dt.timedelta(hours=hours))
            when = start + dt.timedelta(minutes=int(rng.integers(60 * 24 * 365 * 5)))
            facts["taken"] = when.replace(tzinfo=zone).isoformat()
            make_model = CAMERAS[int(rng.integers(len(CAMERAS)))]
            facts["camera"] = " ".join(make_model)
            if rng.random() < 0.75:
                spot = latitude + rng.normal(0, 0.08), longitude + rng.normal(0, 0.08)
                facts["position"] = [round(float(v), 4) for v in spot]
        if i == upright_but:
            facts["orientation"] = 6
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        _save(picture, out / facts["file"], kind, exif_of(facts, make_model))
        pictures.append(facts)
    return {
        "about": ABOUT,
        "pictures": sorted(pictures, key=lambda facts: str(facts["file"])),
        "things": list(THING_NAMES),
        "absent_things": list(ABSENT),
        "colours": list(COLOUR_NAMES),
        "places": list(PLACE_NAMES),
    }


def _colour_name(item: Item) -> str:
    return "natural" if item.colour == NATURAL else COLOUR_NAMES[item.colour]


def main() -> None:
    """Replace the gallery folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "siglip_search/demo/gallery",
        help="folder to write; one that holds a gallery is replaced",
    )
    out: Path = parser.parse_args().out
    if out.exists():
        if any(out.iterdir()) and not (out / "gallery.json").exists():
            parser.error(f"{out} holds something else than a gallery")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    truth = draw_gallery(out)
    (out / "gallery.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{len(truth['pictures'])} pictures, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
