"""Draw the scenes of the demonstration world.

A scene is sampled first (`sample_scene`, pure choice) and drawn second (`draw_scene`), so that
the truth never depends on pixels. Glyphs come from two fonts that only training and the gallery
need: Noto Color Emoji (OFL 1.1) and Symbola (free for any use), both packaged by Debian.
"""

from __future__ import annotations

import io
import math
import os
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from demo_model.world import (
    COLOUR_NAMES,
    COLOURS,
    NATURAL,
    NATURAL_COLOURS,
    PLACE_NAMES,
    THINGS,
)

HERE = Path(__file__).resolve().parent
FONT_PLACES = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path.home() / ".local/share/fonts",
)
#: How a thing is drawn. "outlined" is kept for evaluation: training never shows it.
STYLES = ("natural", "tinted", "silhouette", "ink", "outlined")
MASTER = 192  # Side of a sprite at its largest, in pixels.

Float = NDArray[np.float32]


@lru_cache
def load_config(name: str) -> dict[str, Any]:
    """Read one of the TOML files beside this module."""
    with (HERE / name).open("rb") as stream:
        return tomllib.load(stream)


def find_font(file_name: str) -> Path:
    """Return the path of a font file.

    `DEMO_MODEL_FONTS` may name a folder to search first.

    Raises:
        FileNotFoundError: If no folder has it; the message says what to install.
    """
    extra = os.environ.get("DEMO_MODEL_FONTS")
    for folder in ([Path(extra)] if extra else []) + list(FONT_PLACES):
        found = sorted(folder.rglob(file_name)) if folder.is_dir() else []
        if found:
            return found[0]
    raise FileNotFoundError(
        f"font {file_name} was not found; on Debian and Ubuntu: "
        "apt install fonts-noto-color-emoji fonts-symbola (or set DEMO_MODEL_FONTS)"
    )


# --- choice ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A main thing of a scene: ids of thing and colour (`NATURAL` if untinted), 1-4 of it."""

    thing: int
    colour: int
    count: int
    style: str
    size: float  # Share of the frame's short side, 0.15 to 0.95.


@dataclass(frozen=True)
class Scene:
    """One or two items in a place, with clutter that no caption speaks of."""

    items: tuple[Item, ...]
    place: int
    distractors: tuple[int, ...] = ()
    marks: int = 0


@dataclass(frozen=True)
class Unseen:
    """Compositions that training never shows: boolean tables thing x colour, thing x place."""

    colours: NDArray[np.bool_]
    places: NDArray[np.bool_]

    def holds(self, item: Item, place: int) -> bool:
        """Return whether this item in this place is a composition kept from training."""
        tinted = item.colour != NATURAL and bool(self.colours[item.thing, item.colour])
        return tinted or bool(self.places[item.thing, place])


@lru_cache
def unseen_compositions() -> Unseen:
    """Return the compositions that `evaluation.toml` keeps from training."""
    settings = load_config("evaluation.toml")["unseen"]
    rng = np.random.default_rng(settings["composition_seed"])
    colours = rng.random((len(THINGS), len(COLOUR_NAMES))) < settings["thing_colour_share"]
    places = rng.random((len(THINGS), len(PLACE_NAMES))) < settings["thing_place_share"]
    return Unseen(colours, places)


def _sample_item(
    rng: np.random.Generator, styles: tuple[str, ...], low: float, high: float, count: int
) -> Item:
    thing = int(rng.integers(len(THINGS)))
    style = styles[int(rng.integers(len(styles)))]
    if not THINGS[thing].glyph and style in ("natural", "ink"):
        style = "tinted"
    colour = NATURAL if style == "natural" else int(rng.integers(len(COLOUR_NAMES)))
    return Item(thing, colour, count, style, float(rng.uniform(low, high)))


_PAIRS = 0.18
_HARD_PAIRS = 0.45
_HARD_SIZE = 0.45
_TRAINING_STYLES = ("natural",) * 6 + ("tinted",) * 9 + ("silhouette",) * 3 + ("ink",) * 2


def sample_scene(
    rng: np.random.Generator,
    *,
    easy: bool = False,
    hard: bool = False,
    unseen: bool = False,
    style: str | None = None,
    min_size: float = 0.15,
) -> Scene:
    """Choose a scene.

    Args:
        rng: Makes every choice.
        easy: One large thing, no clutter (the start of training).
        hard: Two kinds of things more often, and single things small (the end of training).
        unseen: Only compositions that training never shows; otherwise only those it may show.
        style: Draw every item in this style instead of the training mix.
        min_size: Smallest share of the frame's short side.
    """
    kept = unseen_compositions()
    styles = _TRAINING_STYLES if style is None else (style,)
    place = int(rng.integers(len(PLACE_NAMES)))
    pair = not easy and rng.random() < (_HARD_PAIRS if hard else _PAIRS)
    items: list[Item] = []
    while len(items) < (2 if pair else 1):
        count = 1
        if not easy and not pair and rng.random() < 0.3:
            count = int(rng.integers(2, 5))
        if easy:
            low, high = 0.4, 0.95
        elif pair:
            low, high = max(0.2, min_size), 0.5
        else:
            low, high = min_size, (_HARD_SIZE if hard else 0.95, 0.5, 0.44, 0.38)[count - 1]
        item = _sample_item(rng, styles, low, high, count)
        if any(other.thing == item.thing for other in items):
            continue
        if unseen and not items:
            if not kept.holds(item, place):
                place = int(rng.integers(len(PLACE_NAMES)))
                continue
        elif not unseen and kept.holds(item, place):
            continue
        items.append(item)
    distractors: tuple[int, ...] = ()
    marks = 0
    if not easy and rng.random() < 0.4:
        marks = int(rng.integers(1, 7))
        if rng.random() < 0.4:
            distractors = tuple(int(i) for i in rng.integers(len(THINGS), size=rng.integers(1, 4)))
    return Scene(tuple(items), place, distractors, marks)


