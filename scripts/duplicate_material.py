"""Edits of pictures that are duplicates, and look-alikes that are none, for `eval_dupes.py`."""

from __future__ import annotations

import io
import math
import random
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SCREEN: Final = (540, 960)
_BUBBLES: Final = 9


def _recompressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def _resized(image: Image.Image, share: float) -> Image.Image:
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _cropped(
    image: Image.Image, left: float, top: float, right: float, bottom: float
) -> Image.Image:
    width, height = image.size
    return image.crop(
        (
            round(width * left),
            round(height * top),
            round(width * (1 - right)),
            round(height * (1 - bottom)),
        )
    )


def _warmer(image: Image.Image) -> Image.Image:
    red, green, blue = image.split()
    return Image.merge(
        "RGB",
        (
            red.point(lambda value: min(255, round(value * 1.12))),
            green,
            blue.point(lambda value: round(value * 0.85)),
        ),
    )


def _sepia(image: Image.Image) -> Image.Image:
    return ImageOps.colorize(image.convert("L"), "#2b1a0e", "#ffe9c9")


def _straightened(image: Image.Image) -> Image.Image:
    return _cropped(image.rotate(2, Image.Resampling.BICUBIC), 0.05, 0.05, 0.05, 0.05)


def _turned(way: Image.Transpose) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.transpose(way)


