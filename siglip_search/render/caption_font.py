"""Letters for captions: Pillow's own font, and a system's where that lacks some."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from PIL import ImageFont

if TYPE_CHECKING:
    from PIL import ImageDraw

# Pillow's font knows Latin letters only. These come with Windows, macOS and Linux desktops, and
# Pillow finds them by name in the system's folders of fonts.
_WIDER_FONTS: Final = (
    "NotoSansCJK-Regular.ttc",
    "DejaVuSans.ttf",
    "YuGothM.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "segoeui.ttf",
    "Arial Unicode.ttf",
    "Hiragino Sans GB.ttc",
    "NotoSans-Regular.ttf",
    "FreeSans.ttf",
    "unifont.otf",
)
# Never assigned, so that every font draws for it what it draws for what it lacks.
_UNASSIGNED: Final = "\U0002fffd"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class CaptionFont:
    """Draws lines of text that keep within a width.

    Args:
        size: Height of the letters in pixels, > 0.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def draw(
        self,
        draw: ImageDraw.ImageDraw,
        place: tuple[int, int],
        text: str,
        colour: tuple[int, int, int],
        width: int,
    ) -> None:
        """Draw one line, cut with an ellipsis where it would be too long.

        Args:
            draw: Where to draw.
            place: Left and upper edge, in pixels.
            text: Without control characters.
            colour: Red, green and blue, each in [0, 255].
            width: Room for the line, in pixels.
        """
        font = self._font_for(text)
        draw.text(place, _cut(text, font, width), colour, font)

    def _font_for(self, text: str) -> Font:
        own = _own_font(self._size)
        if text.isascii() or _knows(own, text):
            return own
        candidates = (_system_font(name, self._size) for name in _WIDER_FONTS)
        # What no font knows is drawn as a box: better than nothing.
        return next((font for font in candidates if font and _knows(font, text)), own)


def _cut(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    shortest, longest = 0, len(text)
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if font.getlength(f"{text[:middle]}…") <= width:
            shortest = middle
        else:
            longest = middle - 1
    return f"{text[:shortest]}…"


def _knows(font: Font, text: str) -> bool:
    missing = bytes(font.getmask(_UNASSIGNED))
    return all(
        character.isspace() or bytes(font.getmask(character)) != missing for character in set(text)
    )


@cache
def _own_font(size: int) -> Font:
    return ImageFont.load_default(size)


@cache
def _system_font(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