# --- sprites --------------------------------------------------------------------------------


def _shape_mask(name: str, side: int) -> Image.Image:
    """Return a filled shape drawn in code, antialiased, as an L mask."""
    big = side * 2
    mask = Image.new("L", (big, big), 0)
    draw = ImageDraw.Draw(mask)
    low, high = big * 0.06, big * 0.94

    def polygon(points: list[tuple[float, float]]) -> None:
        draw.polygon([(x * big, y * big) for x, y in points], fill=255)

    if name == "circle":
        draw.ellipse((low, low, high, high), fill=255)
    elif name == "ring":
        draw.ellipse((low, low, high, high), fill=255)
        inner = big * 0.25
        draw.ellipse((inner, inner, big - inner, big - inner), fill=0)
    elif name == "square":
        draw.rectangle((big * 0.1, big * 0.1, big * 0.9, big * 0.9), fill=255)
    elif name == "triangle":
        polygon([(0.5, 0.07), (0.95, 0.9), (0.05, 0.9)])
    elif name == "cross":
        draw.rectangle((big * 0.36, low, big * 0.64, high), fill=255)
        draw.rectangle((low, big * 0.36, high, big * 0.64), fill=255)
    elif name == "star":
        points = []
        for k in range(10):
            radius = 0.48 if k % 2 == 0 else 0.2
            angle = -math.pi / 2 + k * math.pi / 5
            points.append((0.5 + radius * math.cos(angle), 0.53 + radius * math.sin(angle)))
        polygon(points)
    elif name == "heart":
        points = []
        for k in range(80):
            t = 2 * math.pi * k / 80
            x = 16 * math.sin(t) ** 3
            y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            points.append((0.5 + x / 36, 0.47 - y / 36))
        polygon(points)
    else:
        raise ValueError(f"no shape called {name!r}")
    return mask.resize((side, side), Image.Resampling.LANCZOS)