EDITS: Final[dict[str, Callable[[Image.Image], Image.Image]]] = {
    "resized to a half": lambda image: _resized(image, 0.5),
    "resized to a third, quality 60": lambda image: _recompressed(_resized(image, 1 / 3), 60),
    "recompressed, quality 30": lambda image: _recompressed(image, 30),
    "cropped 5% at one side": lambda image: _cropped(image, 0.05, 0, 0, 0),
    "cropped 5% at each side": lambda image: _cropped(image, 0.05, 0.05, 0.05, 0.05),
    "cropped 10% at each side": lambda image: _cropped(image, 0.1, 0.1, 0.1, 0.1),
    "straightened by 2 degrees": _straightened,
    "brighter by 15%": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "brighter by 30%, clipped": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker by 25%": lambda image: ImageEnhance.Brightness(image).enhance(0.75),
    "contrast up by 40%": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "saturation up by 60%": lambda image: ImageEnhance.Color(image).enhance(1.6),
    "warmer": _warmer,
    "black and white": lambda image: image.convert("L").convert("RGB"),
    "sepia": _sepia,
    "mirrored": _turned(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned by 90 degrees": _turned(Image.Transpose.ROTATE_90),
    "turned by 180 degrees": _turned(Image.Transpose.ROTATE_180),
    "turned by 270 degrees": _turned(Image.Transpose.ROTATE_270),
    "turned by 90, cropped 5%": lambda image: _cropped(
        image.transpose(Image.Transpose.ROTATE_90), 0.05, 0.05, 0.05, 0.05
    ),
}


def conversation(seed: int) -> Image.Image:
    """Return a screenshot of a conversation: always the same layout, other words."""
    words = random.Random(seed)
    screen = Image.new("RGB", SCREEN, "white")
    pen = ImageDraw.Draw(screen)
    pen.rectangle((0, 0, SCREEN[0], 70), fill=(40, 90, 160))
    pen.text((20, 22), "Messages", font=ImageFont.load_default(size=26), fill="white")
    for row in range(_BUBBLES):
        _bubble(pen, row, [_line(words), _line(words)])
    pen.rectangle((0, 890, *SCREEN), fill=(230, 230, 230))
    return screen


def with_another_message(screen: Image.Image, seed: int) -> Image.Image:
    """Return a conversation in which one message of nine reads otherwise."""
    words = random.Random(seed)
    changed = screen.copy()
    _bubble(ImageDraw.Draw(changed), words.randrange(_BUBBLES), [_line(words)])
    return changed


def _bubble(pen: ImageDraw.ImageDraw, row: int, lines: Sequence[str]) -> None:
    top, left, fill = 90 + 88 * row, 20, (225, 225, 230)
    if row % 2:
        left, fill = 120, (190, 225, 255)
    pen.rounded_rectangle((left, top, left + 400, top + 76), 12, fill=fill)
    for number, line in enumerate(lines):
        place = (left + 14, top + 12 + 28 * number)
        pen.text(place, line, font=ImageFont.load_default(size=18), fill=(20, 20, 20))


def _line(words: random.Random) -> str:
    letters = "abcdefghijklmnoprstuvw"
    some = ("".join(words.choices(letters, k=words.randint(2, 8))) for _ in range(6))
    return " ".join(some)[:36]


def form(seed: int, number: str, side: int = 1600) -> Image.Image:
    """Return a page of print with a number at its head.

    Args:
        seed: Of the print.
        number: What makes it another form.
        side: Height in pixels.
    """
    words = random.Random(seed)
    width = round(side / math.sqrt(2))
    page = Image.new("RGB", (width, side), (252, 251, 247))
    pen, line = ImageDraw.Draw(page), side // 40
    font = ImageFont.load_default(size=round(line * 0.6))
    head = ImageFont.load_default(size=line)
    pen.text((2 * line, 2 * line), "ELECTRICITY SUPPLY", font=head, fill=(20, 40, 90))
    pen.text((2 * line, 4 * line), f"Invoice no. {number}", font=font, fill=(30, 30, 30))
    for row in range(6, 36):
        pen.text((2 * line, row * line), _line(words), font=font, fill=(30, 30, 30))
        price = f"{words.randint(1, 99)}.{words.randint(10, 99)}"
        pen.text((width - 5 * line, row * line), price, font=font, fill=(30, 30, 30))
    return page


def face(seed: int, width: int) -> Image.Image:
    """Return a drawn face of some skin, hair, eyes and mouth."""
    look = random.Random(seed)
    skin = (look.randint(150, 240), look.randint(110, 190), look.randint(90, 150))
    hair = (look.randint(10, 120), look.randint(10, 90), look.randint(5, 60))
    drawn = Image.new("RGBA", (200, 240))
    pen = ImageDraw.Draw(drawn)
    pen.ellipse((10, 5, 190, 235), fill=skin)
    pen.pieslice((5, 0, 195, look.randint(150, 220)), 180, 360, fill=hair)
    for x in (65, 135):
        pen.ellipse((x - 14, 105, x + 14, 105 + look.randint(6, 22)), fill="white")
        pen.ellipse((x - 6, 106, x + 6, 118), fill=(30, 30, 30))
    if look.random() < 0.5:
        pen.arc((60, 150, 140, 205), 20, 160, fill=(150, 30, 40), width=8)
    else:
        pen.ellipse((80, 165, 120, 165 + look.randint(8, 40)), fill=(120, 20, 30))
    return drawn.resize((width, round(width * 1.2)), Image.Resampling.LANCZOS)


def burst_frames(scene: Image.Image, seed: int, share: float) -> tuple[Image.Image, Image.Image]:
    """Return two frames of one scene with another face each, the camera moved a little.

    Args:
        scene: At least 100 pixels in each direction.
        seed: Where the face is, and whose it is.
        share: Of the picture's width that the face takes.
    """
    chance = random.Random(seed)
    width = max(8, round(share * min(scene.size)))
    x = chance.randint(width // 2, scene.width - 2 * width)
    y = chance.randint(0, scene.height - 2 * width)
    first, second = scene.copy(), scene.copy()
    one, other = face(2 * seed, width), face(2 * seed + 1, width)
    first.paste(one, (x, y), one)
    second.paste(other, (x + chance.randint(-2, 2), y + chance.randint(-2, 2)), other)
    left, top = chance.uniform(0, 0.02), chance.uniform(0, 0.02)
    second = _cropped(second, left, top, 0.02 - left, 0.02 - top)
    return first, ImageEnhance.Brightness(second).enhance(chance.uniform(0.95, 1.05))


def with_something(scene: Image.Image, seed: int, share: float) -> Image.Image:
    """Return a scene with a face in it, of so much of the shorter side."""
    chance = random.Random(seed)
    width = max(8, round(share * min(scene.size)))
    place = (
        chance.randint(width // 2, scene.width - 2 * width),
        chance.randint(0, scene.height - 2 * width),
    )
    changed, added = scene.copy(), face(seed, width)
    changed.paste(added, place, added)
    return changed


def look_alikes(
    scenes: Sequence[Image.Image], seed: int = 0, *, screens: int = 20
) -> Iterator[tuple[str, Image.Image, Image.Image]]:
    """Yield pairs that look alike and are two pictures, with the name of their kind.

    Args:
        scenes: Pictures in which somebody is to be seen, one pair of each kind for each.
        seed: Of the faces.
        screens: Pairs of screenshots of each kind.
    """
    for number in range(screens):
        yield "two screenshots", conversation(2 * number), conversation(2 * number + 1)
    for number in range(screens):
        screen = conversation(1000 + number)
        yield "one message differs", screen, with_another_message(screen, number)
    for number in range(screens):
        yield "a form's number differs", form(number, "2026-004711"), form(number, "2026-004717")
    for share in (0.2, 0.12, 0.05):
        for number, scene in enumerate(scenes):
            frames = burst_frames(scene, seed + number, share)
            yield f"another face, {share:.0%} wide", *frames
    for share in (0.15, 0.08, 0.04):
        for number, scene in enumerate(scenes):
            yield (
                f"somebody {share:.0%} wide came",
                scene,
                with_something(scene, seed + number, share),
            )
