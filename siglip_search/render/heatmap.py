"""A picture with what its parts did to a score laid over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from siglip_search.render.caption_font import CaptionFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_RAISES: Final = (230, 80, 0)
_LOWERS: Final = (0, 90, 220)
"""Orange and blue: told apart also by people who do not see all colours."""

_MOST_OPAQUE: Final = 0.72
_OUTSIDE: Final = 0.35
"""Light left to what the tower does not see."""

_PAPER, _INK, _FAINT = (250, 250, 248), (34, 34, 34), (120, 120, 120)
_LINE_PX, _MARGIN_PX, _LETTER_PX = 22, 8, 15
_LEAST_WIDTH_PX: Final = 320
_BAR_PX: Final = 160


def draw_heatmap(
    picture: Image.Image,
    differences: NDArray[np.float64],
    region: tuple[float, float, float, float],
    lines: Sequence[str],
) -> Image.Image:
    """Draw a map over a picture.

    Orange raises the score, blue lowers it; the strongest cell, of either sign, is the most opaque,
    and opacity is proportional to the difference. Between the middles of cells it is interpolated
    linearly, for the eye only.

    Args:
        picture: Upright, mode "RGB".
        differences: One for each cell, shape (rows, columns).
        region: Left, top, right and bottom of the grid, as shares of the picture.
        lines: What stands beneath, without control characters.

    Returns:
        The picture, as large as it was or wider, with a strip beneath it.
    """
    strongest = float(np.abs(differences).max())
    overlaid = _overlaid(picture, differences / (strongest or 1.0), region)
    width = max(picture.width, _LEAST_WIDTH_PX)
    height = picture.height + 2 * _MARGIN_PX + _LINE_PX * (len(lines) + 1)
    sheet = Image.new("RGB", (width, height), _PAPER)
    sheet.paste(overlaid, ((width - picture.width) // 2, 0))
    draw, font = ImageDraw.Draw(sheet), CaptionFont(_LETTER_PX)
    top = picture.height + _MARGIN_PX
    _draw_scale(draw, font, top, width, strongest)
    for number, line in enumerate(lines, start=1):
        place = (_MARGIN_PX, top + number * _LINE_PX)
        colour = _INK if number == 1 else _FAINT
        font.draw(draw, place, line, colour, width - 2 * _MARGIN_PX)
    return sheet


def _overlaid(
    picture: Image.Image, shares: NDArray[np.float64], region: tuple[float, float, float, float]
) -> Image.Image:
    """Lay cells in [-1, 1] over a region of a picture, and darken what is beside it."""
    left, right = (round(edge * picture.width) for edge in (region[0], region[2]))
    top, bottom = (round(edge * picture.height) for edge in (region[1], region[3]))
    if right <= left or bottom <= top:
        return picture  # a picture so narrow that nothing of it can be shown
    cells = Image.fromarray(shares.astype(np.float32))
    spread = np.asarray(cells.resize((right - left, bottom - top), Image.Resampling.BILINEAR))
    pixels = np.asarray(picture, dtype=np.float32)
    result = pixels * _OUTSIDE
    inside = pixels[top:bottom, left:right]
    opacity = np.minimum(np.abs(spread), 1.0)[..., None] * _MOST_OPAQUE
    colours = np.where(spread[..., None] > 0, _RAISES, _LOWERS)
    result[top:bottom, left:right] = inside + (colours - inside) * opacity
    return Image.fromarray(result.round().astype(np.uint8))


def _draw_scale(
    draw: ImageDraw.ImageDraw, font: CaptionFont, top: int, width: int, strongest: float
) -> None:
    for step in range(_BAR_PX):
        share = 2 * step / (_BAR_PX - 1) - 1
        colour = _RAISES if share > 0 else _LOWERS
        mixed = tuple(
            round(paper + (ink - paper) * abs(share) * _MOST_OPAQUE)
            for paper, ink in zip(_PAPER, colour, strict=True)
        )
        draw.line((_MARGIN_PX + step, top + 2, _MARGIN_PX + step, top + 14), mixed)
    text = f"- {strongest:.3g} to + {strongest:.3g}"
    place = (2 * _MARGIN_PX + _BAR_PX, top)
    font.draw(draw, place, text, _FAINT, width - place[0] - _MARGIN_PX)