def _square(picture: Image.Image) -> Image.Image:
    """Crop a sprite to what is opaque and centre it on a transparent square of `MASTER` pixels."""
    box = picture.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        raise ValueError("an empty glyph was drawn")
    picture = picture.crop(box)
    side = max(picture.size)
    scale = (MASTER - 8) / side
    width, height = (max(1, round(v * scale)) for v in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    out = Image.new(picture.mode, (MASTER, MASTER))
    out.paste(picture, ((MASTER - width) // 2, (MASTER - height) // 2))
    return out


def _stretched(luminance: Float, alpha: Float) -> Float:
    """Stretch luminance so that its 3rd..97th percentile spans 0..1 and its median is near 0.6."""
    inside = luminance[alpha > 0.5]
    low, high = np.percentile(inside, (3, 97))
    out = np.clip((luminance - low) / max(high - low, 1e-3), 0, 1)
    if high - low < 24:  # A flat drawing stays flat.
        out = np.full_like(luminance, 0.6)
    median = float(np.clip(np.median(out[alpha > 0.5]), 0.2, 0.9))
    return np.asarray(out ** (math.log(0.6) / math.log(median)), dtype=np.float32)


def _tone_sprite(tone: Float, alpha: Float) -> Image.Image:
    return Image.merge(
        "LA",
        (
            Image.fromarray((np.clip(tone, 0, 1) * 255).astype(np.uint8)),
            Image.fromarray((np.clip(alpha, 0, 1) * 255).astype(np.uint8)),
        ),
    )


def _colour_shares(picture: Image.Image) -> Float:
    """Return the share of a sprite's opaque pixels in each colour name, shape (11,)."""
    pixels = np.asarray(picture.convert("RGBA")).reshape(-1, 4)
    pixels = pixels[pixels[:, 3] > 128][:, :3].astype(np.float32)
    high, low = pixels.max(1), pixels.min(1)
    chroma = high - low
    red, green, blue = pixels.T
    safe = np.maximum(chroma, 1)
    hue = np.where(
        high == red,
        ((green - blue) / safe) % 6,
        np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue * 60
    names = np.full(len(pixels), COLOUR_NAMES.index("grey"))

    def put(name: str, where: NDArray[np.bool_]) -> None:
        names[where] = COLOUR_NAMES.index(name)

    put("white", (chroma < 34) & (high > 212))
    put("black", (chroma < 40) & (high < 72))
    vivid = chroma >= 34
    put("red", vivid & ((hue < 14) | (hue >= 345)))
    put("orange", vivid & (hue >= 14) & (hue < 40))
    put("yellow", vivid & (hue >= 40) & (hue < 68))
    put("green", vivid & (hue >= 68) & (hue < 170))
    put("blue", vivid & (hue >= 170) & (hue < 252))
    put("purple", vivid & (hue >= 252) & (hue < 300))
    put("pink", vivid & (hue >= 300) & (hue < 345))
    put("pink", vivid & ((hue < 20) | (hue > 330)) & (low > 120))
    put("brown", vivid & (hue >= 8) & (hue < 44) & (high < 175))
    put("black", (high < 50))
    return np.bincount(names, minlength=len(COLOUR_NAMES)).astype(np.float32) / max(len(names), 1)


class Art:
    """Every sprite of the world, ready to be placed.

    Attributes:
        natural_colours: Truth of "is it <colour>" for each untinted thing, shape (things, 11):
            1 yes, 0.5 neither right nor wrong, 0 no.
    """

    def __init__(self) -> None:
        emoji = ImageFont.truetype(str(find_font("NotoColorEmoji.ttf")), 109)
        symbola = ImageFont.truetype(str(find_font("Symbola*.ttf")), 146)
        self._sprites: dict[tuple[int, str], list[Image.Image]] = {}
        self._places: dict[tuple[int, int], list[Image.Image]] = {}
        self.natural_colours = np.zeros((len(THINGS), len(COLOUR_NAMES)), np.float32)
        for i, thing in enumerate(THINGS):
            if thing.glyph:
                picture = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
                ImageDraw.Draw(picture).text((0, 0), thing.glyph, font=emoji, embedded_color=True)
                picture = _square(picture)
                self._add(i, "natural", picture)
                self.natural_colours[i] = np.where(_colour_shares(picture) >= 0.07, 0.5, 0)
                for name in NATURAL_COLOURS.get(thing.name, ()):
                    self.natural_colours[i, COLOUR_NAMES.index(name)] = 1
                array = np.asarray(picture).astype(np.float32)
                alpha = array[..., 3] / 255
                luminance = array[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
                tone = _stretched(luminance, alpha)
                self._add(i, "ink", self._ink(thing.glyph, symbola))
            else:
                alpha = np.asarray(_shape_mask(thing.name, MASTER)).astype(np.float32) / 255
                tone = np.tile(
                    np.linspace(0.72, 0.48, MASTER, dtype=np.float32)[:, None], (1, MASTER)
                )
            self._add(i, "tinted", _tone_sprite(tone, alpha))
            self._add(i, "silhouette", _tone_sprite(np.full_like(alpha, 0.6), alpha))
            self._add(i, "outlined", self._outlined(tone, alpha))

    def _add(self, thing: int, style: str, picture: Image.Image) -> None:
        sizes = [MASTER, 96, 48, 24]
        self._sprites[thing, style] = [
            picture.resize((s, s), Image.Resampling.BOX) if s != MASTER else picture for s in sizes
        ]

    @staticmethod
    def _ink(glyph: str, font: ImageFont.FreeTypeFont) -> Image.Image:
        """Return a line drawing whose inside is filled with a lighter tone."""
        mask = Image.new("L", (280, 280), 0)
        ImageDraw.Draw(mask).text((66, 40), glyph, font=font, fill=255)
        hard = mask.point(lambda v: 255 if v > 96 else 0).filter(ImageFilter.MaxFilter(3))
        ImageDraw.floodfill(hard, (0, 0), 128)
        body = hard.point(lambda v: 0 if v == 128 else 255)
        lines = np.asarray(mask).astype(np.float32) / 255
        alpha = np.maximum(lines, np.asarray(body.filter(ImageFilter.MinFilter(3))) / 255.0)
        solid = lines[alpha > 0.5].mean() > 0.8  # Drawn as a silhouette: no lines to darken.
        tone = np.full_like(lines, 0.6) if solid else 0.68 - 0.6 * lines
        return _square(_tone_sprite(tone, alpha.astype(np.float32)))

    @staticmethod
    def _outlined(tone: Float, alpha: Float) -> Image.Image:
        """Return a flat fill with a thick contour and the inner edges of the drawing."""
        mask = Image.fromarray((alpha * 255).astype(np.uint8))
        inner = np.asarray(mask.filter(ImageFilter.MinFilter(9))).astype(np.float32) / 255
        smooth = Image.fromarray((tone * alpha * 255).astype(np.uint8))
        smooth = smooth.filter(ImageFilter.GaussianBlur(1.5))
        gy, gx = np.gradient(np.asarray(smooth).astype(np.float32))
        edges = np.clip((np.hypot(gx, gy) - 5) / 10, 0, 1) * inner
        ink = np.maximum(edges, 1 - inner)
        return _tone_sprite((0.66 - 0.62 * ink).astype(np.float32), alpha)

    def sprite(self, thing: int, style: str, need: float) -> Image.Image:
        """Return the smallest stored sprite of at least `need` pixels."""
        levels = self._sprites[thing, style]
        return next((s for s in reversed(levels) if s.width >= need), levels[0])

    def backdrop(self, place: int, seed: int, rng: np.random.Generator) -> Image.Image:
        """Return one of the kept 144-pixel backdrops of a place (drawn on first use)."""
        number = int(rng.integers(80))
        key = (place, seed)
        if key not in self._places:
            made = np.random.default_rng((seed, place))
            self._places[key] = [draw_place(PLACE_NAMES[place], 144, 144, made) for _ in range(80)]
        return self._places[key][number]


# --- places ---------------------------------------------------------------------------------

_Rgb = tuple[int, int, int]


def _near(rng: np.random.Generator, colour: _Rgb, spread: int = 16) -> _Rgb:
    low = rng.integers(-spread, spread + 1, size=3)
    red, green, blue = (int(np.clip(c + d, 0, 255)) for c, d in zip(colour, low, strict=True))
    return red, green, blue


def _gradient(width: int, height: int, top: _Rgb, bottom: _Rgb) -> Image.Image:
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    rows = np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t
    return Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8).copy())


def _ridge(
    rng: np.random.Generator,
    width: int,
    base: float,
    height: float,
    steps: int,
) -> list[tuple[float, float]]:
    xs = np.linspace(0, width, steps + 1)
    ys = base - rng.random(steps + 1) * height
    return [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]


def _ground(
    draw: ImageDraw.ImageDraw, w: int, h: int, ridge: list[tuple[float, float]], colour: _Rgb
) -> None:
    draw.polygon([*ridge, (w, h), (0, h)], fill=colour)


def _cloud(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, colour: _Rgb) -> None:
    for dx, dy, s in ((0, 0, 1.0), (-1.1, 0.3, 0.7), (1.1, 0.3, 0.7), (0.5, -0.4, 0.7)):
        cx, cy, rr = x + dx * r, y + dy * r, r * s
        draw.ellipse((cx - rr * 1.2, cy - rr * 0.7, cx + rr * 1.2, cy + rr * 0.7), fill=colour)


def draw_place(name: str, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Draw an empty place of the given size; every call with the same generator state agrees.

    Raises:
        ValueError: If there is no such place.
    """
    w, h = width, height
    unit = min(w, h)
    horizon = h * float(rng.uniform(0.4, 0.65))
    sky_top, sky_low = _near(rng, (110, 175, 235)), _near(rng, (195, 225, 245))

    if name == "plain":
        base = (
            _near(rng, (200, 200, 200), 55)
            if rng.random() < 0.6
            else _near(rng, (128, 128, 128), 110)
        )
        return _gradient(w, h, base, _near(rng, base, 22))
    if name == "beach":
        picture = _gradient(w, h, sky_top, sky_low)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, horizon * 0.72, w, h), fill=_near(rng, (40, 140, 190)))
        shore = _ridge(rng, w, horizon * 1.05, unit * 0.06, 6)
        _ground(draw, w, h, [(x, y - unit * 0.03) for x, y in shore], (240, 248, 250))
        _ground(draw, w, h, shore, _near(rng, (236, 212, 150), 12))
        for _ in range(40):
            x, y = rng.uniform(0, w), rng.uniform(horizon * 1.1, h)
            draw.point((x, y), fill=(190, 160, 105))
        return picture
    if name == "sea":
        picture = _gradient(w, h, sky_top, sky_low)
        picture.paste(
            _gradient(w, h, _near(rng, (40, 130, 190)), _near(rng, (10, 60, 130))),
            (0, int(horizon * 0.55)),
        )
        draw = ImageDraw.Draw(picture)
        for k in range(int(rng.integers(5, 9))):
            y = horizon * 0.6 + (h - horizon * 0.6) * (k + 0.5) / 8
            step = unit * (0.08 + 0.02 * k)
            x = -float(rng.uniform(0, step))
            while x < w:
                draw.arc(
                    (x, y, x + step, y + step * 0.5),
                    200,
                    340,
                    fill=(190, 225, 240),
                    width=max(1, round(unit / 90)),
                )
                x += step * 1.3
        return picture
    if name == "forest":
        picture = _gradient(w, h, _near(rng, (130, 180, 140)), _near(rng, (40, 80, 44)))
        draw = ImageDraw.Draw(picture)
        for k in range(14):
            x = float(rng.uniform(-0.05, 1.05)) * w
            foot = h * (0.62 + 0.025 * k)
            tall = unit * float(rng.uniform(0.45, 0.8))
            wide = tall * float(rng.uniform(0.2, 0.3))
            green = _near(rng, (24, 90 - 2 * k, 44), 14)
            draw.rectangle(
                (x - wide * 0.14, foot - tall * 0.2, x + wide * 0.14, foot), fill=(72, 48, 30)
            )
            for part in range(3):
                y = foot - tall * (0.12 + 0.27 * part)
                spread = wide * (1 - 0.25 * part)
                draw.polygon([(x - spread, y), (x + spread, y), (x, y - tall * 0.42)], fill=green)
        return picture
    if name == "snow":
        picture = _gradient(w, h, _near(rng, (175, 195, 215)), _near(rng, (225, 232, 240), 8))
        draw = ImageDraw.Draw(picture)
        _ground(draw, w, h, _ridge(rng, w, horizon, unit * 0.12, 4), _near(rng, (226, 234, 244), 8))
        _ground(draw, w, h, _ridge(rng, w, horizon * 1.25, unit * 0.1, 4), (246, 249, 252))
        for _ in range(int(rng.integers(40, 90))):
            x, y, r = rng.uniform(0, w), rng.uniform(0, h), unit * rng.uniform(0.006, 0.014)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 255, 255))
        return picture
    if name == "night":
        picture = _gradient(w, h, _near(rng, (8, 10, 34), 8), _near(rng, (30, 34, 80), 12))
        draw = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(30, 70))):
            x, y, r = rng.uniform(0, w), rng.uniform(0, h * 0.8), unit * rng.uniform(0.003, 0.009)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 250, 215))
        if rng.random() < 0.6:
            x, y, r = rng.uniform(0.1, 0.9) * w, rng.uniform(0.08, 0.25) * h, unit * 0.07
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(245, 240, 205))
            draw.ellipse((x - r * 0.4, y - r * 1.1, x + r * 1.5, y + r * 0.8), fill=(14, 17, 46))
        _ground(draw, w, h, _ridge(rng, w, h * 0.92, unit * 0.12, 6), (8, 10, 22))
        return picture
    if name == "city":
        picture = _gradient(w, h, _near(rng, (150, 180, 205)), _near(rng, (215, 215, 210)))
        draw = ImageDraw.Draw(picture)
        x = -unit * 0.05
        while x < w:
            wide = unit * float(rng.uniform(0.12, 0.22))
            top = h * float(rng.uniform(0.1, 0.45))
            wall = _near(rng, (120, 118, 126), 36)
            draw.rectangle((x, top, x + wide, h * 0.85), fill=wall)
            pane = wide / 5
            for row in range(int((h * 0.8 - top) / (pane * 1.9))):
                for col in range(2):
                    px, py = x + pane * (0.8 + 2 * col), top + pane * (0.8 + 1.9 * row)
                    lit = rng.random() < 0.4
                    draw.rectangle(
                        (px, py, px + pane, py + pane),
                        fill=(250, 228, 140) if lit else (70, 84, 104),
                    )
            x += wide * 1.06
        draw.rectangle((0, h * 0.8, w, h), fill=_near(rng, (84, 84, 90), 10))
        step = unit * 0.2
        for k in range(int(w / step) + 1):
            draw.rectangle(
                (k * step, h * 0.89, k * step + step * 0.5, h * 0.905), fill=(225, 225, 220)
            )
        return picture
    if name == "desert":
        picture = _gradient(w, h, _near(rng, (245, 205, 140)), _near(rng, (252, 232, 190), 8))
        draw = ImageDraw.Draw(picture)
        for k, tone in enumerate(((222, 164, 96), (206, 140, 72), (190, 120, 58))):
            ridge = _ridge(rng, w, horizon * (1 + 0.2 * k), unit * 0.14, 3 + k)
            _ground(draw, w, h, ridge, _near(rng, tone, 10))
        return picture
    if name == "meadow":
        picture = _gradient(w, h, sky_top, sky_low)
        draw = ImageDraw.Draw(picture)
        _ground(draw, w, h, _ridge(rng, w, horizon, unit * 0.1, 4), _near(rng, (110, 180, 80)))
        _ground(
            draw, w, h, _ridge(rng, w, horizon * 1.2, unit * 0.08, 4), _near(rng, (88, 160, 60))
        )
        for _ in range(70):
            x, y = rng.uniform(0, w), rng.uniform(horizon * 1.1, h)
            draw.line(
                (x, y, x + unit * rng.uniform(-0.01, 0.01), y - unit * 0.03), fill=(58, 124, 42)
            )
        for _ in range(int(rng.integers(6, 20))):
            x, y, r = rng.uniform(0, w), rng.uniform(horizon * 1.15, h), unit * 0.009
            draw.ellipse((x - r, y - r, x + r, y + r), fill=(250, 246, 200))
        return picture
    if name == "mountain":
        picture = _gradient(w, h, sky_top, sky_low)
        draw = ImageDraw.Draw(picture)
        for _ in range(4):
            x, tall = rng.uniform(0, w), unit * rng.uniform(0.35, 0.6)
            foot, wide = h * 0.78, tall * rng.uniform(0.6, 0.9)
            rock = _near(rng, (112, 112, 130), 18)
            draw.polygon([(x - wide, foot), (x + wide, foot), (x, foot - tall)], fill=rock)
            cap = 0.3
            draw.polygon(
                [
                    (x - wide * cap, foot - tall * (1 - cap)),
                    (x, foot - tall),
                    (x + wide * cap, foot - tall * (1 - cap)),
                    (x, foot - tall * (1 - cap * 0.6)),
                ],
                fill=(245, 247, 250),
            )
        _ground(draw, w, h, _ridge(rng, w, h * 0.8, unit * 0.06, 5), _near(rng, (92, 110, 80)))
        return picture
    if name == "sunset":
        picture = _gradient(w, h, _near(rng, (96, 50, 120)), _near(rng, (252, 150, 70)))
        draw = ImageDraw.Draw(picture)
        x, r = rng.uniform(0.15, 0.85) * w, unit * rng.uniform(0.1, 0.16)
        draw.ellipse((x - r, h * 0.72 - r, x + r, h * 0.72 + r), fill=(255, 222, 120))
        _ground(draw, w, h, _ridge(rng, w, h * 0.8, unit * 0.06, 5), _near(rng, (58, 34, 58), 10))
        return picture
    if name == "rain":
        picture = _gradient(w, h, _near(rng, (96, 106, 120)), _near(rng, (150, 158, 168)))
        draw = ImageDraw.Draw(picture)
        for _ in range(4):
            _cloud(draw, float(rng.uniform(0, w)), h * 0.1, unit * 0.12, _near(rng, (74, 82, 94)))
        slant = float(rng.uniform(-0.03, 0.03)) * unit
        for _ in range(90):
            x, y = rng.uniform(0, w), rng.uniform(0, h)
            draw.line(
                (x, y, x + slant, y + unit * 0.06),
                fill=(190, 206, 224),
                width=max(1, round(unit / 140)),
            )
        return picture
    if name == "sky":
        picture = _gradient(w, h, _near(rng, (70, 145, 230)), _near(rng, (170, 212, 245)))
        draw = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(3, 7))):
            _cloud(
                draw,
                float(rng.uniform(0, w)),
                float(rng.uniform(0, h)),
                unit * float(rng.uniform(0.06, 0.13)),
                (250, 252, 255),
            )
        return picture
    if name == "room":
        wall = _near(rng, (222, 206, 180), 22)
        picture = _gradient(w, h, wall, wall)
        draw = ImageDraw.Draw(picture)
        floor = h * 0.74
        draw.rectangle((0, floor, w, h), fill=_near(rng, (150, 104, 66), 18))
        for k in range(1, 5):
            y = floor + (h - floor) * k / 5
            draw.line((0, y, w, y), fill=(112, 76, 46), width=max(1, round(unit / 120)))
        draw.rectangle((0, floor - unit * 0.03, w, floor), fill=(245, 240, 230))
        x, y = rng.uniform(0.05, 0.6) * w, h * rng.uniform(0.08, 0.2)
        wide, tall = unit * 0.3, unit * 0.34
        draw.rectangle((x - 3, y - 3, x + wide + 3, y + tall + 3), fill=(250, 250, 248))
        draw.rectangle((x, y, x + wide, y + tall), fill=_near(rng, (160, 205, 235)))
        bar = unit * 0.012
        draw.rectangle((x + wide / 2 - bar, y, x + wide / 2 + bar, y + tall), fill=(250, 250, 248))
        draw.rectangle((x, y + tall / 2 - bar, x + wide, y + tall / 2 + bar), fill=(250, 250, 248))
        return picture
    raise ValueError(f"no place called {name!r}")


# --- drawing --------------------------------------------------------------------------------


def _ramp(colour: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return 256 shades of a colour, dark to light, shape (256, 3)."""
    name = COLOUR_NAMES[colour]
    base = np.array(COLOURS[name], np.float32)
    jitter = rng.uniform(-1, 1, 3) * (6 if name in ("white", "black", "grey") else 12)
    base = np.clip(base * rng.uniform(0.92, 1.06) + jitter, 0, 255)
    if name == "white":
        dark, light = base * 0.62, np.full(3, 255.0)
    elif name == "black":
        dark, light = base * 0.3, base + 62
    else:
        dark, light = base * 0.32, base * 0.58 + 255 * 0.42
    t = np.linspace(0, 1, 256)[:, None]
    low = dark + (base - dark) * (t / 0.6)
    high = base + (light - base) * ((t - 0.6) / 0.4)
    return np.asarray(np.clip(np.where(t < 0.6, low, high), 0, 255), dtype=np.uint8)


def _place_sprite(
    sprite: Image.Image, wide: float, tall: float, angle: float, flip: bool
) -> Image.Image:
    """Scale, squash, rotate and mirror a sprite into a tile just large enough."""
    cos, sin = math.cos(angle), math.sin(angle)
    out_w = max(2, math.ceil(wide * (abs(cos) + abs(sin))))
    out_h = max(2, math.ceil(tall * (abs(cos) + abs(sin))))
    side = sprite.width
    # Output pixel -> sprite pixel: undo the squash, then the rotation.
    unit_x, unit_y = 1 / wide, 1 / tall
    a, b = cos * unit_x, sin * unit_y
    d, e = -sin * unit_x, cos * unit_y
    mirror = -1 if flip else 1
    a, b = a * side * mirror, b * side * mirror
    d, e = d * side, e * side
    c = side / 2 - a * out_w / 2 - b * out_h / 2
    f = side / 2 - d * out_w / 2 - e * out_h / 2
    return sprite.transform(
        (out_w, out_h), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )


def _centres(
    rng: np.random.Generator, sizes: list[float], aspect: float
) -> list[tuple[float, float]]:
    """Choose centres in frame units (short side 1) that keep things apart and mostly inside."""
    width, height = (aspect, 1.0) if aspect >= 1 else (1.0, 1 / aspect)
    best: list[tuple[float, float]] = []
    best_gap = -9.0
    for _ in range(14):
        centres = []
        for size in sizes:
            margin = size * 0.46
            x = rng.uniform(min(margin, width / 2), max(width - margin, width / 2))
            y = rng.uniform(min(margin, height / 2), max(height - margin, height / 2))
            centres.append((float(x), float(y)))
        gap = 9.0
        for i in range(len(sizes)):
            for j in range(i):
                apart = math.hypot(centres[i][0] - centres[j][0], centres[i][1] - centres[j][1])
                gap = min(gap, apart - 0.44 * (sizes[i] + sizes[j]))
        if gap > best_gap:
            best, best_gap = centres, gap
        if best_gap > 0:
            break
    return best


def draw_scene(
    scene: Scene,
    art: Art,
    rng: np.random.Generator,
    *,
    width: int,
    height: int,
    aspect: float | None = None,
    backdrops: int | None = None,
    spoil: bool = True,
) -> Image.Image:
    """Draw a scene as an upright RGB picture.

    Args:
        scene: What to draw.
        art: The sprites.
        rng: Chooses positions, light and wear.
        width: Width in pixels.
        height: Height in pixels.
        aspect: Width over height of the frame as it was before being squashed to these pixels;
            the pixels' own by default.
        backdrops: Seed of the kept backdrops to use; None draws a fresh one.
        spoil: Whether to add blur, noise, light and JPEG's traces.
    """
    aspect = width / height if aspect is None else aspect
    frame_w, frame_h = (aspect, 1.0) if aspect >= 1 else (1.0, 1 / aspect)
    px, py = width / frame_w, height / frame_h  # Pixels per frame unit along each axis.
    if backdrops is None:
        canvas = draw_place(PLACE_NAMES[scene.place], width, height, rng)
    else:
        kept = art.backdrop(scene.place, backdrops, rng)
        side = kept.width
        crop_w, crop_h = side * rng.uniform(0.72, 1.0), side * rng.uniform(0.8, 1.0)
        x0, y0 = rng.uniform(0, side - crop_w), rng.uniform(0, side - crop_h)
        canvas = kept.resize(
            (width, height), Image.Resampling.BILINEAR, box=(x0, y0, x0 + crop_w, y0 + crop_h)
        )
        if rng.random() < 0.5:
            canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    if scene.marks:
        _draw_marks(canvas, scene.marks, rng)
    small = min(0.13, min(item.size for item in scene.items) * 0.6)
    members: list[tuple[int, int, str, float]] = []
    for thing in scene.distractors:
        style = "tinted" if not THINGS[thing].glyph or rng.random() < 0.5 else "natural"
        colour = NATURAL if style == "natural" else int(rng.integers(len(COLOUR_NAMES)))
        members.append((thing, colour, style, small * float(rng.uniform(0.7, 1.0))))
    for item in scene.items:
        members += [
            (item.thing, item.colour, item.style, item.size * float(rng.uniform(0.9, 1.05)))
            for _ in range(item.count)
        ]
    centres = _centres(rng, [size for *_, size in members], aspect)
    ramps: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for (thing, colour, style, size), (x, y) in zip(members, centres, strict=True):
        wide, tall = max(size * px, 3.0), max(size * py, 3.0)
        tile = _place_sprite(
            art.sprite(thing, style, max(wide, tall)),
            wide,
            tall,
            float(rng.normal(0, 0.13)),
            bool(rng.random() < 0.5),
        )
        alpha = tile.getchannel("A")
        if colour == NATURAL:
            body = tile.convert("RGB")
        else:
            if (thing, colour) not in ramps:
                ramps[thing, colour] = _ramp(colour, rng)
            body = Image.fromarray(ramps[thing, colour][np.asarray(tile.getchannel("L"))])
        left, top = round(x * px - tile.width / 2), round(y * py - tile.height / 2)
        _lift(canvas, body, alpha, left, top, rng)
        canvas.paste(body, (left, top), alpha)
    return _spoilt(canvas, rng) if spoil else canvas


def _lift(
    canvas: Image.Image,
    body: Image.Image,
    alpha: Image.Image,
    left: int,
    top: int,
    rng: np.random.Generator,
) -> None:
    """Put a shadow under a thing, or a pale or dark rim where it would vanish in the backdrop."""
    under = canvas.crop((left, top, left + body.width, top + body.height))
    weight = np.asarray(alpha).astype(np.float32)
    total = float(weight.sum()) + 1
    mean_body = (np.asarray(body) * weight[..., None]).sum((0, 1)) / total
    mean_under = (np.asarray(under) * weight[..., None]).sum((0, 1)) / total
    if float(np.abs(mean_body - mean_under).sum()) < 105:
        tone = (255, 255, 255) if mean_body.mean() < 140 else (24, 24, 28)
        grow = 3 if body.width < 60 else 2 * round(body.width / 40) + 1
        rim = alpha.filter(ImageFilter.MaxFilter(grow)).point(lambda v: int(v * 0.85))
        canvas.paste(tone, (left, top), rim)
    elif rng.random() < 0.35:
        shift = max(1, round(body.width * 0.05))
        shade = alpha.point(lambda v: int(v * 0.4))
        if body.width > 60:
            shade = shade.filter(ImageFilter.GaussianBlur(body.width / 60))
        canvas.paste((10, 10, 14), (left + shift, top + shift), shade)


def _draw_marks(canvas: Image.Image, number: int, rng: np.random.Generator) -> None:
    """Scatter lines, specks and leaves that mean nothing."""
    draw = ImageDraw.Draw(canvas)
    w, h = canvas.size
    unit = min(w, h)
    for _ in range(number):
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        r = unit * rng.uniform(0.01, 0.05)
        tone = tuple(int(v) for v in rng.integers(30, 230, size=3))
        kind = rng.integers(3)
        if kind == 0:
            angle = rng.uniform(0, math.pi)
            dx, dy = math.cos(angle) * r * 4, math.sin(angle) * r * 4
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=tone, width=max(1, round(unit / 80)))
        elif kind == 1:
            draw.arc(
                (x - r * 2, y - r, x + r * 2, y + r),
                0,
                int(rng.integers(90, 300)),
                fill=tone,
                width=max(1, round(unit / 90)),
            )
        else:
            for _ in range(5):
                dx, dy = rng.normal(0, r * 1.5, 2)
                s = unit * 0.008
                draw.ellipse((x + dx - s, y + dy - s, x + dx + s, y + dy + s), fill=tone)


def _spoilt(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return the picture with some blur, noise, other light and the traces of JPEG."""
    if rng.random() < 0.2:
        radius = float(rng.uniform(0.3, 0.9)) * min(picture.size) / 96
        picture = picture.filter(ImageFilter.GaussianBlur(radius))
    if rng.random() < 0.6:
        pixels = np.asarray(picture).astype(np.float32)
        pixels = (pixels - 128) * rng.uniform(0.82, 1.12) + 128 + rng.uniform(-16, 16)
        if rng.random() < 0.4:
            pixels += rng.normal(0, rng.uniform(2, 8), pixels.shape).astype(np.float32)
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=int(rng.integers(60, 96)))
        picture = Image.open(io.BytesIO(stream.getvalue())).convert("RGB")
    return picture


# --- truth and shards -----------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """What n scenes hold, as integer arrays; -1 where a second item or distractor is missing.

    Shapes: things, colours and counts (n, 2); places (n,); distractors (n, 3).
    """

    things: NDArray[np.int16]
    colours: NDArray[np.int16]
    counts: NDArray[np.int16]
    places: NDArray[np.int16]
    distractors: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: NDArray[Any]) -> Truth:
        """Return the truth of some of the scenes."""
        return Truth(
            self.things[rows],
            self.colours[rows],
            self.counts[rows],
            self.places[rows],
            self.distractors[rows],
        )


def truth_of(scenes: list[Scene]) -> Truth:
    """Return the truth of scenes as arrays."""
    n = len(scenes)
    things, colours, counts = (np.full((n, 2), -1, np.int16) for _ in range(3))
    places, distractors = np.zeros(n, np.int16), np.full((n, 3), -1, np.int16)
    for i, scene in enumerate(scenes):
        for j, item in enumerate(scene.items):
            things[i, j], colours[i, j], counts[i, j] = item.thing, item.colour, item.count
        places[i] = scene.place
        distractors[i, : len(scene.distractors)] = scene.distractors
    return Truth(things, colours, counts, places, distractors)


def sample_aspect(rng: np.random.Generator) -> float:
    """Choose the aspect (width over height) of a picture as cameras and phones make them."""
    aspects = (1.0, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 9 / 16)
    shares = (0.2, 0.28, 0.16, 0.16, 0.08, 0.08, 0.04)
    return float(rng.choice(aspects, p=shares))


def render_batch(
    seed: tuple[int, ...],
    number: int,
    side: int,
    art: Art,
    *,
    backdrops: int | None,
    **choices: Any,
) -> tuple[NDArray[np.uint8], Truth, list[Scene]]:
    """Draw scenes as the picture tower sees them, squashed to a square.

    Returns:
        Pixels of shape (number, side, side, 3), their truth, and the scenes.
    """
    rng = np.random.default_rng(seed)
    pixels = np.empty((number, side, side, 3), np.uint8)
    scenes = []
    for i in range(number):
        scene = sample_scene(rng, **choices)
        scenes.append(scene)
        pixels[i] = np.asarray(
            draw_scene(
                scene,
                art,
                rng,
                width=side,
                height=side,
                aspect=sample_aspect(rng),
                backdrops=backdrops,
            )
        )
    return pixels, truth_of(scenes), scenes
